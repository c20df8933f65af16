#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes rouge_reference.json: F1s as the package rouge_score gives them, without stemming: [rouge1, rouge2, rougeL, rougeLsum].

"pairs" holds edge cases as [reference, prediction, F1s]. "large" holds F1s alone, of each line of target_large.txt and
prediction_large.txt in the folder given, with " . " replaced by " .\\n" for rougeLsum as rouge.c does too. Run:

    python3 -m venv rouge-env && rouge-env/bin/pip install rouge_score
    rouge-env/bin/python tests/data/rouge_reference.py DATA/rouge

(rouge_score 0.1.2 made the file here.)"""
import importlib.metadata
import json
import pathlib
import random
import sys

from rouge_score import rouge_scorer

scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])


def score(reference, prediction):
    return [round(s.fmeasure, 8) for s in scorer.score(reference, prediction).values()]


def by_hand():
    text = "The quick brown fox jumps over the lazy dog."
    return [
        ("", ""), ("", text), (text, ""), (text, text), ("...!?", ",;"), ("...", text), (text, "\n\n \n"),
        ("word", "word"), ("word", "other"), ("word", "word word word"), ("one two", "two one"),
        ("a a a a b", "a a b b b"), ("a b a b a b", "b a b a"), ("the the the", "the"),
        ("p " + " ".join(map(str, range(200))) + " q", "q p"), ("x " * 200, "x " * 70 + "y " * 9 + "x " * 40),
        ("Caf\u00e9 na\u00efve co\u00f6p", "cafe na ve co p"), ("stra\u00dfe \u4f60\u597d", "stra e"),
        ("\u0430\u0431\u0432", "\u0430\u0431\u0432"),
        ("300 \u212aelvin \u212a", "300 kelvin k"), ("\u0130stanbul \u0130", "i stanbul i"), ("\u0131 I \u017f S", "i s"),
        ("\u210a \u2129 \u0131", "g k i"),
        ("4 8 15 16", "4 8 15 16 23 42"), ("3.14 1,000", "3 14 1000"), ("\u0664\u0662 \u00b2 \uff11\uff21", "4 2 1 a"),
        ("snake_case __init__", "snake case init"), ("don't e-mail", "dont email don t"), ("ABC abc", "abc"),
        ("first line\r\nsecond line\r\n", "second line\nfirst line"), ("one\ttwo\vthree\ffour", "one two three four"),
        ("one\rtwo\u2028three\u0085four", "two\none\nfour"), ("a\n\n\nb\n", "\nb\na\n\n"), ("\n.\n,\nword", "word\n.\n"),
        ("the cat sat\non the mat", "on the mat\nthe cat sat"), ("the cat sat on the mat", "the mat\nthe cat\nthe sat on the"),
        ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"), ("a b c\na b c\na b c", "a b c"), ("a b c", "a b c\na b c\nc b a"),
    ]


def at_random():
    """A tiny alphabet and several lines: many longest subsequences, so that the choice among them shows in their union."""
    draw = random.Random(1)

    def lines(most, longest, letters):
        words = ([draw.choice(letters) for _ in range(draw.randint(0, longest))] for _ in range(draw.randint(1, most)))
        return "\n".join(map(" ".join, words))

    sizes = (4, 12, "ab", 12), (6, 20, "abc", 12), (5, 30, "abcdef", 12), (3, 200, "abcd", 4), (12, 5, "abc", 4)
    for most, longest, letters, count in sizes:
        for _ in range(count):
            yield lines(most, longest, letters), lines(most, longest, letters)


def large(folder):
    files = [(folder / name).read_text(encoding="utf-8").splitlines() for name in ("target_large.txt", "prediction_large.txt")]
    for reference, prediction in zip(*files, strict=True):
        sentences = [text.replace(" . ", " .\n") for text in (reference, prediction)]
        yield score(reference, prediction)[:3] + score(*sentences)[3:]


def listed(rows):
    return "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"


pairs = listed([reference, prediction, score(reference, prediction)] for reference, prediction in by_hand() + list(at_random()))
version = json.dumps(importlib.metadata.version("rouge_score"))
pathlib.Path(__file__).with_suffix(".json").write_text(
    f'{{"rouge_score":{version},\n"pairs":{pairs},\n"large":{listed(large(pathlib.Path(sys.argv[1])))}}}\n', encoding="utf-8")
