/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/memory.h"
#include "soracl/train.h"
#include "train/report.h"

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
    "var(--line)}th{font-weight:600;color:var(--soft);background:var(--card);white-space:normal;vertical-align:bottom}"
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
    "i.c4{background:#9c36b5}i.c5{background:#e8890c}i.c6{background:#0c8599}i.c7{background:#c2255c}"
    "svg.heat{max-width:520px;--heat:#4c8dff}svg.heat text{fill:var(--ink);text-anchor:middle;font-size:16px}svg.heat text.kept{"
    "font-size:20px;font-weight:600}svg.heat text.long{font-size:15px}svg.heat "
    "text.side{text-anchor:start;font-size:18px;font-weight:600}svg.heat rect{stroke:var(--line);fill:var(--heat)}"
    "@media(prefers-color-scheme:dark){svg.heat{--heat:#2563c9}}"
    ".example{padding:14px;margin:0 0 14px;background:var(--card);border-radius:10px;overflow-wrap:anywhere}.example "
    "summary{cursor:pointer}.example p{margin:.5em 0;white-space:pre-line}"
    ".example dl{display:grid;grid-template-columns:minmax(8em,15em) 1fr;gap:.25em 1em;margin:.7em 0 0}.example "
    "dt{color:var(--soft);font-size:.88rem}.example dd{margin:0}.example dd.reference{font-weight:600}"
    "@media(max-width:600px){.example dl{grid-template-columns:1fr;gap:0}.example dd{margin:0 0 .5em}}";

typedef sora_report_entry entry;
typedef sora_report report;

double sora_report_number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

const char *sora_report_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

/* ---- Collecting -------------------------------------------------------------------------------------------------- */

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

static void read_event(const report *r, entry *e, const json_t *event)
{
    const char *measure = r->task->columns[0].key;
    const char *kind = sora_report_text(event, "event");
    double step = sora_report_number(event, "step");
    if (strcmp(kind, "step") == 0) add_point(&e->loss, step, sora_report_number(event, "loss"));
    if (strcmp(kind, "evaluation") != 0 && strcmp(kind, "xi") != 0) return;
    double value = sora_report_number(event, measure);
    if (sora_report_number(event, "generated") == 0.0) value = (double)NAN; /* a loss alone: null, of earlier runs 0 */
    add_point(&e->quality, step, value);
    add_point(&e->eval_loss, step, sora_report_number(event, "loss"));
    add_point(&e->gates, step, sora_report_number(event, "rank_kept"));
    if (strcmp(kind, "xi") == 0) add_point(&e->path, sora_report_number(event, "parameters_kept"), value);
}

bool sora_report_is_inside(const char *relative)
{
    if (!*relative || relative[0] == '/') return false;
    for (const char *part = relative; *part;) {
        size_t length = strcspn(part, "/");
        if (length == 2 && strncmp(part, "..", 2) == 0) return false;
        part += length + strspn(part + length, "/");
    }
    return true;
}

/* events.jsonl of a row; one that isn't there leaves its charts out. */
static sora_status read_events(const report *r, entry *e, sora_error *error)
{
    char *path = NULL, *line;
    unsigned char *data = NULL;
    size_t bytes;
    const char *folder = sora_report_text(e->first, "folder");
    if (!sora_report_is_inside(folder)) return SORA_OK;
    sora_status status = sora_format(&path, error, "%s/%s/events.jsonl", r->folder, folder);
    if (status == SORA_OK && sora_path_exists(path)) status = sora_file_read(path, MAX_FILE, &data, &bytes, error);
    for (char *at = (char *)data; status == SORA_OK && at && (line = strsep(&at, "\n"));) {
        json_error_t problem;
        json_t *event = *line ? json_loads(line, 0, &problem) : NULL;
        if (*line && !event)
            status = sora_fail(error, SORA_ERROR_INPUT, "%s: %s", path, problem.text);
        else
            read_event(r, e, event);
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
    sora_series *all[] = { &e->loss, &e->quality, &e->eval_loss, &e->gates, &e->path };
    for (size_t i = 0; i < SORA_COUNT(all); i++) {
        snprintf(all[i]->label, sizeof all[i]->label, "%s", e->label);
        all[i]->colour = colour;
    }
}

/* Means over the seeds so far; Welford's for the first. */
static void add_values(const report *r, entry *e, const json_t *quality)
{
    for (size_t i = 0; i < r->task->column_count; i++) {
        double value = sora_report_number(quality, r->task->columns[i].key), delta = value - e->values[i];
        e->values[i] += delta / e->seeds;
        if (i == 0) e->spread += delta * (value - e->values[i]);
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
        entry *e = find_entry(r, sora_report_text(row, "label"));
        if (!json_is_object(row) || !json_is_object(quality))
            SORA_FAIL(error, SORA_ERROR_INPUT, "%s/compare.json: run %zu is not what it should be", r->folder, index);
        if (!e) {
            e = &r->entries[r->count];
            *e = (entry) { .label = sora_report_text(row, "label"),
                           .method = sora_report_text(row, "method"),
                           .target = sora_report_text(row, "target"),
                           .first = row };
            name_series(e, (int)(r->count % COLOURS));
            r->count++;
            SORA_TRY(read_events(r, e, error));
        }
        e->seeds++;
        add_values(r, e, quality);
        e->rank += (sora_report_number(row, "rank_kept") - e->rank) / e->seeds;
        e->kept += (sora_report_number(row, "parameters_kept") - e->kept) / e->seeds;
        e->seconds += (sora_report_number(row, "seconds_per_step") - e->seconds) / e->seeds;
        e->device = fmax(e->device, sora_report_number(row, "device_bytes_peak"));
        e->process = fmax(e->process, sora_report_number(row, "process_bytes_peak"));
    }
cleanup:
    return status;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static double deviation(const entry *e)
{
    return e->seeds > 1 ? sqrt(e->spread / (e->seeds - 1)) : 0.0;
}

const sora_report_entry *sora_report_best(const sora_report *r, const char *method)
{
    const entry *best = NULL;
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->entries[i].method, method) == 0 && (!best || r->entries[i].values[0] > best->values[0]))
            best = &r->entries[i];
    return best;
}

/* 447,725 */
static void write_count(FILE *out, double value)
{
    char digits[320]; /* of the largest double */
    int length = isfinite(value) ? snprintf(digits, sizeof digits, "%.0f", value) : 0;
    if (length == 0) fputs("&ndash;", out);
    for (int i = 0; i < length; i++) {
        fputc(digits[i], out);
        if (i + 1 < length && (length - i - 1) % 3 == 0 && digits[i] != '-') fputc(',', out);
    }
}

static void write_lead(const report *r)
{
    const entry *full = sora_report_best(r, "full"), *lora = sora_report_best(r, "lora"), *sora = sora_report_best(r, "sora");
    int digits = r->task->lead_digits;
    fputs("<p class=\"lead\">", r->out);
    r->task->write_start(r);
    if (full) {
        fprintf(r->out, "Full fine-tuning brings it to %.*f with ", digits, full->values[0]);
        write_count(r->out, sora_report_number(full->first, "parameters_trainable"));
        fputs(" trained parameters. ", r->out);
    }
    if (lora) {
        fputs("The best LoRA (", r->out);
        sora_html_escape(r->out, lora->label);
        fprintf(r->out, ") reaches %.*f with ", digits, lora->values[0]);
        write_count(r->out, sora_report_number(lora->first, "parameters_trainable"));
        fputs(". ", r->out);
    }
    if (sora) {
        fputs("The best SoRA (", r->out);
        sora_html_escape(r->out, sora->label);
        fprintf(r->out, ") reaches %.*f and keeps %.0f of %.0f ranks, ", digits, sora->values[0], sora->rank,
                sora_report_number(sora->first, "rank_max"));
        write_count(r->out, sora->kept);
        fputs(" parameters.", r->out);
    }
    fputs("</p>\n", r->out);
}

static void cell(FILE *out, double value, int digits)
{
    if (isfinite(value))
        fprintf(out, "<td>%.*f</td>", digits, value);
    else
        fputs("<td>&ndash;</td>", out);
}

static void count_cell(FILE *out, double value)
{
    fputs("<td>", out);
    write_count(out, value);
    fputs("</td>", out);
}

/* LoRA of the same target and rank; NULL: there is none. */
static const entry *lora_beside(const report *r, const entry *e)
{
    for (size_t i = 0; *e->target && i < r->count; i++) {
        const entry *other = &r->entries[i];
        if (strcmp(other->method, "lora") == 0 && strcmp(other->target, e->target) == 0 &&
            sora_report_number(other->first, "rank_max") == sora_report_number(e->first, "rank_max"))
            return other;
    }
    return NULL;
}

static void write_row(const report *r, const entry *e, double best)
{
    const sora_report_column *columns = r->task->columns;
    fputs("<tr><td>", r->out);
    sora_html_escape(r->out, e->label);
    fprintf(r->out, "</td><td%s>%.*f", e->values[0] == best ? " class=\"best\"" : "", columns[0].digits, e->values[0]);
    if (e->seeds > 1) fprintf(r->out, " &plusmn; %.*f", columns[0].digits, deviation(e));
    fputs("</td>", r->out);
    for (size_t i = 1; i < r->task->column_count; i++) cell(r->out, e->values[i], columns[i].digits);
    if (isfinite(e->rank))
        fprintf(r->out, "<td>%.4g of %.0f</td>", e->rank, sora_report_number(e->first, "rank_max"));
    else
        fputs("<td>&ndash;</td>", r->out);
    count_cell(r->out, e->kept);
    const entry *lora = lora_beside(r, e);
    if (r->task->share && lora) fprintf(r->out, "<td>%.1f %%</td>", 100.0 * e->kept / lora->kept);
    if (r->task->share && !lora) fputs("<td>&ndash;</td>", r->out);
    count_cell(r->out, sora_report_number(e->first, "parameters_trainable"));
    cell(r->out, 1e3 * e->seconds, 1);
    cell(r->out, e->device > 0.0 ? e->device / 1048576.0 : (double)NAN, 1);
    cell(r->out, e->process > 0.0 ? e->process / 1048576.0 : (double)NAN, 0);
    fputs("</tr>\n", r->out);
}

static void write_table(const report *r)
{
    double best = 0.0;
    for (size_t i = 0; i < r->count; i++) best = fmax(best, r->entries[i].values[0]);
    fputs("<h2>Results</h2><div class=\"scroll\"><table><tr><th>method", r->out);
    for (size_t i = 0; i < r->task->column_count; i++) fprintf(r->out, "<th>%s", r->task->columns[i].heading);
    fprintf(r->out, "<th>rank kept<th>parameters kept%s<th>trainable<th>ms per step<th>device MiB<th>process MiB</tr>\n",
            r->task->share ? "<th>of LoRA's" : "");
    for (size_t i = 0; i < r->count; i++) write_row(r, &r->entries[i], best);
    fputs("</table></div>", r->out);
    int seeds = r->entries[r->count - 1].seeds;
    fprintf(r->out, "<p class=\"soft\">%s %s Memory is the largest of a row's runs.</p>\n", r->task->table_note,
            seeds > 1 ? "Mean and standard deviation over seeds." : "One seed.");
}

/* Whether the differences have a mean of the column, too. */
static bool has_difference(const report *r, size_t column)
{
    const json_t *first = json_array_get(json_object_get(r->root, "bootstrap"), 0);
    return column > 0 && isfinite(sora_report_number(first, r->task->columns[column].key));
}

static void write_difference(const report *r, const json_t *pair)
{
    double low = sora_report_number(pair, "low"), high = sora_report_number(pair, "high");
    int digits = r->task->columns[0].digits;
    fputs("<tr><td>", r->out);
    sora_html_escape(r->out, sora_report_text(pair, "a"));
    fputs("<small>against ", r->out);
    sora_html_escape(r->out, sora_report_text(pair, "b"));
    fprintf(r->out, "</small></td><td%s>%+.*f</td><td>%+.*f to %+.*f</td>",
            low > 0.0    ? " class=\"best\""
            : high < 0.0 ? " class=\"worse\""
                         : "",
            digits, sora_report_number(pair, "difference"), digits, low, digits, high);
    for (size_t i = 1; i < r->task->column_count; i++)
        if (has_difference(r, i))
            fprintf(r->out, "<td>%+.*f</td>", r->task->columns[i].digits, sora_report_number(pair, r->task->columns[i].key));
    fprintf(r->out, "<td>%.0f</td></tr>\n", sora_report_number(pair, r->task->examples));
}

static void write_differences(const report *r)
{
    size_t index;
    json_t *pair, *list = json_object_get(r->root, "bootstrap");
    if (!json_is_array(list) || json_array_size(list) == 0) return;
    fprintf(r->out,
            "<h2>Paired differences of %s</h2><div class=\"scroll\"><table><tr><th>row<th>difference<th>95 %% "
            "interval",
            r->task->measure);
    for (size_t i = 1; i < r->task->column_count; i++)
        if (has_difference(r, i)) fprintf(r->out, "<th>%s", r->task->columns[i].heading);
    fprintf(r->out, "<th>%s</tr>\n", r->task->examples);
    json_array_foreach(list, index, pair) write_difference(r, pair);
    fprintf(r->out, "</table></div><p class=\"soft\">%s</p>\n", r->task->difference_note);
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
static sora_series *eval_loss_of(entry *e)
{
    return &e->eval_loss;
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
        if (e->kept < 1.0) continue;
        list[count] = (sora_series) { .x = &e->kept, .y = &e->values[0], .count = 1, .colour = e->loss.colour };
        snprintf(list[count++].label, sizeof list->label, "%s", e->label);
    }
    sora_chart_write(r->out, &(sora_chart) { .title = "Quality against kept parameters",
                                             .x_label = "parameters kept",
                                             .y_label = r->task->measure,
                                             .series = list,
                                             .count = count,
                                             .points = true,
                                             .log_x = true });
    free(list);
    return SORA_OK;
}

static void write_setting(const report *r)
{
    static const char *const names[] = { "name", "platform", "driver", "type" };
    const json_t *device = json_object_get(r->root, "device");
    fputs("<h2>How it was measured</h2><div class=\"scroll\"><table>", r->out);
    for (size_t i = 0; i < SORA_COUNT(names); i++) {
        fprintf(r->out, "<tr><td>device %s</td><td>", names[i]);
        sora_html_escape(r->out, sora_report_text(device, names[i]));
        fputs("</td></tr>", r->out);
    }
    static const char *const others[] = { "version", "from", "data", "eval_data", "test" };
    for (size_t i = 0; i < SORA_COUNT(others); i++) {
        if (!*sora_report_text(r->root, others[i])) continue;
        fprintf(r->out, "<tr><td>%s</td><td>", others[i]);
        sora_html_escape(r->out, sora_report_text(r->root, others[i]));
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
    fprintf(r->out, "</table></div><p class=\"soft\">%s</p>\n", r->task->setting_note);
}

static sora_status write_page(report *r, sora_error *error)
{
    sora_status status = SORA_OK;
    fprintf(r->out,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width,initial-scale=1\"><title>soracl: comparison"
            "</title><style>%s</style></head><body><main><p class=\"soft\">soracl ",
            style);
    sora_html_escape(r->out, sora_report_text(r->root, "version"));
    fputs("</p><h1>What does SoRA give over LoRA and over full fine-tuning?</h1>\n", r->out);
    write_lead(r);
    write_table(r);
    fputs("<h2>Learning curves</h2><div class=\"charts\">\n", r->out);
    SORA_TRY(write_curves(r, "Training loss", "loss", loss_of, false, true, error));
    SORA_TRY(write_curves(r, r->task->quality_title, r->task->measure, quality_of, false, false, error));
    if (r->task->eval_loss_title) SORA_TRY(write_curves(r, r->task->eval_loss_title, "loss", eval_loss_of, false, false, error));
    SORA_TRY(write_curves(r, "Gates that are not 0", "ranks kept", gates_of, true, true, error));
    SORA_TRY(write_scatter(r, error));
    fputs("</div>\n", r->out);
    write_differences(r);
    SORA_TRY(r->task->write_shown(r, error));
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

static sora_status choose_task(report *r, sora_error *error)
{
    static const sora_report_task *const tasks[] = { &sora_report_unet, &sora_report_t5 };
    const char *name = sora_report_text(r->root, "task");
    for (size_t i = 0; i < SORA_COUNT(tasks) && !r->task; i++)
        if (strcmp(tasks[i]->name, name) == 0) r->task = tasks[i];
    if (r->task) return SORA_OK;
    return sora_fail(error, SORA_ERROR_INPUT, "%s/compare.json: task \"%.40s\"; expected unet or t5", r->folder, name);
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
    SORA_TRY(choose_task(&r, error));
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
        free_series(&r.entries[i].eval_loss);
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
