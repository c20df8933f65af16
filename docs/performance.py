#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md from the JSON of `./dev bench --json docs/results/bench.json`."""
import json
import pathlib

here = pathlib.Path(__file__).parent
data = json.loads((here / "results/bench.json").read_text())
device = data["device"]
lines = ["# Performance", "",
         f"Made by `docs/performance.py` from `results/bench.json`: {device['name']}, {device['platform']} {device['driver']}; soracl {data['version']}. Items of a "
         "group are measured in turn, so their ratios count; single times drift by 20 % and more from run to run.", ""]
peak = data["limits"][0]["flops"] / data["limits"][0]["seconds"]
groups = {"products": [], "convolutions": [], "the adapted linear": [], "training steps": []}
for name, items in data.items():
    kind = {"product": "products", "convolution": "convolutions", "linear": "the adapted linear", "step": "training steps"}.get(name.split(" ")[0])
    if kind:
        groups[kind].append((name, items))
lines += ["| limit | |", "|---|---|"]
for item in data["limits"]:
    value = (f"{item['flops'] / item['seconds'] / 1e9:.0f} GFLOP/s" if item["flops"] else
             f"{item['bytes'] / item['seconds'] / 1e9:.1f} GB/s" if item["bytes"] else f"{1e6 * item['seconds']:.1f} µs")
    lines.append(f"| {item['name']} | {value} |")
for kind, members in groups.items():
    lines += ["", f"## {kind[0].upper() + kind[1:]}", "", "| | item | ms | GFLOP/s | share of the device's rate | speed against |", "|---|---|---|---|---|---|"]
    for name, items in members:
        for item in items:
            rate = item["flops"] / item["seconds"] if item["flops"] else 0
            beside = f"{item['speed_ratio']:.2f} × {item['beside']}" if "beside" in item else ""
            lines.append(f"| {name} | {item['name']} | {1e3 * item['seconds']:.2f} | {f'{rate / 1e9:.0f}' if rate else ''} | "
                         f"{f'{100 * rate / peak:.0f} %' if rate else ''} | {beside} |")
            name = ""
(here / "performance.md").write_text("\n".join(lines) + "\n")
