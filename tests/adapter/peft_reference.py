#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PEFT itself beside soracl's exchange of adapters.

peft_reference.py --write FOLDER    adapters as PEFT saves them, and what they add to each module (tests/adapter/peft)
peft_reference.py --check EXPORT... folders that soracl wrote, each with EXPORT.expected.safetensors beside it
peft_reference.py --exchange TEST   runs the test program, which writes such folders, and checks them; TAP

Needs torch, transformers, peft and safetensors; SORACL_PEFT_PYTHON may name an interpreter that has them."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

try:
    import peft
    import safetensors
    import torch
    import transformers
except ImportError as reason:
    other = os.environ.pop("SORACL_PEFT_PYTHON", None)  # once
    if other:
        os.execv(other, [other] + sys.argv)
    if "--exchange" in sys.argv:
        print(f"1..0 # SKIP {reason}; SORACL_PEFT_PYTHON may name an interpreter that has torch, transformers and peft")
        sys.exit(0)
    raise

WIDTH, INNER, HIDDEN, BLOCKS = 12, 8, 20, 2  # as in tests/adapter/peft.c


def t5():
    torch.manual_seed(5)
    config = transformers.T5Config(vocab_size=30, d_model=WIDTH, d_kv=4, num_heads=INNER // 4, d_ff=HIDDEN, num_layers=BLOCKS, dropout_rate=0.0,
                                   decoder_start_token_id=0)
    return transformers.T5ForConditionalGeneration(config).eval()


def adapted(model):
    return {name.removeprefix("base_model.model."): module for name, module in model.named_modules() if isinstance(module, peft.tuners.lora.Linear)}


def vector(count):
    return torch.tensor([(7 * j % 11 - 5) / 5 for j in range(count)], dtype=torch.float64)


# ---- Fixtures ----------------------------------------------------------------------------------------------------------------

FIXTURES = {
    "list": ({"r": 3, "lora_alpha": 6, "target_modules": ["q", "v"]}, torch.float32),
    "pattern": ({"r": 2, "lora_alpha": 3, "lora_dropout": 0.25, "init_lora_weights": "gaussian",
                 "target_modules": r"(?:encoder|decoder)\.block\.\d+\..*?(?P<kind>Self|EncDec)Attention\.[qk-]{1,}?",
                 "exclude_modules": r"decoder\.block\.1\..*\.\w"}, torch.float32),
    "ranks": ({"r": 2, "lora_alpha": 5, "target_modules": ["q", "k", "wi", "decoder.block.1.layer.2.DenseReluDense.wo"],
               "exclude_modules": ["encoder.block.0.layer.0.SelfAttention.k"],
               "rank_pattern": {r"^encoder.*\.q": 5, "wi|wo": 1, "SelfAttention.k": 4, "k": 3},
               "alpha_pattern": {"decoder.block.1.layer.2.DenseReluDense.wo": 7, r"EncDecAttention\.[qk]": 2.5}}, torch.float32),
    "rslora": ({"r": 4, "lora_alpha": 10, "use_rslora": True, "target_modules": "all-linear", "rank_pattern": {"o": 3}}, torch.float32),
    "half": ({"r": 2, "lora_alpha": 2, "target_modules": ["v", "o"], "task_type": "SEQ_2_SEQ_LM"}, torch.float16),
    "bfloat": ({"r": 2, "lora_alpha": 2, "target_modules": ["wi"], "task_type": "SEQ_2_SEQ_LM"}, torch.bfloat16),
}


def write_fixture(folder, options, dtype):
    model = peft.get_peft_model(t5(), peft.LoraConfig(**options))
    torch.manual_seed(8)
    for name, value in model.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape).to(dtype)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    for key in ("target_modules", "exclude_modules"):  # PEFT's sets come in any order
        if isinstance(config[key], list):
            config[key].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    loaded = peft.PeftModel.from_pretrained(t5(), folder, autocast_adapter_dtype=False).double()
    return {name: {"rank": m.r["default"], "scale": m.scaling["default"],
                   "product": (m.get_delta_weight("default").double() @ vector(m.in_features)).tolist()} for name, m in adapted(loaded).items()}


def write(folder):
    expected = {name: write_fixture(folder / name, *what) for name, what in FIXTURES.items()}
    (folder / "expected.json").write_text(json.dumps({"peft": peft.__version__, "torch": torch.__version__, "fixtures": expected}, indent=1) + "\n")


# ---- Our exports -------------------------------------------------------------------------------------------------------------

class Tree(torch.nn.Module):
    """Linear layers under the given names, all fed with the same numbers."""

    def __init__(self, shapes):
        super().__init__()
        torch.manual_seed(6)
        for name, (rows, columns) in shapes.items():
            *path, last = name.split(".")
            parent = self
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, torch.nn.Module())
                parent = getattr(parent, part)
            parent.add_module(last, torch.nn.Linear(columns, rows))
        self.columns = {name: columns for name, (_, columns) in shapes.items()}

    def forward(self, x):
        return torch.cat([self.get_submodule(name)(x[..., :columns]) for name, columns in self.columns.items()], -1)


def read_expected(path):
    """name → (rank, scale, what the adapter adds), and every layer's shape."""
    with safetensors.safe_open(path, "pt") as file:
        notes = file.metadata()
        deltas = {name: file.get_tensor(name) for name in file.keys()}
    layers = {}
    for name, delta in deltas.items():
        rank, scale = notes[name].split()
        layers[name] = (int(rank), float.fromhex(scale), delta)
    return layers


def outputs(model, is_t5):
    torch.manual_seed(7)
    with torch.no_grad():
        if is_t5:
            ids, labels = torch.randint(1, 30, (3, 9)), torch.randint(1, 30, (3, 6))
            return model(input_ids=ids, labels=labels).logits
        return model(torch.randn(4, 64, dtype=torch.float64))


def check(export):
    """Problems with one exported folder, and the largest difference of outputs."""
    export = pathlib.Path(export)
    layers = read_expected(f"{export}.expected.safetensors")
    is_t5 = any(name.startswith("encoder.") for name in layers)
    make = (lambda: t5().double()) if is_t5 else (lambda: Tree({n: tuple(d.shape) for n, (_, _, d) in layers.items()}).double())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(make(), export, autocast_adapter_dtype=False).double().eval()
    problems = [f"PEFT warns: {w.message}" for w in caught if "peft" in w.filename]
    found = adapted(model)
    expected = {name for name, (rank, _, _) in layers.items() if rank > 0}
    if set(found) != expected:
        problems.append(f"adapted {sorted(set(found) ^ expected)} differ")
    for name in sorted(set(found) & expected):
        rank, scale, delta = layers[name]
        module = found[name]
        if module.r["default"] != rank or module.scaling["default"] != scale:
            problems.append(f"{name}: rank {module.r['default']}, scale {module.scaling['default']}; expected {rank}, {scale}")
        difference = (module.get_delta_weight("default") - delta).abs().max().item()
        if not difference <= 1e-6 * delta.abs().max().item():
            problems.append(f"{name}: what it adds differs by {difference:.3g}")
    plain = make()
    before = outputs(plain, is_t5)
    for name, (_, _, delta) in layers.items():
        plain.get_submodule(name).weight.data += delta
    after = outputs(plain, is_t5)
    difference = (outputs(model, is_t5) - after).abs().max().item()
    if not difference <= 1e-5:
        problems.append(f"outputs differ by {difference:.3g}")
    return problems, len(found), difference, (after - before).abs().max().item()


def check_all(exports):
    print(f"# peft {peft.__version__}, torch {torch.__version__}, transformers {transformers.__version__}")
    failed = 0
    for number, export in enumerate(sorted(exports), 1):
        try:
            problems, count, difference, moved = check(export)
        except Exception as error:  # PEFT's own refusal is a result
            problems, count, difference, moved = [f"{type(error).__name__}: {error}"], 0, float("nan"), float("nan")
        print(f"{'not ok' if problems else 'ok'} {number} - {pathlib.Path(export).name}: {count} modules, outputs differ by {difference:.2g} "
              f"where the adapter moves them by {moved:.2g}")
        for problem in problems:
            print("#", problem)
        failed += bool(problems)
    print(f"1..{len(exports)}")
    return failed


def exchange(program):
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([program], env=os.environ | {"SORACL_PEFT_OUT": folder}, capture_output=True, text=True)
        exports = [p for p in pathlib.Path(folder).iterdir() if p.is_dir()]
        if run.returncode or not exports:
            print("not ok 1 - the test program writes exports\n1..1")
            print("".join(f"# {line}\n" for line in (run.stdout + run.stderr).splitlines()))
            return 1
        return check_all(exports)


if __name__ == "__main__":
    mode, words = sys.argv[1], sys.argv[2:]
    if mode == "--write":
        write(pathlib.Path(words[0]))
    else:
        sys.exit(1 if (check_all(words) if mode == "--check" else exchange(words[0])) else 0)
