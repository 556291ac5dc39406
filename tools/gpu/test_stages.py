"""Tests of a GPU run's stages, without a GPU and without Halter: a fake engine and a fake JUnit hang, are
killed, keep a device error for good, or fail a single figure, in each kind of stage; everything else has to
be there at the end, in the one archive, within the deadline.

    python3 -m unittest discover -s tools/gpu
"""

import json
import os
import signal
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "bench/python"), str(HERE)]
import gpu  # noqa: E402
import junit  # noqa: E402
import stages  # noqa: E402
import turns  # noqa: E402

# Answers figures; after "sticky" it fails at everything. A hanging one has a child that hangs as well.
ENGINE = """
import json, os, signal, subprocess, sys, time
sticky = False
for line in sys.stdin:
    figure = line.strip()
    if figure == "hang":
        print(json.dumps({"child": subprocess.Popen(["sleep", "600"]).pid}), file=open(sys.argv[1], "w"))
        time.sleep(600)
    if figure == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    sticky = sticky or figure == "sticky"
    if sticky or figure == "bad":
        answer = {"figure": figure, "error": "DeviceException: " + ("700" if sticky else "too long")}
    else:
        answer = {"figure": figure, "median": 2.0, "runs": [2.0], "settled": True, "unit": "tokens/s"}
    print(json.dumps(answer), flush=True)
"""

# Plays JUnit: what the class named by --select-class does is in its name.
JUNIT = """
import os, signal, sys, time
name = sys.argv[-1].rpartition("=")[2]
test = "JUnit Jupiter > %s > works()" % name.rpartition(".")[2]
print(test, ":: STARTED", flush=True)
if "Hang" in name: time.sleep(600)
if "Crash" in name: os.kill(os.getpid(), signal.SIGKILL)
if "Fail" in name:
    print(test, ":: FAILED")
    print("\\tDeviceException: CUDA_ERROR_ILLEGAL_ADDRESS (700)")
    sys.exit(1)
if "Empty" not in name: print(test, ":: SUCCESSFUL")
"""


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


class StagesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.raw = self.folder / "raw"
        self.note = self.folder / "note"
        (self.folder / "engine.py").write_text(ENGINE)
        (self.folder / "junit.py").write_text(JUNIT)
        os.environ["HALTER_ANSWERS"] = str(self.folder / "answers.jsonl")
        self.addCleanup(os.environ.pop, "HALTER_ANSWERS")

    def run_of(self, seconds):
        return stages.Run(self.folder / "out", self.raw, seconds, {"date": "today"})

    def peer(self, until):
        return turns.Peer([sys.executable, self.folder / "engine.py", self.note], "halter", until)

    def suite(self):
        bundle = self.folder / "bundle"
        bundle.mkdir(exist_ok=True)
        classes = junit.Classes([sys.executable], str(bundle), str(self.raw))
        classes.command = lambda name, properties=(), under=(): [
            sys.executable, str(self.folder / "junit.py"), f"--select-class={name}"]
        return classes

    def archived(self):
        """What came back: the report out of the archive, which equals the file beside it."""
        with tarfile.open(self.folder / "out" / "results.tar.gz") as tar:
            report = json.loads(tar.extractfile("report.json").read())
            self.assertIn("raw", tar.getnames())
        self.assertEqual(report, json.loads((self.folder / "out" / "report.json").read_text()))
        self.assertLessEqual(len(list((self.folder / "out").iterdir())), 8)
        return {entry["stage"]: entry for entry in report["stages"]}

    def test_a_figure_that_fails_costs_only_itself(self):
        for fault in ("bad", "crash", "sticky"):
            run = self.run_of(30)
            run.stage(fault, 20, lambda until: gpu.told(gpu.ask(self.peer(until), ["a", fault, "b"])))
            entry = self.archived()[fault]
            self.assertEqual([fault], entry["failures"])
            self.assertEqual([2.0, 2.0], [row["median"] for row in entry["rows"] if "median" in row])
            self.assertTrue(run.failed())

    def test_answers_are_on_disk_the_moment_they_are_there(self):
        peer = self.peer(time.monotonic() + 10)
        peer.ask("a")
        lines = (self.folder / "answers.jsonl").read_text().splitlines()
        self.assertEqual("a", json.loads(lines[-1])["figure"])
        peer.close()

    def test_an_engine_that_hangs_is_ended_with_all_it_started_and_the_next_stage_begins(self):
        run = self.run_of(30)
        run.stage("hangs", 2, lambda until: gpu.told(gpu.ask(self.peer(until), ["a", "hang", "b"])))
        run.stage("after", 5, lambda until: gpu.told(gpu.ask(self.peer(until), ["c"])))
        found = self.archived()
        self.assertEqual(["hang", "b"], found["hangs"]["failures"])
        self.assertLess(found["hangs"]["seconds"], 4)
        self.assertEqual([], found["after"]["failures"])
        self.assertFalse(alive(json.loads(self.note.read_text())["child"]))

    def test_a_figure_that_hangs_is_given_up_by_itself_where_the_stage_has_time(self):
        seconds = turns.FIGURE_SECONDS
        self.addCleanup(setattr, turns, "FIGURE_SECONDS", seconds)
        self.addCleanup(setattr, turns, "LOAD_SECONDS", turns.LOAD_SECONDS)
        turns.FIGURE_SECONDS, turns.LOAD_SECONDS = 1, 1
        rows = gpu.ask(self.peer(time.monotonic() + 20), ["a", "hang", "b"])
        self.assertEqual(["hang"], [row["figure"] for row in rows if "error" in row])

    def test_classes_that_hang_crash_or_fail_leave_the_others(self):
        run = self.run_of(30)
        names = [f"x.{kind}Test" for kind in ("Good", "Hang", "Crash", "Fail", "Empty", "Fine")]
        run.stage("tests", 20, lambda until: self.suite().all(names, until, 3, 2))
        entry = self.archived()["tests"]
        self.assertEqual([f"x.{kind}Test" for kind in ("Hang", "Crash", "Fail", "Empty")], entry["failures"])
        results = {result["class"]: result for result in entry["classes"]}
        self.assertEqual(1, results["x.GoodTest"]["passed"] * results["x.FineTest"]["passed"])
        self.assertEqual("time is up", results["x.HangTest"]["status"])
        self.assertEqual(-signal.SIGKILL, results["x.CrashTest"]["status"])
        self.assertEqual("works()", results["x.CrashTest"]["unfinished"][0]["test"])
        self.assertIn("ILLEGAL_ADDRESS", results["x.FailTest"]["failed"][0]["message"])
        self.assertIn("ILLEGAL_ADDRESS", " ".join(entry["details"]))

    def test_a_command_that_hangs_is_cut_off_and_its_output_kept(self):
        log = self.folder / "log"
        status = stages.run(
            ["bash", "-c", "echo said; sleep 600 & sleep 600"], log, time.monotonic() + 1)
        self.assertEqual(("time is up", "said\n"), (status, log.read_text()))

    def test_a_stage_that_raises_or_will_not_end_costs_only_itself(self):
        run = self.run_of(30)
        grace, stages.GRACE = stages.GRACE, 1
        self.addCleanup(setattr, stages, "GRACE", grace)
        run.stage("raises", 5, lambda until: {}["missing"])
        run.stage("exits", 5, lambda until: sys.exit("no"))
        run.stage("stays", 1, lambda until: time.sleep(600))
        run.stage("works", 5, lambda until: {"summary": "fine"})
        found = self.archived()
        self.assertIn("KeyError", found["raises"]["state"])
        self.assertIn("SystemExit: no", found["exits"]["state"])
        self.assertIn("broken off", found["stays"]["state"])
        self.assertEqual(("done", "fine"), (found["works"]["state"], found["works"]["summary"]))

    def test_stages_that_all_sleep_keep_to_the_deadline(self):
        begun = time.monotonic()
        run = self.run_of(8)
        for name in "abcdef":
            run.stage(name, 2, lambda until: {
                "status": stages.run(["sleep", "600"], self.folder / "log", until)})
        self.assertLess(time.monotonic() - begun, 8)
        states = [entry["state"] for entry in self.archived().values()]
        self.assertEqual("done", states[0])
        self.assertEqual("not begun: time is up", states[-1])

    def test_what_ended_is_saved_while_the_next_runs(self):
        run = self.run_of(30)
        run.stage("first", 5, lambda until: {"summary": "fine"})
        run.stage("second", 5, lambda until: {"seen": list(self.archived())})
        self.assertEqual(["first"], self.archived()["second"]["seen"])


class ProfileTest(unittest.TestCase):
    def test_steps_are_told_apart_and_launches_of_a_kernel_added_up(self):
        columns = ["ID", "Kernel Name", "Grid Size", "Metric Name", "Metric Unit", "Metric Value"]
        names = ["embed_bf16", "rmsnorm_bf16", "rmsnorm_bf16", "embed_bf16", "gemm<128>(float, int)"]
        lines = ["==PROF== Connected\n", ",".join(f'"{name}"' for name in columns) + "\n"]
        for number, name in enumerate(names):
            for metric, value in (("gpu__time_duration.sum", "1,024"), ("dram__bytes_read.sum", "8")):
                values = [number, name, "(1, 1, 1)", metric, "ns", value]
                lines.append(",".join(f'"{value}"' for value in values) + "\n")
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.write("".join(lines))
            file.flush()
            first, second = gpu.steps_of(file.name)
        self.assertEqual({"kernel": "rmsnorm_bf16", "grid": "(1, 1, 1)", "launches": 2, "ns": 2048.0,
                          "read": 16.0, "written": 0}, first[0])
        self.assertEqual(["embed_bf16", "gemm<128>(float, int)"], [entry["kernel"] for entry in second])


if __name__ == "__main__":
    unittest.main()
