#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Brings medium_articles.csv (the data set fabiochiu/medium-articles, 1.04 GB: title, text, url, authors, timestamp, tags of 192,368
# articles) into a folder. fetch-medium.sh [FOLDER], ./medium where none is given. SORACL_HUB names a mirror of the hub; see fetch.sh,
# which says how downloads resume and are verified.
set -eu
# shellcheck source-path=SCRIPTDIR source=fetch.sh
. "$(dirname "$0")/fetch.sh"

folder=${1:-./medium}

mkdir -p "$folder"
fetch_large datasets/fabiochiu/medium-articles medium_articles.csv "$folder/medium_articles.csv"
echo "the articles are $folder/medium_articles.csv"
