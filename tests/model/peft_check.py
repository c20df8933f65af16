#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints as JSON the logits of a T5 with a PEFT adapter, as Transformers and PEFT load them, in double precision without dropout.

Run: peft_check.py MODEL ADAPTER_DIR INPUT_JSON, in the virtual environment of t5_reference.py. ADAPTER_DIR "-" is no adapter.
INPUT_JSON: {"ids": [[...], ...], "labels": [[...], ...]}, each row as long as it is, or padded (ids with 0 and "lengths" given, labels
with -100). Output: {"adapted": module names, "loss", "logits": a row [vocabulary] for each label that is not -100, in the batch's order}."""
import json
import pathlib
import sys

import peft
import torch
import transformers

import t5_reference

if __name__ == "__main__":
    model_folder, adapter, path = sys.argv[1:]
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    t5_reference.exact()
    model = t5_reference.load(model_folder)
    if adapter != "-":
        model = peft.PeftModel.from_pretrained(model, adapter).double().eval()
    adapted = [n.removeprefix("base_model.model.") for n, m in model.named_modules() if isinstance(m, peft.tuners.lora.layer.LoraLayer)]
    with torch.no_grad():
        logits, loss = t5_reference.label_logits(model, json.loads(pathlib.Path(path).read_text()))
    print(json.dumps({"adapted": adapted, "loss": float(loss), "logits": logits.tolist()}))
