/* SPDX-License-Identifier: Apache-2.0 */
/* The gradient of a convolution's bias: sums over planes of all sizes, that of many equal pixels as exact as that of few. */
#include "op/conv.h"
#include "guarded.h"

enum { DY, GRADIENT, ROOM };

static void check_planes(fixture *f, sora_context *context, int64_t images, int64_t outputs, int64_t height, int64_t width,
                         bool equal)
{
    sora_error error;
    sora_shape shape = SORA_SHAPE(images, outputs, height, width);
    int64_t n = height * width, elements = sora_shape_elements(&shape), room = (int64_t)sora_conv_bias_workspace(&shape);
    sora_view dy = operand(f, context, DY, shape), gradient = operand(f, context, GRADIENT, SORA_SHAPE(outputs)),
              workspace = operand(f, context, ROOM, SORA_SHAPE(room));
    if (equal) {
        for (int64_t i = 0; i < elements; i++) f->host[DY][GUARD + i] = 0.47f;
        OK(sora_view_write(context, &dy, f->host[DY] + GUARD, &error));
    }
    OK(sora_conv_bias_gradient(context, &dy, &gradient, &workspace, "test", &error));
    float *got = read_operand(f, context, GRADIENT, outputs);
    for (int64_t o = 0; o < outputs; o++) {
        double sum = f->host[GRADIENT][GUARD + o], whole = fabs(sum);
        for (int64_t e = 0; e < elements; e++) {
            bool own = e / n % outputs == o;
            sum += own ? f->host[DY][GUARD + e] : 0;
            whole += own ? fabs((double)f->host[DY][GUARD + e]) : 0;
        }
        if (!(fabs(got[GUARD + o] - sum) <= 3e-6 * whole))
            fail_msg("%lld planes of %lld: %.9g; expected %.9g", (long long)images, (long long)n, (double)got[GUARD + o], sum);
        got[GUARD + o] = f->host[GRADIENT][GUARD + o];
    }
    check_rest(f, GRADIENT, got, outputs);
    got = read_operand(f, context, ROOM, room);
    memcpy(got + GUARD, f->host[ROOM] + GUARD, (size_t)room * sizeof *got);
    check_rest(f, ROOM, got, room);
    destroy_operands(f);
}

static void test_planes(void **state)
{
    fixture *f = *state;
    for (int c = 0; c < 2; c++) {
        check_planes(f, f->contexts[c], 1, 1, 1, 1, false);
        check_planes(f, f->contexts[c], 3, 17, 3, 1, false);
        check_planes(f, f->contexts[c], 2, 3, 17, 65, false);
        check_planes(f, f->contexts[c], 2, 1, 257, 65, false);
    }
}

/* Added up one by one, a million equal pixels are off by two in a thousand. */
static void test_many(void **state)
{
    fixture *f = *state;
    for (int c = 0; c < 2; c++) check_planes(f, f->contexts[c], 2, 1, 1023, 1025, true);
}

int main(void)
{
    const struct CMUnitTest all[] = { cmocka_unit_test(test_planes), cmocka_unit_test(test_many) };
    return cmocka_run_group_tests(all, open_fixture, close_fixture);
}
