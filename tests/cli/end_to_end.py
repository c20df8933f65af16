# SPDX-License-Identifier: Apache-2.0
"""The program as a user has it: every command on small drawn sets, what it prints, writes and refuses. TAP on stdout.
usage: end_to_end.py PROGRAM PART [PART...]"""
import csv
import filecmp
import json
import os
import signal
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib

from program import check, kill_and_resume, last_checkpoint, program, refused, run, run_parts, same_tree, stop_by_interrupt, work

SMALL = ["--size", "64", "--batch", "4", "--log-every", "2", "--eval-every", "7", "--save-every", "3"]
COMMANDS = ["devices", "data hands", "data headlines", "unet train", "unet finetune", "unet eval", "unet predict", "compare unet", "compare t5", "adapter show", "adapter merge"]


def png(path, width, height, channels=3, depth=8):
    """A PNG of noise, any depth; colour types grey, grey + alpha, RGB, RGBA by channels."""
    row = lambda: b"\0" + random.Random(1).randbytes(width * channels * depth // 8)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(row() for _ in range(height)))
    pathlib.Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def png_size(path):
    return struct.unpack(">II", pathlib.Path(path).read_bytes()[16:24])


def draw():
    if not (work / "ego").exists():
        run("data", "hands", "--layout", "egohands", "--images", "30", "--width", "96", "--height", "72", "--out", "ego", "--quiet")
        run("data", "hands", "--layout", "gtea", "--images", "24", "--width", "96", "--height", "72", "--out", "gtea", "--quiet")


def pretrain():
    draw()
    if not (work / "base").exists():
        run("unet", "train", "--data", "egohands:ego", "--epochs", "2", "--out", "base", "--quiet", *SMALL)


# ---- Parts -------------------------------------------------------------------------------------------------------------------------------


def part_words():
    for command in COMMANDS:
        done = run(*command.split(), "--help")
        check(f"help of {command}", "usage: soracl " + command in done.stdout and "\nexample\n" in done.stdout, done.stdout)
    check("version", run("--version").stdout.startswith("soracl 0."))
    refused("unknown command", 2, "did you mean unet train?", "unet", "trian")
    overview = run("--help").stdout.split("example\n")[0].splitlines()
    for group in ("bench", "data", "unet", "compare", "t5", "adapter"):
        lines = [f"usage: soracl {group} COMMAND [options]; each command has --help", "", *(line for line in overview if line.startswith(f"  {group} "))]
        for words in ["--help"], ["-h"]:
            check(f"{group} {words[0]} has that group's commands", len(lines) > 3 and run(group, *words).stdout.splitlines() == lines, lines)
        for words in [], ["--model", "x"]:
            done = run(group, *words, code=2)
            check(f"{' '.join([group, *words])} names them, too", done.stderr.splitlines() == lines and not done.stdout, done.stderr)
    refused("unknown option", 2, "did you mean --epochs?", "unet", "train", "--epoch", "3")
    refused("a forgotten value", 2, "--from needs a value; one that begins as --data is given behind =", "unet", "train", "--from", "--data", "pairs:x", "--out", "nothing")
    refused("a value that begins like an option", 3, "--odd: no such folder", "unet", "train", "--data=pairs:--odd", "--out=--nothing")
    refused("no number", 2, "no number", "unet", "train", "--lr", "fast")
    refused("out of range", 2, "expected", "unet", "train", "--batch", "0")
    refused("a large bound is said as it is", 2, "--seed: -1; expected 0 to 9007199254740992", "unet", "train", "--seed", "-1")
    refused("no data", 2, "--data", "unet", "train", "--out", "nothing")
    refused("no out", 2, "--out", "unet", "train", "--data", "pairs:x")
    refused("finetune of nothing", 2, "--from RUN is needed; usage: soracl unet finetune --from RUN", "unet", "finetune", "--data", "pairs:x", "--out", "nothing")
    refused("kind", 2, "egohands, gtea or pairs", "unet", "train", "--data", "photos:x", "--out", "nothing")
    refused("folder", 3, "no such folder", "unet", "train", "--data", "pairs:nowhere", "--out", "nothing")
    refused("device", 4, "no device matches", "devices", "--device", "nonesuch")
    devices = json.loads(run("devices", "--json").stdout)["devices"]
    check("devices --json", sum(d["picked"] for d in devices) == 1 and all(d["limits"]["global_bytes"] > 0 and d["index"] == i for i, d in enumerate(devices)), devices)
    check("devices", "* " in run("devices").stdout)
    if all(d["platform"] == "Portable Computing Language" for d in devices):
        refused("PoCL without a cache", 4, "is installed but offers none", "devices", env={"POCL_CACHE_DIR": "/proc/none"})
    check("no platform", run("devices", code=None, env={"OCL_ICD_VENDORS": str(work / "none")}).returncode == 4)
    refused("devices launches nothing to profile", 2, "no option --profile", "devices", "--profile", "trace.json")
    for words in (["--help"], ["--version"], ["unet", "train", "--help"], ["devices"], ["devices", "--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        check(f"{' '.join(words)}: results that don't arrive are no success", (done.returncode, done.stderr) == (1, "soracl: standard output: cannot write: No space left on device\n"),
              f"{done.returncode} {done.stderr}")
    for ignored, code in (False, -signal.SIGPIPE), (True, 0):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([program, "unet", "train", "--help"], stdout=writer, stderr=subprocess.PIPE, restore_signals=not ignored)
        os.close(writer)
        check("a closed pipe is no error", (done.returncode, done.stderr) == (code, b""), done)
    refused("what --method offers it takes", 2, '"none"; expected full|lora|sora', "unet", "finetune", "--method", "none")
    for number in ("1e999", "1.5", "3 ", "0"):
        refused(f"eval --batch '{number}'", 2, f'--batch: "{number}"; expected 1 to 4096', "unet", "eval", "--from", "x", "--data", "pairs:x", "--batch", number)
    for option in (["--lr", "0.1"], ["--no-augment"], ["--out", "x"], ["--config", "x"], ["--overwrite"]):
        refused(f"{option[0]} beside --resume", 2, option[0].replace("no-", "") + " beside --resume", "unet", "train", "--resume", "nothing", *option)
    refused("--resume says how to start another", 2, "--config old/config.json --out NEW", "t5", "finetune", "--resume", "old", "--rank", "4")
    refused("what is no option of a run may stand beside --resume", 3, "nothing to resume", "unet", "train", "--resume", "nothing", "--quiet", "--json", "--device", "0", "--profile", "t.json")
    for command, value in (("unet train", "DIR"), ("data hands", "DIR"), ("compare t5", "DIR"), ("t5 vocab", "FILE"), ("adapter merge", "PATH"), ("adapter import", "RUN")):
        refused(f"{command} --out without a name", 2, f'--out: ""; expected {value}', *command.split(), "--out", "")
    examples()
    page()


def examples():
    """Every example finds what those before it made, and writes where nothing is."""
    overview, made = run("--help").stdout, []
    commands = re.findall(r"^  (\w+(?: \w+)?)  +\S", overview.split("example\n")[0], re.M)
    for name in ["", *(c for c in commands if c != "version")]:
        example = run(*name.split(), "--help").stdout.split("example\n  ")[1]
        for out in re.findall(r"--out (\S+)", example):
            check(f"example of {name or 'soracl'}: {out} is new", out not in made)
            made.append(out)
        used = re.findall(r"--from (\S+)|(?:egohands|gtea):(\w+)|adapter \w+ (\S+)|--model (t5-run)| (headlines|hands2)/", example)
        missing = {u for u in map("".join, used) if u not in made}
        check(f"example of {name or 'soracl'}: what it reads is there", not missing, missing)


def page():
    """The manual page has every option of every command, its value apart from what it means."""
    subprocess.run([sys.executable, pathlib.Path(__file__).parents[2] / "docs/man.py", program, "0", work / "soracl.1"], check=True)
    text = (work / "soracl.1").read_text()
    check("the manual page: values of options", "\n\\fB\\-\\-exclude FILE,...\\fR\nCSV files: " in text and "\n\\fB\\-\\-lists DIR\\fR\napt's lists" in text, text[text.find("exclude"):][:300])
    check("the manual page speaks of T5", "in T5 for summarisation" in text)
    # A comparison's rows say method, network and start by themselves.
    for task, without in (("unet", ("method", "model", "size", "width", "depth")), ("t5", ("method", "adapter", "objective"))):
        text = text[text.index(f"\n.SS compare {task}\n") :]
        page, options = text[: text.index("\n.SS", 1)], run("compare", task, "--help").stdout
        for name in without:
            check(f"compare {task} has no --{name}", f"--{name} " not in options and f"{name}\\fR" not in page and f"\\-\\-{name} " not in page, page)
            refused(f"compare {task} --{name} is no option", 2, f"no option --{name}; " + ("did you mean --methods?" if name == "method" else ""), "compare", task, f"--{name}", "1")


def part_bench():
    tiny = ["bench", "step", "unet", "--size", "32", "--width", "1", "--steps", "3"]
    step = {}
    for method in ("full", "sora"):
        step[method] = json.loads(run(*tiny, "--method", method, "--rank", "2", "--json").stdout)
        one = step[method]
        check(f"{method}: the median lies between the least and the most", 0 < one["min"] <= one["seconds_per_step"] <= one["max"])
        check(f"{method}: memory is as predicted", one["device_bytes_peak"] == one["device_bytes_predicted"] > 0 and one["process_bytes_peak"] > 0)
        check(f"{method}: share of peak is work over time over the device's rate",
              abs(one["share_of_peak"] - one["flops"] / one["seconds_per_step"] / one["limits"]["flops_per_second"]) < 1e-6)
    # Two 3 x 3 convolutions a level; the last level has 16 channels at 2 x 2 pixels: too few for transformed tiles, which need fewer multiplications.
    # By hand, multiplications and additions:
    size, width, conv = 32, 1, lambda i, o, n: 2 * 9 * i * o * n * n * 8
    forward = sum(conv(3 if l == 0 else width << l - 1, width << l, size >> l) + conv(width << l, width << l, size >> l) for l in range(5))
    forward += sum(conv(2 * (width << l), width << l, size >> l) + conv(width << l, width << l, size >> l) for l in range(4))
    forward += sum(8 * (width << l + 1) * (width << l) * (size >> l + 1) ** 2 * 8 for l in range(4)) + 2 * width * size * size * 8
    first = conv(3, width, size)
    check("a full step's work is three times the forward pass's, less the first layer's way back", abs(step["full"]["flops"] - (3 * forward - first)) < 1e-6 * forward,
          f'{step["full"]["flops"]} {3 * forward - first}')
    check("adapters leave out frozen weights' gradients", step["sora"]["flops"] < 0.8 * step["full"]["flops"] and step["sora"]["trainable"] < step["full"]["trainable"])
    for name, one in step.items():
        (work / f"{name}.json").write_text(json.dumps(one))
    text = run("bench", "compare", "full.json", "sora.json").stdout
    check("compare puts them side by side", len(text.splitlines()) == 3 and "full" in text and "sora" in text, text)
    check("compare --json", len(json.loads(run("bench", "compare", "full.json", "sora.json", "--json").stdout)["steps"]) == 2)
    limits = json.loads(run("bench", "limits", "--json").stdout)["limits"]
    check("limits", all(limits[key] > 0 for key in ("flops_per_second", "bytes_per_second", "launch_seconds")))
    check("a step is readable, too", "GFLOP" in run(*tiny).stdout)
    short = ["bench", "generate", "t5-small", "--batch", "2", "--source", "8", "--new-tokens", "3", "--runs", "1"]
    greedy, beams = (json.loads(run(*short, "--beams", count, "--json").stdout) for count in ("1", "3"))
    check("tokens a second are those of all sources over the time", abs(greedy["tokens_per_second"] - 2 * 3 / greedy["seconds"]) < 1e-3 * greedy["tokens_per_second"])
    check("beams are more work", beams["flops"] > greedy["flops"] > 0 and beams["new_tokens"] == 3, f'{beams["flops"]} {greedy["flops"]}')
    check("generation is readable, too", "tokens/s" in run(*short).stdout)
    refused("generate: no network", 2, "t5-small", "bench", "generate")
    refused("generate: another network", 2, "expected t5-small", "bench", "generate", "unet")
    refused("generate: no tokens", 2, "new-tokens", "bench", "generate", "t5-small", "--new-tokens", "0")
    (work / "broken.json").write_text('{"seconds_per_step": 1, "seconds_per_step": 2}')
    (work / "other.json").write_text('{"a": 1}')
    refused("compare: no files", 2, "files", "bench", "compare")
    refused("compare: no such file", 3, "nothing.json", "bench", "compare", "nothing.json")
    refused("compare: broken JSON", 3, "broken.json", "bench", "compare", "broken.json")
    refused("compare: another JSON", 3, "other.json", "bench", "compare", "other.json")
    refused("step: no network", 2, "t5-small", "bench", "step")
    refused("step: another network", 2, "resnet", "bench", "step", "resnet")
    refused("step: method", 2, "full, lora or sora", "bench", "step", "unet", "--method", "qlora")
    refused("step: batch", 2, "batch", "bench", "step", "unet", "--batch", "0")
    refused("step: no such layers", 2, "nothing", "bench", "step", "unet", "--size", "32", "--width", "4", "--layers", "nothing")


def own_cache(name):
    """A cache of choices for one run; PoCL's of compiled kernels stays everyone's, for they are most of the time."""
    ours = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return {"POCL_CACHE_DIR": str(ours / "pocl/kcache"), **os.environ, "XDG_CACHE_HOME": str(work / name)}


def part_tune():
    cache = own_cache("cache")
    shapes = json.loads(run("tune", "--for", "unet", "--size", "32", "--width", "1", "--batch", "4", "--json", env=cache).stdout)
    rows, path = shapes["shapes"], pathlib.Path(shapes["path"])
    check("tune measures a network's convolutions", any(r["shape"].startswith("conv 3 x 3") and r["tried"] > 1 for r in rows), rows)
    check("no variant is wrong", all(r["wrong"] == 0 for r in rows))
    kept = json.loads(path.read_text())["choices"]
    check("what was faster is kept", len(kept) == sum(r["changed"] for r in rows))
    text = run("tune", "--for", "unet", "--size", "32", "--width", "1", "--batch", "4", "--method", "full", "--budget", "1", env=cache)
    check("tune as a table, with progress", "shape" in text.stderr and "faster variant" in text.stdout, text.stdout + text.stderr)
    devices = run("devices", env=cache).stdout
    check("devices says that it is tuned", f"tuned: {len(json.loads(path.read_text())['choices'])} choices" in devices, devices)
    check("devices says that it is not", "tuned: no" in run("devices", env=own_cache("nothing")).stdout)
    # A run keeps its choices: whatever is tuned or lost meanwhile, it goes on to the same bits.
    draw()
    start = ["unet", "train", "--data", "gtea:gtea", "--model", "unet", "--width", "1", "--size", "32", "--batch", "4", "--steps", "4", "--save-every", "2", "--eval-every", "2",
             "--keep", "9"]
    run(*start, "--out", "tuned", env=cache)
    check("a run has the choices it began with", (work / "tuned/variants.json").exists() == (len(kept) > 0))
    shutil.copytree(work / "tuned", work / "again")
    shutil.rmtree(work / "again/checkpoint-4")
    path.unlink()
    run("unet", "train", "--resume", "again", env=cache)
    check("and goes on to the same bits without the cache", same_tree(work / "tuned/checkpoint-4", work / "again/checkpoint-4"))
    if kept:
        shutil.rmtree(work / "again/checkpoint-4")
        choices = (work / "again/variants.json").read_text()
        (work / "again/variants.json").write_text(choices.replace('"driver": "', '"driver": "another '))
        check("choices of another device are said not to be used", "default variants" in run("unet", "train", "--resume", "again", env=cache).stderr)
    run(*start, "--out", "plain", env=own_cache("nothing"))
    check("a run without choices has none", not (work / "plain/variants.json").exists())
    # What a convolution's variant asks products for depends on the choice that is there: each starts from none.
    shapes = lambda *words: {r["shape"] for r in json.loads(run("tune", *words, "--json", env=own_cache(f"cache{len(words)}")).stdout)["shapes"]}
    check("a run's shapes are its network's", shapes("--for", "plain") == shapes("--for", "unet", "--size", "32", "--width", "1", "--batch", "4", "--method", "full"))
    refused("tune: a run's own method", 2, "--method full beside a run: plain has its own", "tune", "--for", "plain", "--method", "full")
    refused("tune: another network", 2, "resnet", "tune", "--for", "resnet")
    refused("tune: budget", 2, "budget", "tune", "--budget", "soon")


def headlines():
    lists = work / "lists"
    lists.mkdir()
    text = "\n .\n".join([" A paragraph of a description, long enough to be taken once there are three of them."] * 3)
    names = [f"package{i}" for i in range(60)]
    (lists / "x_Packages").write_text("\n".join(f"Package: {name}\n" for name in names))
    refused("no descriptions", 3, "apt-get -o Acquire::Languages=en update", "data", "headlines", "--lists", "lists", "--out", "headlines")
    (lists / "x_Translation-en").write_text("\n".join(f"Package: {name}\nDescription-en: title of {name}\n {name}\n{text}\n" for name in names))
    result = json.loads(run("data", "headlines", "--lists", "lists", "--out", "headlines", "--json").stdout)
    check("data headlines", result["train"] + result["dev"] + result["test"] == 60 and result["train"] > 40 and result["excluded"] == 0, result)
    done = run("data", "headlines", "--lists", "lists", "--out", "fewer", "--exclude", "headlines/dev.csv,headlines/train.csv")
    check("data headlines --exclude", "fewer/train.csv: 0 pairs" in done.stdout and f"{result['train']} by --exclude" in done.stdout, done.stdout)
    refused("--min-text leaves nothing", 3, "60 too short", "data", "headlines", "--lists", "lists", "--out", "none", "--min-text", "9000")
    refused("headlines without --out", 2, "--out DIR is needed", "data", "headlines")
    refused("a file to exclude that isn't there", 3, "nowhere.csv", "data", "headlines", "--lists", "lists", "--out", "none", "--exclude", "nowhere.csv")


def part_data():
    draw()
    run("data", "hands", "--layout", "gtea", "--images", "24", "--width", "96", "--height", "72", "--out", "again", "--quiet")
    check("drawn sets are equal to the byte", same_tree(work / "gtea", work / "again"))
    run("data", "hands", "--layout", "gtea", "--images", "24", "--width", "96", "--height", "72", "--seed", "2", "--out", "other", "--quiet")
    check("another seed, other pictures", not same_tree(work / "gtea", work / "other"))
    drawn = run("data", "hands", "--layout", "gtea", "--images", "4", "--width", "48", "--seed", "7", "--out", "few", "--json")
    check("data hands --json", json.loads(drawn.stdout) == {"out": "few", "layout": "gtea", "images": 4, "width": 48, "height": 180, "seed": 7} and not drawn.stderr, drawn)
    refused("a folder that is not empty", 2, "not empty", "data", "hands", "--out", "gtea")
    refused("layout", 2, "expected egohands or gtea", "data", "hands", "--out", "more", "--layout", "coco")
    headlines()
    train = ["unet", "train", "--out", "nothing", *SMALL]
    for name in ("missing", "sizes", "empty"):
        (work / name / "img").mkdir(parents=True)
        (work / name / "mask").mkdir()
        for i in range(4):
            png(work / name / "img" / f"{i}.png", 16, 16)
            png(work / name / "mask" / f"{i}.png", 16, 16, 1)
    for kind in "img", "mask":
        (work / "missing" / kind / "3.JPG").symlink_to("3.png")
        refused(f"two pictures of one stem in {kind}", 3, f"missing/{kind}/3.png: beside 3.JPG of the same stem", *train, "--data", "pairs:missing")
        (work / "missing" / kind / "3.JPG").unlink()
    (work / "missing/mask/2.png").unlink()
    for split in "train", "all":
        (work / "none/img").mkdir(parents=True, exist_ok=True)
        (work / "none/mask").mkdir(exist_ok=True)
        refused(f"no images at all, :{split}", 3, f"none: no images ({split})", *train, "--data", f"pairs:none:{split}")
    refused("a split that is none", 3, "gtea:tset: no such folder; what may stand behind one is :train, :test or :all", *train, "--data", "gtea:gtea:tset")
    refused("image without mask", 3, "an image without a mask", *train, "--data", "pairs:missing")
    shutil.move(work / "missing/img/2.png", work / "missing/mask/9.png")
    refused("mask without image", 3, "a mask without an image", *train, "--data", "pairs:missing")
    png(work / "sizes/mask/1.png", 16, 8, 1)
    refused("mask of another size", 3, "16 x 8, but its image", *train, "--data", "pairs:sizes")
    black = zlib.compress(b"\0" * (17 * 16))
    for i in range(4):
        png(work / "empty/mask" / f"{i}.png", 16, 16, 1)
        data = (work / "empty/mask" / f"{i}.png").read_bytes()
        at = data.index(b"IDAT")
        (work / "empty/mask" / f"{i}.png").write_bytes(data[: at - 4] + struct.pack(">I", len(black)) + b"IDAT" + black + struct.pack(">I", zlib.crc32(b"IDAT" + black)) + data[-12:])
        (work / "empty/img" / f"{i}.png").write_bytes((work / "empty/img" / f"{i}.png").read_bytes() + bytes([i]))
    pretrain()
    for begin in train, ["unet", "finetune", "--from", "base", "--out", "nothing", *SMALL]:
        refused(f"no hand anywhere, {begin[1]}", 3, "no hand in any of 3 masks; are they the right ones? A hand is above 127 in pairs' masks", *begin, "--data", "pairs:empty")
    # A network that marks nothing is right about masks without a hand, and collapsed where there are some.
    data = bytearray((work / "base/base.safetensors").read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    at = start + json.loads(data[8:start])["head.bias"]["data_offsets"][0]
    data[at : at + 4] = struct.pack("<f", -100)
    (work / "dark.safetensors").write_bytes(data)
    dark = ["unet", "finetune", "--from", "dark.safetensors", "--data", "gtea:gtea", "--steps", "1", "--lr", "0", *SMALL, "--out", "dark", "--overwrite"]
    check("a network that marks nothing where there is something", "it collapsed" in run(*dark).stderr)
    done = run(*dark, "--eval-data", "pairs:empty:all")
    check("and where there is nothing", "no mask of the evaluation set has a hand" in done.stderr and "it collapsed" not in done.stderr, done.stderr)
    refused("overlapping sets", 3, "overlap", *train, "--data", "gtea:gtea:all", "--eval-data", "gtea:gtea:test")
    shutil.copytree(work / "ego", work / "broken")
    mat = next((work / "broken").rglob("polygons.mat"))
    whole = mat.read_bytes()
    for cut in (0, 100, 130, len(whole) // 2):
        mat.write_bytes(whole[:cut])
        refused(f"polygons.mat cut at {cut}", 3, "polygons.mat", *train, "--data", "egohands:broken")
    mat.write_bytes(whole)
    frame = next((work / "broken").rglob("*.jpg"))
    frame.write_bytes(frame.read_bytes()[:400])
    for accumulate in (1, 4):
        done = run(*train, "--data", "egohands:broken:all", "--eval-data", "gtea:gtea", "--accumulate", accumulate, "--overwrite", code=None)
        check(f"a truncated JPEG, --accumulate {accumulate}", done.returncode == 3 and frame.name in done.stderr, done.stderr)


def part_run():
    pretrain()
    finetune = ["unet", "finetune", "--from", "base", "--data", "gtea:gtea", "--epochs", "2", "--quiet", *SMALL]
    for method in ("full", "lora", "sora"):
        result = json.loads(run(*finetune, "--method", method, "--rank", "4", "--target", ".*conv[12]|bottleneck", "--out", method, "--json").stdout)
        check(f"finetune {method}", 0 <= result["quality"]["iou_per_image"] <= 1 and result["steps"] == 10 and (result["rank_max"] is None) == (method == "full"), result)
        check(f"{method}: predicted memory holds", result["device_bytes_peak"] <= result["device_bytes_predicted"], result)
        again = json.loads(run("unet", "finetune", "--resume", method, "--json", "--quiet").stdout)
        check(f"--resume of the finished {method} --json, which took no step", again["method"] == method and result["seconds_per_step"] > 0 and again["seconds_per_step"] is None and abs(again["quality"]["loss"] - result["quality"]["loss"]) < 1e-4, (again, result))
        found = [(e["iou_per_image"], -e["loss"], e["step"]) for e in map(json.loads, (work / method / "events.jsonl").read_text().splitlines()) if e["event"] == "evaluation"]
        best = max(found, key=lambda f: (*f[:2], -f[2]))
        check(f"{method}: the best is of the highest IoU, and of those of the lowest loss", (work / method / "best").read_text() == f"checkpoint-{best[2]}\n" and (method != "full" or min(found) < best), found)
    for gate in ("adam", "official"):
        run(*finetune, "--method", "sora", "--rank", "4", "--gate", gate, "--out", gate, "--steps", "4")
        check(f"gate {gate}", json.loads((work / gate / "config.json").read_text())["options"]["gate"] == gate)
    run(*finetune, "--method", "sora", "--rank", "0", "--out", "rank0")
    check("rank 0 is legal", (work / "rank0/best").exists())
    run(*finetune, "--method", "sora", "--rank", "4", "--lambda", "1000", "--out", "pruned")
    shown = json.loads(run("adapter", "show", "pruned:last", "--json").stdout)
    check("a large lambda prunes all", shown["rank_kept"] == 0 and shown["rank_max"] == 4, shown)
    run(*finetune, "--method", "sora", "--rank", "4", "--lambda", "1000", "--drop-after", "4", "--out", "dropped")
    check("--drop-after ends a run with nothing left", json.loads((last_checkpoint("dropped") / "state.json").read_text())["step"] < 10)
    run(*finetune, "--method", "sora", "--rank", "4", "--bn", "frozen", "--optimizer", "sgd", "--schedule", "plateau", "--accumulate", "2", "--dropout", "0.1",
        "--loss", "dice-bce", "--init", "ones", "--out", "other")
    check("the other options", (work / "other/best").exists())
    epochs = [e["epoch"] for e in map(json.loads, (work / "other/events.jsonl").read_text().splitlines()) if e["event"] == "evaluation"]
    check("--accumulate: no batch of an epoch is left out", epochs[-1] >= 2, epochs)
    run(*finetune, "--method", "sora", "--rank", "4", "--xi-schedule", "linear:0:0.5:3", "--out", "schedule")
    points = [json.loads(line) for line in (work / "schedule/events.jsonl").read_text().splitlines() if '"xi"' in line]
    points = [p for p in points if p["event"] == "xi"]
    check("--xi-schedule gives a point each", [p["xi"] for p in points] == [0, 0.25, 0.5], points)
    check("and a checkpoint each", all((work / f"schedule/checkpoint-{p['step']}").exists() for p in points), points)
    for seed in (1, 2):
        run(*finetune, "--method", "lora", "--rank", "2", "--steps", "1", "--lr", "0", "--seed", seed, "--out", f"seed{seed}")
    check("--seed is of the adapters' initial values, too", not same_tree(last_checkpoint("seed1"), last_checkpoint("seed2"), ["state.json"]))
    shown = json.loads(run("adapter", "show", "sora", "--json").stdout)
    check("adapter show --json", shown["rank_max"] >= shown["rank_kept"] > 0 and len(shown["gates"]) >= shown["rank_kept"], shown)
    check("adapter show", "gates:" in run("adapter", "show", "sora").stdout)
    merged = json.loads(run("adapter", "merge", "sora", "--out", "merged.safetensors", "--json").stdout)
    check("adapter merge", 0 <= merged["largest_change"] <= merged["allowed"], merged)
    a = json.loads(run("unet", "eval", "--from", "sora", "--data", "gtea:gtea", "--json").stdout)
    b = json.loads(run("unet", "eval", "--from", "merged.safetensors", "--data", "gtea:gtea", "--json").stdout)
    kept = {name: (work / f"sora/{name}").read_bytes() for name in ("base.safetensors", "config.json")}
    (work / "link").symlink_to("sora")
    for out in ("sora", "sora/base.safetensors", "sora/new.safetensors", "sora/new/merged.safetensors", "link/base.safetensors"):
        refused(f"adapter merge --out {out}", 2, "lies in sora", "adapter", "merge", "sora:last", "--out", out)
    for option in ["--dtype", "fp16"], ["--model", "base"]:
        refused(f"adapter merge {option[0]} of a U-Net", 2, f"{option[0]} is for runs of T5; sora:last is one of a U-Net", "adapter", "merge", "sora:last", *option, "--out", "other.safetensors")
    refused("adapter merge onto another run", 2, "holds config.json", "adapter", "merge", "sora", "--out", "base")
    check("and all is as it was", not (work / "sora/new.safetensors").exists() and all((work / f"sora/{name}").read_bytes() == data for name, data in kept.items()))
    refused("JSON of a name that is no UTF-8", 2, "no UTF-8", "adapter", "merge", "sora", "--out", "gr\udcfc.safetensors", "--json")
    for words in (["show", "sora"], ["merge", "sora", "--out", "again.safetensors"]):
        run("adapter", *words, "--profile", f"{words[0]}.json")
        check(f"adapter {words[0]} --profile", (work / f"{words[0]}.json").exists())
    check("merged weights measure the same", abs(a["iou_per_image"] - b["iou_per_image"]) < 2e-3 and abs(a["loss"] - b["loss"]) < 1e-4, (a, b))
    wanted = ["task", "images", "iou_per_image", "iou_pooled", "miou_two_class", "dice", "precision", "recall", "loss", "seconds"]
    check("eval --json has the agreed fields", list(a) == wanted, a)
    native = json.loads(run("unet", "eval", "--from", "sora", "--data", "gtea:gtea", "--json", "--native").stdout)
    check("eval --native", native["images"] == a["images"] and native["miou_two_class"] != a["miou_two_class"], native)
    for option, value in ("size", 96), ("width", 8), ("depth", 2), ("model", "unet"):
        refused(f"another --{option} than the network's", 2, f"--{option}: the network of --from base is a unet-fc of size 64, which stays so; leave it out",
                *finetune, "--out", "other-network", f"--{option}", value)
    check("leaves nothing", not (work / "other-network").exists())
    check("nor does it print a time", "  10 steps; " in run("unet", "finetune", "--resume", "sora", "--quiet").stdout)
    shutil.copytree(work / "ego", work / "unlisted")
    (work / "unlisted/metadata.mat").unlink()
    (work / "unlisted/_LABELLED_SAMPLES/.ipynb_checkpoints").mkdir()
    listed, unlisted = (json.loads(run("unet", "eval", "--from", "base", "--data", f"egohands:{name}:all", "--json").stdout) for name in ("ego", "unlisted"))
    check("EgoHands without metadata.mat: folders that are not hidden", unlisted["images"] == 30 and abs(listed["loss"] - unlisted["loss"]) < 1e-5, unlisted)
    refused("no adapters", 3, "has no adapters", "adapter", "show", "base")
    refused("a taken folder", 2, "holds a run", *finetune, "--method", "full", "--out", "full")
    full = [*finetune, "--method", "full", "--overwrite", "--out", "full"]
    refused("--overwrite of what the run begins with", 2, "--from full:last lies in", *full, "--from", "full:last")
    refused("--overwrite of the run before a target that matches nothing", 2, "nearest", *full, "--method", "lora", "--target", "nosuch")
    refused("--overwrite of the run before one that isn't there", 3, "nowhere", *full, "--from", "nowhere")
    check("the earlier run is still there", (last_checkpoint("full") / "weights.safetensors").exists())
    refused("--overwrite of the run before a schedule that is refused", 2, "needs gates", *full, "--method", "lora", "--xi-schedule", "linear:0:1:3")
    check("the earlier run is there again", (last_checkpoint("full") / "weights.safetensors").exists() and not (work / "full.earlier").exists())
    kept_files("full", "full", *full, "--steps", "1")
    (work / "full.link").symlink_to("full")
    for out in "full.link", "full.link/":
        refused(f"--overwrite of a link, --out {out}", 2, f"full.link: is a link, which --overwrite does not follow; give --out {(work / 'full').resolve()}", *full[:-1], out)
    inside = ["unet", "train", "--data", f"gtea:{work / 'gtea'}", "--steps", "1", *SMALL, "--overwrite", "--quiet", "--out"]
    for folder, out in ("full", "."), ("full", work / "full"), (last_checkpoint("full"), "../"):
        refused(f"--overwrite of the working folder, --out {out}", 2, f"call soracl from another folder, with --out {(work / 'full').resolve()}", *inside, out, cwd=work / folder)
    check("the run and the link are still there", (work / "full.link").is_symlink() and (last_checkpoint("full") / "weights.safetensors").exists())
    run(*full, "--steps", "1", "--overwrite")
    check("and gone when another has begun", not (work / "full.earlier").exists() and last_checkpoint("full").name == "checkpoint-1")
    # What stands under the name of what is set aside is nobody's to remove: a kill may have left a good run there.
    shutil.copytree(work / "seed1", work / "seed1.earlier")
    again = ["unet", "finetune", "--from", "base", "--data", "gtea:gtea", "--method", "lora", "--rank", "2", "--steps", "1", "--lr", "0", *SMALL, "--out", "seed1"]
    refused("--overwrite where something stands aside already", 2, "seed1.earlier: is there already", *again, "--overwrite")
    check("both are still there", same_tree(work / "seed1", work / "seed1.earlier"))
    (work / "seed1").rename(work / "seed1.moved")
    for words in [], ["--overwrite"]:
        done = run(*again, *words)
        check(f"a new run beside it {' '.join(words)}", "seed1.earlier stays" in done.stderr and same_tree(work / "seed1.moved", work / "seed1.earlier"), done.stderr)
        shutil.rmtree(work / "seed1")
    (work / "seed1.moved").rename(work / "seed1")
    for name in ("seed2/base.safetensors", "seed2/checkpoint-1/adapter.safetensors"):
        refused(f"adapter merge over {name}", 2, "which is a run", "adapter", "merge", "seed1", "--out", name)
    (work / "webapp").mkdir()
    (work / "webapp/config.json").write_text('{"name": "webapp"}')
    refused("--overwrite of what is no run", 2, "but no run", *finetune, "--method", "full", "--overwrite", "--out", "webapp")
    check("it is left alone", (work / "webapp/config.json").exists())
    refused("a start that is refused", 2, "bad", *finetune, "--method", "sora", "--xi-schedule", "bad", "--out", "again")
    run(*finetune, "--method", "sora", "--steps", "1", "--out", "again")
    check("leaves its name free", (work / "again/best").exists())
    refused("a target that matches nothing", 2, "bottleneck", *finetune, "--method", "lora", "--target", "botleneck", "--out", "x")
    refused("wrong size", 2, "64", "unet", "train", "--data", "egohands:ego", "--size", "100", "--out", "x")
    far = [*finetune, "--method", "full", "--optimizer", "sgd", "--lr", "1000", "--clip", "0", "--eval-every", "1000"]
    refused("NaN", 1, "is not finite", *far, "--weight-decay", "100", "--epochs", "20", "--save-every", "1000", "--out", "nan")
    refused("NaN in running statistics first", 1, "the last checkpoint stands", *far, "--momentum", "0", "--warmup", "0", "--schedule", "constant", "--epochs", "20", "--save-every", "1",
            "--keep", "2", "--out", "statistics")
    for checkpoint in (work / "statistics").glob("checkpoint-*"):
        run("unet", "eval", "--from", checkpoint, "--data", "gtea:gtea")
    refused("a file that is no weights", 3, "no safetensors", "unet", "eval", "--from", program, "--data", "gtea:gtea")
    done = run(*finetune, "--method", "sora", "--config", "sora/config.json", "--out", "repeated", code=0)
    check("--config repeats a run to the bit", same_tree(last_checkpoint("sora"), last_checkpoint("repeated")), done.stderr)
    (work / "t5.json").write_text('{"task": "t5", "options": {"lr": 0.1}}')
    refused("--config of another task", 3, "t5.json: is of another task; this command takes options of U-Net", *finetune, "--method", "full", "--config", "t5.json", "--out", "x")
    refused("an option that is no UTF-8", 2, "--data: no UTF-8", "unet", "finetune", "--from", "base", "--data", "gtea:gr\udcfc", "--out", "x")
    entropy = json.loads(run(*finetune, "--method", "full", "--loss", "bce", "--steps", "2", "--out", "entropy", "--json").stdout)["quality"]["loss"]
    # The run's second batch of 4 has two of 6 images, each of which counts as much as any other; batches of 3 are whole ones.
    again = json.loads(run("unet", "eval", "--from", "entropy:last", "--data", "gtea:gtea", "--batch", "3", "--json").stdout)
    check("eval has the loss that the run has, whatever its batch", abs(entropy - again["loss"]) < 1e-5 and again["images"] == 6, (entropy, again))
    run(*finetune, "--method", "sora", "--steps", "2", "--out", "traced", "--profile", "trace.json")
    trace = json.loads((work / "trace.json").read_text())
    check("--profile is a trace", len(trace["traceEvents"]) > 50 and trace["otherData"]["kernels"][0]["seconds"] > 0)


def kept_files(folder, inner, *words):
    """--overwrite of a folder that holds somebody's files, in it or in one that the program made there, changes nothing."""
    checkpoint = last_checkpoint(inner).relative_to(work)
    for name in f"{folder}/notes/thesis.txt", f"{folder}/checkpoint-1.kept/state.json", f"{inner}/data.csv", f"{checkpoint}/notes.txt", f"{folder}/best.old":
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text("mine")
        before = sorted((work / folder).rglob("*"))
        own = (work / name).parent if "notes/" in name or ".kept" in name else work / name
        refused(f"--overwrite beside {name}", 2, f"{own.parent.relative_to(work)}: holds {own.name}, which no run writes", *words, "--overwrite")
        check("nothing is changed", (work / name).read_text() == "mine" and sorted((work / folder).rglob("*")) == before and not (work / f"{folder}.earlier").exists())
        shutil.rmtree(own) if own.is_dir() else own.unlink()
    # What the program itself leaves where it is killed is in nobody's way.
    (work / folder / "config.json.17.tmp").write_text("")
    (work / inner / "checkpoint-9.tmp").mkdir()


def part_predict():
    pretrain()
    pictures = work / "pictures"
    pictures.mkdir()
    for name, channels, depth in (("grey", 1, 8), ("greya", 2, 8), ("rgb", 3, 8), ("rgba", 4, 8), ("deep", 3, 16)):
        png(pictures / f"{name}.png", 70, 33, channels, depth)
    files = sorted(pictures.glob("*.png")) + sorted((work / "gtea/GTEA/Images").glob("*.jpg"))[:2]
    done = run("unet", "predict", "--from", "base", *files, "--out", "masks", "--probability")
    check("predict writes three pictures each", len(done.stdout.splitlines()) == 3 * len(files), done.stdout)
    check("at the image's own size", all(png_size(work / "masks" / f"{f.stem}.mask.png") == ((70, 33) if f.suffix == ".png" else (96, 72)) for f in files))
    listed = json.loads(run("unet", "predict", "--from", "base", *files[:2], "--out", "masks", "--json").stdout)
    check("predict --json", listed == [{"image": str(f), "mask": f"masks/{f.stem}.mask.png", "overlay": f"masks/{f.stem}.overlay.png"} for f in files[:2]], listed)
    listed = json.loads(run("unet", "predict", "--from", "base", files[0], "--out", "masks", "--json", "--quiet", "--probability").stdout)
    check("predict --json --probability", listed[0]["probability"] == "masks/deep.probability.png", listed)
    refused("a folder that cannot be made says why", 1, "none/masks: cannot create folder: No such file or directory", "unet", "predict", "--from", "base", files[0], "--out", "none/masks")
    shutil.copy(files[0], work / "deep.jpg")
    refused("two images, one mask", 2, f"{files[0]} and deep.jpg: both masks would be deep.mask.png", "unet", "predict", "--from", "base", *files, "deep.jpg", "--out", "twice")
    check("is said before the first", not (work / "twice").exists())
    for kind, words in ("mask", []), ("overlay", []), ("probability", ["--probability"]):
        truth = pictures / f"rgb.{kind}.png"
        shutil.copy(pictures / "grey.png", truth)
        refused(f"a {kind} over an image", 2, f"{truth}: the {kind} of {pictures / 'rgb.png'} would be written over it; choose another --out", "unet", "predict", "--from", "base", pictures / "rgb.png",
                truth, "--out", "pictures", *words)
        truth.unlink()
    run("unet", "predict", "--from", "base", pictures / "rgb.png", "--out", "pictures")
    run("unet", "predict", "--from", "base", pictures / "rgb.png", pictures / "rgb.mask.png", "--out", "masks")
    shutil.copy(pictures / "rgb.png", work / "--help")
    shutil.copy(pictures / "rgb.png", work / "--odd.png")
    refused("a name that begins as options do", 2, "no option --odd.png", "unet", "predict", "--from", "base", "--out", "masks", "--odd.png")
    done = run("unet", "predict", "--from", "base", "--out", "masks", "--", "--odd.png", "--help")
    check("behind -- it is a name", done.stdout.splitlines() == [f"masks/{name}.{kind}.png" for name in ("--odd", "--help") for kind in ("mask", "overlay")], done.stdout)
    check("what is no image of the call is written anew", filecmp.cmp(pictures / "rgb.mask.png", work / "masks/rgb.mask.png", shallow=False))
    for name, data in (("short", b"\x89PNG\r\n\x1a\n\0\0"), ("text", b"hello"), ("empty", b"")):
        (work / f"{name}.png").write_bytes(data)
        refused(f"a broken picture: {name}", 3, f"{name}.png", "unet", "predict", "--from", "base", f"{name}.png", "--out", "masks")
    # Eight go through the network at a time: broken ones in the first and a last of their own.
    some = [work / "short.png", *files, "none.png", work / "text.png"]
    done = run("unet", "predict", "--from", "base", *some, "--out", "some", "--json", code=3)
    check("broken pictures are named, each with its reason", [line.split(": ")[1:3] for line in done.stderr.splitlines()] ==
          [[str(some[0]), "broken PNG"], ["none.png", "cannot open"], [str(some[-1]), "neither PNG nor JPEG by its first bytes"], ["3 of 10 images could not be read; they have no masks"]],
          done.stderr)
    check("and the others are written", [p["image"] for p in json.loads(done.stdout)] == list(map(str, files)) and
          all(filecmp.cmp(work / "some" / f"{f.stem}.mask.png", work / "masks" / f"{f.stem}.mask.png", shallow=False) for f in files) and
          len(list((work / "some").iterdir())) == 2 * len(files))
    huge = bytearray((pictures / "rgb.png").read_bytes())
    huge[16:24] = struct.pack(">II", 1 << 20, 1 << 20)
    huge[29:33] = struct.pack(">I", zlib.crc32(bytes(huge[12:29])))
    (work / "huge.png").write_bytes(huge)
    refused("absurd dimensions", 3, "at most 2^28", "unet", "predict", "--from", "base", "huge.png", "--out", "masks")


def part_resume():
    pretrain()
    words = ["--method", "sora", "--rank", "6", "--lambda", "3", "--dropout", "0.2", "--target", "bottleneck|decoder.*", "--epochs", "4"]
    start = ["unet", "finetune", "--from", "base", "--data", "gtea:gtea", *words, *SMALL]
    run(*start, "--out", "whole", "--quiet")
    begun = time.time()
    run(*start, "--out", "twin", "--quiet")
    seconds = time.time() - begun
    check("two runs of one seed are equal to the bit", all(same_tree(p, work / "twin" / p.name) for p in (work / "whole").glob("checkpoint-*")))
    command = kill_and_resume(["unet", "finetune"], [*start, "--out", "killed", "--quiet"], seconds)
    check("and is equal to the bit", all(same_tree(p, work / "killed" / p.name) for p in (work / "whole").glob("checkpoint-*")) and
          (work / "whole/best").read_text() == (work / "killed/best").read_text())
    lines = lambda name: [(e["event"], e.get("step"), e.get("loss"), e.get("iou_per_image")) for e in map(json.loads, (work / name / "events.jsonl").read_text().splitlines())]
    check("events read as if it had never stopped", lines("whole") == lines("killed"), (lines("whole")[-3:], lines("killed")[-3:]))
    check("a finished run is left alone", subprocess.run(command, cwd=work, capture_output=True).returncode == 0)
    first = subprocess.Popen([program, *map(str, start), "--epochs", "400", "--out", "shared", "--quiet"], cwd=work, stderr=subprocess.DEVNULL)
    while not (work / "shared/events.jsonl").exists() and first.poll() is None:
        time.sleep(0.05)
    refused("a second process in the folder", 2, "another process trains in it", "unet", "finetune", "--resume", "shared")
    refused("that would start anew in it", 2, "another process trains in it", *start, "--out", "shared", "--overwrite")
    check("the first goes on", first.poll() is None)
    first.kill()
    first.wait()
    stop_by_interrupt([*start, "--epochs", "400"])
    for mask in (work / "gtea").rglob("Masks/s1*"), (work / "gtea").rglob("Masks/s2*"):
        picture = next(mask)
        data = picture.read_bytes()
        picture.write_bytes(data + b"x")
        refused(f"{picture.name} that changed", 3, "its data changed", "unet", "finetune", "--resume", "stopped")
        picture.write_bytes(data)
    state_file = last_checkpoint("stopped") / "state.json"
    text = state_file.read_text()
    state_file.write_text(text.replace('"step": ', '"step": 9', 1))
    refused("a checkpoint of another step than its folder's", 3, f"{state_file.parent.name}/state.json: is of step 9", "unet", "finetune", "--resume", "stopped")
    state_file.write_text(text[:-30])
    broken = state_file.parent
    for other in (work / "stopped").glob("checkpoint-*"):
        if other != broken:
            shutil.rmtree(other)
    done = run("unet", "finetune", "--resume", "stopped", code=3)
    check("a broken checkpoint", "state.json" in done.stderr and "to go on from" not in done.stderr, done.stderr)
    shutil.copytree(broken, work / "stopped/checkpoint-1")
    for file in "state.json", "adapter.safetensors":
        (broken / file).write_text("{")
        refused(f"a broken {file} beside an older checkpoint", 3, f"; remove {broken.name} to go on from checkpoint-1", "unet", "finetune", "--resume", "stopped")
    refused("nothing to resume", 3, "nothing to resume", "unet", "finetune", "--resume", "ego")


def own_start(option, *words):
    """A comparison that would remove what it starts from."""
    for start in "study/full-s1", "study/full-s1:last", "study/../study/full-s1":
        refused(f"--{option} {start} --overwrite", 2, f"study: --{option} {start} lies in the comparison that --overwrite would remove", *words, f"--{option}", start,
                "--out", "study", "--overwrite")
    check("what stood there still does", (work / "study/compare.json").exists() and last_checkpoint("study/full-s1").exists())


def changed(file, added, *words):
    """A comparison's rows are not taken over where what they trained on has changed since."""
    before = (work / file).read_bytes()
    (work / file).write_bytes(before + added)
    refused(f"rows of another {file}", 2, "was trained on other data (hash ", *words, "--out", "study")
    (work / file).write_bytes(before)


def part_compare():
    pretrain()
    words = ["compare", "unet", "--from", "base", "--data", "gtea:gtea", "--epochs", "1", "--target", "bottleneck .*conv[12]|bottleneck", "--rank", "8,2", "--lambda", "0.1,500",
             "--seeds", "1,2", "--overlays", "2", "--quiet", *SMALL[2:]]
    report = json.loads(run(*words, "--json", "--out", "study").stdout)
    rows = report["runs"]
    check("a row for each method, target, lambda and seed", len(rows) == 1 + 2 * (1 + 2 + 4), len(rows))
    fields = ["method", "seed", "target", "alpha", "lambda", "xi", "gate", "bn", "rank_max", "rank_kept", "modules", "parameters_trainable", "parameters_kept", "steps",
              "seconds_per_step", "device_bytes_predicted", "device_bytes_peak", "process_bytes_peak", "quality"]
    check("the agreed fields", all(set(fields) <= set(r) for r in rows) and rows[0]["method"] == "none" and rows[0]["steps"] == 0, rows[0])
    check("null where nothing applies", all((r["rank_max"] is None) == (r["method"] in ("none", "full")) and (r["lambda"] is None) == (r["method"] != "sora") for r in rows))
    check("ranks are sums over modules", all(r["rank_kept"] == sum(m["rank_kept"] for m in r["modules"]) for r in rows if r["modules"] is not None))
    check("a large lambda keeps less", all(r["rank_kept"] == 0 for r in rows if r["lambda"] == 500))
    for option, value in (("rank", "99999999999"), ("rank", "1.5"), ("seeds", "1.9"), ("lambda", "-1")):
        refused(f"--{option} {value}", 2, value, *words, f"--{option}", value, "--out", "lists")
    for option, value, row in (("seeds", "1,1", "full"), ("lambda", "0.1,0.10", "SoRA bottleneck r8 λ 0.10"), ("methods", "lora,full,lora", "LoRA bottleneck r8"),
                               ("target", "bottleneck bottleneck", "LoRA bottleneck r8")):
        refused(f"--{option} {value}", 2, f'row "{row}", seed 1, would be there twice', *words, "--rank", "8", f"--{option}", value, "--out", "twice")
    done = run(*words, "--methods", "lora", "--target", "bottleneck botleneck", "--out", "late", code=2)
    check("a later target that matches nothing is found before the first row is trained", '"botleneck" matches none' in done.stderr and not list((work / "late").glob("lora*")), done.stderr)
    check("a number is one, however it is written", [r["rank_max"] for r in json.loads(run(*words, "--methods", "lora", "--target", "bottleneck", "--rank", "1e1", "--seeds", "1",
          "--steps", "1", "--json", "--out", "lists").stdout)["runs"]] == [None, 10])
    page = (work / "study/report.html").read_text()
    check("the report is one file without a network", "http" not in page.replace("http-equiv", "") and page.count("data:image/png;base64") == 2 * (2 + 8) and "<svg" in page)
    check("overlays", len(list((work / "study/overlays").glob("*.png"))) == 2 * (2 + 8))
    again = json.loads(run(*words, "--json", "--out", "study").stdout)
    check("finished rows are taken over", [r["quality"]["loss"] for r in again["runs"]] == [r["quality"]["loss"] for r in rows])
    for option, value, message in (("overlays", "65", '--overlays: "65"; expected 1 to 64'), ("overlays", "0", "expected 1 to 64"), ("overlays", "2.5", "expected 1 to 64"),
                                   ("full-lr", "1e9", "--full-lr, as --lr: 1e9; expected 0 to 1000"), ("full-lr", "nan", '--full-lr, as --lr: "nan" is no number')):
        refused(f"compare --{option} {value}", 2, message, *words, f"--{option}", value, "--out", "many")
    check("all before anything is written", not (work / "many").exists())
    for i, name in enumerate(("green", "gr\udcfcn")):
        for kind, channels in ("img", 3), ("mask", 1):
            (work / "latin1" / kind).mkdir(parents=True, exist_ok=True)
            png(work / "latin1" / kind / f"{name}.png", 16 + i, 16, channels)
    refused("a picture that the report can't name", 3, "latin1/img/gr\\xfcn.png: its name is no UTF-8", *words, "--eval-data", "pairs:latin1:all", "--out", "unnamed")
    check("is refused before a row is trained", not list((work / "unnamed").glob("*-s1")))
    # A label has a target's first 40 characters, a folder's name no punctuation.
    targets = ["encoder.0.conv1|encoder.1.conv1|encoder.2.conv1", "encoder.0.conv1|encoder.1.conv1|encoder.2.conv2", "encoder.[0]", "encoder.(0)"]
    alike = ["compare", "unet", "--from", "base", "--data", "gtea:gtea", "--steps", "1", "--methods", "lora", "--rank", "2", "--seeds", "1,2", "--target",
             " ".join(t + ".*" for t in targets), *SMALL[2:], "--json", "--out", "alike"]
    rows = json.loads(run(*alike).stdout)["runs"][1:]
    labels = [r["label"] for r in rows]
    check("targets that look alike have rows of their own", labels[:4] == labels[4:] and len(set(labels)) == 4 and len({r["folder"] for r in rows}) == 8
          and labels[1] == labels[0] + " #2" and labels[3] == "LoRA encoder.(0).* r2 #2", labels)
    done = run(*alike)
    check("and are found again", done.stderr.count("taken over") == 8 and [r["label"] for r in json.loads(done.stdout)["runs"][1:]] == labels, done.stderr)
    kept_files("alike", "alike/" + rows[0]["folder"], *alike)
    (work / "alike/overlays/mine.png").write_text("mine")
    refused("--overwrite beside an overlay of one's own", 2, "alike/overlays: holds mine.png", *alike, "--overwrite")
    (work / "alike/overlays/mine.png").unlink()
    run(*alike, "--overwrite", "--seeds", "1")
    check("a comparison of nothing else is replaced", not (work / "alike.earlier").exists() and not (work / "alike" / rows[7]["folder"]).exists())
    picture = sorted((work / "gtea/GTEA/Images").glob("*.jpg"))[0].relative_to(work)
    changed(picture, b"\0", *words)
    run("unet", "train", "--data", "egohands:ego", "--steps", "1", "--seed", "2", "--out", "base", "--overwrite", "--quiet", *SMALL)
    refused("rows of other weights", 2, "study/full-s1: was trained with other options or from other weights: start_weights ", *words, "--out", "study")
    own_start("from", *words)


def draw_texts():
    """Texts with titles that their first sentence holds, and a T5 of two layers with three steps of pre-training behind it."""
    pick = random.Random(1).choice
    words = lambda *choices: " ".join(pick(c.split()) for c in choices)
    for name, count in (("train", 64), ("dev", 12), ("test", 9)):
        with open(work / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "title"])
            for i in range(count):
                title = words("red small <i>old</i>", "house garden table", "of", "the", "baker teacher")
                rows.writerow([f"The {title} & {name} is number {i}. {'It was built by a friend of the <b>teacher</b>. ' * (6 if i % 2 else 1)}", title])
    (work / "new").mkdir()
    made = run("t5", "vocab", "--out", "new/spiece.model", "--size", "60", "train.csv").stdout
    config = {"model_type": "t5", "vocab_size": int(made.split(": ")[1].split()[0]) + 100, "d_model": 16, "d_kv": 4, "num_heads": 2, "d_ff": 32, "num_layers": 2,
              "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "dropout_rate": 0.0,
              "tie_word_embeddings": False, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    (work / "new/config.json").write_text(json.dumps(config))
    run("t5", "pretrain", "--model", "new", "--train", "train.csv", "--steps", "3", "--max-source", "64", "--out", "t5", "--quiet")


def interrupt_after(row, *words):
    """Stops a comparison once a row is finished; its messages."""
    process = subprocess.Popen([program, *words], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and not (row.exists() and '"row"' in row.read_text()):
        time.sleep(0.005)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    return process.communicate()[1], process.returncode


def part_compare_t5():
    draw_texts()
    words = ["compare", "t5", "--model", "t5", "--train", "train.csv", "--dev", "dev.csv", "--rank", "2,4", "--lambda", "0.1,200", "--xi-schedule", "linear:0:0.05:3", "--seeds", "1,2",
             "--epochs", "1", "--max-source", "48", "--max-target", "12", "--lr", "0.01", "--full-lr", "0.001", "--examples", "2"]
    report = json.loads(run(*words, "--quiet", "--json", "--out", "study").stdout)
    rows = report["runs"]
    check("no fine-tuning, first sentence, and a row for each method, rank, lambda, schedule and seed", len(rows) == 2 + 2 * (1 + 2 + 2 * 3), [r["label"] for r in rows])
    check("labels", [r["label"] for r in rows[:11]] == ["no fine-tuning", "first sentence", "full", "LoRA r2", "LoRA r4", "SoRA r2 λ 0.1", "SoRA r2 λ 200", "SoRA r2 schedule",
                                                      "SoRA r4 λ 0.1", "SoRA r4 λ 200", "SoRA r4 schedule"], [r["label"] for r in rows])
    fields = ["method", "seed", "target", "alpha", "lambda", "xi", "gate", "bn", "rank_max", "rank_kept", "modules", "parameters_trainable", "parameters_kept", "steps",
              "seconds_per_step", "device_bytes_predicted", "device_bytes_peak", "process_bytes_peak", "quality"]
    quality = ["task", "examples", "loss", "tokens_target", "rouge1", "rouge2", "rougeL", "rougeLsum", "generated_tokens_mean", "seconds"]
    check("the agreed fields", report["task"] == "t5" and all(set(fields) <= set(r) and set(quality) <= set(r["quality"]) for r in rows), rows[0])
    copied = rows[1]
    check("the first sentence needs no model", copied["method"] == "copy" and copied["parameters_kept"] == 0 and copied["quality"]["loss"] is None and copied["quality"]["rougeL"] > 50, copied)
    check("null where nothing applies", all((r["rank_max"] is None) == (r["method"] in ("none", "copy", "full")) for r in rows)
          and all((r["lambda"] is None) == (r["method"] != "sora" or "schedule" in r["label"]) for r in rows))
    adapted = [r for r in rows if r["modules"] is not None]
    check("modules by their names in the file", all(len(r["modules"]) == 2 * 7 + 2 * 11 for r in adapted)
          and {"encoder.block.0.layer.0.SelfAttention.q", "decoder.block.1.layer.1.EncDecAttention.o", "decoder.block.1.layer.2.DenseReluDense.wi_1"} <= {m["name"] for m in adapted[0]["modules"]})
    check("ranks are sums over modules", all(r["rank_kept"] == sum(m["rank_kept"] for m in r["modules"]) for r in adapted))
    check("a large lambda keeps nothing", all(r["rank_kept"] == 0 and r["parameters_kept"] == 0 for r in rows if r["lambda"] == 200))
    rate = lambda name: json.loads((work / "study" / name / "config.json").read_text())["options"]["lr"]
    check("--full-lr is full fine-tuning's alone", rate("full-s1") == 0.001 and rate("lora-r2-s1") == 0.01)
    kept = [e["parameters_kept"] for e in map(json.loads, (work / "study/sora-r4-schedule-s1/events.jsonl").read_text().splitlines()) if e["event"] == "xi"]
    check("the schedule's row has its curve", len(kept) == 3 and kept == sorted(kept, reverse=True) and '"xi":0.05' in (work / "study/sora-r4-schedule-s1/events.jsonl").read_text(), kept)
    pairs = {(d["a"], d["b"]) for d in report["bootstrap"]}
    check("differences against none, full, and LoRA of the same rank", ("SoRA r4 schedule", "LoRA r4") in pairs and ("SoRA r4 schedule", "LoRA r2") not in pairs
          and ("LoRA r2", "full") in pairs and ("first sentence", "no fine-tuning") in pairs and all({"rouge1", "rouge2", "low", "high"} <= set(d) and d["examples"] == 12 for d in report["bootstrap"]), pairs)
    difference = next(d for d in report["bootstrap"] if d["a"] == "first sentence")
    check("a difference is one of means", abs(difference["difference"] - copied["quality"]["rougeL"] + rows[0]["quality"]["rougeL"]) < 1e-4, difference)
    texts = list(csv.DictReader(open(work / "dev.csv", encoding="utf-8", newline="")))
    check("examples of the first seed", [(e["text"], e["reference"]) for e in report["examples"]] == [(t["text"], t["title"]) for t in texts[:2]]
          and all([s["label"] for s in e["summaries"]] == [r["label"] for r in rows[:11]] for e in report["examples"])
          and report["examples"][0]["summaries"][1]["summary"] == texts[0]["text"].split(". ")[0] + ".", report["examples"][0])
    page = (work / "study/report.html").read_text()
    check("the report has every module's rank", page.count('<svg class="heat"') == 6 and all(page.count(f"<title>{m['name']}: ") == 6 for m in adapted[0]["modules"]))
    check("the report is one file without a network, texts are escaped", "http" not in page and "&lt;b&gt;teacher&lt;/b&gt;" in page and "<i>old" not in page and "<b>teacher" not in page
          and "&amp; dev is number" in page and "<details>" in page, page[page.find("Texts and"):])
    messages, code = interrupt_after(work / "part/full-s1/result.json", *words, "--out", "part")
    before = (work / "part/full-s1/result.json").read_bytes() if (work / "part/full-s1/result.json").exists() else b""
    done = run(*words, "--json", "--out", "part")
    again = json.loads(done.stdout)
    check("a finished row is taken over after an interruption", code == 130 and b'"row"' in before and "full, seed 1: taken over" in done.stderr, f"{code}\n{messages}\n{done.stderr}")
    check("what was interrupted ends as if it hadn't been", [[r["quality"][q] for q in quality[:-1]] for r in again["runs"]] == [[r["quality"][q] for q in quality[:-1]] for r in rows]
          and again["bootstrap"] == report["bootstrap"])
    done = run(*words, "--json", "--out", "study", "--test", "test.csv", "--eval-limit", "5")
    tested = json.loads(done.stdout)
    check("--test evaluates finished rows on another file", done.stderr.count("taken over") == len(rows) - 2 and tested["test"] == "test.csv" and all(r["quality"]["examples"] == 5 for r in tested["runs"])
          and [r["parameters_kept"] for r in tested["runs"]] == [r["parameters_kept"] for r in rows], done.stderr)
    check("the table", "of LoRA's" in run(*words, "--quiet", "--out", "study").stdout)
    refused("rows of other options", 2, "study/lora-r2-s1: was trained with other options or from other weights: lr 0.01, now 0.02; choose another --out", *words, "--lr", "0.02", "--out", "study")
    refused("rows of another --weights", 2, 'other weights: weights "fp32", now "fp16";', *words, "--weights", "fp16", "--out", "study")
    changed("train.csv", b"a text that came later and is long enough,a title that came later\n", *words)
    own_start("model", *words)
    adapted = [["t5", "finetune", "--model", "t5", "--train", "train.csv", "--method", "lora", "--steps", "1", "--out", "adapted", "--quiet", "--overwrite", "--seed", s] for s in (1, 2)]
    again = ["compare", "t5", "--model", "adapted", *words[4:], "--methods", "full", "--seeds", "1", "--quiet", "--out", "again"]
    run(*adapted[0])
    run(*again)
    run(*adapted[1])
    refused("rows of other adapters", 2, "or from other weights", *again)
    run("t5", "pretrain", "--model", "new", "--train", "train.csv", "--steps", "4", "--max-source", "64", "--out", "t5", "--overwrite", "--quiet")
    refused("rows of other weights", 2, "or from other weights", *words, "--out", "study")
    refused("texts in both files", 3, "train.csv", *words, "--out", "none", "--test", "train.csv")
    refused("no texts to measure on", 2, "--dev FILE or --test FILE", "compare", "t5", "--model", "t5", "--train", "train.csv", "--out", "none")
    for target, message in (("nothing", '"nothing" matches none'), (".*[.]k|lm_head", "lm_head and shared take no adapter")):
        refused(f"a later target, {target}", 2, message, *words, "--methods", "lora", "--target", f".*[.]q {target}", "--out", "late")
        check("is refused before the first row is trained", not list((work / "late").glob("lora*")))
    refused("a row that cannot begin", 2, "matches none", *words, "--methods", "lora", "--target", "nothing", "--out", "later")
    refused("what never began is no row of other options", 2, "matches none", *words, "--methods", "lora", "--target", "nothing", "--lr", "0.02", "--out", "later")
    refused("no number in a list", 2, '--rank: "x"', *words, "--rank", "2,x", "--out", "none")


def part_vocab():
    text = [f"The {a} {b} of the {c}." for a in ("red", "small", "old") for b in ("house", "garden", "table") for c in ("baker", "teacher")]
    (work / "text").write_text("\n".join(text) + "\n", encoding="utf-8")
    done = run("t5", "vocab", "--out", "one.model", "--size", "25", "text")
    check("t5 vocab says what it made", done.stdout == "one.model: 25 pieces from 18 lines\n" and done.stderr == "", done.stdout + done.stderr)
    subprocess.run([program, "t5", "vocab", "--out", "two.model", "--size=25", "--quiet", "-"], cwd=work, input="\r\n".join(text).encode(), check=True)
    check("t5 vocab: the same text, the same bytes", filecmp.cmp(work / "one.model", work / "two.model", shallow=False))
    (work / "ids").write_text(run("t5", "tokenize", "--model", "one.model", "text").stdout)
    check("t5 vocab: its model tokenizes", run("t5", "detokenize", "--model", "one.model", "ids").stdout.splitlines() == text)
    done = run("t5", "vocab", "--out", "few.model", "--size", "9000", "text")
    check("t5 vocab: fewer pieces than asked for", "of 9000 pieces" in done.stderr, done.stderr)
    (work / "nul").write_bytes(b"one\n\ntw\0o\n")
    (work / "latin1").write_bytes(b"gr\xfc\xdfe\n")
    (work / "empty").write_bytes(b"\n \n")
    for name, code, message, words in (("a NUL", 3, "nul: line 3: there is a NUL at byte 2", ("--size", 60, "nul")),
                                       ("no UTF-8", 3, "latin1: line 1: byte 2 (0xfc) is no UTF-8", ("--size", 60, "latin1")),
                                       ("no text", 3, "no text to train", ("--size", 60, "empty")), ("no file", 3, "none: No such file", ("--size", 60, "none")),
                                       ("too small", 3, "Vocabulary size is smaller", ("--size", 10, "text")), ("no size", 2, "usage", ("text",)),
                                       ("size", 2, "--size", ("--size", "many", "text")), ("coverage", 2, "0.98", ("--size", 60, "--coverage", "0.2", "text"))):
        refused(f"t5 vocab: {name}", code, message, "t5", "vocab", "--out", "bad.model", *words)
    check("t5 vocab: errors leave no file", not list(work.glob("bad.model*")))


run_parts(globals())
