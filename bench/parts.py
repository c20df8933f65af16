# SPDX-License-Identifier: Apache-2.0
"""The parts of the table. Each runs programs in turn and yields (row of TARGETS, figures): a row's value with its spread, what was
measured of ours and of the peer, and what else there is to say."""
import functools
import json
import math
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import os

import launches
from measure import Failure, alternate, output, ratios, run, say, spread

MIB = 1 << 20
HERE = pathlib.Path(__file__).resolve().parent
# Images, side, channels in and out; as bench/conv.c has them.
SMALL_CONVOLUTIONS = ((8, 256, 3, 4), (8, 256, 8, 4), (8, 128, 8, 8), (8, 64, 16, 16), (8, 32, 32, 32), (8, 16, 64, 64), (8, 8, 64, 64))
LARGE_CONVOLUTIONS = ((4, 128, 64, 64), (4, 64, 128, 128), (4, 32, 256, 256), (4, 128, 128, 64), (8, 16, 512, 512))
PASSES = {"forward": "forward", "backward_data": "backward, data", "backward_weights": "backward, weights"}
LARGE_PRODUCT = 512  # no side is smaller
# OpenBLAS knows processors by their numbers, and has kernels without wide registers for one that is newer than itself: what it takes by itself, and what it is told to.
OPENBLAS_CORES = (None, "Haswell", "SkylakeX")
# For each group at most, fewer where its ratios are known before.
LONG = ("--seconds", "10")  # the largest product takes a third of one for each turn of its items
LONGER = ("--seconds", "60")  # where a result is the difference of two that are nearly the same
LONGEST = ("--seconds", "300")  # whole steps


class Bench:
    """What the parts run, and what they leave in the JSON beside rows."""

    def __init__(self, build, python, peers, threads, rounds, data):
        self.soracl, self.groups = build / "soracl", build / "bench/sora-bench"
        self.python, self.peers, self.threads, self.rounds, self.data = python, peers, threads, rounds, data

    def know(self, limits):
        """The device's limits are the best that was ever measured: what others do on the machine only lowers them."""
        known = self.data.setdefault("limits", {})
        for name, value in limits.items():
            known[name] = (min if name == "launch_seconds" else max)(known.get(name, value), value)

    def step(self, *words):
        result = run([self.soracl, "bench", "step", *words, "--json", "--quiet"])
        self.know(result["limits"])
        result["limits"] = dict(self.data["limits"])
        result["share_of_peak"] = result["flops_per_second"] / result["limits"]["flops_per_second"]
        return result

    def group(self, *words, environment=None):
        """What sora-bench measures, by the names of its groups; each item by its own. An item's "times" are those of rounds, each of which has every item of a group."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "groups.json"
            output([self.groups, *words, "--json", path], environment)
            found = json.loads(path.read_text())
        self.know(found.get("limits", {}))
        return {name: {item["name"]: item for item in items} for name, items in found.items() if isinstance(items, list)}

    @functools.cached_property
    def adapters(self):
        """Measured once, for all parts that look at them."""
        return self.group("adapter", *LONGER)

    @functools.cached_property
    def trainings(self):
        """The same."""
        return self.group("lora", *LONGEST)

    def peer(self, script, *words):
        result = run([self.python, script, *words, "--threads", self.threads])
        for name in ("torch", "transformers", "peft"):
            if name in result:
                self.data["peers"][name] = result[name]
        return result

    def keep_step(self, name, results):
        """The run of ours whose time is the median."""
        self.data["steps"][name] = sorted(results, key=lambda result: result["seconds_per_step"])[len(results) // 2]


def speed(item):
    """Against what stands beside it: the median ratio, and between what it lies."""
    return item["speed_ratio"], item["speed_ratio_low"], item["speed_ratio_high"]


def slowness(item):
    """The same of times."""
    ratio, low, high = speed(item)
    return 1 / ratio, 1 / high, 1 / low


def without_times(groups):
    return {name: {item: {key: value for key, value in figures.items() if key != "times"} for item, figures in items.items()} for name, items in groups.items()}


def rounds_of(items, *names):
    return list(zip(*(items[name]["times"] for name in names)))


def left(taken, samples):
    """Of what adapters take, what compaction leaves; taken(samples) says both. They are of the same rounds, so where it lies with a confidence of 95 % says the
    bootstrap, which draws each sample's rounds again (Efron & Tibshirani, An Introduction to the Bootstrap, 13.3)."""
    dice, values = random.Random(1), []
    for _ in range(1000):
        after, before = taken([dice.choices(rounds, k=len(rounds)) for rounds in samples])
        values.append(after / before if before > 0 else math.inf)
    values.sort()
    after, before = taken(samples)
    if before <= 0 or values[-25] == math.inf:
        raise Failure("what has adapters was not surely slower than what has none: the machine was too busy to see what they add")
    return after, before, {"value": after / before, "low": values[24], "high": values[-25]}


def worst(target_is_speed, items):
    """Of (name, ratio, low, high) the one farthest from its target, and the mean of all in the note."""
    pick = (min if target_is_speed else max)(items, key=lambda item: item[1])
    mean = statistics.geometric_mean([item[1] for item in items])
    return {"value": pick[1], "low": pick[2], "high": pick[3], "note": f"{pick[0]}; geometric mean of {len(items)}: {mean:.2f}"}


# ---- Parts measured in one process --------------------------------------------------------------------------------------------------


def best_openblas(bench):
    """The environment in which OpenBLAS takes the least for all products together, and its name. Kernels that the processor can't run are passed over."""
    took = {}
    for core in OPENBLAS_CORES:
        environment = {"OPENBLAS_CORETYPE": core} if core else {}
        name = f"OpenBLAS{f', {core}' if core else ''}"
        try:
            groups = bench.group("gemm", "--seconds", "0.1", environment=environment)
        except Failure:
            if not core:
                raise
            continue
        took[name] = sum(items["OpenBLAS"]["seconds"] for items in groups.values() if "OpenBLAS" in items), environment
        if not took[name][0]:  # built without it
            break
        say(f"{name}: {took[name][0]:.3f} s")
    best = min(took, key=lambda name: took[name][0])
    return took[best][1], best


def gemm(bench):
    environment, peer_name = best_openblas(bench)
    groups = bench.group("limits", "gemm", *LONG, environment=environment)
    peak = bench.data["limits"]["flops_per_second"]
    bench.data["products"] = without_times(groups)
    large = {name: items for name, items in groups.items() if min(map(int, re.findall(r"\d+", name))) >= LARGE_PRODUCT}
    for row, item in (("gemm packed", "B packed"), ("gemm packing", "packing included")):
        found = [(name, *speed(i[item])) for name, i in large.items() if "beside" in i.get(item, {})]
        yield row, {**worst(True, found), "peer_name": peer_name} if found else {"note": "built without OpenBLAS"}
        if item == "B packed":
            rates = [(name, i[item]["flops"] / i[item]["seconds"] / peak, i[item]["flops"] / i[item]["max"] / peak, i[item]["flops"] / i[item]["min"] / peak)
                     for name, i in large.items() if item in i]
            yield "gemm share", worst(True, rates)


def adapter(bench):
    groups = bench.adapters
    bench.data["adapters"] = without_times(groups)
    for way in ("forward", "backward"):
        yield f"adapter {way}", {**worst(False, [(name, *slowness(i[f"adapted {way}"])) for name, i in groups.items()]), "peer_name": "the bare one"}


def added(layers):
    """Seconds that a compacted adapter adds to the layers, and a whole one, of rounds of a bare layer, a compacted one and a whole one."""
    return [sum(statistics.median(times[0] for times in rounds) * (statistics.median(times[kind] / times[0] for times in rounds) - 1) for rounds in layers) for kind in (1, 2)]


def rank(bench):
    """What adapters add to the layers' time, both ways and all shapes together: the rest of a step stays as it is."""
    layers = [rounds_of(items, f"bare {way}", f"compacted {way}", f"adapted {way}") for items in bench.adapters.values() for way in ("forward", "backward")]
    after, before, figures = left(added, layers)
    yield "rank", {**figures, "note": f"{1e3 * after:.2f} ms added by rank 4, {1e3 * before:.2f} ms by rank 16"}


def plan(bench):
    item = next(iter(next(iter(bench.group("plan").values())).values()))
    yield "plan", {"value": 1e3 * item["seconds"], "low": 1e3 * item["min"], "high": 1e3 * item["max"]}


# ---- Convolutions -------------------------------------------------------------------------------------------------------------------


def conv(bench):
    shapes = SMALL_CONVOLUTIONS + LARGE_CONVOLUTIONS
    name = lambda s: f"convolution {s[0]} x {s[1]} x {s[1]}, {s[2]} to {s[3]}"
    sides = {"ours": lambda: bench.group("conv", "--seconds", "0.2")}
    if bench.python:
        sides["oneDNN"] = lambda: torch_convolutions(bench, shapes)
    results = alternate(bench.rounds, sides, lambda result: f"{len(result)} shapes")
    details = bench.data["convolutions"] = {}
    for shape in shapes:
        details[name(shape)] = {}
        for ours, theirs in ((item, way) for way, item in PASSES.items()):
            mine = [group[name(shape)][ours] for group in results["ours"]]
            one = details[name(shape)][theirs] = {"seconds": statistics.median(item["seconds"] for item in mine), "flops": mine[0]["flops"], "bytes": mine[0]["bytes"]}
            if bench.python:
                peer = [min(row[layout][theirs] for layout in ("contiguous", "channels_last")) for row in (rows[shape] for rows in results["oneDNN"])]
                speeds = spread(ratios(peer, [item["seconds"] for item in mine]))
                one.update(peer_seconds=statistics.median(peer), speed_ratio=speeds["value"], speed_ratio_low=speeds["low"], speed_ratio_high=speeds["high"])
    for row, group in (("conv large", LARGE_CONVOLUTIONS), ("conv small", SMALL_CONVOLUTIONS)):
        for way in PASSES:
            found = [(name(s), *speed(d)) for s in group for d in [details[name(s)][way]] if "speed_ratio" in d]
            yield f"{row} {way}", {**worst(True, found), "peer_name": "oneDNN", "rounds": bench.rounds} if found else {"note": "no peer"}


def torch_convolutions(bench, shapes):
    words = [bench.python, HERE / "torch_conv.py", "--threads", bench.threads, "--seconds", 0.1, *(f"{s[0]},{s[1]},{s[1]},{s[2]},{s[3]}" for s in shapes)]
    return {shape: json.loads(line) for shape, line in zip(shapes, output(words).splitlines())}


# ---- Whole steps, beside a peer's ---------------------------------------------------------------------------------------------------


def step_figures(bench, name, results, peer_name):
    """Rows' figures of time and of memory."""
    ours = [r["seconds_per_step"] for r in results["ours"]]
    memory = [r["process_bytes_peak"] / MIB for r in results["ours"]]
    bench.keep_step(name, results["ours"])
    kept = bench.data["steps"][name]
    time_row = {"ours": statistics.median(ours), "share": kept["share_of_peak"], "figure": "s", "note": f"{1e-9 * kept['flops_per_second']:.0f} GFLOP/s"}
    memory_row = {"ours": statistics.median(memory), "figure": "MiB"}
    if "peer" in results:
        theirs = [r["step_s"] for r in results["peer"]]
        peak = [r["peak_rss_mib"] for r in results["peer"]]
        time_row.update(spread(ratios(ours, theirs)), peer=statistics.median(theirs), peer_name=peer_name)
        memory_row.update(spread(ratios(memory, peak)), peer=statistics.median(peak), peer_name=peer_name)
    return time_row, memory_row


def say_step(result):
    return f"{result.get('seconds_per_step', result.get('step_s')):.3f} s a step, {result.get('peak_rss_mib') or result['process_bytes_peak'] / MIB:.0f} MiB"


# PyTorch's settings, by name, as words for the peers' scripts.
TEXT_SETTINGS = {"eager": (), "compiled": ("--compile",)}
SETTINGS = {f"{how}, {layout}": (*words, *layout_words) for how, words in TEXT_SETTINGS.items()
            for layout, layout_words in (("contiguous", ()), ("channels_last", ("--channels-last",)))}


def best_setting(peer, settings):
    """The name of the one that is fastest."""
    times = {}
    for name, words in settings.items():
        result = peer(*words)
        times[name] = result["step_s"]
        say(f"PyTorch {name}: {say_step(result)}")
    return min(times, key=times.get)


def pair(bench, name, words, peer, peer_name):
    """Ours beside the peer, in turn."""
    sides = {"ours": lambda: bench.step(*words), **({"peer": peer} if bench.python else {})}
    return step_figures(bench, name, alternate(bench.rounds, sides, say_step), peer_name)


def t5_pair(bench, name, ours, theirs, source, target, steps, *options):
    peer = lambda *words: bench.peer(bench.peers / "hf_t5_peft.py", "--mode", theirs, "--src", source, "--tgt", target, "--steps", steps + 2, *words)
    setting = best_setting(peer, TEXT_SETTINGS) if bench.python else "eager"
    peer_name = f"{'PEFT LoRA' if theirs == 'lora' else 'Transformers'}, {setting}"
    return pair(bench, name, ["t5-small", "--method", ours, "--source", source, "--target", target, "--steps", steps, *options], lambda: peer(*TEXT_SETTINGS[setting]), peer_name)


def t5(bench):
    time_row, memory_row = t5_pair(bench, "t5-small sora 256 / 32", "sora", "lora", 256, 32, 3)
    yield "t5 time", time_row
    yield "t5 memory", memory_row
    kept = bench.data["steps"]["t5-small sora 256 / 32"]
    yield "t5 share", {"value": kept["share_of_peak"], "low": kept["share_of_peak"] * kept["seconds_per_step"] / kept["max"],
                       "high": kept["share_of_peak"] * kept["seconds_per_step"] / kept["min"], "ours": kept["seconds_per_step"], "figure": "s"}


def t5_long(bench):
    time_row, memory_row = t5_pair(bench, "t5-small sora 512 / 64, recompute", "sora", "lora", 512, 64, 2, "--recompute")
    yield "t5-long time", time_row
    yield "t5-long memory", memory_row


def t5_full(bench):
    time_row, memory_row = t5_pair(bench, "t5-small full 256 / 32", "full", "full", 256, 32, 2)
    if "value" in memory_row:
        time_row["note"] += f"; memory {memory_row['value']:.2f} ×"
    yield "t5-full time", time_row


def unet_pair(bench, name, words, peer, settings):
    """The row of time, and the setting that the peer had."""
    setting = best_setting(peer, settings) if bench.python else ""
    time_row, memory_row = pair(bench, name, words, lambda: peer(*settings[setting]), f"PyTorch, {setting}" if bench.python else "")
    if "value" in memory_row:
        time_row["note"] += f"; memory {memory_row['value']:.2f} ×"
    return time_row, setting


METHODS = {"full": ("full", "full"), "adapter": ("sora", "lora")}  # ours and the peer's


def unet_fc(bench):
    for kind, (ours, theirs) in METHODS.items():
        setting = ""
        for batch in (8, 32):
            peer = lambda *words: bench.peer(bench.peers / "torch_unet.py", "--mode", theirs, "--batch", batch, "--steps", 5, *words)
            # With the larger batch in both formats, compiled where that was better with the smaller one.
            settings = {name: words for name, words in SETTINGS.items() if name.startswith(setting.split(",")[0])}
            row, setting = unet_pair(bench, f"unet-fc {ours}, batch {batch}", ["unet-fc", "--method", ours, "--batch", batch, "--steps", 9 if batch == 8 else 5], peer, settings)
            yield f"unet-fc {batch} {kind}", row


def unet(bench):
    for kind, (ours, theirs) in METHODS.items():
        peer = lambda *words: bench.peer(HERE / "torch_unet_classic.py", "--mode", theirs, "--steps", 4, *words)
        row, _ = unet_pair(bench, f"unet {ours}, width 32, batch 8", ["unet", "--width", 32, "--method", ours, "--steps", 3], peer, SETTINGS)
        yield f"unet {kind}", row


# ---- Ours beside ours ---------------------------------------------------------------------------------------------------------------


def sora_lora(bench):
    for network, items in bench.trainings.items():
        for kind, item in (("", items["SoRA"]), ("compacted ", items["SoRA, compacted"])):
            value, low, high = slowness(item)
            yield f"sora-lora {kind}{network}", {"value": value, "low": low, "high": high, "ours": item["seconds"], "peer": items["LoRA"]["seconds"], "peer_name": "our LoRA", "figure": "s"}


def shares(samples):
    """Of a step with compacted adapters, and with whole ones, what one with hardly any does not need."""
    return [statistics.median(1 - times[0] / times[kind] for times in samples[0]) for kind in (1, 2)]


def rank_step(bench):
    """What adapters take of a T5-small step after compaction, of what they took."""
    after, before, figures = left(shares, [rounds_of(bench.trainings["t5-small"], "SoRA, hardly any", "SoRA, compacted", "SoRA")])
    yield "rank step", {**figures, "note": f"{100 * after:.1f} % of the step, {100 * before:.1f} % before"}


# ---- Generation ---------------------------------------------------------------------------------------------------------------------


def generate(bench):
    beams = {"greedy": 1, "beams": 4}
    def ours():
        return {name: run([bench.soracl, "bench", "generate", "t5-small", "--beams", count, "--runs", 1, "--json", "--quiet"])["tokens_per_second"] for name, count in beams.items()}
    def theirs():
        found = bench.peer(HERE / "hf_generate.py", "--beams", "1,4", "--runs", 1)["beams"]
        return {name: found[str(count)]["tokens_per_second"] for name, count in beams.items()}
    results = alternate(bench.rounds, {"ours": ours, **({"peer": theirs} if bench.python else {})}, lambda r: ", ".join(f"{name} {v:.0f} tokens/s" for name, v in r.items()))
    for name in beams:
        speeds = {side: [r[name] for r in found] for side, found in results.items()}
        figures = {"ours": statistics.median(speeds["ours"]), "figure": "tokens/s"}
        if bench.python:
            figures.update(spread(ratios(speeds["ours"], speeds["peer"])), peer=statistics.median(speeds["peer"]), peer_name="Transformers")
        yield f"generate {name}", figures


# ---- Starts -------------------------------------------------------------------------------------------------------------------------


def make_model(bench, folder):
    """A run of T5-small's shape: a command reads 240 MB of weights, as with the real ones."""
    mini = HERE.parent / "datasets/t5-mini"
    config = json.loads((mini / "config.json").read_text())
    config.update(vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8)
    (folder / "new").mkdir()
    (folder / "new/config.json").write_text(json.dumps(config))
    shutil.copy(mini / "spiece.model", folder / "new")
    text = "the package reads files and writes what others read; "
    (folder / "train.csv").write_text("text,title\n" + "".join(f'"{i} {text * 40}","the package reads number {i}"\n' for i in range(32)))
    output([bench.soracl, "t5", "pretrain", "--model", folder / "new", "--train", folder / "train.csv", "--steps", 1, "--batch", 1, "--max-source", 16, "--max-target", 8,
            "--out", folder / "model", "--quiet"])


def time_start(bench, folder, environment):
    """Seconds from the command to its first step: until that has ended, less a later one."""
    out, times = folder / "run", []
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    command = [str(bench.soracl), "t5", "finetune", "--model", str(folder / "model"), "--train", str(folder / "train.csv"), "--steps", "4", "--log-every", "1",
               "--max-source", "256", "--max-target", "32", "--rank", "16", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        while len(times) < 3 and process.poll() is None:
            events = out / "events.jsonl"
            count = events.read_text().count('"event":"step"') if events.exists() else 0
            times += [time.perf_counter() - began] * (count - len(times))
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        errors = process.stderr.read()
    if len(times) < 3:
        raise Failure(f"{' '.join(command)}: ended after {len(times)} steps\n{errors[-1500:]}")
    return times[0] - min(times[1] - times[0], times[2] - times[1])


def start(bench):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_model(bench, folder)
        time_start(bench, folder, {})
        for row in ("start warm", "start first"):
            found = []
            for number in range(bench.rounds):
                with tempfile.TemporaryDirectory() as empty:
                    caches = {} if row == "start warm" else {"XDG_CACHE_HOME": empty, "POCL_CACHE_DIR": empty + "/pocl"}
                    found.append(time_start(bench, folder, caches))
                say(f"round {number + 1} of {bench.rounds}: {found[-1]:.2f} s")
            yield row, spread(found)


# ---- The host's side, and one step by op --------------------------------------------------------------------------------------------


def count_instructions(bench, network, steps=10):
    """Of one step, in the thread that enqueues: the device's own threads, where it is this processor, are left out."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "out"
        output(["valgrind", "--tool=callgrind", "--toggle-collect=run_counted_steps", f"--callgrind-out-file={file}", bench.groups, "step", "--network", network,
                "--steps", steps])
        return int(re.search(r"^summary: (\d+)", file.read_text(), re.M)[1]) / steps


def host(bench):
    for network in ("t5-small", "unet-fc"):
        step = bench.step(network, "--steps", 5)
        launching = step["launches"] * step["limits"]["launch_seconds"]
        yield f"host {network}", {"value": launching / step["seconds_per_step"], "low": launching / step["max"], "high": launching / step["min"],
                                  "note": f"{step['launches']} launches of {1e6 * step['limits']['launch_seconds']:.1f} us"}
    for network in ("t5-small", "unet-fc"):
        if not shutil.which("valgrind"):
            yield f"instructions {network}", {"note": "valgrind is not installed"}
            continue
        yield f"instructions {network}", {"value": count_instructions(bench, network), "note": "the layers of the real one with few numbers in each"}


def profile(bench):
    for network, steps in (("t5-small", 3), ("unet-fc", 10)):
        with tempfile.TemporaryDirectory() as folder:
            trace = pathlib.Path(folder) / "trace.json"
            step = bench.step(network, "--steps", steps, "--profile", trace)
            bench.data["profiles"][network] = launches.summarize(trace, step, HERE.parent / "kernels")
        say(f"{network}: {say_step(step)}, {step['launches']} launches")
    return iter(())


PARTS = {"gemm": gemm, "adapter": adapter, "conv": conv, "t5": t5, "t5-long": t5_long, "t5-full": t5_full, "unet-fc": unet_fc, "unet": unet, "sora-lora": sora_lora,
         "rank": rank, "rank-step": rank_step, "plan": plan, "generate": generate, "start": start, "host": host, "profile": profile}
