/* SPDX-License-Identifier: Apache-2.0 */
#include "train/report_chart.h"

#include <math.h>

#define WIDTH 640
#define HEIGHT 300
#define LEFT 62
#define RIGHT 16
#define TOP 12
#define BOTTOM 48

void sora_html_escape(FILE *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputc(*p, out);
        }
    }
}

typedef struct range {
    double low, high, step;
} range;

/* Round ends and about `ticks` round steps. */
static range nice_range(double low, double high, int ticks)
{
    if (!(high > low)) {
        high = low + (low != 0.0 ? fabs(low) * 0.1 : 1.0);
        low = low - (low != 0.0 ? fabs(low) * 0.1 : 0.0);
    }
    double raw = (high - low) / ticks, power = pow(10.0, floor(log10(raw))), part = raw / power;
    double step = power * (part < 1.5 ? 1.0 : part < 3.5 ? 2.0 : part < 7.5 ? 5.0 : 10.0);
    return (range) { floor(low / step) * step, ceil(high / step) * step, step };
}

static double place_x(const range *r, bool logarithmic, double x)
{
    double v = logarithmic ? log10(x) : x;
    return LEFT + (v - r->low) / (r->high - r->low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const range *r, double y)
{
    return HEIGHT - BOTTOM - (y - r->low) / (r->high - r->low) * (HEIGHT - TOP - BOTTOM);
}

static bool bounds(const sora_chart *chart, range *x, range *y)
{
    double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
    for (size_t s = 0; s < chart->count; s++)
        for (size_t i = 0; i < chart->series[s].count; i++) {
            double u = chart->log_x ? log10(fmax(chart->series[s].x[i], 1.0)) : chart->series[s].x[i], v = chart->series[s].y[i];
            if (!isfinite(u) || !isfinite(v)) continue;
            x0 = fmin(x0, u), x1 = fmax(x1, u), y0 = fmin(y0, v), y1 = fmax(y1, v);
        }
    if (!(x1 >= x0)) return false;
    if (chart->from_zero) y0 = fmin(0.0, y0);
    *x = chart->log_x ? (range) { floor(x0), fmax(ceil(x1), floor(x0) + 1.0), 1.0 } : nice_range(x0, x1, 6);
    *y = nice_range(y0, y1, 5);
    return true;
}

/* Steps from the lowest to the highest; counted, as numbers that lie within a few roundings are not added up to. */
static int ticks_of(const range *r)
{
    return (int)fmin(1000.0, round((r->high - r->low) / r->step));
}

static void write_axes(FILE *out, const sora_chart *chart, const range *x, const range *y)
{
    for (int i = 0; i <= ticks_of(y); i++) {
        double v = y->low + i * y->step, at = place_y(y, v);
        fprintf(out,
                "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%.4g</text>\n",
                LEFT, at, WIDTH - RIGHT, at, LEFT - 6, at + 4, fabs(v) < y->step / 1e6 ? 0.0 : v);
    }
    for (int i = 0; i <= ticks_of(x); i++) {
        double v = x->low + i * x->step, at = LEFT + (v - x->low) / (x->high - x->low) * (WIDTH - LEFT - RIGHT);
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", at, HEIGHT - BOTTOM + 18);
        if (chart->log_x)
            fprintf(out, "10<tspan dy=\"-4\" font-size=\"11\">%.0f</tspan></text>\n", v);
        else
            fprintf(out, "%.6g</text>\n", fabs(v) < x->step / 1e6 ? 0.0 : v);
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6);
    sora_html_escape(out, chart->x_label);
    fprintf(out, "</text>\n<text transform=\"translate(12 %d) rotate(-90)\" text-anchor=\"middle\">",
            TOP + (HEIGHT - TOP - BOTTOM) / 2);
    sora_html_escape(out, chart->y_label);
    fprintf(out, "</text>\n");
}

static void write_series(FILE *out, const sora_chart *chart, const sora_series *s, const range *x, const range *y)
{
    if (!chart->points && s->count > 1) { /* one point makes no line */
        fprintf(out, "<polyline class=\"c%d\" points=\"", s->colour);
        for (size_t i = 0; i < s->count; i++)
            if (isfinite(s->y[i])) fprintf(out, "%.1f,%.1f ", place_x(x, chart->log_x, s->x[i]), place_y(y, s->y[i]));
        fprintf(out, "\"/>\n");
        return;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (!isfinite(s->y[i]) || (chart->log_x && s->x[i] < 1.0)) continue;
        double u = place_x(x, chart->log_x, s->x[i]), v = place_y(y, s->y[i]);
        fprintf(out, "<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>", s->colour, u, v);
        sora_html_escape(out, s->label);
        fprintf(out, ": %.4g, %.4f</title></circle>\n", s->x[i], s->y[i]);
    }
}

bool sora_chart_write(FILE *out, const sora_chart *chart)
{
    range x, y;
    if (!bounds(chart, &x, &y)) return false;
    fprintf(out, "<figure><h3>");
    sora_html_escape(out, chart->title);
    fprintf(out, "</h3><svg viewBox=\"0 0 %d %d\" role=\"img\">\n", WIDTH, HEIGHT);
    write_axes(out, chart, &x, &y);
    for (size_t s = 0; s < chart->count; s++) write_series(out, chart, &chart->series[s], &x, &y);
    fprintf(out, "</svg><figcaption>");
    for (size_t s = 0; s < chart->count; s++) {
        if (chart->series[s].count == 0) continue;
        fprintf(out, "<span><i class=\"c%d\"></i>", chart->series[s].colour);
        sora_html_escape(out, chart->series[s].label);
        fprintf(out, "</span> ");
    }
    fprintf(out, "</figcaption></figure>\n");
    return true;
}
