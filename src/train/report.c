/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "soracl/train.h"
#include "train/report_chart.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE ((size_t)64 << 20)
#define COLOURS 8

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1c2430;--soft:#667085;--line:#e3e7ee;--paper:#fff;--card:#f7f9fc;--best:#0a7d4f}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6eaf2;--soft:#98a2b3;--line:#2c3441;--paper:#12161d;--card:#1a2029;--best:#"
    "4ade80}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}"
    "main{max-width:1180px;margin:0 auto;padding:28px 18px 60px}h1{font-size:1.7rem;line-height:1.2;margin:.2em "
    "0}h2{font-size:1.2rem;margin:2.2em 0 .6em}"
    "h3{font-size:.95rem;margin:0 0 "
    ".4em;font-weight:600}p.lead{font-size:1.12rem;max-width:46em}.soft{color:var(--soft);font-size:.88rem}"
    ".scroll{overflow-x:auto;border:1px solid "
    "var(--line);border-radius:10px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}"
    "th,td{padding:.5em .65em;text-align:right;white-space:nowrap;border-bottom:1px solid "
    "var(--line)}th{font-weight:600;color:var(--soft);background:var(--card)}"
    "tr:last-child "
    "td{border-bottom:0}td:first-child,th:first-child{text-align:left}td.best{color:var(--best);font-weight:700}td.worse{color:#"
    "d9480f;font-weight:700}td small{color:var(--soft);display:block}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:18px}figure{margin:0;padding:"
    "14px;background:var(--card);border-radius:10px;min-width:0}"
    "svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:14px}@media(max-width:600px){svg "
    "text{font-size:21px}}svg "
    ".grid{stroke:var(--line)}polyline{fill:none;stroke-width:2;stroke-linejoin:round}"
    "circle{stroke:var(--card);stroke-width:1.5}figcaption{font-size:.82rem;color:var(--soft);display:flex;flex-wrap:wrap;gap:."
    "2em 1em;margin-top:.4em}"
    "figcaption i{display:inline-block;width:.8em;height:.8em;border-radius:3px;margin-right:.4em}"
    ".grid-images{display:grid;gap:6px;min-width:max-content}.grid-images "
    "div{font-size:.78rem;color:var(--soft);width:150px;white-space:normal;align-self:end}"
    ".grid-images img{width:150px;display:block;border-radius:6px}.pad{padding:10px}"
    "polyline.c0{stroke:#7c8798}polyline.c1{stroke:#d9480f}polyline.c2{stroke:#1971c2}polyline.c3{stroke:#2f9e44}polyline.c4{"
    "stroke:#9c36b5}polyline.c5{stroke:#e8890c}"
    "polyline.c6{stroke:#0c8599}polyline.c7{stroke:#c2255c}circle.c0{fill:#7c8798}circle.c1{fill:#d9480f}circle.c2{fill:#1971c2}"
    "circle.c3{fill:#2f9e44}circle.c4{fill:#9c36b5}"
    "circle.c5{fill:#e8890c}circle.c6{fill:#0c8599}circle.c7{fill:#c2255c}i.c0{background:#7c8798}i.c1{background:#d9480f}i.c2{"
    "background:#1971c2}i.c3{background:#2f9e44}"
    "i.c4{background:#9c36b5}i.c5{background:#e8890c}i.c6{background:#0c8599}i.c7{background:#c2255c}";

/* Rows of one label, over their seeds. */
typedef struct entry {
    const char *label, *method, *target;
    const json_t *first;
    int seeds;
    double iou, iou_spread, dice, rank, seconds, device, process, kept;
    sora_series loss, quality, gates, path; /* of the first seed; path: quality against kept parameters */
} entry;

typedef struct report {
    const char *folder;
    json_t *root;
    entry *entries;
    size_t count;
    FILE *out;
} report;

static double number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* ---- Collecting
 * -------------------------------------------------------------------------------------------------------------------------- */

static void add_point(sora_series *s, double x, double y)
{
    double *xs, *ys;
    if (!isfinite(x) || !isfinite(y)) return;
    /* A chart is a picture: a point less for want of memory is no failure. */
    if (!(xs = realloc(s->x, (s->count + 1) * sizeof *xs))) return;
    s->x = xs;
    if (!(ys = realloc(s->y, (s->count + 1) * sizeof *ys))) return;
    s->y = ys;
    xs[s->count] = x;
    ys[s->count++] = y;
}

static void read_event(entry *e, const json_t *event)
{
    const char *kind = text_of(event, "event");
    double step = number(event, "step");
    if (strcmp(kind, "step") == 0) add_point(&e->loss, step, number(event, "loss"));
    if (strcmp(kind, "evaluation") != 0 && strcmp(kind, "xi") != 0) return;
    add_point(&e->quality, step, number(event, "iou_per_image"));
    add_point(&e->gates, step, number(event, "rank_kept"));
    if (strcmp(kind, "xi") == 0) add_point(&e->path, number(event, "parameters_kept"), number(event, "iou_per_image"));
}

/* events.jsonl of a row; one that isn't there leaves its charts out. */
static sora_status read_events(const report *r, entry *e, sora_error *error)
{
    char *path = NULL, *line;
    unsigned char *data = NULL;
    size_t bytes;
    const char *folder = text_of(e->first, "folder");
    if (!*folder || strstr(folder, "..") || folder[0] == '/') return SORA_OK;
    sora_status status = sora_format(&path, error, "%s/%s/events.jsonl", r->folder, folder);
    if (status == SORA_OK && sora_path_exists(path)) status = sora_file_read(path, MAX_FILE, &data, &bytes, error);
    for (char *at = (char *)data; status == SORA_OK && at && (line = strsep(&at, "\n"));) {
        json_error_t problem;
        json_t *event = *line ? json_loads(line, 0, &problem) : NULL;
        if (*line && !event)
            status = sora_fail(error, SORA_ERROR_INPUT, "%s: %s", path, problem.text);
        else
            read_event(e, event);
        json_decref(event);
    }
    free(path);
    free(data);
    return status;
}

static entry *find_entry(report *r, const char *label)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->entries[i].label, label) == 0) return &r->entries[i];
    return NULL;
}

static void name_series(entry *e, int colour)
{
    sora_series *all[] = { &e->loss, &e->quality, &e->gates, &e->path };
    for (size_t i = 0; i < SORA_COUNT(all); i++) {
        snprintf(all[i]->label, sizeof all[i]->label, "%s", e->label);
        all[i]->colour = colour;
    }
}

static sora_status collect(report *r, sora_error *error)
{
    sora_status status = SORA_OK;
    size_t index;
    json_t *row, *runs = json_object_get(r->root, "runs");
    if (!json_is_array(runs) || json_array_size(runs) == 0)
        return sora_fail(error, SORA_ERROR_INPUT, "%s/compare.json: no runs in it", r->folder);
    SORA_TRY(sora_allocate(json_array_size(runs), sizeof *r->entries, "report", &r->entries, error));
    json_array_foreach(runs, index, row)
    {
        const json_t *quality = json_object_get(row, "quality");
        entry *e = find_entry(r, text_of(row, "label"));
        if (!json_is_object(row) || !json_is_object(quality))
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s/compare.json: run %zu is not what it should be", r->folder, index);
        if (!e) {
            e = &r->entries[r->count];
            *e = (entry) {
                .label = text_of(row, "label"), .method = text_of(row, "method"), .target = text_of(row, "target"), .first = row
            };
            name_series(e, (int)(r->count % COLOURS));
            r->count++;
            SORA_TRY(read_events(r, e, error));
        }
        double iou = number(quality, "iou_per_image");
        e->seeds++;
        /* Welford */
        double delta = iou - e->iou;
        e->iou += delta / e->seeds;
        e->iou_spread += delta * (iou - e->iou);
        e->dice += (number(quality, "dice") - e->dice) / e->seeds;
        e->rank += (number(row, "rank_kept") - e->rank) / e->seeds;
        e->kept += (number(row, "parameters_kept") - e->kept) / e->seeds;
        e->seconds += (number(row, "seconds_per_step") - e->seconds) / e->seeds;
        e->device = fmax(e->device, number(row, "device_bytes_peak"));
        e->process = fmax(e->process, number(row, "process_bytes_peak"));
    }
cleanup:
    return status;
}

/* ---- Writing
 * ------------------------------------------------------------------------------------------------------------------------------
 */

static double spread(const entry *e)
{
    return e->seeds > 1 ? sqrt(e->iou_spread / (e->seeds - 1)) : 0.0;
}

static const entry *best_of(const report *r, const char *method)
{
    const entry *best = NULL;
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->entries[i].method, method) == 0 && (!best || r->entries[i].iou > best->iou)) best = &r->entries[i];
    return best;
}

/* 447,725 */
static void write_count(FILE *out, double value)
{
    char digits[32];
    int length = isfinite(value) ? snprintf(digits, sizeof digits, "%.0f", value) : 0;
    if (length == 0) fputs("&ndash;", out);
    for (int i = 0; i < length; i++) {
        fputc(digits[i], out);
        if (i + 1 < length && (length - i - 1) % 3 == 0 && digits[i] != '-') fputc(',', out);
    }
}

static void write_lead(const report *r)
{
    const entry *none = best_of(r, "none"), *full = best_of(r, "full"), *lora = best_of(r, "lora"), *sora = best_of(r, "sora");
    fputs("<p class=\"lead\">", r->out);
    if (none) fprintf(r->out, "As it was pre-trained the network reaches a hand IoU of %.3f on these images. ", none->iou);
    if (full) {
        fprintf(r->out, "Full fine-tuning brings it to %.3f with ", full->iou);
        write_count(r->out, number(full->first, "parameters_trainable"));
        fputs(" trained parameters. ", r->out);
    }
    if (lora) {
        fputs("The best LoRA (", r->out);
        sora_html_escape(r->out, lora->label);
        fprintf(r->out, ") reaches %.3f with ", lora->iou);
        write_count(r->out, number(lora->first, "parameters_trainable"));
        fputs(". ", r->out);
    }
    if (sora) {
        fputs("The best SoRA (", r->out);
        sora_html_escape(r->out, sora->label);
        fprintf(r->out, ") reaches %.3f and keeps %.0f of %.0f ranks, ", sora->iou, sora->rank, number(sora->first, "rank_max"));
        write_count(r->out, sora->kept);
        fputs(" parameters.", r->out);
    }
    fputs("</p>\n", r->out);
}

static void cell(FILE *out, double value, const char *format)
{
    fputs("<td>", out);
    if (isfinite(value)) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        fprintf(out, format, value);
#pragma GCC diagnostic pop
    } else
        fputs("&ndash;", out);
    fputs("</td>", out);
}

static void write_table(const report *r)
{
    double best = 0.0;
    for (size_t i = 0; i < r->count; i++) best = fmax(best, r->entries[i].iou);
    fputs("<h2>Results</h2><div class=\"scroll\"><table><tr><th>method<th>hand IoU<th>Dice<th>rank kept<th>parameters "
          "kept<th>trainable<th>ms per step<th>device MiB<th>process MiB</tr>\n",
          r->out);
    for (size_t i = 0; i < r->count; i++) {
        const entry *e = &r->entries[i];
        fputs("<tr><td>", r->out);
        sora_html_escape(r->out, e->label);
        fprintf(r->out, "</td><td%s>%.4f", e->iou == best ? " class=\"best\"" : "", e->iou);
        if (e->seeds > 1) fprintf(r->out, " &plusmn; %.4f", spread(e));
        fputs("</td>", r->out);
        cell(r->out, e->dice, "%.4f");
        if (isfinite(e->rank))
            fprintf(r->out, "<td>%.4g of %.0f</td>", e->rank, number(e->first, "rank_max"));
        else
            fputs("<td>&ndash;</td>", r->out);
        fputs("<td>", r->out);
        write_count(r->out, e->kept);
        fputs("</td><td>", r->out);
        write_count(r->out, number(e->first, "parameters_trainable"));
        fputs("</td>", r->out);
        cell(r->out, 1e3 * e->seconds, "%.1f");
        cell(r->out, e->device / 1048576.0, "%.1f");
        cell(r->out, e->process / 1048576.0, "%.0f");
        fputs("</tr>\n", r->out);
    }
    fputs("</table></div>", r->out);
    int seeds = r->entries[r->count - 1].seeds;
    fprintf(r->out,
            "<p class=\"soft\">Hand IoU is the mean over the evaluation images that show a hand in truth or prediction, at the "
            "network's size, at the end of training. "
            "%s Memory is the largest of a row's runs.</p>\n",
            seeds > 1 ? "Mean and standard deviation over seeds." : "One seed.");
}

static void write_differences(const report *r)
{
    size_t index;
    json_t *pair, *list = json_object_get(r->root, "bootstrap");
    if (!json_is_array(list) || json_array_size(list) == 0) return;
    fputs("<h2>Paired differences of hand IoU</h2><div class=\"scroll\"><table><tr><th>row<th>difference<th>95 % "
          "interval<th>images</tr>\n",
          r->out);
    json_array_foreach(list, index, pair)
    {
        double low = number(pair, "low"), high = number(pair, "high");
        fputs("<tr><td>", r->out);
        sora_html_escape(r->out, text_of(pair, "a"));
        fputs("<small>against ", r->out);
        sora_html_escape(r->out, text_of(pair, "b"));
        fprintf(r->out, "</small></td><td%s>%+.4f</td><td>%+.4f to %+.4f</td><td>%.0f</td></tr>\n",
                low > 0.0    ? " class=\"best\""
                : high < 0.0 ? " class=\"worse\""
                             : "",
                number(pair, "difference"), low, high, number(pair, "images"));
    }
    fputs("</table></div><p class=\"soft\">Bootstrap over the evaluation images, each image's difference averaged over seeds "
          "first. Coloured: the interval leaves 0 out.</p>\n",
          r->out);
}

typedef sora_series *(*series_of)(entry *e);
static sora_series *loss_of(entry *e)
{
    return &e->loss;
}
static sora_series *quality_of(entry *e)
{
    return &e->quality;
}
static sora_series *gates_of(entry *e)
{
    return &e->gates;
}

static sora_status write_curves(report *r, const char *title, const char *y, series_of pick, bool gates_only, bool from_zero,
                                sora_error *error)
{
    sora_series *list = NULL;
    size_t count = 0;
    sora_status status = sora_allocate(r->count, sizeof *list, "chart", &list, error);
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < r->count; i++)
        if (!gates_only || strcmp(r->entries[i].method, "sora") == 0) list[count++] = *pick(&r->entries[i]);
    bool written = sora_chart_write(
        r->out, &(sora_chart) {
                    .title = title, .x_label = "step", .y_label = y, .series = list, .count = count, .from_zero = from_zero });
    if (!written && !gates_only)
        fprintf(r->out, "<figure><h3>%s</h3><p class=\"soft\">The runs hold no events for this chart.</p></figure>\n", title);
    free(list);
    return SORA_OK;
}

/* Where each row, or each ξ of a schedule, stands: quality against what is kept. */
static sora_status write_scatter(report *r, sora_error *error)
{
    sora_series *list = NULL;
    sora_status status = sora_allocate(2 * r->count, sizeof *list, "chart", &list, error);
    size_t count = 0;
    if (status != SORA_OK) return status;
    for (size_t i = 0; i < r->count; i++) {
        entry *e = &r->entries[i];
        if (e->path.count > 1) list[count++] = e->path;
        if (strcmp(e->method, "none") == 0 || e->kept < 1.0) continue;
        list[count] = (sora_series) { .x = &e->kept, .y = &e->iou, .count = 1, .colour = e->loss.colour };
        snprintf(list[count++].label, sizeof list->label, "%s", e->label);
    }
    sora_chart_write(r->out, &(sora_chart) { .title = "Quality against kept parameters",
                                             .x_label = "parameters kept",
                                             .y_label = "hand IoU",
                                             .series = list,
                                             .count = count,
                                             .points = true,
                                             .log_x = true });
    free(list);
    return SORA_OK;
}

static void write_base64(FILE *out, const unsigned char *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        unsigned value =
            (unsigned)data[i] << 16 | (i + 1 < bytes ? (unsigned)data[i + 1] << 8 : 0) | (i + 2 < bytes ? data[i + 2] : 0);
        fputc(digits[value >> 18], out);
        fputc(digits[value >> 12 & 63], out);
        fputc(i + 1 < bytes ? digits[value >> 6 & 63] : '=', out);
        fputc(i + 2 < bytes ? digits[value & 63] : '=', out);
    }
}

static sora_status write_picture(const report *r, const char *relative, const char *name, sora_error *error)
{
    char *path = NULL;
    unsigned char *data = NULL;
    size_t bytes;
    if (!*relative || strstr(relative, "..") || relative[0] == '/')
        return sora_fail(error, SORA_ERROR_INPUT, "%s/compare.json: \"%.80s\" is no picture in this folder", r->folder, relative);
    sora_status status = sora_format(&path, error, "%s/%s", r->folder, relative);
    if (status == SORA_OK) status = sora_file_read(path, MAX_FILE, &data, &bytes, error);
    if (status == SORA_OK) {
        fputs("<img alt=\"", r->out);
        sora_html_escape(r->out, name);
        fputs("\" src=\"data:image/png;base64,", r->out);
        write_base64(r->out, data, bytes);
        fputs("\">\n", r->out);
    }
    free(path);
    free(data);
    return status;
}

static sora_status write_grid(const report *r, sora_error *error)
{
    size_t index, k;
    json_t *row, *prediction, *list = json_object_get(r->root, "overlays"),
                              *first = json_object_get(json_array_get(list, 0), "predictions");
    if (!json_is_array(list) || json_array_size(list) == 0) return SORA_OK;
    size_t columns = 2 + json_array_size(first);
    fprintf(r->out,
            "<h2>Pictures</h2><div class=\"scroll pad\"><div class=\"grid-images\" "
            "style=\"grid-template-columns:repeat(%zu,150px)\"><div>image</div><div>truth</div>",
            columns);
    json_array_foreach(first, k, prediction)
    {
        fputs("<div>", r->out);
        sora_html_escape(r->out, text_of(prediction, "label"));
        fputs("</div>", r->out);
    }
    json_array_foreach(list, index, row)
    {
        json_t *predictions = json_object_get(row, "predictions");
        sora_status status = write_picture(r, text_of(row, "image"), text_of(row, "name"), error);
        if (status == SORA_OK) status = write_picture(r, text_of(row, "truth"), "truth", error);
        for (k = 0; status == SORA_OK && k + 2 < columns; k++) {
            prediction = json_array_get(predictions, k);
            status = write_picture(r, text_of(prediction, "file"), text_of(prediction, "label"), error);
        }
        if (status != SORA_OK) return status;
    }
    fputs("</div></div>\n", r->out);
    return SORA_OK;
}

static void write_setting(const report *r)
{
    static const char *const names[] = { "name", "platform", "driver", "type" };
    const json_t *device = json_object_get(r->root, "device");
    fputs("<h2>How it was measured</h2><div class=\"scroll\"><table>", r->out);
    for (size_t i = 0; i < SORA_COUNT(names); i++) {
        fprintf(r->out, "<tr><td>device %s</td><td>", names[i]);
        sora_html_escape(r->out, text_of(device, names[i]));
        fputs("</td></tr>", r->out);
    }
    static const char *const others[] = { "version", "from", "data", "eval_data" };
    for (size_t i = 0; i < SORA_COUNT(others); i++) {
        if (!*text_of(r->root, others[i])) continue;
        fprintf(r->out, "<tr><td>%s</td><td>", others[i]);
        sora_html_escape(r->out, text_of(r->root, others[i]));
        fputs("</td></tr>", r->out);
    }
    for (size_t i = 0; i < r->count; i++) {
        const entry *e = &r->entries[i];
        bool seen = !*e->target;
        for (size_t k = 0; k < i; k++) seen |= strcmp(r->entries[k].target, e->target) == 0;
        if (seen) continue;
        fputs("<tr><td>target of ", r->out);
        sora_html_escape(r->out, e->label);
        fputs("</td><td>", r->out);
        sora_html_escape(r->out, e->target);
        fputs("</td></tr>", r->out);
    }
    fputs("</table></div><p class=\"soft\">Every method starts from the same weights and sees the same batches in the same order "
          "for the same number of steps. Time per step is "
          "the median, evaluations left out. Device memory is what was allocated on the device, process memory the largest "
          "resident set while the row ran.</p>\n",
          r->out);
}

static sora_status write_page(report *r, sora_error *error)
{
    sora_status status = SORA_OK;
    fprintf(r->out,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width,initial-scale=1\"><title>soracl: comparison"
            "</title><style>%s</style></head><body><main><p class=\"soft\">soracl ",
            style);
    sora_html_escape(r->out, text_of(r->root, "version"));
    fputs("</p><h1>What does SoRA give over LoRA and over full fine-tuning?</h1>\n", r->out);
    write_lead(r);
    write_table(r);
    fputs("<h2>Learning curves</h2><div class=\"charts\">\n", r->out);
    SORA_TRY(write_curves(r, "Training loss", "loss", loss_of, false, true, error));
    SORA_TRY(write_curves(r, "Hand IoU on the evaluation set", "hand IoU", quality_of, false, false, error));
    SORA_TRY(write_curves(r, "Gates that are not 0", "ranks kept", gates_of, true, true, error));
    SORA_TRY(write_scatter(r, error));
    fputs("</div>\n", r->out);
    write_differences(r);
    SORA_TRY(write_grid(r, error));
    write_setting(r);
    fputs("</main></body></html>\n", r->out);
cleanup:
    return status;
}

static void free_series(sora_series *s)
{
    free(s->x);
    free(s->y);
}

sora_status sora_report_write(const char *folder, sora_error *error)
{
    sora_status status = SORA_OK;
    report r = { .folder = folder };
    char *source = NULL, *path = NULL;
    unsigned char *text = NULL;
    size_t bytes;
    json_error_t problem;
    sora_file_writer writer = { 0 };
    SORA_TRY(sora_format(&source, error, "%s/compare.json", folder));
    SORA_TRY(sora_format(&path, error, "%s/report.html", folder));
    SORA_TRY(sora_file_read(source, MAX_FILE, &text, &bytes, error));
    r.root = json_loadb((char *)text, bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!r.root) SORA_FAIL(error, SORA_ERROR_INPUT, "%s: line %d: %s", source, problem.line, problem.text);
    SORA_TRY(collect(&r, error));
    SORA_TRY(sora_file_begin(&writer, path, error));
    r.out = writer.stream;
    SORA_TRY(write_page(&r, error));
    SORA_TRY(sora_file_commit(&writer, error));
cleanup:
    sora_file_abandon(&writer);
    for (size_t i = 0; i < r.count; i++) {
        free_series(&r.entries[i].loss);
        free_series(&r.entries[i].quality);
        free_series(&r.entries[i].gates);
        free_series(&r.entries[i].path);
    }
    free(r.entries);
    json_decref(r.root);
    free(text);
    free(source);
    free(path);
    return status;
}
