#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs into an empty folder, builds docs/examples against what is there, and runs them. install.py MESON BUILD ROOT CC SORACL"""
import os
import pathlib
import subprocess
import sys
import tempfile

meson, build, root, cc, soracl = sys.argv[1:]
number = failed = 0


def check(name, good, detail=""):
    global number, failed
    number, failed = number + 1, failed + (not good)
    print(f"{'ok' if good else 'not ok'} {number} - {name}")
    if not good:
        print("\n".join("# " + line for line in detail.splitlines()[-20:]))


def run(*command, **options):
    return subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    stage = folder / "stage"
    done = run(meson, "install", "--no-rebuild", "-C", build, "--destdir", stage)
    check("meson install", done.returncode == 0, done.stdout)
    placed = {p.name: p for p in stage.rglob("*") if p.is_file() or p.is_symlink()}
    for name in ("soracl", "libsoracl.so", "layer.h", "soracl.pc", "soracl.1"):
        check(f"{name} is installed", name in placed, ", ".join(sorted(placed)))
    prefix = placed["soracl"].parent.parent
    environment = {**os.environ, "PKG_CONFIG_PATH": str(placed["soracl.pc"].parent), "LD_LIBRARY_PATH": str(placed["libsoracl.so"].parent)}
    flags = run("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "soracl", env=environment).stdout.split()
    for example in ("sora_module", "unet_image"):
        source = pathlib.Path(root, "docs/examples", example + ".c")
        check(f"{example} has at most 80 lines", source.read_text().count("\n") <= 80)
        done = run(cc, "-std=c17", "-Wall", "-Wextra", "-Werror", source, *flags, "-lm", "-o", folder / example)
        check(f"{example} builds", done.returncode == 0, done.stdout)
    done = run(folder / "sora_module", env=environment)
    check("sora_module runs", done.returncode == 0 and "rank 16 ->" in done.stdout, done.stdout)
    hands, trained, overlay = folder / "hands", folder / "run", folder / "overlay.png"
    run(soracl, "data", "hands", "--layout", "egohands", "--images", 16, "--width", 96, "--height", 54, "--out", hands, "--quiet")
    run(soracl, "unet", "train", "--data", f"egohands:{hands}", "--size", 64, "--epochs", 1, "--out", trained, "--quiet")
    image = next(hands.rglob("*.jpg"))
    done = run(folder / "unet_image", trained, image, overlay, env=environment)
    check("unet_image runs", done.returncode == 0 and overlay.read_bytes()[:4] == b"\x89PNG", done.stdout)
    done = run(folder / "unet_image", trained, hands / "absent.jpg", overlay, env=environment)
    check("unet_image says what is wrong", done.returncode == 1 and "absent.jpg" in done.stdout, done.stdout)
    page = run("man", "-l", "--warnings", placed["soracl.1"], env={**environment, "MANPAGER": "cat"}) if run("which", "man").returncode == 0 else None
    if page:
        check("the manual page is readable", page.returncode == 0 and "warning" not in page.stdout and "--lambda" in page.stdout, page.stdout)
print(f"1..{number}")
sys.exit(failed > 0)
