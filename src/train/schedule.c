/* SPDX-License-Identifier: Apache-2.0 */
#include "train/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double sora_schedule_rate(const sora_schedule *s, uint32_t step)
{
    if (step < s->warmup) return s->rate * (step + 1) / s->warmup;
    double rest = s->steps > s->warmup ? (double)(step - s->warmup) / (s->steps - s->warmup) : 1.0;
    if (s->kind == SORA_SCHEDULE_LINEAR) return s->rate * fmax(0.0, 1.0 - rest);
    if (s->kind == SORA_SCHEDULE_COSINE) return s->rate * 0.5 * (1.0 + cos(3.14159265358979323846 * fmin(rest, 1.0)));
    return s->rate;
}

double sora_schedule_sum(const sora_schedule *schedule)
{
    double sum = 0.0;
    for (uint32_t step = 0; step < schedule->steps; step++) sum += sora_schedule_rate(schedule, step);
    return sum;
}

uint32_t sora_warmup_steps(double warmup, uint32_t steps)
{
    double count = warmup < 1.0 ? warmup * steps : warmup;
    return count < steps ? (uint32_t)count : steps;
}

sora_plateau sora_plateau_start(void)
{
    return (sora_plateau) { .factor = 1.0, .best = INFINITY };
}

bool sora_plateau_update(sora_plateau *plateau, double rate, double loss)
{
    if (loss < plateau->best * (1.0 - 1e-4)) {
        plateau->best = loss;
        plateau->bad = 0;
        return false;
    }
    if (++plateau->bad <= SORA_PLATEAU_PATIENCE) return false;
    plateau->bad = 0;
    double reduced = fmax(plateau->factor * SORA_PLATEAU_FACTOR, fmin(1.0, SORA_PLATEAU_MINIMUM / rate));
    bool changed = reduced < plateau->factor;
    plateau->factor = reduced;
    return changed;
}

sora_status sora_xi_list(const char *text, double out[SORA_XI_MAX], int *count, sora_error *error)
{
    char spacing[16];
    double a, b;
    int n, read = 0;
    *count = 0;
    bool parsed = sscanf(text, "%15[a-z-]:%lf:%lf:%d%n", spacing, &a, &b, &n, &read) == 4 && text[read] == '\0';
    if (!parsed || !(a >= 0.0) || !(b > a) || !isfinite(b) || n < 2 || n > SORA_XI_MAX)
        return sora_fail(error, SORA_ERROR_ARGUMENT,
                         "xi-schedule \"%s\": expected SPACING:A:B:COUNT with 0 <= A < B and 2 to %d values, as linear:0:7e-4:7",
                         text, SORA_XI_MAX);
    bool linear = strcmp(spacing, "linear") == 0, log_linear = strcmp(spacing, "log-linear") == 0;
    if (!linear && !log_linear && strcmp(spacing, "exp-linear") != 0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "xi-schedule spacing \"%s\": expected linear, log-linear or exp-linear",
                         spacing);
    if (!linear && !log_linear && a <= 0.0)
        return sora_fail(error, SORA_ERROR_ARGUMENT, "xi-schedule exp-linear from %g: expected a start above 0", a);
    for (int i = 0; i < n; i++) {
        double t = (double)i / (n - 1);
        if (linear) out[i] = a + t * (b - a);
        /* log(e^a + t (e^b − e^a)), written so that small a and b keep their digits */
        else if (log_linear)
            out[i] = a + log1p(t * expm1(b - a));
        else
            out[i] = exp(log(a) + t * (log(b) - log(a)));
    }
    *count = n;
    return SORA_OK;
}
