#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs one op's small cases under Oclgrind: races, accesses out of bounds, use of uninitialised memory. oclgrind.py OCLGRIND CHECK OP [--as-cpu] [--no-record]

--as-cpu: what a CPU runs besides what a GPU does. --no-record: of initialised memory, at which Oclgrind 21.10 crashes where it meets some vectors.

One thread, because the record of initialised memory is not made for more. Without optimisation, because Oclgrind 21.10 does not know what LLVM
makes of some loops (freeze, population counts)."""
import os
import subprocess
import sys
import tempfile

oclgrind, check, op, *more = sys.argv[1:]
watch = ["--data-races"] + ([] if "--no-record" in more else ["--uninitialized"])
as_cpu = [option for option in more if option == "--as-cpu"]
with tempfile.TemporaryDirectory() as folder:
    log = os.path.join(folder, "log")
    # Kernels are compiled anew: a cache would hold another device's.
    run = subprocess.run([oclgrind, *watch, "--num-threads", "1", "--build-options", "-cl-opt-disable", "--log", log, check, "--small", "--op", op, *as_cpu], stdout=subprocess.PIPE,
                         text=True, env={**os.environ, "XDG_CACHE_HOME": folder})
    complaints = open(log).read().strip() if os.path.exists(log) else ""
cases = [line for line in run.stdout.splitlines() if line.startswith("ok ")]
good = run.returncode == 0 and not complaints and cases and "not ok" not in run.stdout
print("1..1")
print(f"{'ok' if good else 'not ok'} 1 - {op}: {len(cases)} cases under Oclgrind")
if not good:
    print(f"exit {run.returncode}\n{complaints[:4000]}\n{run.stdout[-2000:]}", file=sys.stderr)
sys.exit(not good)
