#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes adafactor_reference.json: what Transformers' Adafactor does in ten steps to small tensors of ranks 1 to 4, as T5 is
fine-tuned with it. Needs torch and transformers; the tests need neither, they read the JSON.

    python tests/train/adafactor_reference.py
"""

import json
import pathlib

import torch
import transformers
from transformers.optimization import Adafactor

STEPS, LR, DECAY = 10, 0.05, 0.1
SHAPES = ([1], [5], [1, 3], [3, 1], [4, 6], [2, 3, 4], [3, 2, 2, 3])


def numbers(count, phase):
    """Values that the test makes again: multiples of 1/64, so that they are the same floats everywhere."""
    return [((i * 37 + phase * 101) % 129 - 64) / 64 for i in range(count)]


def main():
    cases = []
    for shape, relative in [(shape, relative) for relative in (False, True) for shape in SHAPES]:
        count = torch.Size(shape).numel()
        parameter = torch.nn.Parameter(torch.tensor(numbers(count, 7)).reshape(shape))
        rule = Adafactor([parameter], lr=LR, weight_decay=DECAY if len(shape) > 1 else 0.0, scale_parameter=relative, relative_step=False, warmup_init=False)
        for step in range(1, STEPS + 1):
            parameter.grad = torch.tensor(numbers(count, step)).reshape(shape) * (4.0 if step == 6 else 0.25)
            rule.step()
        state = rule.state[parameter]
        moments = [state[k].flatten().tolist() for k in ("exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq") if k in state]
        cases.append({"shape": shape, "relative": relative, "value": parameter.detach().flatten().tolist(), "moments": moments})
    text = {"torch": torch.__version__, "transformers": transformers.__version__, "steps": STEPS, "lr": LR, "weight_decay": DECAY, "cases": cases}
    pathlib.Path(__file__).with_name("adafactor_reference.json").write_text(json.dumps(text, indent=None, separators=(",", ":")).replace("{\"shape\"", "\n{\"shape\"") + "\n")


main()
