/* SPDX-License-Identifier: Apache-2.0 */
/* Whole networks twice, as the graph makes them and with every layer by itself. */
#include "unet.h"

#include <math.h>

/* Sums over up to 3 x 64 x 64 pixels are taken in other orders, and what they differ by goes through 24 normalisations: each is
 * allowed 2^-24 of the largest value a few thousand times. */
static void compare(const network *n)
{
    static result whole, single;
    int parts = run(n, false, false, false, &whole);
    assert_int_equal(run(n, true, false, false, &single), parts);
    for (int p = 0; p < parts; p++) {
        double largest = 1e-6, off = 0;
        assert_int_equal(whole.at[p], single.at[p]);
        for (int64_t i = whole.at[p]; i < whole.at[p + 1]; i++) {
            assert_true(isfinite(whole.values[i]) && isfinite(single.values[i]));
            largest = fmax(largest, fabs((double)single.values[i]));
            off = fmax(off, fabs((double)single.values[i] - (double)whole.values[i]));
        }
        if (off > 3e-4 * largest) fail_msg("%s: tensor %d is off by %g, its largest is %g", n->label, p, off, largest);
    }
    assert_int_equal(single.statistics.forward_nodes - whole.statistics.forward_nodes + single.statistics.backward_nodes -
                         whole.statistics.backward_nodes,
                     n->saved_nodes);
}

static void test_networks(void **state)
{
    (void)state;
    static const network networks[] = {
        { .label = "unet-fc, full", .unet = { .size = 64 }, .saved_nodes = 12 },
        { .label = "unet-fc, part of a batch", .unet = { .size = 64 }, .count = 2, .saved_nodes = 12 },
        /* Skips want no gradient: the way back of the decoder's first convolutions has half of the channels. */
        { .label = "unet-fc, bottleneck", .unet = { .size = 64 }, .target = "bottleneck", .saved_nodes = 6 },
        { .label = "unet-fc, part of a batch, bottleneck",
          .unet = { .size = 64 },
          .target = "bottleneck",
          .count = 1,
          .saved_nodes = 6 },
        { .label = "unet, odd sides", .unet = { .model = "unet", .size = 36, .width = 3, .depth = 2 }, .saved_nodes = 4 },
        { .label = "unet, bottleneck and decoder",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .loss = SORA_LOSS_DICE_BCE },
          .target = "bottleneck.conv2|decoder.*.conv1",
          .dropout = 0.25f,
          .saved_nodes = 2 },
        { .label = "unet, frozen statistics",
          .unet = { .model = "unet", .size = 32, .width = 4, .depth = 2 },
          .graph = { .batch_norm_frozen = true },
          .saved_nodes = 4 },
    };
    for (size_t i = 0; i < SORA_COUNT(networks); i++) compare(&networks[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_networks) };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
