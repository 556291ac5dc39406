"""The Python side of turns: reads figures from standard input, one a line, and answers each with one line
of JSON. Every peer's figures are taken by the rule of warmth here; dev.halter.bench.Turns has the same.

A figure is taken when it is warm: single runs go on until two in a row agree within 3 % of the larger, to a
cap of 8 runs or 20 s. `runs` are these two and what else was asked for, `warmup` those before. Where the cap
came first, `settled` is false and `runs` are the last that there are. Needs the standard library alone.
"""

import contextlib
import gc
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

AGREE = 0.03
MOST_RUNS = 8
MOST_SECONDS = 20.0


@dataclass
class Figure:
    """What a peer makes of a figure's name: a run gives one rate, time or size. `once` is for what takes so
    long that it is run a single time, cold. `facts` are further members of the answer."""

    run: Callable[[], float]
    unit: str
    once: bool = False
    facts: dict = field(default_factory=dict)


def serve(measure, runs, facts, figures=sys.stdin):
    """Answers each of the figures until they end. `measure` makes a Figure of a name, outside of what is
    timed; `facts` are members of every answer. What fails is answered with its error, and the next figure
    is taken as if nothing had been."""
    answers = only_answers()
    for line in figures:
        figure = line.strip()
        try:
            answer = taken(figure, measure(figure), runs, facts)
        except Exception as error:
            traceback.print_exc()
            answer = {"figure": figure, "error": f"{type(error).__name__}: {error}"}
        give_back("error" in answer)
        print(json.dumps(answer), file=answers, flush=True)


def taken(name, figure, runs, facts):
    """The answer of one figure."""
    warmup, kept, settled = warm(figure.run, runs) if not figure.once else ([], [figure.run()], False)
    return {"figure": name, "median": statistics.median(kept), "runs": kept, "warmup": warmup,
            "settled": settled, "unit": figure.unit, **facts, **figure.facts, "peak_rss_bytes": peak_resident()}


def warm(run, runs):
    """Results before a figure was warm, those that count, and whether it got warm."""
    count = max(2, runs)
    results, end = [], time.perf_counter() + MOST_SECONDS
    while len(results) < MOST_RUNS and (not results or time.perf_counter() < end):
        results.append(run())
        if agree(*results[-2:]):
            first = len(results) - 2
            results += [run() for _ in range(count - 2)]
            return results[:first], results[first:], True
    return results[:-count], results[-count:], False


def agree(*results):
    """Whether these are two and within 3 % of the larger."""
    return len(results) == 2 and abs(results[0] - results[1]) <= AGREE * max(map(abs, results))


def only_answers():
    """Standard output for answers; what anything else writes there from now on goes to standard error."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def give_back(failed):
    """Device memory that torch holds in reserve goes back: the peer whose turn is next may need it. After
    a failure that may be what an exception's frames still hold in a cycle, too."""
    if failed:
        gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # of a device that has failed for good
            torch.cuda.empty_cache()


def peak_resident():
    """Most memory that this process has had in RAM; -1 if unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return -1
