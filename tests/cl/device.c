/* SPDX-License-Identifier: Apache-2.0 */
#include "soracl/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What such machines report, as far as the choice looks at it. */
static const sora_device laptop[] = {
    { .index = 0,
      .name = "pthread-Intel(R) Core(TM) i7-1165G7",
      .platform = "Portable Computing Language",
      .limits = { .type = SORA_DEVICE_CPU, .compute_units = 8, .clock_mhz = 4700, .global_bytes = 12ull << 30 } },
    { .index = 1,
      .name = "Intel(R) Iris(R) Xe Graphics",
      .platform = "Intel(R) OpenCL HD Graphics",
      .limits = { .type = SORA_DEVICE_GPU,
                  .compute_units = 96,
                  .clock_mhz = 1300,
                  .global_bytes = 12ull << 30,
                  .unified_memory = true } },
};

static const sora_device workstation[] = {
    { .index = 0,
      .name = "gfx1036",
      .platform = "AMD Accelerated Parallel Processing",
      .limits = { .type = SORA_DEVICE_GPU, .compute_units = 1, .clock_mhz = 2200 } },
    { .index = 1,
      .name = "gfx1100",
      .platform = "AMD Accelerated Parallel Processing",
      .limits = { .type = SORA_DEVICE_GPU, .compute_units = 48, .clock_mhz = 2526 } },
    { .index = 2,
      .name = "Mali-G610",
      .platform = "ARM Platform",
      .lacks = "no compiler for kernels",
      .limits = { .type = SORA_DEVICE_GPU, .compute_units = 400, .clock_mhz = 5000 } },
    { .index = 3,
      .name = "FPGA",
      .platform = "boards",
      .limits = { .type = SORA_DEVICE_ACCELERATOR, .compute_units = 999, .clock_mhz = 9999 } },
};

static int pick(const sora_device *devices, size_t count, const char *selector)
{
    size_t picked;
    char reason[256] = "";
    sora_error error;
    if (sora_device_choose(devices, count, selector, &picked, reason, &error) != SORA_OK) return -(int)error.status;
    assert_true(strlen(reason) > 0);
    return (int)picked;
}

static void test_choice(void **state)
{
    (void)state;
    assert_int_equal(pick(laptop, 2, NULL), 1);
    assert_int_equal(pick(laptop, 2, ""), 1);
    assert_int_equal(pick(laptop, 2, "cpu"), 0);
    assert_int_equal(pick(laptop, 2, "GPU"), 1);
    assert_int_equal(pick(laptop, 2, "0"), 0);
    assert_int_equal(pick(laptop, 2, "iris"), 1);
    assert_int_equal(pick(laptop, 2, "portable"), 0);
    assert_int_equal(pick(laptop, 2, "2"), -SORA_ERROR_DEVICE);
    assert_int_equal(pick(laptop, 2, "99999999999999999999999"), -SORA_ERROR_DEVICE);
    assert_int_equal(pick(laptop, 2, "radeon"), -SORA_ERROR_DEVICE);
    assert_int_equal(pick(laptop, 1, "gpu"), -SORA_ERROR_DEVICE);
    assert_int_equal(pick(workstation, 4, NULL), 1);
    assert_int_equal(pick(workstation, 4, "gfx"), 1);
    assert_int_equal(pick(workstation, 4, "mali"), -SORA_ERROR_DEVICE);
    assert_int_equal(pick(workstation, 4, "2"), -SORA_ERROR_DEVICE);
    assert_int_equal(pick(workstation, 4, "fpga"), 3);
}

static void test_message(void **state)
{
    (void)state;
    size_t picked;
    sora_error error;
    assert_int_equal(sora_device_choose(laptop, 2, "radeon", &picked, NULL, &error), SORA_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "\"radeon\""));
    assert_non_null(strstr(error.message, "1 Intel(R) Iris(R) Xe Graphics (gpu)"));
    assert_int_equal(sora_device_choose(workstation, 4, "2", &picked, NULL, &error), SORA_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "no compiler for kernels"));
}

static void test_list(void **state)
{
    (void)state;
    sora_device *devices;
    size_t count;
    sora_error error;
    if (sora_devices_list(&devices, &count, &error) != SORA_OK) fail_msg("%s", error.message);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(devices[i].index, i);
        assert_true(strlen(devices[i].name) > 0);
        assert_true(devices[i].limits.global_bytes >= devices[i].limits.allocation_bytes);
    }
    free(devices);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_choice), cmocka_unit_test(test_message),
                                        cmocka_unit_test(test_list) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
