"""The rule of warmth and the lines of a peer, with measures that only pretend. Standard library alone:

    python bench/python/test_peer.py
"""

import json
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

import peer

PEER = """
import os, peer
def measure(figure):
    if figure == "once":
        return peer.Figure(lambda: 7.0, "s", once=True)
    if figure == "fails":
        return peer.Figure(lambda: 1 / 0, "s")
    if figure == "noise":
        print("by Python"); os.system("echo by another process")
    results = iter([1.0, 2.0, 2.01, 9.0])
    return peer.Figure(lambda: next(results), "tokens/s", facts={"engine": "its own", "batch": 3})
peer.serve(measure, 1, {"engine": "fake", "device": "none"})
"""


def asked(*figures):
    """Answers of the peer above, and what it writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PEER], input="".join(figure + "\n" for figure in figures), text=True,
        capture_output=True, check=True, cwd=Path(__file__).parent)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


class Warmth(unittest.TestCase):
    def warm(self, results, runs=1):
        left = iter(results)
        return peer.warm(lambda: next(left), runs)

    def test_two_that_agree_end_it(self):
        self.assertEqual(self.warm([1, 5, 10, 10.3, 99]), ([1, 5], [10, 10.3], True))

    def test_just_over_three_percent_is_no_agreement(self):
        self.assertEqual(self.warm([10, 10.32, 10.32, 99]), ([10], [10.32, 10.32], True))

    def test_none_is_thrown_away_if_the_first_two_agree(self):
        self.assertEqual(self.warm([4, 4]), ([], [4, 4], True))

    def test_further_runs_follow_and_need_not_agree(self):
        self.assertEqual(self.warm([1, 4, 4, 8, 9, 99], runs=4), ([1], [4, 4, 8, 9], True))

    def test_eight_runs_are_the_cap(self):
        self.assertEqual(
            self.warm([1, 2, 4, 8, 16, 32, 64, 128, 128]), ([1, 2, 4, 8, 16, 32], [64, 128], False))
        self.assertEqual(
            self.warm([1, 2, 4, 8, 16, 32, 64, 128, 128], runs=3), ([1, 2, 4, 8, 16], [32, 64, 128], False))

    def test_time_is_a_cap_but_one_run_there_is(self):
        with mock.patch.object(peer, "MOST_SECONDS", -1.0):
            self.assertEqual(self.warm([5, 5, 5]), ([], [5], False))

    def test_nothing_agrees_with_nothing(self):
        self.assertEqual(self.warm([0, 0]), ([], [0, 0], True))


class Lines(unittest.TestCase):
    def test_an_answer(self):
        (answer,), _ = asked("decode:3")
        self.assertGreater(answer.pop("peak_rss_bytes"), 0)
        self.assertEqual(answer, {
            "figure": "decode:3", "median": 2.005, "runs": [2.0, 2.01], "warmup": [1.0], "settled": True,
            "unit": "tokens/s", "engine": "its own", "device": "none", "batch": 3})

    def test_once(self):
        (answer,), _ = asked("once")
        self.assertEqual(
            [answer[name] for name in ("runs", "warmup", "settled", "median")], [[7.0], [], False, 7.0])

    def test_what_fails_is_answered_and_the_next_is_taken(self):
        answers, errors = asked("fails", "decode:1")
        self.assertEqual(answers[0], {"figure": "fails", "error": "ZeroDivisionError: division by zero"})
        self.assertEqual(answers[1]["runs"], [2.0, 2.01])
        self.assertIn("Traceback", errors)

    def test_standard_output_is_for_answers(self):
        answers, errors = asked("noise")
        self.assertEqual(len(answers), 1)
        self.assertIn("by Python", errors)
        self.assertIn("by another process", errors)


if __name__ == "__main__":
    unittest.main()
