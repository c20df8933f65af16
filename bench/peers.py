# SPDX-License-Identifier: Apache-2.0
"""Training steps of T5-small's shape beside a peer's, alternating, each run a process of its own: only ratios taken so count.

  peers.py BENCH PEER [--python PYTHON] [--rounds 3] [--steps 5] [--source 256] [--target 32] [--pairs lora:lora,sora:lora,full:full]
           [--json FILE] [--note TEXT]

BENCH is sora-bench; PEER is hf_t5_peft.py, run by PYTHON (with torch, transformers and peft): --mode M --src N --tgt N --steps N prints a
line of JSON with step_s and peak_rss_mib. A pair OURS:THEIRS compares two methods. Prints a table; --json keeps every run, and what the
machine did meanwhile."""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys

MIB = 1 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("peer")
    parser.add_argument("--python", default=sys.executable)
    for name, value in (("rounds", 3), ("steps", 5), ("source", 256), ("target", 32), ("threads", os.cpu_count())):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--pairs", default="lora:lora,sora:lora,full:full")
    parser.add_argument("--json")
    parser.add_argument("--note", default="", help="what else was running, for the JSON")
    given = parser.parse_args()
    if given.rounds < 1 or given.steps < 3:
        parser.error("at least 1 round of 3 steps: the first two of each run do not count")
    return given


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_side(given, side, method):
    """Seconds a step, peak of the process in MiB, and all that the run said."""
    load = os.getloadavg()[0]
    if side == "ours":
        line = run([given.bench, "bench", "step", "t5-small", "--method", method, "--source", given.source, "--target", given.target, "--steps", given.steps, "--json"])
        memory = line["process_bytes_peak"] / MIB
    else:
        line = run([given.python, given.peer, "--mode", method, "--src", given.source, "--tgt", given.target, "--steps", given.steps, "--threads", given.threads])
        memory = line["peak_rss_mib"]
    return {"side": side, "method": method, "step_s": line.get("step_s", line.get("seconds_per_step")), "mib": memory, "load_before": load, "line": line}


def compare(given, runs, pair):
    """Medians over the rounds, and of the rounds' own ratios ours / peer."""
    ours, theirs = pair.split(":")
    of = lambda side, method, key: [r[key] for r in runs if (r["side"], r["method"]) == (side, method)]
    a, b = of("ours", ours, "step_s"), of("peer", theirs, "step_s")
    ratios = [x / y for x, y in zip(a, b)]
    memory = statistics.median(of("ours", ours, "mib")), statistics.median(of("peer", theirs, "mib"))
    return {"ours": ours, "peer": theirs, "ours_s": statistics.median(a), "peer_s": statistics.median(b), "time_ratio": statistics.median(ratios),
            "time_ratios": ratios, "ours_mib": memory[0], "peer_mib": memory[1], "memory_ratio": memory[0] / memory[1]}


def main():
    given = arguments()
    sides = sorted({("ours", pair.split(":")[0]) for pair in given.pairs.split(",")} | {("peer", pair.split(":")[1]) for pair in given.pairs.split(",")}, key=lambda s: (s[1], s[0]))
    runs = []
    for number in range(given.rounds):
        for side, method in sides if number % 2 == 0 else reversed(sides):
            runs.append({"round": number, **run_side(given, side, method)})
            print(f"round {number + 1}: {side} {method}: {runs[-1]['step_s']:.3f} s a step, {runs[-1]['mib']:.0f} MiB (load before {runs[-1]['load_before']:.1f})", flush=True)
    rows = [compare(given, runs, pair) for pair in given.pairs.split(",")]
    print(f"\n{'ours : peer':16} {'ours s':>8} {'peer s':>8} {'time':>6} {'range':>14} {'ours MiB':>9} {'peer MiB':>9} {'memory':>7}")
    for row in rows:
        spread = f"{min(row['time_ratios']):.2f} .. {max(row['time_ratios']):.2f}"
        print(f"{row['ours'] + ' : ' + row['peer']:16} {row['ours_s']:8.3f} {row['peer_s']:8.3f} {row['time_ratio']:6.2f} {spread:>14} {row['ours_mib']:9.0f} {row['peer_mib']:9.0f} {row['memory_ratio']:7.2f}")
    if given.json:
        when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        whole = {"when": when, "note": given.note, "source": given.source, "target": given.target, "rounds": given.rounds, "steps": given.steps, "threads": given.threads,
                 "comparison": rows, "runs": runs}
        with open(given.json, "w") as out:
            json.dump(whole, out, indent=1)
            out.write("\n")


main()
