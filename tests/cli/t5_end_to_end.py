# SPDX-License-Identifier: Apache-2.0
"""T5 through the program, on a tiny model that is made here: vocabulary, pre-training, fine-tuning, evaluation, summaries, and what is
refused. TAP on stdout. usage: t5_end_to_end.py PROGRAM PART [PART...]"""
import json
import pathlib
import random
import shutil
import struct
import subprocess
import time

from program import check, kill_and_resume, last_checkpoint, program, refused, run, run_parts, same_tree, stop_by_interrupt, work

WORDS = "red old small house garden river walks opens finds letter under behind bright cold door window teacher baker singer paints reads".split()
CONFIG = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 200, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2,
          "num_decoder_layers": 2, "num_heads": 2, "feed_forward_proj": "relu", "dropout_rate": 0.1, "pad_token_id": 0, "eos_token_id": 1,
          "decoder_start_token_id": 0, "tie_word_embeddings": True}
SMALL = ["--max-source", "64", "--max-target", "16", "--batch", "4", "--rank", "4", "--quiet"]
PAIRS = ["--train", "train.csv", "--dev", "dev.jsonl"]
EVAL_FIELDS = ["task", "examples", "loss", "tokens_target", "generated", "rouge1", "rouge2", "rougeL", "rougeLsum", "generated_tokens_mean", "seconds"]
METHODS = ("full", "lora", "sora")


def sentence(rng, count):
    return " ".join(rng.choice(WORDS) for _ in range(count)) + "."


def write_texts():
    rng = random.Random(1)
    (work / "text").write_text("".join(sentence(rng, rng.randint(4, 12)).capitalize() + "\n" for _ in range(300)))
    row = lambda i: f'"{sentence(rng, 3)} {i}","{sentence(rng, rng.randint(5, 40))} ""{i}""\n{sentence(rng, 4)}",http://x/{i}\n'
    (work / "train.csv").write_text("title,text,url\n" + "".join(row(i) for i in range(32)))
    lines = lambda make, count: "".join(json.dumps(make(i)) + "\n" for i in range(count))
    (work / "dev.jsonl").write_text(lines(lambda i: {"text": sentence(rng, rng.randint(5, 40)), "title": f"{sentence(rng, 3)} {i}"}, 7))
    (work / "scitldr.jsonl").write_text(lines(lambda i: {"source": [sentence(rng, 6), sentence(rng, 8)], "target": [sentence(rng, 4)], "paper_id": str(i)}, 9))
    (work / "lines").write_text("".join(sentence(rng, 4 + 5 * i) + "\n" for i in range(6)))


def write_model(name, **config):
    folder = work / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    shutil.copy(work / "spiece.model", folder / "spiece.model")


def pretrain():
    """The folder "base": a model with weights, as the hub lays it out."""
    if (work / "base").exists():
        return
    write_texts()
    run("t5", "vocab", "--size", "80", "--out", "spiece.model", "--quiet", "text")
    write_model("new", task_specific_params={"translation": {"prefix": "translate: "}})
    run("t5", "pretrain", "--model", "new", "--train", "train.csv", "--steps", "3", "--out", "pretrained", "--quiet")
    shutil.copytree(last_checkpoint("pretrained"), work / "base", ignore=shutil.ignore_patterns("optimizer*", "state*"))


def finetune(method, *words, **named):
    return ["t5", "finetune", "--model", "base", *PAIRS, "--method", method, *SMALL, *words]


def adapted():
    """The runs "full", "lora" and "sora". Their learning rate is high, so that summaries differ from text to text."""
    pretrain()
    if not (work / "sora").exists():
        return {m: json.loads(run(*finetune(m, "--epochs", "3", "--lr", "0.02", "--lambda", "1"), "--json", "--out", m).stdout) for m in METHODS}
    return None


def summaries(*words, **named):
    return [json.loads(line) for line in run("t5", "summarize", "--json", *words, **named).stdout.splitlines()]


def read_tensors(path):
    """Name → (type, shape, bytes) of a safetensors file."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:start])
    return {n: (t["dtype"], t["shape"], data[start + t["data_offsets"][0] : start + t["data_offsets"][1]]) for n, t in head.items() if n != "__metadata__"}


def write_tensors(path, tensors):
    head, body = {}, b""
    for name, (kind, shape, data) in tensors.items():
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(head).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


# ---- Parts -------------------------------------------------------------------------------------------------------------------------------


def part_run():
    results = adapted()
    saved = json.loads((work / "base/config.json").read_text())
    check("a new model keeps its config.json", all(saved[k] == v for k, v in json.loads((work / "new/config.json").read_text()).items()), saved)
    for command in ("finetune", "pretrain", "eval", "summarize", "tokenize", "detokenize", "vocab"):
        done = run("t5", command, "--help")
        check(f"help of t5 {command}", f"usage: soracl t5 {command}" in done.stdout and "\nexample\n" in done.stdout, done.stdout)
    for method, result in results.items():
        quality = result["quality"]
        check(f"finetune {method} --json", result["run"] == method and result["method"] == method and result["steps"] == 24 and result["seconds_per_step"] > 0 and
              (result["rank_max"] is None) == (method == "full") and list(quality) == EVAL_FIELDS and quality["generated"] == 7, result)
        check(f"{method}: predicted memory holds", 0 < result["device_bytes_peak"] <= result["device_bytes_predicted"], result)
        options = json.loads((work / method / "config.json").read_text())["options"]
        check(f"{method}: config.json", options["method"] == method and options["train"] == "train.csv" and options["max-target"] == 16, options)
        events = [json.loads(line) for line in (work / method / "events.jsonl").read_text().splitlines()]
        kinds = [e["event"] for e in events]
        check(f"{method}: events.jsonl", kinds[0] == "start" and kinds.count("evaluation") == 3 and any(e.get("loss", 0) > 0 for e in events if e["event"] == "step"), kinds)
        losses = [e["loss"] for e in events if e["event"] == "evaluation"]
        check(f"{method}: learns", losses[-1] < losses[0], losses)
        steps = {e["loss"]: e["step"] for e in events if e["event"] == "evaluation"}
        check(f"{method}: the best is of the lowest loss", (work / method / "best").read_text() == f"checkpoint-{steps[min(losses)]}\n", losses)
    for method in METHODS:
        again = json.loads(run("t5", "finetune", "--resume", method, "--json", "--quiet").stdout)
        close = lambda a, b: abs(a["loss"] - b["loss"]) < 1e-4 and all(a[k] == b[k] for k in EVAL_FIELDS if k not in ("loss", "seconds"))
        check(f"--resume of the finished {method} --json", again["method"] == method and close(again["quality"], results[method]["quality"]), (again, results[method]))
    # Each of 32 modules has rank · (p + q) numbers, SoRA its gates on top.
    sizes = [(len(t[1]), t[1]) for n, t in read_tensors(work / "base/model.safetensors").items() if any(n.endswith(f".{m}.weight") for m in ("q", "k", "v", "o", "wi", "wo"))]
    check("parameters trained", len(sizes) == 32 and results["lora"]["parameters_trainable"] == sum(4 * (p + q) for _, (p, q) in sizes) and
          results["sora"]["parameters_trainable"] == results["lora"]["parameters_trainable"] + 4 * 32, (len(sizes), results["lora"]["parameters_trainable"]))
    shown = json.loads(run("adapter", "show", "sora:last", "--json").stdout)
    check("adapter show", shown["rank_max"] == 128 and shown["rank_kept"] == results["sora"]["rank_kept"] in range(1, 128) and len(shown["modules"]) == 32 and
          shown["modules"][0]["name"] == "encoder.block.0.layer.0.SelfAttention.q", shown)
    run("t5", "finetune", "--model", "base", "--train", "scitldr.jsonl", "--method", "sora", "--steps", "2", *SMALL, "--out", "scitldr")
    check("SciTLDR's form", (work / "scitldr/best").exists())
    run("t5", "finetune", "--model", "base", "--train", "dev.jsonl", "--method", "lora", "--steps", "2", *SMALL, "--source-column", "title", "--target-column", "text", "--out", "swapped")
    check("other columns", (work / "swapped/best").exists())
    measured = {m: json.loads(run("t5", "eval", "--model", f"{m}:last", "--data", "dev.jsonl", "--max-source", "64", "--max-target", "16", "--json").stdout) for m in METHODS}
    check("t5 eval --json has the agreed fields", all(list(q) == EVAL_FIELDS for q in measured.values()), measured["full"])
    same = lambda a, b: abs(a["loss"] - b["loss"]) < 1e-4 and all(a[k] == b[k] for k in ("examples", "tokens_target", "generated", "generated_tokens_mean"))
    check("t5 eval measures what the run did", all(same(measured[m], results[m]["quality"]) for m in METHODS), (measured, [r["quality"] for r in results.values()]))
    (work / "gaps.jsonl").write_text((work / "dev.jsonl").read_text() + '{"text": "a text", "title": " "}\n{"text": "", "title": "a title"}\n')
    gaps = run("t5", "eval", "--model", "full:last", "--data", "gaps.jsonl", "--max-source", "64", "--max-target", "16", "--json")
    check("pairs that are left out are told", "gaps.jsonl: 2 of 9 pairs are left out" in gaps.stderr and same(json.loads(gaps.stdout), measured["full"]), gaps.stderr)
    words = ["t5", "finetune", "--model", "base", "--train", "train.csv", "--dev", "gaps.jsonl", "--method", "lora", "--max-source", "64", "--max-target", "16", "--steps", "1"]
    told = run(*words, "--min-source-characters", "100", "--out", "gaps").stderr
    check("by a run, too", "gaps.jsonl: " in told and "train.csv: " in told and told.count("pairs are left out, empty or shorter than asked for") == 2, told)
    check("and not to who wants no messages", run(*words, "--quiet", "--out", "gaps2").stderr == "")
    unsaid = json.loads(run("t5", "eval", "--model", "sora:last", "--data", "dev.jsonl", "--json").stdout)
    cut = lambda words: run("t5", "summarize", "--model", "sora:last", "--json", "--lines", "--temperature", "1", "--min-length", "15", *words, "long-lines").stdout
    (work / "long-lines").write_text("".join(json.loads(line)["text"] + " " + " ".join(WORDS) + "\n" for line in (work / "dev.jsonl").read_text().splitlines()))
    check("with the lengths that it was trained with", same(unsaid, measured["sora"]) and cut([]) == cut(["--max-source", "64"]) != cut(["--max-source", "512"]), (unsaid, measured["sora"]))
    alone = json.loads(run("t5", "eval", "--model", "base", "--adapter", "sora:last", "--data", "dev.jsonl", "--max-source", "64", "--max-target", "16", "--batch", "3", "--json").stdout)
    check("t5 eval --adapter, and another batch", same(alone, measured["sora"]), (alone, measured["sora"]))
    silent = json.loads(run("t5", "eval", "--model", "base", "--data", "dev.jsonl", "--no-generate", "--limit", "3", "--json").stdout)
    untold = lambda q: q["generated"] == 0 and [k for k in EVAL_FIELDS if q[k] is None] == ["rouge1", "rouge2", "rougeL", "rougeLsum", "generated_tokens_mean"]
    check("t5 eval --no-generate --limit: no ROUGE is no 0", silent["examples"] == 3 and untold(silent), silent)
    events = [json.loads(line) for line in (work / "pretrained/events.jsonl").read_text().splitlines()]
    check("nor in a run that generates nothing", [untold(e) for e in events if e["event"] == "evaluation"] == [True], events)
    measure = ["t5", "eval", "--model", "full:last", "--data", "dev.jsonl", "--max-source", "64", "--max-target", "16", "--json"]
    quality = json.loads(run(*measure, "--limit", "6", "--predictions", "predictions.jsonl").stdout)
    lines = [json.loads(line) for line in (work / "predictions.jsonl").read_text().splitlines()]
    pairs = [json.loads(line) for line in (work / "dev.jsonl").read_text().splitlines()][:6]
    (work / "sources").write_text("".join(p["text"] + "\n" for p in pairs))
    check("t5 eval --predictions: what was generated, in the file's order", [(p["line"], p["text"], p["reference"]) for p in lines] ==
          [(i + 1, p["text"], p["title"]) for i, p in enumerate(pairs)] and
          [p["prediction"] for p in lines] == [s["summary"] for s in summaries("--model", "full:last", "--max-source", "64", "--max-length", "17", "--lines", "sources")], lines)
    check("its ROUGE is the evaluation's", all(abs(sum(p[k] for p in lines) / 6 - quality[k]) < 1e-6 for k in ("rouge1", "rouge2", "rougeL", "rougeLsum")), (lines, quality))
    kept = (work / "predictions.jsonl").read_bytes()
    refused("--predictions that is a folder", 1, "base: cannot write: it is a folder", *measure, "--predictions", "base")
    refused("--predictions beside --no-generate", 2, "nothing would stand in it", *measure, "--no-generate", "--predictions", "predictions.jsonl")
    refused("a model that isn't there", 3, "absent", "t5", "eval", "--model", "absent", "--data", "dev.jsonl", "--predictions", "predictions.jsonl")
    check("and what stood there stays, alone", (work / "predictions.jsonl").read_bytes() == kept and not list(work.glob("*.tmp")))
    merged = json.loads(run("adapter", "merge", "sora:last", "--out", "merged", "--json").stdout)
    again = json.loads(run("t5", "eval", "--model", "merged", "--data", "dev.jsonl", "--max-source", "64", "--max-target", "16", "--json").stdout)
    check("adapter merge", abs(again["loss"] - measured["sora"]["loss"]) < 1e-4 and merged["largest_change"] <= merged["allowed"], (merged, again, measured["sora"]))
    kept = {name: (work / name / "config.json").read_bytes() for name in ("base", "sora", "merged")}
    (work / "link").symlink_to("base")
    for out in ("sora", "./sora/", "sora/merged"):
        refused(f"adapter merge --out {out}", 2, "lies in sora", "adapter", "merge", "sora:last", "--out", out)
    for out in ("base", "link", "merged", "lora"):
        refused(f"adapter merge --out {out}", 2, "holds config.json", "adapter", "merge", "sora:last", "--out", out)
    check("and all is as it was", all((work / name / "config.json").read_bytes() == data for name, data in kept.items()) and not (work / "sora/model.safetensors").exists())
    exported = json.loads(run("adapter", "export", "lora", "--out", "peft", "--json", "--profile", "export.json").stdout)
    check("adapter export --json", exported == {"adapter": "peft"} and (work / "export.json").exists(), exported)
    imported = json.loads(run("adapter", "import", "peft", "--model", "base", "--out", "imported", "--json", "--profile", "import.json").stdout)
    check("adapter import --json", imported == {"run": "imported", "model": "base"} and (work / "import.json").exists(), imported)
    for words in ["adapter", "show", "peft"], ["adapter", "merge", "peft", "--out", "x"]:
        refused(f"a PEFT folder is no run: {words[1]}", 3, "soracl adapter import peft --model DIR --out RUN", *words)
    refused("--adapter on adapters", 2, "lora: has adapters of its own, so peft can't be put on it", "t5", "eval", "--model", "lora", "--adapter", "peft", "--data", "dev.jsonl")
    refused("import onto adapters", 2, "has adapters of its own", "adapter", "import", "peft", "--model", "lora", "--out", "onto")
    check("paths without --json", run("adapter", "import", "peft", "--model", "base", "--out", "imported2").stdout == "imported2\n")
    done = run("adapter", "import", "peft", "--model", "base", "--out", "imported", code=2)
    check("adapter import onto a run advises what it has", "holds config.json" in done.stderr and "--resume" not in done.stderr and "--overwrite" not in done.stderr, done.stderr)
    refused("adapters on adapters", 2, "adapter merge", "t5", "finetune", "--model", "sora", *PAIRS, "--method", "lora", *SMALL, "--out", "x")
    run("t5", "finetune", "--model", "sora", *PAIRS, "--method", "full", "--steps", "1", "--lr", "0", *SMALL, "--out", "onwards")
    best = json.loads(run("t5", "eval", "--model", "sora", "--data", "dev.jsonl", "--no-generate", "--json").stdout)["loss"]
    onwards = json.loads(run("t5", "eval", "--model", "onwards", "--data", "dev.jsonl", "--no-generate", "--json").stdout)["loss"]
    check("a run of adapters can be gone on with in full", abs(best - onwards) < 1e-4, (best, onwards))
    run("t5", "finetune", "--config", "sora/config.json", "--quiet", "--out", "repeated")
    check("--config repeats a run to the bit", same_tree(last_checkpoint("sora"), last_checkpoint("repeated")))


    # What a configuration doesn't say is as the command has it.
    (work / "lr.json").write_text('{"task": "t5", "options": {"lr": 0.003}}')
    run("t5", "pretrain", "--config", "lr.json", "--model", "base", "--train", "train.csv", "--steps", "1", "--quiet", "--out", "spans")
    spans = json.loads((work / "spans/config.json").read_text())["options"]
    check("--config beside a command's own defaults", (spans["objective"], spans["method"], spans["max-source"], spans["lr"]) == ("spans", "full", 256, 0.003), spans)
    # An empty text is one: of the configuration it comes back as it was.
    run(*finetune("lora", "--steps", "2", "--prefix", ""), "--out", "bare")
    run("t5", "finetune", "--config", "bare/config.json", "--out", "bare2", "--quiet")
    check("--prefix \"\" is kept", json.loads((work / "bare2/config.json").read_text())["options"]["prefix"] == "" and same_tree(last_checkpoint("bare"), last_checkpoint("bare2")))
    # What a run was trained with is what it is used with, unless something else is said; an instruction may be long.
    instruction = "Read the following text and say in one short sentence what it is about. " * 4
    run(*finetune("lora", "--steps", "16", "--lr", "0.02", "--prefix", instruction, "--max-source", "512", "--source-column", "title", "--target-column", "text", "--train", "train.csv"), "--out", "told")
    loss = lambda *words: json.loads(run("t5", "eval", "--data", "dev.jsonl", "--no-generate", "--json", *words).stdout)["loss"]
    own, said = loss("--model", "told"), ["--prefix", instruction, "--source-column", "title", "--target-column", "text"]
    check("t5 eval takes prefix and columns from the run", own == loss("--model", "told", *said) != loss("--model", "told", *said, "--prefix", "summarize: ")
          and own != loss("--model", "told", *said, "--source-column", "text", "--target-column", "title"))
    check("and from --adapter's run", loss("--model", "base", "--adapter", "told:last") == loss("--model", "base", "--adapter", "told:last", *said))
    check("an empty column is the file's own", loss("--model", "told", "--source-column", "", "--target-column", "") == loss("--model", "told", "--prefix", instruction, *said[2:3], "text", *said[4:5], "title"))
    check("a model that is no run has summarize:", loss("--model", "base") == loss("--model", "base", "--prefix", "summarize: ") != loss("--model", "base", "--prefix", ""))
    first = lambda *words: summaries("--lines", "lines", "--max-length", "12", "--min-length", "8", "--temperature", "1", "--model", "told", *words)
    check("t5 summarize, too", first() == first("--prefix", instruction) != first("--prefix", "summarize: "))
    for command in ["eval", "--data", "dev.jsonl"], ["summarize", "one"]:
        refused(f"t5 {command[0]}: a prefix beyond 512 characters", 2, "--prefix: 513 characters, at most 512", "t5", *command, "--model", "told", "--prefix", 513 * "x")
        check(f"t5 {command[0]} --help says so", '--prefix TEXT            put before each text [as the run was trained, else "summarize: "]' in run("t5", command[0], "--help").stdout)
    refused("t5 finetune: a prefix beyond 512 characters", 2, "--prefix: 513 characters, at most 512", *finetune("lora", "--prefix", 513 * "x"), "--out", "x")
    refused("a start that is refused", 2, "bad", *finetune("sora", "--xi-schedule", "bad"), "--out", "refused")
    check("leaves nothing", not list((work / "refused").iterdir()))
    # A run that began with another's adapters has its own from its first checkpoint on.
    begun = json.loads(run(*finetune("sora", "--adapter", "sora", "--lambda", "1", "--steps", "4", "--save-every", "2"), "--json", "--out", "onto").stdout)
    shutil.copytree(work / "onto", work / "further")
    shutil.rmtree(work / "further/checkpoint-4")
    shutil.copytree(work / "further", work / "unsaved")
    shutil.rmtree(work / "unsaved/checkpoint-2")
    (work / "sora").rename(work / "gone")
    further = json.loads(run("t5", "finetune", "--resume", "further", "--json", "--quiet").stdout)
    check("a resume needs no --adapter that is gone", same_tree(work / "onto/checkpoint-4", work / "further/checkpoint-4"))
    counts = lambda result: [result[key] for key in ("parameters_trainable", "parameters_kept", "rank_max", "rank_kept", "device_bytes_predicted")]
    check("and counts as if it had never stopped", counts(begun) == counts(further), (begun, further))
    check("nor does a finished run's", counts(json.loads(run("t5", "finetune", "--resume", "onto", "--json", "--quiet").stdout))[:4] == counts(begun)[:4])
    refused("without a checkpoint it does", 3, "sora: neither a run nor", "t5", "finetune", "--resume", "unsaved")
    (work / "gone").rename(work / "sora")
    refused("--overwrite of the adapter that the run begins with", 2, "--adapter bare lies in", *finetune("lora", "--adapter", "bare"), "--overwrite", "--out", "bare")
    # At this learning rate the first evaluation stays the best.
    done = run(*finetune("full", "--epochs", "3", "--steps", "16", "--save-every", "4", "--eval-every", "4", "--keep", "1", "--lr", "0.5", "--schedule", "constant", "--warmup", "0.9"), "--out", "kept")
    best, last = (work / "kept/best").read_text().strip(), last_checkpoint("kept")
    check("--keep 1 keeps the last beside the best", last.name == "checkpoint-16" and {p.name for p in (work / "kept").glob("checkpoint-*")} == {best, last.name} and best != last.name,
          (best, last.name))
    check("the end says which checkpoint other commands take", f"the best is {best}: other commands take it, unless kept:last is named" in done.stdout, done.stdout)


def part_summarize():
    adapted()
    plain = ["--model", "full:last", "--max-length", "12"]
    texts = (work / "lines").read_text().splitlines()
    greedy = summaries(*plain, "--lines", "lines")
    check("a line an input", [g["text"] for g in greedy] == texts and all(list(g) == ["text", "summary", "tokens"] for g in greedy), greedy)
    check("summaries differ", len({g["summary"] for g in greedy}) > 1, greedy)
    check("tokens are the summary's", all(1 <= len(g["tokens"]) <= 11 and 0 not in g["tokens"][-1:] for g in greedy), greedy)
    (work / "ids").write_text("".join(json.dumps([t for t in g["tokens"] if 2 < t < 80]) + "\n" for g in greedy))
    check("tokens say the summary, unknown ones nothing", any(2 in g["tokens"] for g in greedy) and run("t5", "detokenize", "--model", "base", "ids").stdout.splitlines() == [g["summary"] for g in greedy], greedy)
    check("without --json the summaries alone", run("t5", "summarize", *plain, "--lines", "lines").stdout.splitlines() == [g["summary"] for g in greedy])
    piped = subprocess.run([program, "t5", "summarize", *plain, "--lines", "-", "--json"], cwd=work, input="\n".join(texts), capture_output=True, text=True).stdout
    check("standard input", [json.loads(line) for line in piped.splitlines()] == greedy, piped)
    (work / "one").write_text(texts[2] + "\n")
    check("a file is a text", summaries(*plain, "one") == [greedy[2]])
    check("neighbours change nothing", summaries(*plain, "--lines", "--batch", "1", "lines") == greedy)
    beams = summaries(*plain, "--lines", "--beams", "4", "lines")
    check("--beams", beams != greedy and beams == summaries(*plain, "--lines", "--beams", "4", "--batch", "5", "lines"), beams)
    for words in (["--beams", "4", "--length-penalty", "2", "--early-stopping"], ["--beams", "3", "--no-repeat-ngram", "2"], []):
        long = summaries("--model", "full:last", "--min-length", "9", "--max-length", "30", *words, "--lines", "lines")
        check(f"--min-length and --max-length {' '.join(words)}", all(8 <= len(s["tokens"]) <= 29 for s in long), [len(s["tokens"]) for s in long])
    check("more than 20 tokens", any(len(s["tokens"]) > 20 for s in summaries("--model", "base", "--max-length", "30", "--lines", "lines")))
    for n in (1, 2, 3):
        for beam in ("1", "4"):
            out = summaries("--model", "base", "--max-length", "40", "--beams", beam, "--no-repeat-ngram", str(n), "--lines", "lines")
            grams = [[tuple(s["tokens"][i : i + n]) for i in range(len(s["tokens"]) - n + 1)] for s in out]
            check(f"--no-repeat-ngram {n}, {beam} beams", all(len(set(g)) == len(g) for g in grams) and any(len(g) > n for g in grams), out)
    sample = lambda *words: summaries(*plain, "--lines", "--temperature", "1.5", "--top-k", "0", *words, "lines")
    check("sampling: a seed's summaries are its own", sample("--seed", "3") == sample("--seed", "3") != sample("--seed", "4"))
    check("sampling: no batch's size changes it", sample("--seed", "3") == sample("--seed", "3", "--batch", "2") == sample("--seed", "3", "--batch", "1"))
    (work / "thrice").write_text((texts[2] + "\n") * 3)
    thrice = summaries(*plain, "--lines", "--temperature", "1.5", "--top-k", "0", "--batch", "1", "thrice")
    check("sampling: each text has its own numbers", len({s["summary"] for s in thrice}) == 3, thrice)
    check("sampling from the best token alone is greedy", summaries(*plain, "--lines", "--top-k", "1", "lines") == greedy)
    for method in ("lora", "sora"):
        check(f"{method}: --adapter RUN is --model RUN", summaries("--model", "base", "--adapter", method, "--lines", "lines") == summaries("--model", method, "--lines", "lines") !=
              summaries("--model", "base", "--lines", "lines"))
    # What no option says comes from the folder; what one says wins.
    shutil.copytree(work / "base", work / "settings")
    (work / "settings/generation_config.json").write_text(json.dumps({"num_beams": 3, "max_length": 9, "min_length": 9, "eos_token_id": 1}))
    said = summaries("--model", "base", "--beams", "3", "--max-length", "9", "--min-length", "9", "--lines", "lines")
    check("generation_config.json", summaries("--model", "settings", "--lines", "lines") == said and all(len(s["tokens"]) == 8 for s in said), said)
    (work / "settings/generation_config.json").write_text(json.dumps({"num_beams": 3, "max_length": 20, "max_new_tokens": 8, "min_length": 2, "min_new_tokens": 8}))
    check("max_new_tokens and min_new_tokens win over lengths", summaries("--model", "settings", "--lines", "lines") == said)
    check("an option wins", all(len(s["tokens"]) <= 4 for s in summaries("--model", "settings", "--max-length", "5", "--min-length", "2", "--lines", "lines")))
    for folder, words in (({"min_length": 30}, ["--max-length", "9"]), ({"do_sample": True, "num_beams": 4}, ["--beams", "1"]), ({"temperature": 0.0}, []),
                          ({"min_length": 30, "max_new_tokens": 4}, [])):
        (work / "settings/generation_config.json").write_text(json.dumps(folder))
        check(f"what contradicts itself or counts for nothing: {folder}", len(summaries("--model", "settings", *words, "--lines", "lines")) == len(texts))
    often = summaries("--model", "base", "--max-length", "30", "--lines", "lines")[0]["tokens"][-1]
    def search(early, *words):
        (work / "settings/generation_config.json").write_text(json.dumps({"eos_token_id": often, "early_stopping": early}))
        return summaries("--model", "settings", "--beams", "4", "--length-penalty", "3", "--max-length", "30", *words, "--lines", "lines")
    check("--no-early-stopping wins", search(True) == search(False, "--early-stopping") != search(True, "--no-early-stopping") == search(False), (often, search(False)))
    (work / "settings/generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 0, "temperature": 2.0}))
    drawn = summaries("--model", "settings", "--seed", "20261201", "--lines", "lines")
    check("--sample, and --no-sample that wins", drawn == summaries("--model", "base", "--sample", "--top-k", "0", "--temperature", "2", "--seed", "20261201", "--lines", "lines") !=
          summaries("--model", "settings", "--no-sample", "--lines", "lines") == summaries("--model", "base", "--lines", "lines"))
    check("a seed of 64 bits", drawn != summaries("--model", "settings", "--seed", str(2**64 - 1), "--lines", "lines"))
    for words, message in ((["--seed", str(2**64)], "below 2^64"), (["--seed", "-1"], "below 2^64"), (["--no-sample", "--top-k", "3"], "which sample"), (["--batch", "9999999"], "of 0 to 1000000")):
        refused(f"summarize {' '.join(words)}", 2, message, "t5", "summarize", "--model", "base", *words, "lines")
    ids = summaries("--model", "base", "--lines", "lines")[0]["tokens"]
    (work / "settings/generation_config.json").write_text(json.dumps({"eos_token_id": ids[3], "decoder_start_token_id": 0}))
    ended = summaries("--model", "settings", "--lines", "lines")[0]["tokens"]
    check("generation_config.json says what ends a summary", ended == ids[: ids.index(ids[3]) + 1], (ids, ended))
    (work / "settings/generation_config.json").write_text(json.dumps({"decoder_start_token_id": 7}))
    begun = summaries("--model", "settings", "--lines", "lines")[0]["tokens"]
    loss = lambda model: json.loads(run("t5", "eval", "--model", model, "--data", "dev.jsonl", "--no-generate", "--json").stdout)["loss"]
    check("and what begins it, but not labels", begun != ids and loss("settings") == loss("base"), (ids, begun))
    (work / "settings/generation_config.json").unlink()
    config = {**CONFIG, "task_specific_params": {"summarization": {"num_beams": 3, "max_length": 9, "min_length": 9, "prefix": "summarize: "}}}
    (work / "settings/config.json").write_text(json.dumps(config))
    check("task_specific_params", summaries("--model", "settings", "--lines", "lines") == said)
    # More text than a model reads is cut.
    (work / "long").write_text(" ".join(texts) * 4000)
    (work / "beginning").write_text(" ".join(texts) * 40)
    check("a text of 1 MB", (work / "long").stat().st_size > 1 << 20 and summaries(*plain, "long")[0]["tokens"] == summaries(*plain, "beginning")[0]["tokens"])


def part_resume():
    pretrain()
    words = [*finetune("sora", "--lambda", "2", "--adapter-dropout", "0.1", "--log-every", "2", "--eval-every", "7", "--save-every", "3", "--lr", "0.01")]
    start = [*words, "--epochs", "5"]
    begun = time.time()
    run(*start, "--out", "whole")
    run(*start, "--out", "twin")
    seconds = (time.time() - begun) / 2
    equal = lambda name: all(same_tree(p, work / name / p.name) for p in (work / "whole").glob("checkpoint-*")) and (work / "whole/best").read_text() == (work / name / "best").read_text()
    check("two runs of one seed are equal to the bit", len(list((work / "whole").glob("checkpoint-*"))) >= 2 and equal("twin"))
    run(*start, "--seed", "2", "--out", "seed2")
    check("another seed, other weights", not equal("seed2"))
    command = kill_and_resume(["t5", "finetune"], [*start, "--out", "killed"], seconds)
    check("and is equal to the bit", equal("killed"))
    lines = lambda name: [(e["event"], e.get("step"), e.get("loss"), e.get("rouge1")) for e in map(json.loads, (work / name / "events.jsonl").read_text().splitlines())]
    check("events read as if it had never stopped", lines("whole") == lines("killed"), (lines("whole")[-3:], lines("killed")[-3:]))
    check("a finished run is left alone", subprocess.run(command, cwd=work, capture_output=True).returncode == 0)
    stop_by_interrupt([*words, "--epochs", "4000"])
    for file in "train.csv", "dev.jsonl":
        data = (work / file).read_bytes()
        (work / file).write_bytes(data.replace(b"a", b"e", 1))
        refused(f"{file} that changed", 3, "its data changed", "t5", "finetune", "--resume", "stopped")
        (work / file).write_bytes(data)
    state_file = last_checkpoint("stopped") / "state.json"
    state_file.write_text(state_file.read_text()[:-30])
    refused("a broken checkpoint", 3, "state.json", "t5", "finetune", "--resume", "stopped")
    refused("nothing to resume", 3, "nothing to resume", "t5", "finetune", "--resume", "base/nowhere")
    run("data", "hands", "--layout", "gtea", "--images", "12", "--width", "64", "--height", "48", "--out", "gtea", "--quiet")
    run("unet", "train", "--data", "gtea:gtea", "--size", "64", "--steps", "1", "--out", "unet", "--quiet")
    refused("a U-Net's run", 3, "another task", "t5", "finetune", "--resume", "unet")
    refused("a T5's run", 3, "another task", "unet", "finetune", "--resume", "whole")


def part_weights():
    """What saves memory. --weights fp16: nearly the same losses, and files as exact as ever. --recompute: the same bits."""
    pretrain()
    words = finetune("sora", "--target", r".*\.q", "--steps", "100", "--epochs", "100", "--eval-every", "50", "--save-every", "50", "--log-every", "1", "--eval-generate", "2", "--json")
    one, two = (json.loads(run(*words, "--weights", kind, "--out", kind).stdout) for kind in ("fp32", "fp16"))
    lines = lambda name: [json.loads(line) for line in (work / name / "events.jsonl").read_text().splitlines()]
    losses = lambda name, event: [e["loss"] for e in lines(name) if e["event"] == event]
    for event, count in ("step", 100), ("evaluation", 2):
        a, b = losses("fp32", event), losses("fp16", event)
        far = max(abs(x / y - 1) for x, y in zip(a, b))
        check(f"losses of 100 steps within 0.1 %: {event}", len(a) == len(b) == count and 0 < far < 0.001, (far, len(a), len(b)))
    tensors = read_tensors(work / "base/model.safetensors")
    frozen = sum(len(t[2]) for n, t in tensors.items() if "norm" not in n and "relative" not in n)
    saved = one["device_bytes_predicted"] - two["device_bytes_predicted"]
    check("half of the frozen weights' memory", frozen / 2 <= saved <= frozen and two["device_bytes_peak"] <= two["device_bytes_predicted"], (saved, frozen))
    check("config.json", json.loads((work / "fp16/config.json").read_text())["options"]["weights"] == "fp16")
    shutil.copytree(work / "fp16", work / "again")
    shutil.rmtree(work / "again" / last_checkpoint("again").name)
    run("t5", "finetune", "--resume", "again", "--quiet")
    check("a resume goes on with halves, to the same bits", same_tree(last_checkpoint("fp16"), last_checkpoint("again")) and lines("again")[-1]["loss"] == lines("fp16")[-1]["loss"])
    three = json.loads(run(*words, "--weights", "fp16", "--recompute", "--out", "recomputed").stdout)
    check("--recompute: less memory, the same bits", three["device_bytes_predicted"] < two["device_bytes_predicted"] and same_tree(last_checkpoint("fp16"), last_checkpoint("recomputed")),
          (three["device_bytes_predicted"], two["device_bytes_predicted"]))
    run("adapter", "merge", "fp16", "--out", "merged")
    merged = read_tensors(work / "merged/model.safetensors")
    check("a merge is into the weights as they were", merged.keys() == tensors.keys() and all((merged[n] == tensors[n]) != n.endswith(".q.weight") for n in tensors),
          [n for n in tensors if merged[n] == tensors[n]])
    refused("a type that is none", 2, "expected fp32|fp16", *finetune("sora", "--weights", "fp8", "--out", "no"))
    refused("nothing is frozen", 2, "--weights fp16: --method full", *finetune("full", "--weights", "fp16", "--out", "no"))
    shutil.copytree(work / "base", work / "huge")
    name = "encoder.block.1.layer.0.SelfAttention.k.weight"
    kind, shape, data = tensors[name]
    write_tensors(work / "huge/model.safetensors", {**tensors, name: (kind, shape, data[:8] + struct.pack("<f", 70000) + data[12:])})
    refused("a weight beyond fp16", 1, f"{name}: 70000 has no number in fp16", *finetune("sora", "--weights", "fp16", "--out", "no", "--overwrite", "--model", "huge"))
    run("data", "hands", "--layout", "gtea", "--images", "12", "--width", "64", "--height", "48", "--out", "gtea", "--quiet")
    for model in "unet-fc", "unet":
        run("unet", "train", "--data", "gtea:gtea", "--model", model, "--size", "64", "--steps", "1", "--out", model, "--quiet")
    tune = ["unet", "finetune", "--data", "gtea:gtea", "--size", "64", "--steps", "2", "--method", "lora", "--rank", "4", "--weights", "fp16", "--quiet"]
    run(*tune, "--from", "unet-fc", "--out", "linear")
    check("a U-Net's linear layer", json.loads((work / "linear/config.json").read_text())["options"]["weights"] == "fp16")
    refused("a network of convolutions alone", 2, "--weights fp16: no linear layer", *tune, "--from", "unet", "--out", "no", "--overwrite")


def broken_models():
    """Folders of models that are wrong in one thing each, and what must be said of them."""
    tensors = read_tensors(work / "base/model.safetensors")
    q, shared = "encoder.block.1.layer.0.SelfAttention.q.weight", "shared.weight"

    def model(name, change):
        write_model(name)
        write_tensors(work / name / "model.safetensors", change(dict(tensors)))
        return name

    def without(t):
        del t[q]
        return t

    yield model("missing", without), q, "missing"
    kind, shape, data = tensors[q]
    yield model("misshapen", lambda t: {**t, q: (kind, [16, 64], data)}), q, "16x64", "32x32"
    yield model("short", lambda t: {**t, shared: (kind, [199, 32], tensors[shared][2][: 199 * 32 * 4])}), shared, "199x32", "200x32"
    zeros = ("U8", [1024, 1024], bytes(1 << 20))  # the last two of the file: a byte too many is behind it
    yield model("bytes", lambda t: {**{n: v for n, v in t.items() if n != shared}, shared: zeros, "lm_head.weight": zeros}), shared
    whole = (work / "base/model.safetensors").read_bytes()
    for name, data in (("empty", b""), ("cut", whole[:-40]), ("header", struct.pack("<Q", 1 << 40) + whole[8:]), ("nojson", whole[:8] + b"!" + whole[9:])):
        write_model(name)
        (work / name / "model.safetensors").write_bytes(data)
        yield name, "model.safetensors"
    for name, config, said in (("bert", {"model_type": "bert"}, "bert"), ("silu", {"feed_forward_proj": "gated-silu"}, "gated-silu"), ("wide", {"d_model": -4}, "d_model")):
        shutil.copytree(work / "base", work / name)
        (work / name / "config.json").write_text(json.dumps({**CONFIG, **config}))
        yield name, said, "config.json"
    shutil.copytree(work / "base", work / "unnamed")
    (work / "unnamed/config.json").write_text("{")
    yield "unnamed", "config.json", "line 1"


def refused_everywhere(name, code, said, *words):
    """Refused with all that must be said, nothing else but one line on stderr, and no folder left behind."""
    done = run(*words, "--out", "left", code=None) if words[1] in ("finetune", "pretrain") else run(*words, code=None)
    check(name, done.returncode == code and all(s in done.stderr for s in said) and done.stderr.count("\n") == 1 and done.stderr.startswith("soracl: ") and
          not (work / "left").exists(), f"exit {done.returncode}, expected {code} and {said}; left: {(work / 'left').exists()}\n{done.stderr}")
    shutil.rmtree(work / "left", ignore_errors=True)


def part_models():
    pretrain()
    for name, *said in broken_models():
        refused_everywhere(f"model {name}: finetune", 3, said, "t5", "finetune", "--model", name, *PAIRS, *SMALL)
        refused_everywhere(f"model {name}: summarize", 3, said, "t5", "summarize", "--model", name, "lines")
    rng = random.Random(2)
    (work / "more").write_text("".join(" ".join("".join(rng.choice("abcdefghijklmnop") for _ in range(4)) for _ in range(6)) + "\n" for _ in range(300)))
    pieces = int(run("t5", "vocab", "--size", "160", "--out", "more.model", "more").stdout.split()[1])
    check("the larger vocabulary is one", pieces > 100, pieces)
    shutil.copytree(work / "base", work / "vocabulary")
    shutil.copy(work / "more.model", work / "vocabulary/spiece.model")
    for command in (["finetune", *PAIRS, *SMALL], ["summarize", "lines"], ["eval", "--data", "dev.jsonl"]):
        refused_everywhere(f"a vocabulary larger than the embedding: {command[0]}", 3, [f"{pieces + 100} ids", "200 rows"], "t5", command[0], "--model", "vocabulary", *command[1:])
    write_model("unmade")
    refused_everywhere("no weights", 3, ["model.safetensors"], "t5", "finetune", "--model", "unmade", *PAIRS, *SMALL)
    refused_everywhere("no folder", 3, ["nowhere"], "t5", "finetune", "--model", "nowhere", *PAIRS, *SMALL)
    refused_everywhere("no model", 2, ["--model"], "t5", "finetune", *PAIRS, *SMALL)
    shutil.copytree(work / "base", work / "wordless")
    (work / "wordless/spiece.model").unlink()
    refused_everywhere("no vocabulary", 3, ["spiece.model"], "t5", "finetune", "--model", "wordless", *PAIRS, *SMALL)
    # Adapters know what they stand on.
    run(*finetune("sora", "--steps", "2"), "--out", "sora2")
    run("t5", "pretrain", "--model", "new", "--train", "train.csv", "--steps", "3", "--seed", "9", "--out", "pretrained2", "--quiet")
    refused_everywhere("an adapter of another base", 3, ["hash", "another model"], "t5", "summarize", "--model", "pretrained2", "--adapter", "sora2", "lines")
    refused_everywhere("an adapter of another base: eval", 3, ["hash", "another model"], "t5", "eval", "--model", "pretrained2", "--adapter", "sora2", "--data", "dev.jsonl")
    refused_everywhere("no adapter", 3, ["neither a run nor a PEFT folder"], "t5", "summarize", "--model", "base", "--adapter", "base", "lines")
    weights = last_checkpoint("sora2") / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    refused_everywhere("a cut adapter", 3, ["adapter.safetensors"], "t5", "summarize", "--model", "sora2:last", "lines")
    shutil.rmtree(work / "base")
    shutil.copytree(work / "pretrained2", work / "base")
    refused("the base has changed", 3, "hash", "t5", "finetune", "--resume", "sora2")


def part_input():
    pretrain()
    words = ["t5", "finetune", "--model", "base", *SMALL]
    files = {
        "quote.csv": (b'text,title\none,two\nthree,"four\nfive\n', ["quote.csv", "line 3"]),
        "column.csv": (b"body,title\na,b\n", ["text", "body, title"]),
        "empty.csv": (b"text,title\n , \n,\n\"\n\",x\n", ["no usable pair"]),
        "header.csv": (b"text,title\n", ["no usable pair"]),
        "nothing.csv": (b"", ["nothing.csv"]),
        "nul.csv": (b"text,title\nfine,good\na\0b,c\n", ["line 3", "NUL"]),
        "latin.csv": (b"text,title\nfine,good\ngr\xfc\xdfe,c\n", ["line 3", "UTF-8"]),
        "short.csv": (b"text,title\na,b\nonly\n", ["line 3"]),
        "json.jsonl": (b'{"text":"a","title":"b"}\n{"text":\n', ["line 2"]),
        "field.jsonl": (b'{"text":"a","title":"b"}\n{"text":"a","name":"b"}\n', ["line 2", "title"]),
        "number.jsonl": (b'{"text":7,"title":"b"}\n', ["line 1", "text"]),
        "nul.jsonl": (b'{"text":"a\\u0000b","title":"b"}\n', ["line 1", "NUL"]),
        "latin.jsonl": (b'{"text":"gr\xfc","title":"b"}\n', ["line 1", "byte 0xfc"]),
        "words.txt": (b"hello\n", [".csv"]),
    }
    for name, (data, said) in files.items():
        (work / name).write_bytes(data)
        refused_everywhere(f"--train {name}", 3, said, *words, "--train", name, "--dev", "dev.jsonl")
        refused_everywhere(f"--data {name}", 3, said, "t5", "eval", "--model", "base", "--data", name)
    refused_everywhere("--train nowhere.csv", 3, ["nowhere.csv"], *words, "--train", "nowhere.csv")
    refused_everywhere("no --train", 2, ["--train"], *words)
    refused_everywhere("an unknown column", 3, ["summary", "title, text, url"], *words, *PAIRS, "--target-column", "summary")
    refused_everywhere("no text is long enough", 3, ["too short"], *words, *PAIRS, "--min-source-characters", "5000")
    head, *rows = (work / "train.csv").read_text().split("\n\"")
    (work / "overlap.csv").write_text(head + "\n\"" + rows[5])
    refused_everywhere("training texts in --dev", 3, ["same pair", "overlap.csv"], *words, "--train", "train.csv", "--dev", "overlap.csv")
    (work / "huge.csv").write_text("text,title\n" + "river opens door. " * 60000 + ",old door\n" + "garden " * 20 + ",the garden\n")
    check("a text of 1 MB is cut", (work / "huge.csv").stat().st_size > 1 << 20)
    run(*words, "--train", "huge.csv", "--method", "lora", "--steps", "2", "--out", "huge")
    check("and trains", (work / "huge/best").exists())
    check("and is measured", json.loads(run("t5", "eval", "--model", "base", "--data", "huge.csv", "--max-length", "5", "--json").stdout)["examples"] == 2)
    # Texts to summarise.
    for name, data, code, said in (("nul", b"one\ntw\0o\n", 3, ["line 2", "NUL"]), ("latin", b"one\ngr\xfc\xdfe\n", 3, ["latin", "UTF-8"]), ("blank", b" \n\n", 3, ["no text"])):
        (work / name).write_bytes(data)
        for lines in ([], ["--lines"]):
            wanted = said if lines or name != "nul" else ["NUL"]
            if lines and name == "blank":
                continue
            refused_everywhere(f"summarize {name} {' '.join(lines)}", code, wanted, "t5", "summarize", "--model", "base", *lines, name)
    for command in ("tokenize", "detokenize"):
        refused_everywhere(f"{command} a folder", 1, ["base: cannot be read: Is a directory"], "t5", command, "--model", "base", "base")
    refused_everywhere("summarize nowhere", 3, ["nowhere"], "t5", "summarize", "--model", "base", "nowhere")
    refused_everywhere("summarize without a model", 2, ["--model", "usage"], "t5", "summarize", "texts.txt")
    for option, value, said in (("--beams", "0", "--beams"), ("--beams", "-1", "--beams"), ("--beams", "65", "--beams"), ("--beams", "two", "--beams"), ("--max-length", "1", "--max-length"),
                                ("--max-length", "-5", "--max-length"), ("--min-length", "-1", "--min-length"), ("--min-length", "30", "--min-length"), ("--no-repeat-ngram", "-2", "--no-repeat-ngram"),
                                ("--length-penalty", "inf", "--length-penalty"), ("--temperature", "0", "--temperature"), ("--temperature", "-1", "--temperature"), ("--top-k", "-1", "--top-k"),
                                ("--top-p", "0", "--top-p"), ("--top-p", "1.5", "--top-p"), ("--max-source", "1", "--max-source"), ("--batch", "0", "--batch"), ("--batch", "-1", "--batch")):
        refused_everywhere(f"summarize {option} {value}", 2, [said], "t5", "summarize", "--model", "base", option, value, "lines")
    for option, value in (("--batch", "0"), ("--rank", "-1"), ("--lr", "-0.1"), ("--steps", "-3"), ("--max-source", "1"), ("--max-target", "-1"), ("--lambda", "-1"), ("--dropout", "1"),
                          ("--label-smoothing", "1"), ("--method", "dora"), ("--optimizer", "adam"), ("--epochs", "0")):
        refused_everywhere(f"finetune {option} {value}", 2, [option], *words, *PAIRS, option, value)
    refused_everywhere("a target that matches nothing", 2, ["nearest", "SelfAttention.q"], *words, *PAIRS, "--target", "encoder.block.0.layer.0.SelfAttention.x")
    refused_everywhere("a target that is no expression", 2, ["no regular expression"], *words, *PAIRS, "--target", "(q")
    refused_everywhere("the head as a target", 2, ["lm_head", "tied"], *words, *PAIRS, "--target", ".*(q|lm_head)")
    run(*words, *PAIRS, "--steps", "1", "--out", "taken")
    refused("a taken folder", 2, "holds a run", *words, *PAIRS, "--steps", "1", "--out", "taken")


run_parts(globals())
