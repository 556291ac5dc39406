"""Test classes, each in a JVM of its own: a fault of the device stays in its process, and one in a shared
process would fail every test after it. What became of a test is read from the feed that JUnit prints while
it runs, so that a process that dies or hangs still tells which test it was in."""

import concurrent.futures
import os
import re
import time

import stages

FEED = re.compile(r"^(JUnit \S+ > .*) :: (STARTED|SUCCESSFUL|FAILED|ABORTED|SKIPPED)$")


class Classes:
    """What a bundle's test classes need: `java` up to and without -jar, the archive's folder, a folder for
    logs. They run in the environment of this moment."""

    def __init__(self, java, bundle, logs):
        self.java, self.bundle, self.logs = java, bundle, logs
        self.environment = dict(os.environ, RUST_FLAVOR="cpu")

    def command(self, name, properties=(), under=()):
        path = os.pathsep.join([os.path.join(self.bundle, "test-classes"), *stages.class_path(self.bundle)])
        return [
            *under, *self.java, *(f"-D{each}" for each in properties), "-jar",
            os.path.join(self.bundle, "junit.jar"), "execute", "--details=testfeed", "--disable-banner",
            "--disable-ansi-colors", "--class-path", path, f"--select-class={name}"]

    def run(self, name, until, label="", properties=(), under=()):
        """One class. It failed unless something passed, nothing else happened, and the process ended well."""
        log = os.path.join(self.logs, f"{label}{name.rpartition('.')[2]}.log")
        status = stages.run(
            self.command(name, properties, under), log, until, cwd=self.bundle,
            env=self.environment)
        with open(log, errors="replace") as file:
            lines = file.read().splitlines()
        found = outcome(lines)
        bad = found["failed"] + found["unfinished"]
        found["good"] = status == 0 and not bad and found["passed"] + found["skipped"] > 0
        return {"class": name, "status": status, **found, "tail": [] if found["good"] else lines[-5:]}

    def all(self, names, until, workers, each, **options):
        """Many classes, `workers` at a time and `each` seconds at most."""
        def one(name):
            left = until - time.monotonic()
            if left < 1:
                return {"class": name, "status": "not begun: time is up", "good": False, "passed": 0,
                        "skipped": 0, "failed": [], "unfinished": [], "tail": []}
            return self.run(name, min(until, time.monotonic() + each), **options)

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return summary(list(pool.map(one, names)))


def summary(results):
    bad = [result for result in results if not result["good"]]
    count = {kind: sum(result[kind] for result in results) for kind in ("passed", "skipped")}
    tests = [test for result in bad for test in result["failed"] + result["unfinished"]]
    details = []
    for result in bad:
        details.append(f"{result['class']}: exit status {result['status']}")
        for kind in ("failed", "unfinished"):
            details += [f"  {kind}: {test['test']}: {test['message'][:300]}" for test in result[kind]]
        if not result["failed"] and not result["unfinished"]:
            details += [f"  {line}" for line in result["tail"]]
    return {
        "summary": f"{count['passed']} passed, {count['skipped']} skipped in {len(results)} classes; "
                   f"{len(tests)} failed or did not end, in {len(bad)} classes",
        "details": details, "failures": [result["class"] for result in bad], "classes": results}


def outcome(lines):
    """JUnit's feed: a line for each test that starts or ends, an indented trace after failures."""
    states, messages, last = {}, {}, None
    for line in lines:
        match = FEED.match(line)
        if match:
            last, state = match.groups()
            states[last] = state
        elif last and states[last] in ("FAILED", "ABORTED") and line.startswith("\t"):
            messages[last] = messages.get(last) or line.strip()

    def tests(state):
        return [
            {"test": " > ".join(name.split(" > ")[2:]), "message": messages.get(name, "")}
            for name, its in states.items() if its == state]

    return {
        "passed": len(tests("SUCCESSFUL")), "skipped": len(tests("SKIPPED")) + len(tests("ABORTED")),
        "failed": tests("FAILED"), "unfinished": tests("STARTED")}
