/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORA_TRAIN_REPORT_CHART_H
#define SORA_TRAIN_REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct sora_series {
    char label[96];
    double *x, *y;
    size_t count;
    int colour; /* class c0 .. c7 of the page */
} sora_series;

typedef struct sora_chart {
    const char *title, *x_label, *y_label;
    const sora_series *series;
    size_t count;
    bool points; /* dots with their labels instead of lines */
    bool log_x;  /* powers of ten */
    bool from_zero;
} sora_chart;

/* An <svg> of its own size's proportion with axes and a <figcaption>-like legend below; text is escaped. Nothing is written where
 * no series has a value: false. */
bool sora_chart_write(FILE *out, const sora_chart *chart);

/* Text with the characters that HTML gives a meaning to replaced. */
void sora_html_escape(FILE *out, const char *text);

#endif
