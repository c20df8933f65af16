/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SORACL_HEADLINES_H
#define SORACL_HEADLINES_H

#include "soracl/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Debian's package descriptions as pairs for summarisation: the long description is the text, the short one its title. They are
 * read from apt's own lists on this machine. */
typedef struct sora_headlines_options {
    const char *lists; /* folder with apt's lists (Translation-en and Packages, plain or compressed); NULL: /var/lib/apt/lists */
    /* CSV files with columns title, text and tags. Kept out of train.csv are their titles, their texts, and all packages of the
     * source packages that their tags are built from. */
    const char *const *exclude;
    size_t exclude_count;
    size_t min_text; /* characters; 0: 151 */
} sora_headlines_options;

typedef struct sora_headlines_result {
    size_t train, dev, test; /* pairs written */
    size_t described;        /* descriptions in the lists, repetitions of one package's left out */
    /* Of these left out: */
    size_t without_source; /* their package stands in no Packages file, so that its source package is not known */
    size_t too_short;      /* or without a title */
    size_t repeated;       /* title and text as a sibling's, of the same source package */
    size_t also_held;      /* would be in train, but dev or test have the title or the text */
    size_t excluded;       /* would be in train, but for `exclude` */
} sora_headlines_result;

/* Writes train.csv, dev.csv and test.csv into folder: RFC 4180, columns title,text,url,authors,timestamp,tags (as medium-articles
 * has them), tags being the binary package and the three before it empty, sorted by package. A text's lines are the description's
 * without white space at their ends; an empty one separates paragraphs. A hash of the source package's name decides the file (90,
 * 5 and 5 of 100), so that siblings are never parted and every machine decides alike. Equal lists give equal bytes.
 * SORA_ERROR_INPUT, saying what to do, where the machine has no descriptions; also for lists and `exclude` files that are
 * broken. */
SORA_API sora_status sora_headlines_write(const char *folder, const sora_headlines_options *options,
                                          sora_headlines_result *result, sora_error *error);

#ifdef __cplusplus
}
#endif
#endif
