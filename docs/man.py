#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the manual page from what each command's --help says, so that the two agree. man.py PROGRAM VERSION OUTPUT"""
import re
import subprocess
import sys

program, version, output = sys.argv[1:]


def help_of(*words):
    return subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=True).stdout


def escape(text):
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", r"\e").replace("-", r"\-"), flags=re.M)


OPTION = r"^  (--\S+(?: [A-Z][A-Z,.]*)?)\s+(.*)$"  # --exclude FILE,... and what it means
overview = help_of()
commands = re.findall(r"^  ([a-z]+(?: [a-z0-9]+)?|t5 [a-z]+)  +(\S.*)$", overview, re.M)
page = [f'.TH SORACL 1 "" "soracl {version}" "User Commands"', ".SH NAME",
        escape("soracl - fine-tune with gated low-rank adapters (SoRA, LoRA) on any OpenCL device"), ".SH SYNOPSIS", ".B soracl",
        r"\fICOMMAND\fR [\fIOPTION\fR]...", ".SH DESCRIPTION",
        escape("A SoRA module puts a trainable low-rank path with a gate for each rank beside a frozen layer; the gate's update drives ranks that "
               "are not needed to exactly 0, and merging makes it a plain layer again. soracl trains such modules in U-Nets for hand "
               "segmentation and in T5 for summarisation, compares them with LoRA and full fine-tuning, and reports quality, memory and time as "
               "measured on your device. "
               "Results go to standard output; progress and messages go to standard error. Behind -- there are no options: a word may begin as one."),
        ".SH COMMANDS"]
for name, summary in commands:
    text = help_of(*name.split()) if name != "version" else ""
    page += [".SS " + escape(name), escape(summary[0].upper() + summary[1:] + ".")]
    usage = re.search(r"^usage: (.*)$", text, re.M)
    if usage:
        page += [".PP", ".nf", escape(usage.group(1)), ".fi"]
    group = ""
    for line in text.splitlines():
        option = re.match(OPTION, line)
        if option and group != "General":
            page += [".TP", r"\fB" + escape(option.group(1)) + r"\fR", escape(option.group(2))]
        elif line and not line.startswith(" "):
            group = line
    example = re.search(r"^example\n  (.*)$", text, re.M)
    if example:
        page += [".PP", "Example:", ".nf", escape(example.group(1)), ".fi"]
page += [".SH COMMON OPTIONS"]
for option, meaning in re.findall(OPTION, help_of("unet", "eval").split("General\n")[1], re.M):
    page += [".TP", r"\fB" + escape(option) + r"\fR", escape(meaning)]
page += [".SH ENVIRONMENT"]
for name, meaning in (("SORACL_DEVICE", "the device where --device is not given: an index, part of a name, cpu or gpu"),
                      ("SORACL_KERNELS", "a folder to read kernels from instead of those in the program, to work on them"),
                      ("XDG_CACHE_HOME", "compiled kernels are kept in soracl below it (default ~/.cache)")):
    page += [".TP", r"\fB" + name + r"\fR", escape(meaning)]
page += [".SH EXIT STATUS"]
for code, meaning in ((0, "success"), (1, "a file or standard output could not be written, or training met NaN"), (2, "an option makes no sense"),
                      (3, "an input file is broken or of the wrong kind"), (4, "no usable OpenCL device"),
                      (5, "not enough memory; the message says what would fit"), (130, "stopped by Ctrl-C; a checkpoint was written")):
    page += [".TP", str(code), meaning]
with open(output, "w", encoding="utf-8") as out:
    out.write("\n".join(page) + "\n")
