/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "soracl/status.h"
#include "train/report.h"

#include <stdlib.h>
#include <string.h>

static void write_start(const sora_report *r)
{
    const sora_report_entry *none = sora_report_best(r, "none"), *copy = sora_report_best(r, "copy");
    if (none) fprintf(r->out, "As it is the model reaches ROUGE-L %.2f on these texts. ", none->values[0]);
    if (copy) fprintf(r->out, "Copying each text's first sentence gives %.2f. ", copy->values[0]);
}

/* ---- Rank kept in every module ----------------------------------------------------------------------------------- */

#define CELL 40
#define CELL_HEIGHT 46
#define LEFT 34   /* numbers of the layers */
#define GAP 8     /* between attention, cross-attention and feed-forward */
#define HEAD 62   /* side, groups and matrices above the cells */
#define LEAST 496 /* width, so that a picture of few columns is not blown up */

/* Columns of the picture, in T5's order; those that no module of a side has are left out. */
static const struct {
    const char *part, *group, *name;
} matrices[] = {
    { "SelfAttention.q", "self", "q" },      { "SelfAttention.k", "self", "k" },      { "SelfAttention.v", "self", "v" },
    { "SelfAttention.o", "self", "o" },      { "EncDecAttention.q", "cross", "q" },   { "EncDecAttention.k", "cross", "k" },
    { "EncDecAttention.v", "cross", "v" },   { "EncDecAttention.o", "cross", "o" },   { "DenseReluDense.wi", "ff", "wi" },
    { "DenseReluDense.wi_0", "ff", "wi_0" }, { "DenseReluDense.wi_1", "ff", "wi_1" }, { "DenseReluDense.wo", "ff", "wo" },
};
#define MATRICES SORA_COUNT(matrices)

/* One side's columns: x of each, −1 where it is left out; width and number of layers. */
typedef struct block {
    const char *side;
    int x[MATRICES], width, layers;
} block;

/* Column and layer of "encoder.block.3.layer.0.SelfAttention.q"; false for another side's, or a name of no such form. */
static bool place(const char *side, const char *name, size_t *column, int *layer)
{
    char *end;
    size_t length = strlen(side);
    if (strncmp(name, side, length) != 0 || strncmp(name + length, ".block.", 7) != 0) return false;
    long number = strtol(name + length + 7, &end, 10);
    const char *dot = strrchr(end, '.');
    if (number < 0 || number > 999 || !dot) return false;
    while (dot > end && dot[-1] != '.') dot--;
    for (*column = 0; *column < MATRICES && strcmp(dot, matrices[*column].part) != 0;) ++*column;
    *layer = (int)number;
    return *column < MATRICES;
}

static block arrange(const json_t *modules, const char *side)
{
    block b = { .side = side, .width = LEFT };
    bool present[MATRICES] = { false };
    size_t index, column, last = MATRICES;
    int layer;
    const json_t *module;
    json_array_foreach(modules, index, module)
    {
        if (!place(side, sora_report_text(module, "name"), &column, &layer)) continue;
        present[column] = true;
        b.layers = SORA_MAX(b.layers, layer + 1);
    }
    for (size_t i = 0; i < MATRICES; i++) {
        b.x[i] = -1;
        if (!present[i]) continue;
        if (last < MATRICES && strcmp(matrices[last].group, matrices[i].group) != 0) b.width += GAP;
        b.x[i] = b.width;
        b.width += CELL;
        last = i;
    }
    return b;
}

static int block_height(const block *b)
{
    return b->layers ? HEAD + b->layers * CELL_HEIGHT : 0;
}

static void write_headings(FILE *out, const block *b, int top)
{
    const char *group = "";
    fprintf(out, "<text class=\"side\" x=\"0\" y=\"%d\">%s</text>\n", top + 18, b->side);
    for (size_t i = 0; i < MATRICES; i++) {
        if (b->x[i] < 0) continue;
        if (strcmp(group, matrices[i].group) != 0)
            fprintf(out, "<text x=\"%d\" y=\"%d\" style=\"text-anchor:start\">%s</text>", b->x[i] + 4, top + 38,
                    matrices[i].group);
        group = matrices[i].group;
        fprintf(out, "<text x=\"%d\" y=\"%d\">%s</text>\n", b->x[i] + CELL / 2, top + 56, matrices[i].name);
    }
    for (int layer = 0; layer < b->layers; layer++)
        fprintf(out, "<text x=\"%d\" y=\"%d\">%d</text>\n", LEFT / 2, top + HEAD + layer * CELL_HEIGHT + CELL_HEIGHT / 2 + 6,
                layer);
}

static void write_cell(FILE *out, int x, int y, const char *name, int kept, int most)
{
    const char *size = most > 99 ? " long" : "";
    fprintf(out, "<g><title>");
    sora_html_escape(out, name);
    fprintf(out, ": %d of %d</title><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"4\" fill-opacity=\"%.2f\"/>", kept,
            most, x + 1, y + 1, CELL - 2, CELL_HEIGHT - 2, most > 0 ? 0.9 * kept / most : 0.0);
    fprintf(out, "<text class=\"kept%s\" x=\"%d\" y=\"%d\">%d</text><text class=\"max%s\" x=\"%d\" y=\"%d\">/%d</text></g>\n",
            size, x + CELL / 2, y + 22, kept, size, x + CELL / 2, y + 39, most);
}

static void write_block(FILE *out, const json_t *modules, const block *b, int top)
{
    size_t index, column;
    int layer;
    const json_t *module;
    if (b->layers == 0) return;
    write_headings(out, b, top);
    json_array_foreach(modules, index, module)
    {
        const char *name = sora_report_text(module, "name");
        if (place(b->side, name, &column, &layer))
            write_cell(out, b->x[column], top + HEAD + layer * CELL_HEIGHT, name,
                       (int)json_integer_value(json_object_get(module, "rank_kept")),
                       (int)json_integer_value(json_object_get(module, "rank_max")));
    }
}

static void write_ranks(const sora_report *r)
{
    fputs("<h2>Rank kept in every module</h2><div class=\"charts\">\n", r->out);
    for (size_t i = 0; i < r->count; i++) {
        const sora_report_entry *e = &r->entries[i];
        const json_t *modules = json_object_get(e->first, "modules");
        block encoder = arrange(modules, "encoder"), decoder = arrange(modules, "decoder");
        int height = block_height(&encoder), width = SORA_MAX(LEAST, SORA_MAX(encoder.width, decoder.width));
        int between = height ? 18 : 0;
        if (strcmp(e->method, "sora") != 0 || height + decoder.layers == 0) continue;
        fputs("<figure><h3>", r->out);
        sora_html_escape(r->out, e->label);
        fprintf(r->out, "</h3><svg class=\"heat\" viewBox=\"0 0 %d %d\" role=\"img\">\n", width,
                height + between + block_height(&decoder));
        write_block(r->out, modules, &encoder, 0);
        write_block(r->out, modules, &decoder, height + between);
        fputs("</svg></figure>\n", r->out);
    }
    fputs("</div><p class=\"soft\">Rows are layers, columns matrices: kept of the largest rank, first seed.</p>\n", r->out);
}

/* ---- Texts ------------------------------------------------------------------------------------------------------- */

#define SHORT_TEXT 200 /* bytes */

static void write_text(FILE *out, const char *text)
{
    size_t length = strlen(text), cut = SHORT_TEXT;
    char start[SHORT_TEXT + 1];
    if (length <= SHORT_TEXT) {
        fputs("<p>", out);
        sora_html_escape(out, text);
        fputs("</p>", out);
        return;
    }
    while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80) cut--; /* not inside a character */
    snprintf(start, sizeof start, "%.*s", (int)cut, text);
    fputs("<details><summary>", out);
    sora_html_escape(out, start);
    fputs("&hellip;</summary><p>", out);
    sora_html_escape(out, text);
    fputs("</p></details>", out);
}

static void write_summary(FILE *out, const char *label, const char *summary, const char *class)
{
    fputs("<dt>", out);
    sora_html_escape(out, label);
    fprintf(out, "</dt><dd%s>", class);
    if (*summary)
        sora_html_escape(out, summary);
    else
        fputs("<span class=\"soft\">nothing</span>", out);
    fputs("</dd>\n", out);
}

static sora_status write_shown(const sora_report *r, sora_error *error)
{
    size_t index, k;
    json_t *example, *summary, *list = json_object_get(r->root, "examples");
    (void)error;
    write_ranks(r);
    if (json_array_size(list) == 0) return SORA_OK;
    fputs("<h2>Texts and summaries</h2>\n", r->out);
    json_array_foreach(list, index, example)
    {
        fputs("<div class=\"example\">", r->out);
        write_text(r->out, sora_report_text(example, "text"));
        fputs("<dl>", r->out);
        write_summary(r->out, "reference", sora_report_text(example, "reference"), " class=\"reference\"");
        json_array_foreach(json_object_get(example, "summaries"), k, summary)
            write_summary(r->out, sora_report_text(summary, "label"), sora_report_text(summary, "summary"), "");
        fputs("</dl></div>\n", r->out);
    }
    return SORA_OK;
}

const sora_report_task sora_report_t5 = {
    .name = "t5",
    .columns = { { "rougeL", "ROUGE&#8209;L", 2 },
                 { "rouge1", "ROUGE&#8209;1", 2 },
                 { "rouge2", "ROUGE&#8209;2", 2 },
                 { "loss", "loss", 4 } },
    .column_count = 4,
    .lead_digits = 2,
    .share = true,
    .examples = "examples",
    .measure = "ROUGE-L",
    .quality_title = "ROUGE-L on --dev while training",
    .eval_loss_title = "Loss on --dev while training",
    .table_note =
        "ROUGE is the mean F1 over the evaluation texts, times 100, of what is generated greedily at the end of training; "
        "the loss is that of a target token. Kept parameters stand beside those of LoRA of the same rank and target.",
    .difference_note = "Bootstrap over the evaluation texts, each text's difference averaged over seeds first. Coloured: the "
                       "interval leaves 0 out. Beside it: mean differences of ROUGE-1 and ROUGE-2.",
    .setting_note =
        "Every method starts from the same weights and sees the same batches in the same order for the same number of steps; "
        "only "
        "a row with a schedule of thresholds trains on with each further one. Time per step is the median, evaluations left "
        "out. Device memory is what was allocated on the device, process memory the largest resident set while the row ran.",
    .write_start = write_start,
    .write_shown = write_shown
};
