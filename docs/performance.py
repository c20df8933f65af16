#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/performance.md from docs/results/bench.json, which `./dev bench --against torch --json docs/results/bench.json` measures;
parts that are not in it are left out. performance.py [BENCH.json [OUT.md]]"""
import json
import pathlib
import sys

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent / "bench"))
from table import figure, verdict
from targets import TARGETS, format_bound, format_spread, format_value

source = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "results/bench.json"
data = json.loads(source.read_text())
peak, rate = data["limits"]["flops_per_second"], data["limits"]["bytes_per_second"]


def table(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header), *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


def spread(row, unit):
    between = format_spread(row, unit) if row.get("value") is not None else ""
    return format_value(row.get("value"), unit) + (f" ({between})" if between else "")


def sides(row):
    if row.get("ours") is None:
        return "; ".join(text for text in ("peer_name" in row and f"beside {row['peer_name']}", row.get("note")) if text)
    beside = f"; {row['peer_name']} {figure(row['peer'], row['figure'])}" if row.get("peer") is not None else ""
    return f"{figure(row['ours'], row['figure'])}{beside}" + (f"; {row['note']}" if row.get("note") else "")


def targets():
    known = [(TARGETS[key], data["rows"][key]) for key in TARGETS if key in data["rows"]]
    yield from table(["work", "measured (where the median lies with a confidence of 95 %; of up to 7 rounds and of times, the range)", "target", "stretch", "", "ours; the peer"],
                     ([t.work, spread(r, t.unit), format_bound(t, r["target"]), format_bound(t, r["stretch"]), verdict(r), sides(r)] for t, r in known))
    missed = [(t, r) for t, r in known if r["take"]]
    if missed:
        yield from ("", "## What it would take", "")
        yield from (f"* {t.work}: {r['take']}" for t, r in missed)


def steps():
    for name, s in data["steps"].items():
        yield [name, f"{s['seconds_per_step']:.4f} ({s['min']:.4f} to {s['max']:.4f})", f"{1e-9 * s['flops']:.1f}", f"{1e-9 * s['flops_per_second']:.0f}", f"{100 * s['share_of_peak']:.0f} %",
               s["launches"], f"{s['device_bytes_peak'] / 2**20:.0f}", f"{s['process_bytes_peak'] / 2**20:.0f}", f"{100 * (s['arena_bytes'] / s['live_bytes'] - 1):.1f} %",
               f"{s['moved_bytes'] / 2**20:.0f} ({s['least_moved_bytes'] / 2**20:.0f})", f"{100 * s['moved_bytes'] / s['limits']['bytes_per_second'] / s['seconds_per_step']:.0f} %"]


def ops(profile):
    peak, rate = (profile["step"]["limits"][name] for name in ("flops_per_second", "bytes_per_second"))
    total, sums = sum(row["seconds"] for row in profile["launches"]), {}
    for row in profile["launches"]:
        one = sums.setdefault(row["op"], dict.fromkeys(("seconds", "launches", "flops", "bytes"), 0))
        for name in one:
            one[name] += row[name]
    for op, one in sorted(sums.items(), key=lambda item: -item[1]["seconds"]):
        speed, traffic = one["flops"] / one["seconds"], one["bytes"] / one["seconds"]
        yield [op, f"{1e3 * one['seconds']:.2f}", f"{100 * one['seconds'] / total:.1f} %", f"{one['launches']:.0f}", f"{1e-9 * speed:.0f} ({100 * speed / peak:.0f} %)" if speed else "",
               f"{1e-9 * traffic:.1f} ({100 * traffic / rate:.0f} %)" if traffic else ""]


def items(groups):
    for group, members in groups.items():
        for name, item in members.items():
            speed = item["flops"] / item["seconds"]
            beside = f"{item['speed_ratio']:.2f} × ({item['speed_ratio_low']:.2f} to {item['speed_ratio_high']:.2f})" if "speed_ratio" in item else ""
            yield [group, name.replace("_", " "), f"{1e3 * item['seconds']:.2f}", f"{1e-9 * speed:.0f}", f"{100 * speed / peak:.0f} %", beside]
            group = ""


peers = ", ".join(f"{name} {version}" for name, version in data["peers"].items())
lines = ["# Performance", "", f"Written by `docs/performance.py` from `results/{source.name}`, which `./dev bench --against torch --json docs/results/{source.name}` measures: {data['device']['name']}, "
         f"{data['device']['platform']} {data['device']['driver']}, {data['cores']} cores; soracl {data['version']}{'; beside ' + peers if peers else ''}. Ours and the peer's run in turn, "
         "with the same shapes and threads: their ratios count; single times drift by 20 % and more from run to run.", "",
         f"The device's limits, the best that was measured: {1e-9 * peak:.0f} GFLOP/s of multiply-adds from registers, {1e-9 * rate:.1f} GB/s copied, {1e6 * data['limits']['launch_seconds']:.1f} µs for an empty launch.", "",
         "## Targets", "", *targets()]
if data["steps"]:
    lines += ["", "## Whole steps", "", "GFLOP are those of all terms, also of terms that a ReLU made zero and that products leave out.", "", *table(["step", "s (range)", "GFLOP", "GFLOP/s", "of the peak", "launches", "device MiB", "process MiB", "arena above the largest live set", "activations moved, MiB (by layers alone)", "moving them at a copy's rate, of the step"], steps())]
for name, profile in data["profiles"].items():
    lines += ["", f"## A step of {name} by op ({profile['step']['method']}, batch {profile['step']['batch']})", "",
              *table(["op", "ms", "of the step", "launches", "GFLOP/s (of the peak)", "GB/s (of a copy)"], ops(profile))]
for key, title, beside in (("products", "Products", "OpenBLAS"), ("adapters", "The adapted linear", "bare"), ("convolutions", "Convolutions", "oneDNN's better format")):
    if key in data:
        lines += ["", f"## {title}", "", *table(["", "", "ms", "GFLOP/s", "of the peak", f"speed against {beside}"], items(data[key]))]
(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here / "performance.md").write_text("\n".join(lines) + "\n")
