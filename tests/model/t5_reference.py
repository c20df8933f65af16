#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the folder t5/: small T5 models as Transformers saves them, LoRA adapters as PEFT saves them, and expected.json.

Run, in a virtual environment made for it (python3 -m venv DIR; DIR/bin/pip install torch transformers peft safetensors numpy):

    DIR/bin/python tests/model/t5_reference.py            # expected.json again, from the models and adapters that are there
    DIR/bin/python tests/model/t5_reference.py --models   # trains the models and makes the adapters, too (minutes, one thread)

expected.json names the versions that made it (Transformers 5.24.0, PEFT 0.21.2, PyTorch 2.15.0, Python 3.11).
The models' training may round differently on another machine; what follows from the weights does not: it is computed in double
precision, without dropout. Transformers takes the mean square of its RMS norm in single precision even there, so that one function is
replaced (`exact`); the logits that generation looks at it rounds to single.

Models: relu/ is T5 (ReLU, tied head), gated/ v1.1 (gated GELU, a head of its own), gated-bf16/ that in bf16 and shards. None of
heads * d_kv = d_model, num_layers = num_decoder_layers, and ids = vocab_size holds. They learnt to write every third id of the
source, in order (relu) or sorted (gated): badly, but so that outputs differ between inputs and end. Loading gated/, Transformers warns
that it does not tie the head, though the config that it wrote itself says so (silenced here).

expected.json, floats with 9 digits:
  versions, columns (of the vocabulary, for logits), generation (settings as Transformers' generate takes them),
  models.<folder>:
    batch: ids (padded with 0), lengths, labels (padded with -100)
    logits: {columns, logsumexp}: one row for each label that is not -100, in the order of the batch: logits at `columns`, and
        the log-sum-exp over the whole vocabulary; loss: Transformers' own (mean over labels); smoothed_loss: with LabelSmoother(0.1)
    gradients (relu, gated): of loss, parameter -> {norm, sum, samples}: L2 norm, sum, and the 16 elements (i * 7919 + 13) % n, i = 0..15
    adapters (relu, gated): SoRA with rank 3 and scale 2 on all of q, k, v, o, wi, wo (wi_0, wi_1): {rank, scale, logits, loss,
        modules: [{name, in, out, gate, gate_gradient (3 values), down, up (as gradients above, 8 samples)}]}.
        For the module at place k of the list (C order, W_d [3, in], W_u [out, 3]; all exact in single precision):
          W_d[i] = ((i * 37 + k * 101 + 11) % 201 - 100) / 512      g[k % 3] = 0
          W_u[i] = ((i * 53 + k * 67 + 29) % 201 - 100) / 512       g[(k + 1) % 3] = 0.5 + (k % 7) / 16
                                                                    g[(k + 2) % 3] = -0.25 - (k % 5) / 16
    sources (relu, gated): 50 inputs, without padding (run in batches of 10 padded to the longest)
    outputs.<setting> (relu, gated): {ids, gaps, scores}: generated ids (eos included, no start, no padding); for each input how far
        the nearest other decision lay in scores (a choice between candidates, an eos in or out of the best `num_beams`, a finished
        hypothesis kept or not, a stop or not: the smallest of all; greedy: best minus second logit). Candidates are compared by the sum
        of log p, finished hypotheses and stops by that divided by length^penalty. scores: sequences_scores (beams only)
  peft.<folder>: {model, modules: {name: [rank, scale]}, logits, loss}, on the model's batch
A sum may cancel: compare it relative to norm * sqrt(n)."""
import argparse
import json
import pathlib
import shutil

import numpy as np
import peft
import torch
import transformers
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5 import modeling_t5

HERE = pathlib.Path(__file__).parent / "t5"
RANK, SCALE = 3, 2.0
VOCAB, IDS = 160, 150
SHAPES = {
    "relu": dict(feed_forward_proj="relu", d_model=32, d_kv=8, num_heads=3, d_ff=48, num_layers=2, num_decoder_layers=3),
    "gated": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, d_model=40, d_kv=16, num_heads=2, d_ff=56,
                  num_layers=3, num_decoder_layers=2),
}
GENERATION = {
    "greedy": dict(num_beams=1, max_length=20),
    "greedy_penalties": dict(num_beams=1, max_length=20, no_repeat_ngram_size=2, min_length=6),
    "beams_early": dict(num_beams=4, max_length=24, min_length=4, no_repeat_ngram_size=2, length_penalty=2.0, early_stopping=True),
    "beams_late": dict(num_beams=4, max_length=20, length_penalty=0.6, early_stopping=False, num_return_sequences=1),
}


# Data: ids 3..149, some ten of them in each source so that they repeat; eos (1) ends source and target.

def example(rng, kind):
    some = rng.choice(np.arange(3, IDS), size=10, replace=False)
    source = rng.choice(some, size=int(rng.integers(5, 41)))
    target = source[::3] if kind == "relu" else np.sort(source[::3])
    return source.tolist() + [1], target.tolist()[:15] + [1]


def examples(kind, seed, count):
    rng = np.random.default_rng(seed)
    return [example(rng, kind) for _ in range(count)]


def padded(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([list(row) + [fill] * (width - len(row)) for row in rows])


def masked(lengths, width):
    return (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()


def batch_of(pairs):
    return {"ids": padded([s for s, _ in pairs], 0).tolist(), "lengths": [len(s) for s, _ in pairs],
            "labels": padded([t for _, t in pairs], -100).tolist()}


def inputs_of(batch):
    """Transformers' arguments. Rows may also be ragged, then without lengths."""
    ids = padded(batch["ids"], 0)
    lengths = batch.get("lengths") or [len(row) for row in batch["ids"]]
    return {"input_ids": ids, "attention_mask": masked(lengths, ids.shape[1]), "labels": padded(batch["labels"], -100)}


# Models and adapters

def train(kind, steps):
    torch.manual_seed(1)
    config = T5Config(vocab_size=VOCAB, relative_attention_num_buckets=8, relative_attention_max_distance=20, dropout_rate=0.1,
                      decoder_start_token_id=0, **SHAPES[kind])
    model = T5ForConditionalGeneration(config).eval()
    if kind == "gated":  # Transformers 5 ties whatever the config says; only a file with two matrices has two
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.shared.weight) * config.d_model**-0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    rng = np.random.default_rng(2)
    for step in range(steps):
        loss = model(**inputs_of(batch_of([example(rng, kind) for _ in range(32)]))).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            print(kind, step + 1, "loss", loss.item(), flush=True)
    return model


def cleared(name):
    shutil.rmtree(HERE / name, ignore_errors=True)
    return HERE / name


def save_adapter(name, config, dtype):
    """PEFT's own folder, less its README; lists made of sets are sorted, so that every run writes the same."""
    torch.manual_seed(3)
    model = peft.get_peft_model(T5ForConditionalGeneration.from_pretrained(HERE / "relu"), config)
    for key, value in model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(value, std=0.1)
        if "lora_" in key:
            value.data = value.data.to(dtype)
    model.peft_config["default"].base_model_name_or_path = "relu"
    folder = cleared(name)
    model.save_pretrained(folder, save_embedding_layers=False)  # "auto" asks the hub for the base's config
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    for key in ("target_modules", "exclude_modules"):
        if isinstance(values[key], list):
            values[key].sort()
    path.write_text(json.dumps(values, indent=2) + "\n")


def make_models():
    for kind, steps in {"relu": 4000, "gated": 1500}.items():
        train(kind, steps).save_pretrained(cleared(kind))
    gated = T5ForConditionalGeneration.from_pretrained(HERE / "gated", dtype=torch.bfloat16)
    gated.save_pretrained(cleared("gated-bf16"), max_shard_size="60KB")
    save_adapter("peft", peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=6, target_modules=["q", "v", "EncDecAttention.k", "wi", "wo"],
        rank_pattern={"wo": 2, "encoder.block.1.layer.0.SelfAttention.q": 5, r"decoder\.block\.[12]\.layer\.1\.EncDecAttention\.v": 3},
        alpha_pattern={"wo": 3, r"decoder\.block\.0\..*\.q": 10}), torch.float32)
    save_adapter("peft-rs", peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=3, use_rslora=True, target_modules=r"(encoder|decoder)\.block\.\d+\..*\.(k|o|wi)",
        exclude_modules=["encoder.block.0.layer.0.SelfAttention.k", "decoder.block.2.layer.2.DenseReluDense.wi"],
        rank_pattern={"o": 2}), torch.float16)


# Reference values

def exact():
    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))
    modeling_t5.T5LayerNorm.forward = forward


def load(folder):
    return T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).double().eval()


def label_logits(model, batch):
    """Logits [labels that count, vocabulary], and Transformers' loss, with its graph."""
    inputs = inputs_of(batch)
    out = model(**inputs)
    return out.logits[inputs["labels"] != -100], out.loss


def nines(values):
    values = np.asarray(values.detach() if torch.is_tensor(values) else values)
    return np.vectorize(lambda v: float(f"{v:.9g}"), otypes=[float])(values).tolist()


COLUMNS = [0, 1] + [(i * 7919 + 13) % VOCAB for i in range(18)]


def stored(logits):
    return {"columns": nines(logits[:, COLUMNS]), "logsumexp": nines(logits.logsumexp(-1))}


def summary(gradient, count):
    flat = gradient.flatten()
    at = [(i * 7919 + 13) % flat.numel() for i in range(count)]
    return {"norm": nines(flat.norm()), "sum": nines(flat.sum()), "samples": nines(flat[at])}


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def smoothed(logits, batch, epsilon=0.1):
    labels = inputs_of(batch)["labels"]
    log_p = logits.log_softmax(-1)
    return -(1 - epsilon) * log_p.gather(1, labels[labels != -100][:, None]).mean() - epsilon * log_p.mean()


class Adapted(nn.Module):
    def __init__(self, base, k):
        super().__init__()
        self.base, (p, q) = base, base.weight.shape
        formula = lambda n, a, b, c: ((torch.arange(n) * a + k * b + c) % 201 - 100).double() / 512
        gate = torch.zeros(RANK)
        gate[(k + 1) % 3], gate[(k + 2) % 3] = 0.5 + k % 7 / 16, -0.25 - k % 5 / 16
        self.down = nn.Parameter(formula(RANK * q, 37, 101, 11).reshape(RANK, q))
        self.up = nn.Parameter(formula(p * RANK, 53, 67, 29).reshape(p, RANK))
        self.gate = nn.Parameter(gate.double())
        self.weight = base.weight  # T5 looks at wo.weight's type

    def forward(self, x):
        return self.base(x) + SCALE * (x @ self.down.T * self.gate) @ self.up.T


def adapted(folder):
    model = load(folder)
    model.requires_grad_(False)
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n != "lm_head"]
    for k, name in enumerate(names):
        parent, last = name.rsplit(".", 1)
        setattr(model.get_submodule(parent), last, Adapted(model.get_submodule(name), k))
    return model, names


def adapters(folder, batch):
    model, names = adapted(folder)
    logits, loss = label_logits(model, batch)
    loss.backward()
    modules = []
    for name in names:
        m = model.get_submodule(name)
        modules.append({"name": name, "in": m.down.shape[1], "out": m.up.shape[0], "gate": nines(m.gate),
                        "gate_gradient": nines(m.gate.grad), "down": summary(m.down.grad, 8), "up": summary(m.up.grad, 8)})
    return {"rank": RANK, "scale": SCALE, "logits": stored(logits), "loss": nines(loss), "modules": modules}


# Generation, and how near its decisions were

class Watched(T5ForConditionalGeneration):
    """Follows Transformers' beam search and keeps the smallest gap of the decisions that an input's result rests on."""

    def begin(self, count, beams, max_length):
        self.gap, self.worst = torch.full((count,), float("inf")), torch.full((count,), -1e9)
        self.live = torch.ones(count, dtype=torch.bool)
        self.beams, self.max_length = beams, max_length

    def note(self, row, gap):
        self.gap[row] = min(self.gap[row], float(gap))

    def _get_top_k_continuations(self, accumulated_log_probs, cur_len, decoder_prompt_len, **rest):
        n, last = self.beams, cur_len + 1 == self.max_length
        values, at = accumulated_log_probs.sort(dim=-1, descending=True)
        ends = at % VOCAB == 1
        for row in self.live.nonzero().flatten().tolist():
            value, end = values[row, :8 * n], ends[row, :8 * n]
            if last:
                self.note(row, value[n - 1] - value[n])
                continue
            going = value[~end]
            self.note(row, going[n - 1] - going[n])
            worst = self.worst[row] * (cur_len + 1 - decoder_prompt_len) ** self.penalty  # an eos below it is lost anyway
            for i in end.nonzero().flatten().tolist():
                if value[i] > worst:
                    self.note(row, value[i] - value[n] if i < n else value[n - 1] - value[i])
        return super()._get_top_k_continuations(accumulated_log_probs=accumulated_log_probs, cur_len=cur_len,
                                                decoder_prompt_len=decoder_prompt_len, **rest)

    def _update_finished_beams(self, **a):
        done = a["next_token_hits_stopping_criteria"] & a["top_num_beam_mask"][None]
        new = a["topk_log_probs"] / (a["cur_len"] + 1 - a["decoder_prompt_len"]) ** a["length_penalty"]
        merged = torch.cat((a["beam_scores"], torch.where(done, new, -1e9)), 1).sort(dim=1, descending=True)[0]
        for row in self.live.nonzero().flatten().tolist():
            if merged[row, self.beams] > -1e8 and done[row].any():
                self.note(row, merged[row, self.beams - 1] - merged[row, self.beams])
        out = super()._update_finished_beams(**a)
        self.worst = out[1].min(1)[0]
        self.final = out[1]
        return out

    def _check_early_stop_heuristic(self, **a):
        out = T5ForConditionalGeneration._check_early_stop_heuristic(**a)
        full = a["is_sent_finished"].all(1)
        best = a["running_beam_scores"][:, 0] / (a["cur_len"] - a["decoder_prompt_len"]) ** a["length_penalty"]
        stops = full & (a["early_stopping"] is True)
        for row in (self.live & full & ~stops).nonzero().flatten().tolist():
            if a["cur_len"] < self.max_length:
                self.note(row, abs(best[row] - a["beam_scores"][row].min()))
        self.live = self.live & out[:, 0] & ~stops
        return out


def generate(model, sources, options):
    outputs = {"ids": [], "gaps": []} | ({"scores": []} if options["num_beams"] > 1 else {})
    for first in range(0, len(sources), 10):
        rows = sources[first:first + 10]
        ids = padded(rows, 0)
        if options["num_beams"] > 1:
            model.begin(len(rows), options["num_beams"], options["max_length"])
            model.penalty = options["length_penalty"]
        cached = model.config.num_decoder_layers <= model.config.num_layers  # Transformers 5.24 makes num_layers caches, else fails
        out = model.generate(input_ids=ids, use_cache=cached, attention_mask=masked([len(r) for r in rows], ids.shape[1]),
                             do_sample=False, output_scores=True, return_dict_in_generate=True, **options)
        for i, row in enumerate(out.sequences[:, 1:].tolist()):
            outputs["ids"].append(row[:row.index(1) + 1] if 1 in row else row)
            if options["num_beams"] == 1:
                steps = [s[i].topk(2)[0] for s in out.scores[:len(outputs["ids"][-1])]]
                outputs["gaps"].append(nines(min(t[0] - t[1] for t in steps)))
        if options["num_beams"] > 1:
            outputs["scores"] += nines(out.sequences_scores)
            outputs["gaps"] += nines(torch.minimum(model.gap, model.final[:, 0] - model.final[:, 1]))
    return outputs


def watched(folder, dtype):
    return Watched.from_pretrained(folder, dtype=torch.float32).to(dtype).eval()


def off(a, b):
    return max(float((a[n].double() - b[n]).norm() / b[n].norm()) for n in b)


def reference(kind):
    """The first batch is taken for which no ReLU's decision lies within rounding: single precision then gives the same gradients."""
    for seed in range(100, 140):
        pairs = examples(kind, seed, 4)
        batch = batch_of(pairs)
        model, (again, _) = load(HERE / kind), adapted(HERE / kind)
        logits, loss = label_logits(model, batch)
        grads = gradients(model, loss)
        single = model.float()
        apart = off(gradients(single, label_logits(single, batch)[1]), grads)
        grads_a = gradients(again, label_logits(again, batch)[1])
        single_a = again.float()
        apart_a = off(gradients(single_a, label_logits(single_a, batch)[1]), grads_a)
        if max(apart, apart_a) < 2e-5 and len({len(s) for s, _ in pairs}) == len({len(t) for _, t in pairs}) == 4:
            break
    smooth = smoothed(logits, batch)
    inputs = inputs_of(batch)
    theirs = transformers.trainer_pt_utils.LabelSmoother(0.1)(load(HERE / kind)(**inputs), inputs["labels"])
    assert abs(theirs - smooth) < 1e-6 * smooth, (theirs, smooth)
    sources = [s for s, _ in examples(kind, 4, 50)]
    model, single = watched(HERE / kind, torch.float64), watched(HERE / kind, torch.float32)
    outputs = {}
    with torch.no_grad():
        for name, options in GENERATION.items():
            outputs[name] = generate(model, sources, options)
            other = generate(single, sources, options)["ids"]
            ids = outputs[name]["ids"]
            print(kind, name, "ended", sum(i[-1] == 1 for i in ids), "distinct", len({tuple(i) for i in ids}),
                  "lengths", min(map(len, ids)), max(map(len, ids)),
                  "gap", min(outputs[name]["gaps"]), "below 1e-4:", sum(g < 1e-4 for g in outputs[name]["gaps"]),
                  "single precision differs in", sum(a != b for a, b in zip(ids, other)))
    ended = sum(i[-1] == 1 for i in outputs["greedy"]["ids"])
    assert ended >= 25 and len({tuple(i) for i in outputs["greedy"]["ids"]}) >= 40
    right = sum(o == t for o, (_, t) in zip(outputs["greedy"]["ids"], examples(kind, 4, 50)))
    print(kind, "seed", seed, "single precision off by", apart, apart_a, "loss", loss.item(), "smoothed", smooth.item(),
          "right outputs", right, "changed by penalties",
          sum(a != b for a, b in zip(outputs["greedy"]["ids"], outputs["greedy_penalties"]["ids"])))
    return {"batch": batch, "logits": stored(logits), "loss": nines(loss), "smoothed_loss": nines(smooth),
            "gradients": {n: summary(g, 16) for n, g in grads.items()}, "adapters": adapters(HERE / kind, batch),
            "sources": sources, "outputs": outputs}


def peft_reference(name, batch):
    model = peft.PeftModel.from_pretrained(load(HERE / "relu"), HERE / name).double().eval()
    logits, loss = label_logits(model, batch)
    plain = label_logits(load(HERE / "relu"), batch)[0]
    print(name, "moves logits by up to", float((plain - logits).abs().max()))
    modules = {n.removeprefix("base_model.model."): [m.r["default"], nines(m.scaling["default"])]
               for n, m in model.named_modules() if isinstance(m, peft.tuners.lora.layer.Linear)}
    return {"model": "relu", "modules": modules, "logits": stored(logits), "loss": nines(loss)}


def text(value, depth=3):
    """Compact JSON, a line for each entry of the upper levels."""
    if depth and isinstance(value, dict):
        return "{\n" + ",\n".join(json.dumps(k) + ":" + text(v, depth - 1) for k, v in value.items()) + "\n}"
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", action="store_true", help="train the models and make the adapters, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    if options.models:
        make_models()
        for path in HERE.rglob("*.safetensors"):
            path.chmod(0o644)
    exact()
    versions = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
    result = {"versions": versions,
              "columns": COLUMNS, "generation": GENERATION, "models": {kind: reference(kind) for kind in SHAPES}}
    batch = result["models"]["gated"]["batch"]
    with torch.no_grad():
        logits, loss = label_logits(load(HERE / "gated-bf16"), batch)
        result["models"]["gated-bf16"] = {"batch": batch, "logits": stored(logits), "loss": nines(loss),
                                          "smoothed_loss": nines(smoothed(logits, batch))}
        result["peft"] = {name: peft_reference(name, result["models"]["relu"]["batch"]) for name in ("peft", "peft-rs")}
    (HERE / "expected.json").write_text(text(result) + "\n")
