#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md from the JSON of `./dev bench --json docs/results/bench.json` and of
`bench/peers.py --json docs/results/peers-NAME.json`."""
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
for path in sorted((here / "results").glob("peers-*.json")):
    peers = json.loads(path.read_text())
    lines += ["", f"## A step of T5-small's shape beside Transformers and PEFT: batch 8, {peers['source']} / {peers['target']} tokens, rank 16", "",
              f"`bench/peers.py`, {peers['rounds']} alternating rounds, {peers['threads']} thread{'s' if peers['threads'] > 1 else ''} each, eager"
              f"{'; ' + peers['note'] if peers['note'] else ''}. Ratios are ours / theirs: below 1 we are faster, or smaller.", "",
              "| ours | theirs | s a step | time (range over rounds) | process MiB | memory |", "|---|---|---|---|---|---|"]
    for pair in peers["comparison"]:
        lines.append(f"| {pair['ours']} | {pair['peer']} | {pair['ours_s']:.2f} : {pair['peer_s']:.2f} | {pair['time_ratio']:.2f} "
                     f"({min(pair['time_ratios']):.2f} to {max(pair['time_ratios']):.2f}) | {pair['ours_mib']:.0f} : {pair['peer_mib']:.0f} | "
                     f"{pair['memory_ratio']:.2f} |")
(here / "performance.md").write_text("\n".join(lines) + "\n")
