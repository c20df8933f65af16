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
print("| row | hand IoU (spread over seeds) | Dice | rank kept | parameters kept | ms per step | device MiB | process MiB |")
print("|---|---|---|---|---|---|---|---|")
for label, runs in rows.items():
    iou = [run["quality"]["iou_per_image"] for run in runs]
    spread = f" ({min(iou):.3f}–{max(iou):.3f})" if len(iou) > 1 else ""
    rank = "–" if runs[0]["rank_max"] is None else f"{mean(runs, 'rank_kept'):.0f} of {runs[0]['rank_max']}"
    step = mean(runs, "seconds_per_step")
    print(f"| {label} | {statistics.mean(iou):.3f}{spread} | {mean(runs, 'quality', 'dice'):.3f} | {rank} | {mean(runs, 'parameters_kept'):,.0f} | "
          f"{'–' if not step else f'{1e3 * step:.1f}'} | {mean(runs, 'device_bytes_peak') / 2**20:.1f} | {mean(runs, 'process_bytes_peak') / 2**20:.0f} |")
print("\nPaired differences of hand IoU over the test images (each image's difference averaged over seeds first), 95 % bootstrap interval:\n")
print("| row | against | difference | interval |")
print("|---|---|---|---|")
for pair in data["bootstrap"]:
    print(f"| {pair['a']} | {pair['b']} | {pair['difference']:+.4f} | {pair['low']:+.4f} to {pair['high']:+.4f} |")
