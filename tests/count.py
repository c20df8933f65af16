# SPDX-License-Identifier: Apache-2.0
"""Prints skipped tests with their reasons and, last, 'N passed, N failed, N skipped' from meson's logs (testlog.json)."""
import json
import re
import sys


def main():
    passed = failed = skipped = 0
    for line in (line for path in sys.argv[1:] for line in open(path, encoding="utf-8")):
        test = json.loads(line)
        output = test.get("stdout") or ""
        # cmocka and TAP programs say how many tests they hold; a program without such lines counts as one.
        oks = len(re.findall(r"^(?:\[       OK \]|ok \d+(?!.*# SKIP))", output, re.M))
        bad = len(re.findall(r"^(?:\[  FAILED  \] [a-z_0-9]+$|not ok )", output, re.M))
        skips = len(re.findall(r"^(?:\[  SKIPPED \] [a-z_0-9]+$|ok \d+.*# SKIP|1\.\.0 # SKIP)", output, re.M))
        if test["result"] == "SKIP":
            skipped += max(skips, 1)
        elif test["result"] in ("OK", "EXPECTEDFAIL"):
            passed += max(oks, 0 if skips else 1)
            skipped += skips
        else:
            passed, failed, skipped = passed + oks, failed + max(bad, 1), skipped + skips
            print(f"failed: {test['name']}")
        if skips or test["result"] == "SKIP":
            reasons = re.findall(r"^(?:ok .*|1\.\.0 )# SKIP.*$", output, re.M)
            print(f"skipped in {test['name']}: " + ("; ".join(sorted(set(reasons))) or "no reason given"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")


if __name__ == "__main__":
    main()
