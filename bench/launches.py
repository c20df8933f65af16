# SPDX-License-Identifier: Apache-2.0
"""What one step launches, from the trace that `soracl bench step --profile` writes: seconds, launches, flops and bytes by op (the file
in kernels/), kernel and place in the network."""
import json
import pathlib
import re


def ops_of_kernels(folder):
    """File's stem by kernel's name."""
    ops = {}
    for path in sorted(pathlib.Path(folder).glob("*.cl")) + sorted(pathlib.Path(folder).glob("*.h")):
        for name in re.findall(r"\bvoid\s+(\w+)\s*\(", path.read_text()):
            ops.setdefault(name, path.stem)
    return ops


def summarize(trace, step, kernels):
    """`step` is what the same run printed. Its last steps are those that count; equal blocks of a network are put together."""
    events = [event for event in json.loads(pathlib.Path(trace).read_text())["traceEvents"] if event["ph"] == "X"]
    steps, ops, rows = step["steps"], ops_of_kernels(kernels), {}
    for event in events[-steps * step["launches"]:]:
        place = re.sub(r"\.\d+(?=\.|$)", ".*", event["name"])
        row = rows.setdefault((event["cat"], place), {"op": ops.get(event["cat"], event["cat"]), "kernel": event["cat"], "place": place,
                                                     "seconds": 0, "launches": 0, "flops": 0, "bytes": 0})
        row["seconds"] += 1e-6 * event["dur"] / steps
        row["launches"] += 1 / steps
        row["flops"] += event["args"]["flops"] / steps
        row["bytes"] += event["args"]["bytes"] / steps
    return {"step": step, "launches": sorted(rows.values(), key=lambda row: -row["seconds"])}
