/* SPDX-License-Identifier: Apache-2.0 */
#include "data/lines.h"

#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void drop_byte_order_mark(sora_lines *lines)
{
    static const char mark[] = "\xef\xbb\xbf";
    if (lines->bytes < 3 || memcmp(lines->text, mark, 3) != 0) return;
    lines->bytes -= 3;
    memmove(lines->text, lines->text + 3, lines->bytes + 1);
}

sora_status sora_lines_next(sora_lines *lines, bool *more, sora_error *error)
{
    int c = 0;
    lines->bytes = 0;
    *more = false;
    lines->number++;
    errno = 0;
    while (c != '\n' && (c = getc_unlocked(lines->file)) != EOF) {
        if (lines->bytes >= lines->limit)
            return sora_fail(error, SORA_ERROR_INPUT, "%s: line %zu has more than %zu bytes", lines->path, lines->number,
                             lines->limit);
        if (lines->bytes + 1 >= lines->room) {
            sora_status status = sora_reserve(&lines->text, &lines->room, lines->bytes + 256, 1, error);
            if (status != SORA_OK) return status;
        }
        lines->text[lines->bytes++] = (char)c;
    }
    if (ferror(lines->file)) return sora_fail(error, SORA_ERROR_IO, "%s: cannot read: %s", lines->path, strerror(errno));
    if (lines->bytes == 0) return SORA_OK;
    lines->text[lines->bytes] = '\0';
    if (lines->number == 1) drop_byte_order_mark(lines);
    *more = true;
    return SORA_OK;
}

void sora_lines_trim(sora_lines *lines)
{
    if (lines->bytes && lines->text[lines->bytes - 1] == '\n') lines->bytes--;
    if (lines->bytes && lines->text[lines->bytes - 1] == '\r') lines->bytes--;
    if (lines->text) lines->text[lines->bytes] = '\0';
}

void sora_lines_free(sora_lines *lines)
{
    free(lines->text);
    lines->text = NULL;
    lines->bytes = lines->room = 0;
}
