"""Stages of a run that is short and cannot be repeated: each has a cap, all have one deadline, and what one
has found is on disk the moment it ends, whatever becomes of the next.

A stage is a function that gets the time (of time.monotonic) at which it has to be done and returns a dict;
its member "summary" is what people read of it. One that fails, or that outlasts its time by more than GRACE,
is told in the report and the next one begins. Whatever it starts, it starts through start() of
bench/python/turns.py, in a session of its own, so that nothing is left behind that holds the card.
"""

import glob
import json
import os
import signal
import subprocess
import tarfile
import time
import traceback

import turns

GRACE = 10  # seconds over its time until a stage is broken off where it stands
SAVING = 3  # seconds before the deadline from which on no stage begins


class Overdue(BaseException):
    """Breaks off a stage; no Exception, so that nothing on the way takes it for a failure of its own."""


class Run:
    """A run's report, growing stage by stage. FOLDER receives report.json, report.txt and results.tar.gz;
    raw, a folder elsewhere, is what the archive holds, so that three files come back however many there
    are."""

    def __init__(self, folder, raw, seconds, facts):
        self.folder, self.raw = folder, raw
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.report = {**facts, "stages": []}
        os.makedirs(folder, exist_ok=True)
        os.makedirs(raw, exist_ok=True)
        self.save()

    def stage(self, name, cap, work):
        entry = {"stage": name, "cap": cap}
        begun = time.monotonic()
        until = min(begun + cap, self.deadline - SAVING)
        print(f"== {name}: at most {max(0, until - begun):.0f} s", flush=True)
        if until <= begun:
            entry["state"] = "not begun: time is up"
        else:
            entry |= self.attempt(work, until)
        entry["seconds"] = round(time.monotonic() - begun, 1)
        self.report["stages"].append(entry)
        self.report["seconds"] = round(time.monotonic() - self.started, 1)
        self.save()
        print(f"   {line(entry)}", flush=True)
        return entry

    def attempt(self, work, until):
        def overdue(*_):
            raise Overdue

        signal.signal(signal.SIGALRM, overdue)
        broken_off = min(until + GRACE, self.deadline - 1)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, broken_off - time.monotonic()))
        try:
            return {"state": "done", **work(until)}
        except Overdue:
            return {"state": "broken off: it outlasted its time"}
        except (Exception, SystemExit) as error:
            return {"state": f"failed: {type(error).__name__}: {error}", "trace": traceback.format_exc()}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def save(self):
        self.write("report.json", json.dumps(self.report, indent=1) + "\n")
        self.write("report.txt", "".join(line + "\n" for line in self.lines()))
        archive = os.path.join(self.folder, "results.tar.gz")
        with tarfile.open(archive + ".part", "w:gz") as tar:
            for name in ("report.json", "report.txt"):
                tar.add(os.path.join(self.folder, name), name)
            tar.add(self.raw, "raw")
        os.replace(archive + ".part", archive)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path + ".part", "w") as file:
            file.write(text)
        os.replace(path + ".part", path)

    def lines(self):
        yield " ".join(f"{name}: {value}." for name, value in self.report.items() if isinstance(value, str))
        for entry in self.report["stages"]:
            yield f"{entry['stage']}: {line(entry)}"
            yield from (f"    {detail}" for detail in entry.get("details", ()))

    def failed(self):
        return any(entry["state"] != "done" or entry.get("failures") for entry in self.report["stages"])


def line(entry):
    text = f"{entry['state']}, {entry['seconds']} s"
    return f"{text}; {entry['summary']}" if "summary" in entry else text


def run(command, log, until, **settings):
    """Runs a command to its end or until its time is up; returns its exit status, or "time is up". All its
    output goes to the file `log`."""
    with open(log, "ab") as output:
        process = turns.start(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **settings)
        try:
            return process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "time is up"
        finally:
            turns.end(process)


def class_path(bundle):
    """Of a bundle: Halter and its libraries."""
    return [os.path.join(bundle, "classes"), *sorted(glob.glob(os.path.join(bundle, "lib", "*.jar")))]
