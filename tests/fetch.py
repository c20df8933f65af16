#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""datasets/fetch-*.sh against a hub on this machine: whole downloads, resumed ones, wrong sums, no network. TAP. fetch.py ROOT"""
import hashlib
import http.server
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

scripts = pathlib.Path(sys.argv[1]) / "datasets"
work = pathlib.Path(tempfile.mkdtemp(prefix="soracl-"))
state = {"number": 0, "failed": 0}
CSV = os.urandom(300000)
MEDIUM = "/datasets/fabiochiu/medium-articles/"


def pointer(data):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\nsize {len(data)}\n".encode()


class Hub(http.server.BaseHTTPRequestHandler):
    """Files by path. With `ranges` it resumes, as the hub does; `cut` ends bodies after that many bytes."""
    files, ranges, cut, sent = {}, True, None, []

    def do_GET(self):
        data = self.files.get(self.path)
        if data is None:
            return self.send_error(404)
        asked = self.headers.get("Range") if self.ranges else None
        start = int(asked.split("=")[1].split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if self.cut and self.path.endswith(".csv") and "resolve" in self.path:
            body = body[:self.cut]
        self.wfile.write(body)
        self.sent.append((self.path, len(body)))

    def log_message(self, *_):
        pass


def check(name, condition, detail=""):
    state["number"] += 1
    state["failed"] += not condition
    print(f"{'ok' if condition else 'not ok'} {state['number']} - {name}", flush=True)
    if not condition:
        print("\n".join("# " + line for line in str(detail).splitlines()[-15:]))


def tools(*names):
    """A folder with these programs and what else the scripts need, for PATH."""
    folder = work / ("bin-" + "-".join(names))
    folder.mkdir(exist_ok=True)
    for name in (*names, "sh", "cat", "cut", "dirname", "mkdir", "mv", "rm", "sed", "sha256sum", "tr", "wc"):
        found = shutil.which(name)
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    return str(folder)


def run(script, folder, path=None, hub=None):
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment.update(SORACL_HUB=hub or address, PATH=path or os.environ["PATH"])
    return subprocess.run([shutil.which("sh"), scripts / script, folder], capture_output=True, text=True, env=environment, timeout=120)


def put(**changes):
    Hub.files = {MEDIUM + "raw/main/medium_articles.csv": pointer(CSV), MEDIUM + "resolve/main/medium_articles.csv": CSV}
    Hub.ranges, Hub.cut, Hub.sent = True, None, []
    for name, value in changes.items():
        setattr(Hub, name, value)


def medium(tool):
    out = work / ("medium-" + tool)
    csv, part = out / "medium_articles.csv", out / "medium_articles.csv.part"
    path = tools(tool)
    put()
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: a whole file", done.returncode == 0 and csv.read_bytes() == CSV and os.listdir(out) == [csv.name], done.stderr)
    put()
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: what is there is not fetched again", done.returncode == 0 and len(Hub.sent) == 1, Hub.sent)
    csv.unlink()
    part.write_bytes(CSV[:200000])
    put()
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: goes on where it stopped", done.returncode == 0 and csv.read_bytes() == CSV and Hub.sent[-1][1] == 100000, done.stderr)
    csv.unlink()
    part.write_bytes(CSV[:200000])
    put(ranges=False)
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: a server that can't resume", done.returncode == 0 and csv.read_bytes() == CSV, done.stderr)
    csv.unlink()
    put(cut=120000)
    first = run("fetch-medium.sh", out, path)  # wget goes on by itself
    kept = part.stat().st_size if part.exists() else 0
    put()
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: a broken connection, then again", (kept >= 120000 or first.returncode == 0) and done.returncode == 0 and csv.read_bytes() == CSV,
          first.stderr + done.stderr)
    csv.unlink()
    put()
    Hub.files[MEDIUM + "resolve/main/medium_articles.csv"] = CSV[:-1] + b"?"
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: a wrong sum", done.returncode == 1 and "not the expected file" in done.stderr and os.listdir(out) == [], done.stderr)
    put()
    Hub.files[MEDIUM + "raw/main/medium_articles.csv"] = b"<html>log in</html>"
    done = run("fetch-medium.sh", out, path)
    check(f"{tool}: no pointer", done.returncode == 1 and "no pointer" in done.stderr, done.stderr)
    done = run("fetch-medium.sh", out, path, "http://127.0.0.1:9")
    check(f"{tool}: no network", done.returncode == 1 and "without a network" in done.stderr and os.listdir(out) == [], done.stderr)


def t5_small():
    out, base = work / "t5", "/google-t5/t5-small/"
    weights = os.urandom(1000)
    put()
    Hub.files = {base + "resolve/main/config.json": b'{"d_model": 512}', base + "resolve/main/generation_config.json": b"<html>",
                 base + "resolve/main/spiece.model": b"another", base + "raw/main/model.safetensors": pointer(weights),
                 base + "resolve/main/model.safetensors": weights}
    done = run("fetch-t5-small.sh", out)
    check("t5-small: a page instead of JSON", done.returncode == 1 and "no JSON" in done.stderr, done.stderr)
    Hub.files[base + "resolve/main/generation_config.json"] = b"{}\n"
    done = run("fetch-t5-small.sh", out)
    check("t5-small: another spiece.model", done.returncode == 1 and "7 of 791656 bytes" in done.stderr, done.stderr)
    real = scripts / "../../shared/data/t5/spiece.model"
    if not real.exists():
        return
    Hub.files[base + "resolve/main/spiece.model"] = real.read_bytes()
    (out / "spiece.model.part").unlink()
    done = run("fetch-t5-small.sh", out)
    check("t5-small: all four files", done.returncode == 0 and (out / "model.safetensors").read_bytes() == weights and
          sorted(os.listdir(out)) == ["config.json", "generation_config.json", "model.safetensors", "spiece.model"], done.stderr)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
address = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
try:
    for name in ("curl", "wget"):
        if shutil.which(name):
            medium(name)
        else:
            print(f"# no {name} here")
    if shutil.which("curl") or shutil.which("wget"):
        t5_small()
    done = run("fetch-medium.sh", work / "none", tools())
    check("neither curl nor wget", done.returncode == 1 and "needs curl or wget" in done.stderr, done.stderr)
finally:
    server.shutdown()
    shutil.rmtree(work)
print(f"1..{state['number']}")
sys.exit(state["failed"] > 0)
