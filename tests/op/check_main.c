/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* meson.build gives the names: X(relu) X(add) ... */
#define X(name) extern const check_op check_##name;
CHECK_OPS
#undef X

static const check_op *const ops[] = {
#define X(name) &check_##name,
    CHECK_OPS
#undef X
};

typedef enum mode { MODE_TEST, MODE_GRAD, MODE_PERF, MODE_SUPPORT } mode;
static const char *const mode_names[] = { "test", "grad", "perf", "support" };

typedef struct options {
    mode mode;
    const char *op, *device;
    bool list, small, as_cpu;
} options;

static const char usage[] =
    "usage: sora-check [--mode test|grad|perf|support] [--op NAME] [--device SELECTOR] [--list] [--small] [--as-cpu]\n"
    "  test     outputs against the reference, gradients against finite differences (TAP)\n"
    "  grad     gradients alone (TAP)\n"
    "  perf     time and rate of the cases that are timed\n"
    "  support  what the shape rule says about each case: memory, or why not\n"
    "  --list   the cases of the mode, without running them\n"
    "  --small  only cases for Oclgrind, without guard bands of our own\n"
    "  --as-cpu what a CPU runs, on any device\n";

static bool parse(int argc, char **argv, options *out)
{
    static const struct option names[] = { { "mode", required_argument, NULL, 'm' },
                                           { "op", required_argument, NULL, 'o' },
                                           { "device", required_argument, NULL, 'd' },
                                           { "list", no_argument, NULL, 'l' },
                                           { "small", no_argument, NULL, 's' },
                                           { "as-cpu", no_argument, NULL, 'c' },
                                           { 0 } };
    *out = (options) { 0 };
    for (int key; (key = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        int m = 0;
        switch (key) {
        case 'm':
            while (m < SORA_COUNT(mode_names) && strcmp(mode_names[m], optarg) != 0) m++;
            if (m == SORA_COUNT(mode_names)) return false;
            out->mode = (mode)m;
            break;
        case 'o': out->op = optarg; break;
        case 'd': out->device = optarg; break;
        case 'l': out->list = true; break;
        case 's': out->small = true; break;
        case 'c': out->as_cpu = true; break;
        default: return false;
        }
    }
    return optind == argc;
}

typedef struct tap {
    int count, failed;
} tap;

static void tap_line(tap *t, const char *op, const char *label, const char *part, sora_status status, double share,
                     const sora_error *error)
{
    t->count++;
    t->failed += status != SORA_OK;
    printf("%s %d - %s/%s %s", status == SORA_OK ? "ok" : "not ok", t->count, op, label, part);
    if (status == SORA_OK && share >= 0) printf(" (%.2f of the tolerance)", share);
    printf("\n");
    if (status != SORA_OK) printf("# %s\n", error->message);
    fflush(stdout);
}

static void run_case(check_session *session, const options *o, const check_op *op, const check_case *test, tap *t)
{
    const char *name = op->op->name;
    sora_error error = { 0 };
    double share;
    if (test->refused) {
        sora_status status = check_refusal(session, op, test, &error);
        tap_line(t, name, test->label, "refused", status, -1, &error);
        return;
    }
    for (int gpu = 0; gpu <= test->as_gpu; gpu++) {
        if (o->mode == MODE_TEST) {
            sora_status status = check_forward(session, op, test, gpu, &share, &error);
            tap_line(t, name, test->label, gpu ? "forward as gpu" : "forward", status, share, &error);
        }
        if (check_has_backward(op, test)) {
            sora_status status = check_backward(session, op, test, gpu, &share, &error);
            tap_line(t, name, test->label, gpu ? "backward as gpu" : "backward", status, share, &error);
        }
    }
}

static void print_time(const check_op *op, const check_case *test, bool backward, double seconds)
{
    check_work work = op->work(test, backward);
    printf("%-20s %-40s %-8s %10.3f ms", op->op->name, test->label, backward ? "backward" : "forward", 1e3 * seconds);
    if (work.flops > 0) printf(" %9.1f GFLOP/s", 1e-9 * work.flops / seconds);
    if (work.bytes > 0) printf(" %7.1f GB/s", 1e-9 * work.bytes / seconds);
    printf("\n");
    fflush(stdout);
}

static bool time_case(check_session *session, const check_op *op, const check_case *test)
{
    sora_error error = { 0 };
    double seconds;
    sora_status status = check_time(session, op, test, false, &seconds, &error);
    if (status == SORA_OK) print_time(op, test, false, seconds);
    if (status == SORA_OK && check_has_backward(op, test)) {
        status = check_time(session, op, test, true, &seconds, &error);
        if (status == SORA_OK) print_time(op, test, true, seconds);
    }
    if (status != SORA_OK) printf("%s/%s: %s\n", op->op->name, test->label, error.message);
    return status == SORA_OK;
}

static void print_support(check_session *session, const check_op *op, const check_case *test)
{
    sora_error error = { 0 };
    check_memory m;
    if (check_support(session, op, test, &m, &error) != SORA_OK)
        printf("%-20s %-40s no: %s\n", op->op->name, test->label, error.message);
    else
        printf("%-20s %-40s yes: bytes of inputs %llu, outputs %llu, saved %llu, workspace %llu forward, %llu backward\n",
               op->op->name, test->label, (unsigned long long)m.inputs, (unsigned long long)m.outputs,
               (unsigned long long)m.saved, (unsigned long long)m.forward_workspace, (unsigned long long)m.backward_workspace);
}

static bool selected(const options *o, const check_case *test)
{
    if (o->mode == MODE_SUPPORT) return true;
    if (o->small && !test->small) return false;
    return test->perf == (o->mode == MODE_PERF);
}

int main(int argc, char **argv)
{
    options o;
    check_session session = { 0 };
    sora_error error = { 0 };
    tap t = { 0 };
    bool found = false, timed = true;
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    if (!o.list && check_open(o.device, o.small, o.as_cpu, &session, &error) != SORA_OK) {
        fprintf(stderr, "sora-check: %s\n", error.message);
        return 4;
    }
    for (size_t i = 0; i < SORA_COUNT(ops); i++) {
        if (o.op && strcmp(o.op, ops[i]->op->name) != 0) continue;
        found = true;
        for (size_t j = 0; j < ops[i]->case_count; j++) {
            const check_case *test = &ops[i]->cases[j];
            if (!selected(&o, test)) continue;
            if (o.list)
                printf("%s/%s\n", ops[i]->op->name, test->label);
            else if (o.mode == MODE_SUPPORT)
                print_support(&session, ops[i], test);
            else if (o.mode == MODE_PERF)
                timed = time_case(&session, ops[i], test) && timed;
            else
                run_case(&session, &o, ops[i], test, &t);
        }
    }
    if (!o.list && (o.mode == MODE_TEST || o.mode == MODE_GRAD)) printf("1..%d\n", t.count);
    check_close(&session);
    if (!found) fprintf(stderr, "sora-check: no op is named \"%s\"; --list names them\n", o.op);
    return !found ? 2 : t.failed || !timed ? 1 : 0;
}
