# SPDX-License-Identifier: Apache-2.0
"""What tests of the program share: a folder to work in, the program's runs in it, and TAP on stdout. The program's path is the first argument,
the parts to run are the others."""
import filecmp
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

program = os.path.abspath(sys.argv[1])
work = pathlib.Path(tempfile.mkdtemp(prefix="soracl-"))
state = {"number": 0, "failed": 0}


def check(name, condition, detail=""):
    state["number"] += 1
    state["failed"] += not condition
    print(f"{'ok' if condition else 'not ok'} {state['number']} - {name}")
    if not condition and detail:
        print("\n".join(str(detail).splitlines()[-15:]), file=sys.stderr, flush=True)
    sys.stdout.flush()


def run(*words, code=0, env=None, cwd=work):
    done = subprocess.run([program, *map(str, words)], cwd=cwd, capture_output=True, text=True, errors="backslashreplace", env={**os.environ, **(env or {})})
    if code is not None and done.returncode != code:
        check(f"soracl {' '.join(map(str, words[:3]))} exits with {code}", False, f"{done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def refused(name, code, message, *words, env=None, cwd=work):
    done = run(*words, code=None, env=env, cwd=cwd)
    check(name, done.returncode == code and message in done.stderr, f"exit {done.returncode}, expected {code} and \"{message}\"\n{done.stderr}")


def same_tree(a, b, ignore=()):
    names = sorted(p.relative_to(a) for p in pathlib.Path(a).rglob("*") if p.is_file() and p.name not in ignore)
    others = sorted(p.relative_to(b) for p in pathlib.Path(b).rglob("*") if p.is_file() and p.name not in ignore)
    return names == others and all(filecmp.cmp(a / n, b / n, shallow=False) for n in names)


def last_checkpoint(folder):
    return max((work / folder).glob("checkpoint-*[0-9]"), key=lambda p: int(p.name.split("-")[1]))


def kill_and_resume(resume, start, seconds):
    """Runs `start` in the folder "killed", killed at 20 random moments of a run that takes so long, and then lets it finish. The command that did."""
    rng = random.Random(20)
    kills = 0
    command = [program, *map(str, start)]
    for attempt in range(20):
        process = subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.05, 1.0) * seconds * 0.6)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        if (work / "killed/config.json").exists():
            command = [program, *resume, "--resume", "killed", "--quiet"]
        else:
            shutil.rmtree(work / "killed", ignore_errors=True)
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    check(f"killed {kills} times it still finishes", kills > 0 and done.returncode == 0, done.stderr)
    return command


def stop_by_interrupt(words):
    """Starts a long run in the folder "stopped", asks it to stop once there is a checkpoint, and checks what it leaves."""
    process = subprocess.Popen([program, *map(str, words), "--out", "stopped"], cwd=work, stderr=subprocess.PIPE, text=True)
    while not list((work / "stopped").glob("checkpoint-*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    check("Ctrl-C leaves a checkpoint and exits with 130", process.returncode == 130 and "--resume" in message, message)


def run_parts(names):
    """Functions part_NAME of a module's globals(), as the arguments name them."""
    try:
        for part in sys.argv[2:]:
            names["part_" + part]()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"1..{state['number']}")
    sys.exit(state["failed"] > 0)
