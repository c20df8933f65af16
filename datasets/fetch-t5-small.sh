#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Brings google-t5/t5-small (Apache-2.0; 243 MB) into a folder for soracl's --model. fetch-t5-small.sh [FOLDER], ./t5-small where none is
# given. SORACL_HUB names a mirror of the hub; see fetch.sh, which says how downloads resume and are verified.
set -eu
# shellcheck source-path=SCRIPTDIR source=fetch.sh
. "$(dirname "$0")/fetch.sh"

folder=${1:-./t5-small}
repository=google-t5/t5-small

mkdir -p "$folder"
fetch_text "$hub/$repository/resolve/main/config.json" "$folder/config.json"
fetch_text "$hub/$repository/resolve/main/generation_config.json" "$folder/generation_config.json"
fetch_sum "$hub/$repository/resolve/main/spiece.model" "$folder/spiece.model" 791656 \
  d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86
fetch_large "$repository" model.safetensors "$folder/model.safetensors"
echo "T5-small is in $folder"
