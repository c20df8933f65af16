#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of targets: one part through the program, what is refused, what its rows say, and its page. bench.py BUILD ROOT"""
import html.parser
import json
import pathlib
import subprocess
import sys
import tempfile
import types

build, root = map(pathlib.Path, sys.argv[1:])
sys.path.insert(0, str(root / "bench"))
import launches
import measure
import page
import parts
import table
from targets import TARGETS, take

number = 0


def check(name, good, why=""):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        print(f"# {why}")


def bench(*words):
    return subprocess.run([sys.executable, str(root / "bench/table.py"), str(build), *words], capture_output=True, text=True)


class Tags(html.parser.HTMLParser):
    """Every svg, g, table and tr that opens closes again."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("svg", "g", "table"):
            self.open.append(tag)
            self.count += 1

    def handle_endtag(self, tag):
        if tag in ("svg", "g", "table"):
            assert self.open and self.open.pop() == tag, tag


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    known = {"rows": {"t5 time": table.make_row("t5 time", "t5", {"value": 0.6, "low": 0.5, "high": 0.7, "ours": 1.2, "peer": 2.0, "peer_name": "PEFT", "figure": "s", "share": 0.5})}}
    (folder / "bench.json").write_text(json.dumps(known))
    run = bench("--rounds", "1", "plan", "--json", str(folder / "bench.json"), "--html", str(folder / "page.html"))
    check("a part runs", run.returncode == 0 and "planned on the host" in run.stdout, run.stdout + run.stderr)
    data = json.loads((folder / "bench.json").read_text())
    check("its row is in the JSON", data["rows"]["plan"]["value"] > 0 and data["rows"]["plan"]["met"] == (data["rows"]["plan"]["value"] <= 50))
    check("rows measured before stay", data["rows"]["t5 time"] == known["rows"]["t5 time"])
    check("limits come first", data["limits"]["flops_per_second"] > 0 and data["device"]["name"])
    run = subprocess.run([sys.executable, str(root / "docs/performance.py"), str(folder / "bench.json"), str(folder / "performance.md")], capture_output=True, text=True)
    check("docs/performance.py writes what there is", run.returncode == 0 and TARGETS["plan"].work in (folder / "performance.md").read_text(), run.stderr)
    text = (folder / "page.html").read_text()
    check("the page has both rows", TARGETS["plan"].work in text and "not met" in text)

row = known["rows"]["t5 time"]
check("a ratio above its target is not met", row["met"] is False and row["stretch_met"] is False)
check("what it would take is counted", "17 % less, 1.200 s to 1.000 s, or 60 % of the multiply-add rate instead of 50 %" in row["take"], row["take"])
check("speeds have bounds from below", table.make_row("gemm packed", "gemm", {"value": 1.0})["met"] is True and "1.25 times as fast" in take(TARGETS["gemm packed"], 0.8, None, None))
check("nothing is said where all is met", table.make_row("t5 time", "t5", {"value": 0.3})["take"] == "")
check("a bound between what the value lies is within noise", [table.verdict(table.make_row("t5 time", "t5", {"value": value, "low": value - 0.02, "high": value + 0.02})) for value in (0.6, 0.51, 0.4, 0.32)]
      == ["not met", "not met, within noise", "met", "stretch met, within noise"])
check("without a value nothing is met", table.make_row("t5 time", "t5", {})["met"] is None and table.verdict(table.make_row("t5 time", "t5", {})) == "not measured")

order = []
found = measure.alternate(3, {side: lambda side=side: order.append(side) or len(order) for side in ("ours", "peer")}, str)
check("sides alternate", order == ["ours", "peer", "peer", "ours", "ours", "peer"] and found == {"ours": [1, 4, 5], "peer": [2, 3, 6]}, (order, found))
best = lambda words_of_best, settings: parts.best_setting(lambda *words: {"step_s": 1.0 if words == words_of_best else 2.0, "peak_rss_mib": 1}, settings)
check("the peer's fastest setting is measured", best(("--compile",), parts.TEXT_SETTINGS) == "compiled" and best(("--channels-last",), parts.SETTINGS) == "eager, channels_last" and
      best(("--compile", "--channels-last"), parts.SETTINGS) == "compiled, channels_last")
ours = lambda seconds: {"seconds_per_step": seconds, "process_bytes_peak": 400 << 20, "share_of_peak": 0.5, "flops_per_second": 1e11}
theirs = lambda seconds: {"step_s": seconds, "peak_rss_mib": 1000}
kept = parts.Bench(build, None, None, 2, 3, {"steps": {}})
time_row, memory_row = parts.step_figures(kept, "a step", {"ours": [ours(1), ours(3), ours(2)], "peer": [theirs(4), theirs(4), theirs(4)]}, "PEFT")
check("a ratio is the median of the rounds' own", (time_row["value"], time_row["low"], time_row["high"], memory_row["value"]) == (0.5, 0.25, 0.75, 0.4), time_row)
nine = measure.spread([9, 1, 8, 2, 7, 3, 6, 4, 5])
check("where a median lies is counted from either end", (nine["value"], nine["low"], nine["high"], nine["rounds"]) == (5, 2, 8, 9) and measure.spread([2, 1, 3])["low"] == 1, nine)
check("the median run is kept", kept.data["steps"]["a step"]["seconds_per_step"] == 2)
check("the worst shape counts", parts.worst(True, [("a", 2, 1, 3), ("b", 0.5, 0.4, 0.6)])["value"] == 0.5 and parts.worst(False, [("a", 2, 1, 3), ("b", 0.5, 0.4, 0.6)])["value"] == 2)

drift = (1, 1.3, 0.8, 1.1, 0.9)
rounds = lambda seconds, noise=(0, 0, 0, 0, 0): {"times": [d * (seconds + n) for d, n in zip(drift, noise)]}
steps = lambda least, noise=(0, 0, 0, 0, 0): types.SimpleNamespace(trainings={"t5-small": {"SoRA, hardly any": rounds(least), "SoRA, compacted": rounds(98, noise), "SoRA": rounds(100, noise)}})
(_, still), = parts.rank_step(steps(97))
check("what is left of a share is of each round's own steps", all(abs(still[key] - (1 / 98) / (3 / 100)) < 1e-9 for key in ("value", "low", "high")), still)
(_, noisy), = parts.rank_step(steps(97, (0, 0.5, -0.5, 0.2, -0.2)))
check("rounds that differ widen it", noisy["low"] < noisy["value"] < noisy["high"] < 1, noisy)
try:
    refused = list(parts.rank_step(steps(100)))
except measure.Failure as failure:
    refused = str(failure)
check("a share that isn't there is said", "too busy" in refused, refused)
layers = {f"{kind} {way}": rounds(seconds) for way in ("forward", "backward") for kind, seconds in (("bare", 100), ("compacted", 102), ("adapted", 106))}
(_, sizes), = parts.rank(types.SimpleNamespace(adapters={"a": layers, "b": layers}))
check("what adapters add is summed over layers", abs(sizes["value"] - 1 / 3) < 1e-9 and sizes["note"].startswith("8000.00 ms"), sizes)


def products(*words, environment):
    core = environment.get("OPENBLAS_CORETYPE")
    if core == "SkylakeX":
        raise measure.Failure("killed by an instruction that isn't there")
    return {"small": {"ours": {"seconds": 9}, "OpenBLAS": {"seconds": 1 if core else 5}}, "few rows": {"ours": {"seconds": 1}}}


chosen = parts.best_openblas(types.SimpleNamespace(group=products))
check("OpenBLAS has the fastest kernels that run", chosen == ({"OPENBLAS_CORETYPE": "Haswell"}, "OpenBLAS, Haswell"), chosen)

with tempfile.TemporaryDirectory() as name:
    trace = pathlib.Path(name) / "trace.json"
    event = lambda kernel, place, dur, flops, moved: {"ph": "X", "cat": kernel, "name": place, "dur": dur, "args": {"flops": flops, "bytes": moved}}
    trace.write_text(json.dumps({"traceEvents": [{"ph": "M"}, event("fill", "fill", 1e6, 0, 0)] + 2 * [event("conv", "encoder.0.conv1", 10, 4e6, 1e5), event("conv", "encoder.1.conv1", 30, 4e6, 1e5),
                                                                                                      event("norm_apply", "encoder.0.norm1", 20, 0, 3e5)]}))
    step = {"steps": 2, "launches": 3, "method": "sora", "batch": 8, "size": 64, "seconds_per_step": 7e-5, "flops": 8e6, "share_of_peak": 0.4,
            "limits": {"flops_per_second": 3e11, "bytes_per_second": 2e10, "launch_seconds": 4e-6}}
    summary = launches.summarize(trace, step, root / "kernels")
    first = summary["launches"][0]
    check("equal blocks are one row, counted for one step", (first["op"], first["place"], round(first["launches"]), round(first["flops"])) == ("conv2d", "encoder.*.conv1", 2, 8000000), first)
    check("what came before the counted steps is left out", len(summary["launches"]) == 2 and abs(first["seconds"] - 4e-5) < 1e-9, summary)
    drawn = page.render({"device": {"name": "a <device>", "platform": "p", "driver": "d"}, "limits": step["limits"], "version": "1", "cores": 2, "peers": {}, "rows": {},
                         "profiles": {"unet-fc": summary}})
    tags = Tags(drawn)
    check("the page is well formed, with both plots at two widths", not tags.open and tags.count > 4 and drawn.count("<svg") == 4 and "a &lt;device&gt;" in drawn)

for name, word, words in (("part", "no part \"speed\"", ["speed"]), ("peers that are not named", "SORACL_PEERS", ["plan", "--against", "torch", "--python", "python3"]),
                          ("a folder without peers", "hf_t5_peft.py", ["plan", "--against", "torch", "--python", "python3", "--peers", str(root)]),
                          ("rounds", "at least 1", ["plan", "--rounds", "0"])):
    run = bench(*words)
    check(f"refused: {name}", run.returncode == 2 and word in run.stderr, run.stderr)
print(f"1..{number}")
