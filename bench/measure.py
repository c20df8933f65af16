# SPDX-License-Identifier: Apache-2.0
"""Programs run in turn, and what their figures say: ours and a peer's alternate, so that whatever else the machine does meets both
alike. Only ratios taken in one round count."""
import json
import math
import os
import statistics
import subprocess
import sys


class Failure(Exception):
    pass


def output(command, environment=None):
    """What it prints."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise Failure(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr[-1500:]}")
    return done.stdout


def run(command, environment=None):
    """What it prints as JSON: the whole of its output, or its last line."""
    text = output(command, environment)
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise Failure(f"{' '.join(map(str, command))}: printed no JSON: {text[-300:]!r}")


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def alternate(rounds, sides, figure):
    """Runs each side once a round, in the other order every second round. `figure` names what is said of a result meanwhile. Results by side."""
    results = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(reversed(sides)):
            results[name].append(sides[name]())
            say(f"round {number + 1} of {rounds}: {name} {figure(results[name][-1])}")
    return results


def ratios(above, below):
    return [a / b for a, b in zip(above, below)]


def spread(values):
    """A row's value: the median, and between what it lies, by the order of values as in measure.c."""
    values, outside = sorted(values), max(0, math.floor((len(values) - 1.96 * math.sqrt(len(values))) / 2))
    return {"value": statistics.median(values), "low": values[outside], "high": values[-1 - outside], "rounds": len(values)}
