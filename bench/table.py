# SPDX-License-Identifier: Apache-2.0
"""The table of targets, measured: ours and the peers' in turn, same shapes, same threads, with ratio, spread and met or not.

  table.py BUILD [PART ...] [--against torch] [--python PYTHON] [--peers DIR] [--rounds 5] [--json FILE] [--html FILE]

BUILD is meson's folder. PART: gemm adapter conv t5 t5-long t5-full unet-fc unet sora-lora rank rank-step plan generate start host profile (all
where none is named). --against torch runs the peers, with PYTHON (torch, transformers, peft; default $SORACL_PEER_PYTHON) and the
scripts of DIR (hf_t5_peft.py, torch_unet.py; default $SORACL_PEERS); without it those rows have our figures alone. FILE of --json is
written after every row; rows that are in it already stay unless they are measured again. --html writes it as a page."""
import argparse
import datetime
import json
import os
import pathlib
import sys
import time

import page
from measure import Failure, run
from parts import PARTS, Bench
from targets import TARGETS, format_bound, format_spread, format_value, reached, take


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--against", choices=("torch",))
    parser.add_argument("--python", default=os.environ.get("SORACL_PEER_PYTHON"))
    parser.add_argument("--peers", type=pathlib.Path, default=os.environ.get("SORACL_PEERS"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--html", type=pathlib.Path)
    given = parser.parse_intermixed_args()
    for part in given.parts:
        if part not in PARTS:
            parser.error(f"no part \"{part}\"; expected some of {' '.join(PARTS)}")
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    if given.against and not (given.python and given.peers):
        parser.error("--against torch needs --python and --peers, or SORACL_PEER_PYTHON and SORACL_PEERS")
    for script in ("hf_t5_peft.py", "torch_unet.py") if given.against else ():
        if not (given.peers / script).is_file():
            parser.error(f"{given.peers}: there is no {script}")
    return given


def open_data(path):
    data = json.loads(path.read_text()) if path and path.exists() else {}
    for key in ("peers", "rows", "steps", "profiles"):
        data.setdefault(key, {})
    return data


def save(data, path):
    if path:
        partial = path.with_name(path.name + ".part")
        partial.write_text(json.dumps(data, indent=1) + "\n")
        partial.replace(path)


def make_row(key, part, figures):
    target = TARGETS[key]
    value = figures.get("value")
    return {"part": part, "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), **figures, "target": target.target, "stretch": target.stretch,
            "met": reached(target, target.target, value), "stretch_met": reached(target, target.stretch, value),
            "take": take(target, value, figures.get("ours") if figures.get("figure") == "s" else None, figures.get("share")) if value is not None else ""}


def verdict(row):
    if row.get("value") is None:
        return "not measured"
    if row["met"] is False:
        word, bound = "not met", row["target"]
    elif row["stretch_met"]:
        word, bound = "stretch met", row["stretch"]
    elif row["met"]:
        word, bound = "met", row["target"]
    elif row["stretch_met"] is False:
        word, bound = "stretch not met", row["stretch"]
    else:
        return ""
    return word + (", within noise" if row.get("low") is not None and row["low"] < bound < row["high"] else "")


def print_row(key, row):
    target = TARGETS[key]
    bounds = ", ".join(text for text in (format_bound(target, row["target"]), row["stretch"] is not None and f"stretch {format_bound(target, row['stretch'])}") if text)
    value = format_value(row.get("value"), target.unit)
    if row.get("value") is not None and format_spread(row, target.unit):
        value += f" ({format_spread(row, target.unit)})"
    print(f"{target.work}\n    {value}   {bounds}   {verdict(row)}")
    if row.get("ours") is not None:
        beside = f", {row['peer_name']} {figure(row['peer'], row['figure'])}" if row.get("peer") is not None else ""
        print(f"    ours {figure(row['ours'], row['figure'])}{beside}")
    for text in (row.get("note"), row["take"]):
        if text:
            print(f"    {text}")
    sys.stdout.flush()


def figure(value, unit):
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.0f} {unit}" if value >= 10 else f"{value:.3f} {unit}"


def main():
    given = arguments()
    data = open_data(given.json)
    measured = run([given.build / "soracl", "bench", "limits", "--json"])
    device = measured["device"]
    if data.get("device", device)["name"] != device["name"]:
        raise SystemExit(f"{given.json}: measured on {data['device']['name']}, this is {device['name']}; give another file")
    data.update(device=device, version=device["version"], cores=os.cpu_count())
    bench = Bench(given.build, given.python if given.against else None, given.peers, os.cpu_count(), given.rounds, data)
    bench.know(measured["limits"])
    print(f"{device['name']}, {device['platform']} {device['driver']}: {1e-9 * data['limits']['flops_per_second']:.0f} GFLOP/s, "
          f"{1e-9 * data['limits']['bytes_per_second']:.1f} GB/s, {1e6 * data['limits']['launch_seconds']:.1f} us a launch", flush=True)
    failures = []
    for part in given.parts or PARTS:
        began = time.perf_counter()
        try:
            for key, figures in PARTS[part](bench):
                data["rows"][key] = make_row(key, part, figures)
                print_row(key, data["rows"][key])
                save(data, given.json)
        except Failure as failure:
            failures.append(part)
            print(f"{part}: {failure}", file=sys.stderr)
        print(f"  [{part}: {time.perf_counter() - began:.0f} s]", file=sys.stderr, flush=True)
        save(data, given.json)
    if given.html:
        given.html.write_text(page.render(data))
    rows = [data["rows"][key] for key in TARGETS if key in data["rows"]]
    count = lambda name, value: sum(row[name] is value for row in rows)
    print(f"{count('met', True)} targets met, {count('met', False)} not; stretches: {count('stretch_met', True)} met, {count('stretch_met', False)} not"
          + (f"; failed: {' '.join(failures)}" if failures else ""))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
