/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/headlines.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/headlines_lists.h"
#include "soracl/text.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_LISTS "/var/lib/apt/lists"
#define DEFAULT_MIN_TEXT 151

enum { TRAIN, DEV, TEST, SIDES, LEFT_OUT = SIDES };

typedef struct headline {
    const char *package, *source, *title, *text;
    int side;
} headline;

typedef struct headline_list {
    headline *items;
    size_t count, room;
} headline_list;

/* ---- Sets of names ----------------------------------------------------------------------------------------------- */

typedef struct name_set {
    const char **names;
    size_t count, room;
} name_set;

static sora_status add_name(name_set *set, const char *name, sora_error *error)
{
    sora_status status = sora_reserve(&set->names, &set->room, set->count + 1, sizeof *set->names, error);
    if (status == SORA_OK) set->names[set->count++] = name;
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_names(name_set *set)
{
    if (set->count) qsort(set->names, set->count, sizeof *set->names, compare_names);
}

static bool has_name(const name_set *set, const char *name)
{
    return set->count && bsearch(&name, set->names, set->count, sizeof *set->names, compare_names);
}

/* What train may not have. */
typedef struct ban {
    name_set titles, texts, sources;
} ban;

static void sort_ban(ban *b)
{
    sort_names(&b->titles);
    sort_names(&b->texts);
    sort_names(&b->sources);
}

static bool is_banned(const ban *b, const headline *h)
{
    return has_name(&b->titles, h->title) || has_name(&b->texts, h->text) || has_name(&b->sources, h->source);
}

static void free_ban(ban *b)
{
    free(b->titles.names);
    free(b->texts.names);
    free(b->sources.names);
}

/* ---- Source packages --------------------------------------------------------------------------------------------- */

static int compare_packages(const void *a, const void *b)
{
    const sora_deb_package *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->source, y->source);
}

/* Index of the first entry of that name in the sorted packages, or of what would follow it. */
static size_t first_package(const sora_deb_lists *lists, const char *name)
{
    size_t low = 0, high = lists->package_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(lists->packages[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_package(const sora_deb_lists *lists, size_t index, const char *name)
{
    return index < lists->package_count && strcmp(lists->packages[index].name, name) == 0;
}

/* The first by name where versions of a package come from several source packages; NULL: not known. */
static const char *source_of(const sora_deb_lists *lists, const char *package)
{
    size_t index = first_package(lists, package);
    return is_package(lists, index, package) ? lists->packages[index].source : NULL;
}

/* ---- From descriptions to headlines ------------------------------------------------------------------------------ */

static int compare_descriptions(const void *a, const void *b)
{
    const sora_deb_description *x = a, *y = b;
    int order = strcmp(x->package, y->package);
    if (order == 0) order = strcmp(x->title, y->title);
    return order ? order : strcmp(x->text, y->text);
}

static int compare_by_source(const void *a, const void *b)
{
    const headline *x = a, *y = b;
    int order = strcmp(x->source, y->source);
    if (order == 0) order = strcmp(x->title, y->title);
    if (order == 0) order = strcmp(x->text, y->text);
    return order ? order : strcmp(x->package, y->package);
}

static int compare_by_package(const void *a, const void *b)
{
    const headline *x = a, *y = b;
    int order = strcmp(x->package, y->package);
    if (order == 0) order = strcmp(x->title, y->title);
    return order ? order : strcmp(x->text, y->text);
}

static int side_of(const char *source)
{
    uint32_t place = sora_hash_name(source) % 100;
    return place < 90 ? TRAIN : place < 95 ? DEV : TEST;
}

/* Descriptions that can be used, each with its source package and side. */
static sora_status collect(sora_deb_lists *lists, size_t min_text, headline_list *list, sora_headlines_result *result,
                           sora_error *error)
{
    if (lists->package_count) qsort(lists->packages, lists->package_count, sizeof *lists->packages, compare_packages);
    if (lists->description_count)
        qsort(lists->descriptions, lists->description_count, sizeof *lists->descriptions, compare_descriptions);
    for (size_t i = 0; i < lists->description_count; i++) {
        const sora_deb_description *d = &lists->descriptions[i];
        if (i && compare_descriptions(d - 1, d) == 0) continue; /* another suite's, or another version's */
        headline h = { d->package, source_of(lists, d->package), d->title, d->text, LEFT_OUT };
        result->described++;
        if (!h.source) {
            result->without_source++;
        } else if (d->text_characters < min_text || !*d->title) {
            result->too_short++;
        } else {
            sora_status status = sora_reserve(&list->items, &list->room, list->count + 1, sizeof h, error);
            if (status != SORA_OK) return status;
            h.side = side_of(h.source);
            list->items[list->count++] = h;
        }
    }
    return SORA_OK;
}

static void leave_out_repetitions(headline_list *list, sora_headlines_result *result)
{
    if (list->count) qsort(list->items, list->count, sizeof *list->items, compare_by_source);
    for (size_t i = 1; i < list->count; i++) {
        headline *h = &list->items[i];
        if (strcmp(h->source, h[-1].source) != 0 || strcmp(h->title, h[-1].title) != 0 || strcmp(h->text, h[-1].text) != 0)
            continue;
        h->side = LEFT_OUT;
        result->repeated++;
    }
}

/* Pairs of dev and test stay out of train under any name. */
static sora_status leave_out_held(headline_list *list, sora_headlines_result *result, sora_error *error)
{
    sora_status status = SORA_OK;
    ban held = { 0 };
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].side != DEV && list->items[i].side != TEST) continue;
        SORA_TRY(add_name(&held.titles, list->items[i].title, error));
        SORA_TRY(add_name(&held.texts, list->items[i].text, error));
    }
    sort_ban(&held);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].side != TRAIN || !is_banned(&held, &list->items[i])) continue;
        list->items[i].side = LEFT_OUT;
        result->also_held++;
    }
cleanup:
    free_ban(&held);
    return status;
}

/* ---- What the caller keeps out ----------------------------------------------------------------------------------- */

static sora_status take_column(sora_deb_lists *lists, const char *path, const char *column, name_set *set, sora_error *error)
{
    sora_status status = SORA_OK;
    sora_text_pairs *pairs = NULL;
    const char *copy;
    SORA_TRY(sora_text_open(path, &(sora_text_options) { .source_column = column, .target_optional = true }, &pairs, error));
    for (size_t i = 0; i < sora_text_count(pairs); i++) {
        sora_text_pair pair = sora_text_at(pairs, i);
        SORA_TRY(sora_arena_add(&lists->texts, pair.source, pair.source_bytes, &copy, error));
        SORA_TRY(add_name(set, copy, error));
    }
cleanup:
    sora_text_close(&pairs);
    return status;
}

static sora_status read_exclusion(sora_deb_lists *lists, const char *path, ban *excluded, sora_error *error)
{
    sora_status status = SORA_OK;
    name_set tags = { 0 };
    SORA_TRY(take_column(lists, path, "text", &excluded->texts, error));
    SORA_TRY(take_column(lists, path, "title", &excluded->titles, error));
    SORA_TRY(take_column(lists, path, "tags", &tags, error));
    for (size_t i = 0; i < tags.count; i++)
        for (size_t k = first_package(lists, tags.names[i]); is_package(lists, k, tags.names[i]); k++)
            SORA_TRY(add_name(&excluded->sources, lists->packages[k].source, error));
cleanup:
    free(tags.names);
    return status;
}

static sora_status leave_out_excluded(sora_deb_lists *lists, const sora_headlines_options *options, headline_list *list,
                                      sora_headlines_result *result, sora_error *error)
{
    sora_status status = SORA_OK;
    ban excluded = { 0 };
    for (size_t i = 0; i < options->exclude_count; i++) SORA_TRY(read_exclusion(lists, options->exclude[i], &excluded, error));
    sort_ban(&excluded);
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].side != TRAIN || !is_banned(&excluded, &list->items[i])) continue;
        list->items[i].side = LEFT_OUT;
        result->excluded++;
    }
cleanup:
    free_ban(&excluded);
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static void write_field(FILE *out, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static sora_status write_side(const char *folder, const char *name, int side, const headline_list *list, size_t *written,
                              sora_error *error)
{
    sora_status status = SORA_OK;
    sora_file_writer writer = { 0 };
    char *path = NULL;
    SORA_TRY(sora_format(&path, error, "%s/%s", folder, name));
    SORA_TRY(sora_file_begin(&writer, path, error));
    fputs("title,text,url,authors,timestamp,tags\r\n", writer.stream);
    for (size_t i = 0; i < list->count; i++) {
        const headline *h = &list->items[i];
        if (h->side != side) continue;
        write_field(writer.stream, h->title);
        fputc(',', writer.stream);
        write_field(writer.stream, h->text);
        fputs(",,,,", writer.stream);
        write_field(writer.stream, h->package);
        fputs("\r\n", writer.stream);
        ++*written;
    }
    status = sora_file_commit(&writer, error); /* it looks for errors of all writes above */
cleanup:
    free(path);
    return status;
}

sora_status sora_headlines_write(const char *folder, const sora_headlines_options *options, sora_headlines_result *result,
                                 sora_error *error)
{
    static const sora_headlines_options defaults;
    const sora_headlines_options *o = options ? options : &defaults;
    sora_status status = SORA_OK;
    sora_deb_lists lists = { 0 };
    headline_list list = { 0 };
    sora_headlines_result r = { 0 };
    *result = r;
    SORA_TRY(sora_deb_lists_read(o->lists ? o->lists : DEFAULT_LISTS, &lists, error));
    SORA_TRY(collect(&lists, o->min_text ? o->min_text : DEFAULT_MIN_TEXT, &list, &r, error));
    leave_out_repetitions(&list, &r);
    SORA_TRY(leave_out_held(&list, &r, error));
    SORA_TRY(leave_out_excluded(&lists, o, &list, &r, error));
    if (list.count == 0)
        SORA_FAIL(error, SORA_ERROR_INPUT, "%s: of %zu descriptions none is usable: %zu without a source package, %zu too short",
                  o->lists ? o->lists : DEFAULT_LISTS, r.described, r.without_source, r.too_short);
    qsort(list.items, list.count, sizeof *list.items, compare_by_package);
    SORA_TRY(sora_folder_create(folder, error));
    SORA_TRY(write_side(folder, "train.csv", TRAIN, &list, &r.train, error));
    SORA_TRY(write_side(folder, "dev.csv", DEV, &list, &r.dev, error));
    SORA_TRY(write_side(folder, "test.csv", TEST, &list, &r.test, error));
    *result = r;
cleanup:
    free(list.items);
    sora_deb_lists_free(&lists);
    return status;
}
