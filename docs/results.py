#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints a comparison as Markdown: means over seeds, paired differences. results.py COMPARE.json > docs/results.md

With --store FILE it first writes the numbers alone, without the machine's paths: that is the file kept in docs/."""
import argparse
import json
import statistics

parser = argparse.ArgumentParser()
parser.add_argument("comparison")
parser.add_argument("--store")
arguments = parser.parse_args()
data = json.load(open(arguments.comparison))
if arguments.store:
    keep = ("label", "method", "seed", "target", "alpha", "lambda", "gate", "bn", "rank_max", "rank_kept", "parameters_trainable", "parameters_kept",
            "steps", "seconds_per_step", "device_bytes_predicted", "device_bytes_peak", "process_bytes_peak", "quality")
    stored = {"task": data["task"], "device": data["device"], "version": data["version"], "bootstrap": data["bootstrap"],
              "runs": [{k: run[k] for k in keep} for run in data["runs"]]}
    with open(arguments.store, "w") as out:
        out.write(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
rows = {}
for run in data["runs"]:
    rows.setdefault(run["label"], []).append(run)


def mean(runs, *keys):
    values = []
    for run in runs:
        for key in keys:
            run = run[key]
        values.append(run)
    return None if None in values else statistics.mean(values)


print(f"Device: {data['device']['name']}, {data['device']['platform']} {data['device']['driver']}; soracl {data['version']}.\n")
def spread(runs, key, factor, digits):
    values = [run["quality"][key] for run in runs]
    text = f"{statistics.mean(values) * factor:.{digits}f}"
    return text + (f" ({min(values) * factor:.{digits}f}–{max(values) * factor:.{digits}f})" if len(values) > 1 else "")


text = data["task"] == "t5"
quality = "loss | ROUGE-1 | ROUGE-2 | ROUGE-L (spread over seeds)" if text else "hand IoU (spread over seeds) | Dice"
print(f"| row | {quality} | rank kept | parameters kept | ms per step | device MiB | process MiB |")
print("|" + "---|" * (9 if text else 7))
for label, runs in rows.items():
    if text:
        loss = mean(runs, "quality", "loss")
        figures = (f"{'–' if loss is None else f'{loss:.3f}'} | {mean(runs, 'quality', 'rouge1'):.2f} | {mean(runs, 'quality', 'rouge2'):.2f} | "
                   f"{spread(runs, 'rougeL', 1, 2)}")
    else:
        figures = f"{spread(runs, 'iou_per_image', 1, 3)} | {mean(runs, 'quality', 'dice'):.3f}"
    kept = mean(runs, "rank_kept")
    rank = "–" if kept is None else f"{kept:.{int(0 < kept < 1)}f} of {runs[0]['rank_max']}"
    step = mean(runs, "seconds_per_step")
    device, process = (mean(runs, key) for key in ("device_bytes_peak", "process_bytes_peak"))
    print(f"| {label} | {figures} | {rank} | {mean(runs, 'parameters_kept'):,.0f} | {'–' if not step else f'{1e3 * step:.1f}'} | "
          f"{'–' if device is None else f'{device / 2**20:.1f}'} | {'–' if process is None else f'{process / 2**20:.0f}'} |")
unit, factor, what, digits = ("ROUGE-L", 1, "texts", 2) if text else ("hand IoU", 1, "images", 4)
print(f"\nPaired differences of {unit} over the test {what} (each one's difference averaged over seeds first), 95 % bootstrap interval:\n")
print("| row | against | difference | interval |")
print("|---|---|---|---|")
for pair in data["bootstrap"]:
    print(f"| {pair['a']} | {pair['b']} | {factor * pair['difference']:+.{digits}f} | {factor * pair['low']:+.{digits}f} to {factor * pair['high']:+.{digits}f} |")
