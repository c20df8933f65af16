# SPDX-License-Identifier: Apache-2.0
"""Writes kernels/*.cl and *.h into one C file as byte arrays. Refuses src/op/NAME.c without kernels/NAME.cl and the reverse."""
import argparse
import pathlib
import sys


def kernel_files(folder):
    return sorted((p for p in pathlib.Path(folder).iterdir() if p.suffix in (".cl", ".h")), key=lambda p: p.name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", metavar="FOLDER")
    parser.add_argument("--ops")
    parser.add_argument("--kernels")
    parser.add_argument("--output")
    options = parser.parse_args()
    if options.list:
        print("\n".join(p.name for p in kernel_files(options.list)))
        return
    files = kernel_files(options.kernels)
    kernels = {p.stem for p in files if p.suffix == ".cl"}
    ops = {p.stem for p in pathlib.Path(options.ops).glob("*.c")}
    unpaired = [f"kernels/{n}.cl has no src/op/{n}.c" for n in sorted(kernels - ops)]
    unpaired += [f"src/op/{n}.c has no kernels/{n}.cl" for n in sorted(ops - kernels)]
    if unpaired:
        sys.exit("\n".join(unpaired))
    lines = ["/* Made by kernels/embed.py. */", '#include "cl/kernel_source.h"', ""]
    for i, path in enumerate(files):
        data = path.read_bytes()
        lines.append(f"static const unsigned char file_{i}[] = {{")
        lines += [",".join(map(str, data[at : at + 32])) + "," for at in range(0, len(data), 32)]
        lines.append("0};")
    lines.append("const sora_kernel_source sora_kernel_sources[] = {")
    lines += [f'    {{ "{p.name}", (const char *)file_{i}, {p.stat().st_size} }},' for i, p in enumerate(files)]
    lines += ["};", f"const unsigned sora_kernel_source_count = {len(files)};", ""]
    pathlib.Path(options.output).write_text("\n".join(lines))


if __name__ == "__main__":
    main()
