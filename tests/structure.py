#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house's rules that a program can check. structure.py ROOT CC CXX"""
import collections
import pathlib
import re
import subprocess
import sys

root, cc, cxx = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
layers = ["base", "data", "cl", "op", "graph", "adapter", "model", "train", "cli"]
sources = [p for folder in ("src", "include", "kernels", "tests", "bench", "docs") for p in sorted((root / folder).rglob("*"))
           if p.suffix in (".c", ".h", ".cl", ".py")]
number = 0


def check(name, problems):
    global number
    number += 1
    print(f"{'not ok' if problems else 'ok'} {number} - {name}")
    for problem in problems:
        print("#", problem)


def relative(path):
    return str(path.relative_to(root))


def includes_go_down():
    for path in sorted((root / "src").rglob("*.[ch]")):
        own = layers.index(path.parent.name)
        for name in re.findall(r'#include "(\w+)/', path.read_text()):
            if name in layers and layers.index(name) > own:
                yield f"{relative(path)} includes {name}/"
            if path.parent.name == "cli" and name not in ("soracl", "cli"):
                yield f"{relative(path)}: the program uses public headers alone, not {name}/"


def ops_are_paired():
    ops = {p.stem for p in (root / "src/op").glob("*.c")}
    kernels = {p.stem for p in (root / "kernels").glob("*.cl")}
    yield from (f"{name}: without its twin" for name in sorted(ops ^ kernels))


def sources_are_short():
    for path in sources:
        lines = path.read_text().count("\n")
        if lines >= 800:
            yield f"{relative(path)}: {lines} lines"


def nothing_is_left_for_later():
    word = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in sources:
        if path.name != "structure.py" and word.search(path.read_text()):
            yield relative(path)


def files_say_their_licence():
    for path in sources:
        if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]:
            yield relative(path)


def what_is_declared_is_used():
    """A name that a header declares is defined, and used by someone, if only a test."""
    code = {p: re.sub(r"/\*.*?\*/", "", p.read_text(), flags=re.S) for folder in ("src", "include", "kernels", "tests", "bench") for p in (root / folder).rglob("*.*")
            if p.suffix in (".c", ".cc", ".h", ".py")}
    named = collections.Counter(word for text in code.values() for word in re.findall(r"\w+", text))
    for path, text in code.items():
        if path.suffix == ".h" and path.parent.name != "kernels":
            declared = re.findall(r"^(?!static)\w[\w *]*\b(\w+)(?:\(|;|,)", text, re.M)
            yield from (f"{relative(path)}: {name}" for name in declared if named[name] < 3)


def headers_stand_alone():
    for path in sorted((root / "include/soracl").glob("*.h")):
        for compiler, language in ((cc, "-xc"), (cxx, "-xc++")):
            run = subprocess.run([compiler, language, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", root / "include", "-include",
                                  f"soracl/{path.name}", "/dev/null"], capture_output=True, text=True)
            if run.returncode:
                yield f"{path.name} with {compiler}: {run.stderr.splitlines()[0]}"


def library_is_silent():
    """Messages are the caller's: no layer below the program prints, exits or aborts."""
    word = re.compile(r"(?<![\w>.])(printf|puts|perror|exit|abort)\s*\(|\bstderr\b|\bstdout\b")
    for path in sorted((root / "src").rglob("*.c")):
        if path.parent.name == "cli":
            continue
        text = re.sub(r"/\*.*?\*/|\"(\\.|[^\"\\])*\"", "", path.read_text(), flags=re.S)
        for found in word.finditer(text):
            yield f"{relative(path)}: {found.group(0).strip()}"


def kernels_ask_for_ids():
    """A large launch comes in parts of its second and third dimension (src/cl/launch.c), in which ids go on and nothing else does."""
    word = re.compile(r"\b(get_(?:global_size|group_id|global_offset)\((?!0\))[^)]*\)|get_num_groups\([^)]*\))")
    for path in sorted((root / "kernels").glob("*.*")):
        yield from (f"{relative(path)}: {found.group(0)}" for found in word.finditer(path.read_text()))


for rule in (includes_go_down, ops_are_paired, sources_are_short, nothing_is_left_for_later, files_say_their_licence, what_is_declared_is_used,
             headers_stand_alone, library_is_silent, kernels_ask_for_ids):
    check(rule.__name__.replace("_", " "), list(rule()))
print(f"1..{number}")
