#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes this folder's vocabulary and weights: a small T5 pre-trained on the long descriptions of Debian's packages (the training side of
# `soracl data headlines`), never on their titles. make.sh WORK [EXCLUDE,...]: WORK is a folder for what comes on the way; EXCLUDE are .csv
# files whose titles, texts and source packages are kept out, too. The run's log becomes pretrain.log.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
soracl=${SORACL:-$here/../../build/soracl}
work=$1
mkdir -p "$work/new"
"$soracl" data headlines --out "$work/headlines" ${2:+--exclude "$2"}
python3 - "$work" <<'PYTHON'
import csv, sys
work = sys.argv[1]
with open(f"{work}/headlines/train.csv", newline="") as rows, open(f"{work}/lines.txt", "w") as lines:
    for row in csv.DictReader(rows):
        lines.writelines(line.strip() + "\n" for line in row["text"].split("\n") if line.strip())
PYTHON
"$soracl" t5 vocab --size 3996 --out "$work/new/spiece.model" "$work/lines.txt"
cp "$here/config.json" "$work/new/config.json"
"$soracl" t5 pretrain --model "$work/new" --train "$work/headlines/train.csv" --dev "$work/headlines/dev.csv" --source-column text --out "$work/run" \
  --batch 32 --max-source 160 --max-target 64 --dropout 0 --optimizer adafactor --scale-parameter --lr 0.02 --weight-decay 0 --schedule cosine --epochs 3 --log-every 50 --eval-examples 512 2> "$work/pretrain.log"
"$soracl" adapter merge "$work/run" --dtype fp16 --out "$work/model"
cp "$work/model/model.safetensors" "$work/model/spiece.model" "$here/"
cp "$work/pretrain.log" "$here/pretrain.log"
