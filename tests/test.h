/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TESTS_TEST_H
#define SORA_TESTS_TEST_H

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A call that must succeed, and one that must fail with that status and with those words in its message. Both use the test's own
 * `error`. */
#define OK(call)                                                                         \
    do {                                                                                 \
        if ((call) != SORA_OK) fail_msg("%s:%d: %s", __FILE__, __LINE__, error.message); \
    } while (0)
#define FAILS(call, expected, words)                                                                                         \
    do {                                                                                                                     \
        memset(&error, 0, sizeof error);                                                                                     \
        sora_status failed_ = (call);                                                                                        \
        if (failed_ != (expected) || error.status != failed_ || !strstr(error.message, words))                               \
            fail_msg("%s:%d: %s: %s; expected %s with \"%s\"", __FILE__, __LINE__, sora_status_name(failed_), error.message, \
                     sora_status_name(expected), words);                                                                     \
    } while (0)

#endif
