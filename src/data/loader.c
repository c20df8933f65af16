/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "base/random.h"
#include "data/augment.h"
#include "soracl/dataset.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Two batches are with the caller, the others are being filled or wait for it. */
#define SLOTS 5
#define MAX_THREADS 64
/* Decoded and resized pictures are kept where the whole set takes at most this much. */
#define CACHE_BYTES ((uint64_t)256 << 20)
#define NO_BATCH UINT64_MAX

typedef struct slot {
    float *images, *masks;
    uint32_t *samples;
    int count;
    uint64_t batch; /* what is, or will be, in it; NO_BATCH: free */
    bool ready;
} slot;

struct sora_loader {
    const sora_dataset *dataset;
    sora_loader_options options;
    size_t count;
    uint64_t per_epoch, batches; /* batches in all; NO_BATCH: endless */
    slot slots[SLOTS];
    uint8_t **cache; /* [count] RGB then mask at size × size; NULL: not there yet. The array is NULL where the set is too large */
    pthread_t threads[MAX_THREADS];
    int thread_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    uint64_t next_fill, next_give;
    bool stop;
    sora_status status;
    sora_error error;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void order_of(const sora_loader *loader, uint32_t epoch, uint32_t *order)
{
    sora_random_stream stream = { .seed = loader->options.seed, .purpose = SORA_PURPOSE_SHUFFLE, .step = epoch };
    if (loader->options.shuffle)
        sora_random_permutation(&stream, order, (uint32_t)loader->count);
    else
        for (size_t i = 0; i < loader->count; i++) order[i] = (uint32_t)i;
}

/* RGB and mask of a picture at the network's size. *owned: free it after use. */
static sora_status picture(sora_loader *loader, uint32_t index, uint8_t **out, bool *owned, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_image image = { 0 }, mask = { 0 }, small = { 0 }, small_mask = { 0 };
    int size = loader->options.size;
    size_t pixels = (size_t)size * (size_t)size;
    uint8_t *data = NULL;
    *owned = false;
    if (loader->cache) {
        pthread_mutex_lock(&loader->lock);
        *out = loader->cache[index];
        pthread_mutex_unlock(&loader->lock);
        if (*out) return SORA_OK;
    }
    SORA_TRY(sora_dataset_load(loader->dataset, index, &image, &mask, error));
    SORA_TRY(sora_image_resize(&image, size, size, &small, error));
    SORA_TRY(sora_image_resize_nearest(&mask, size, size, &small_mask, error));
    SORA_TRY(sora_allocate(4 * pixels, 1, "picture", &data, error));
    memcpy(data, small.pixels, 3 * pixels);
    memcpy(data + 3 * pixels, small_mask.pixels, pixels);
    *out = data;
    *owned = true;
    if (loader->cache) {
        pthread_mutex_lock(&loader->lock);
        *owned = loader->cache[index] != NULL;
        if (!*owned) loader->cache[index] = data;
        pthread_mutex_unlock(&loader->lock);
    }
cleanup:
    sora_image_free(&image);
    sora_image_free(&mask);
    sora_image_free(&small);
    sora_image_free(&small_mask);
    return status;
}

static sora_status fill(sora_loader *loader, uint64_t batch, const uint32_t *order, slot *s, sora_error *error)
{
    const sora_loader_options *o = &loader->options;
    size_t pixels = (size_t)o->size * (size_t)o->size, first = (size_t)(batch % loader->per_epoch) * (size_t)o->batch;
    uint32_t epoch = (uint32_t)(batch / loader->per_epoch);
    s->count = (int)SORA_MIN((size_t)o->batch, loader->count - first);
    for (int i = 0; i < s->count; i++) {
        uint8_t *data;
        bool owned;
        uint32_t index = s->samples[i] = order[first + (size_t)i];
        sora_status status = picture(loader, index, &data, &owned, error);
        if (status != SORA_OK) return status;
        sora_augmentation draw = o->augment ? sora_augmentation_draw(o->seed, epoch, index) : sora_augmentation_none();
        sora_augment(&draw, o->size, data, data + 3 * pixels, o->mean, o->deviation, s->images + (size_t)i * 3 * pixels,
                     s->masks + (size_t)i * pixels);
        if (owned) free(data);
    }
    return SORA_OK;
}

/* Takes the next batch that has a free slot; false when there is nothing more to do. */
static bool take(sora_loader *loader, uint64_t *batch, slot **s)
{
    bool found = false;
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop && loader->status == SORA_OK && loader->next_fill < loader->batches) {
        *s = &loader->slots[loader->next_fill % SLOTS];
        if ((*s)->batch == NO_BATCH) {
            *batch = (*s)->batch = loader->next_fill++;
            found = true;
            break;
        }
        pthread_cond_wait(&loader->changed, &loader->lock);
    }
    pthread_mutex_unlock(&loader->lock);
    return found;
}

static void *work(void *argument)
{
    sora_loader *loader = argument;
    uint32_t *order = malloc((loader->count + 1) * sizeof *order), ordered = UINT32_MAX;
    sora_error error = { SORA_ERROR_MEMORY, "loader: no host memory for the order of pictures" };
    uint64_t batch;
    slot *s;
    while (take(loader, &batch, &s)) {
        uint32_t epoch = (uint32_t)(batch / loader->per_epoch);
        if (order && ordered != epoch) order_of(loader, epoch, order);
        ordered = epoch;
        sora_status status = order ? fill(loader, batch, order, s, &error) : SORA_ERROR_MEMORY;
        pthread_mutex_lock(&loader->lock);
        s->ready = status == SORA_OK;
        if (status != SORA_OK && loader->status == SORA_OK) {
            loader->status = status;
            loader->error = error;
        }
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
    }
    free(order);
    return NULL;
}

static sora_status allocate_slots(sora_loader *loader, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t batch = (size_t)loader->options.batch, pixels = (size_t)loader->options.size * (size_t)loader->options.size;
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &loader->slots[i];
        s->batch = NO_BATCH;
        SORA_TRY(sora_allocate(batch * 3 * pixels, sizeof *s->images, "batch", &s->images, error));
        SORA_TRY(sora_allocate(batch * pixels, sizeof *s->masks, "batch", &s->masks, error));
        SORA_TRY(sora_allocate(batch, sizeof *s->samples, "batch", &s->samples, error));
    }
    if ((uint64_t)loader->count * 4 * pixels <= CACHE_BYTES)
        SORA_TRY(sora_allocate(loader->count, sizeof *loader->cache, "pictures", &loader->cache, error));
cleanup:
    return status;
}

sora_status sora_loader_create(const sora_dataset *dataset, const sora_loader_options *options, sora_loader **out,
                               sora_error *error)
{
    sora_status status = SORA_OK;
    sora_loader *loader = NULL;
    *out = NULL;
    if (options->size < 1 || options->batch < 1 || options->threads > MAX_THREADS)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "loader: size %d, batch %d, %d threads", options->size, options->batch,
                         options->threads);
    SORA_TRY(sora_allocate(1, sizeof *loader, "loader", &loader, error));
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->changed, NULL);
    loader->dataset = dataset;
    loader->options = *options;
    loader->count = sora_dataset_count(dataset);
    loader->per_epoch = (loader->count + (size_t)options->batch - 1) / (size_t)options->batch;
    loader->batches = options->once ? loader->per_epoch : NO_BATCH;
    loader->next_fill = loader->next_give = options->start_batch;
    SORA_TRY(allocate_slots(loader, error));
    int threads = options->threads > 0 ? options->threads : 2;
    for (; loader->thread_count < threads; loader->thread_count++)
        if (pthread_create(&loader->threads[loader->thread_count], NULL, work, loader) != 0) break;
    if (loader->thread_count == 0) SORA_FAIL(error, SORA_ERROR_MEMORY, "loader: no thread could be started");
    *out = loader;
    loader = NULL;
cleanup:
    sora_loader_destroy(&loader);
    return status;
}

void sora_loader_destroy(sora_loader **pointer)
{
    sora_loader *loader = *pointer;
    if (!loader) return;
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->thread_count; i++) pthread_join(loader->threads[i], NULL);
    for (int i = 0; i < SLOTS; i++) {
        free(loader->slots[i].images);
        free(loader->slots[i].masks);
        free(loader->slots[i].samples);
    }
    for (size_t i = 0; loader->cache && i < loader->count; i++) free(loader->cache[i]);
    free(loader->cache);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
    *pointer = NULL;
}

uint64_t sora_loader_batches_per_epoch(const sora_loader *loader)
{
    return loader->per_epoch;
}

sora_status sora_loader_next(sora_loader *loader, sora_batch *batch, sora_error *error)
{
    double start = now();
    sora_status status = SORA_OK;
    uint64_t wanted = loader->next_give;
    slot *s = &loader->slots[wanted % SLOTS];
    *batch = (sora_batch) { .index = wanted };
    if (wanted >= loader->batches) return SORA_OK;
    pthread_mutex_lock(&loader->lock);
    /* The batch before the last one is no longer the caller's. */
    if (wanted >= loader->options.start_batch + 2) {
        slot *given = &loader->slots[(wanted - 2) % SLOTS];
        given->batch = NO_BATCH;
        given->ready = false;
        pthread_cond_broadcast(&loader->changed);
    }
    while (!(s->batch == wanted && s->ready) && loader->status == SORA_OK) pthread_cond_wait(&loader->changed, &loader->lock);
    if (s->batch == wanted && s->ready)
        loader->next_give++;
    else {
        status = loader->status;
        if (error) *error = loader->error;
    }
    pthread_mutex_unlock(&loader->lock);
    if (status != SORA_OK) return status;
    *batch =
        (sora_batch) { s->count, wanted, (uint32_t)(wanted / loader->per_epoch), s->images, s->masks, s->samples, now() - start };
    return SORA_OK;
}
