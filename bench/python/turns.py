"""What the benchmarks share: peers that take turns on the same figures in one run, and reports.

A peer is a process that reads figures from its standard input, one a line, and answers each with one
line of JSON: {"figure", "runs": [...], "unit", "peak_rss_bytes", ...}. Each round asks one peer and
then the next for each figure, so that what else the machine does meets all of them alike; ratios are of
medians over all rounds. The Java side is dev.halter.bench.Turns.
"""

import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Peer:
    """An engine that answers figures, with further environment variables if there are any."""

    def __init__(self, command, **environment):
        self.process = subprocess.Popen(
            [str(part) for part in command], env=os.environ | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def ask(self, figure):
        self.process.stdin.write(figure + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"an engine ended at {figure}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def memory(command, figure):
    """The answer of a new process whose allocator gives back at once what is freed: one that kept it for
    later would not grow when it is used again."""
    peer = Peer(command, MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
    answer = peer.ask(figure)
    peer.close()
    return answer


def jvm():
    """Java with the benchmarks and Halter itself, of this checkout or of what HALTER_JAVA says."""
    if "HALTER_JAVA" in os.environ:
        return shlex.split(os.environ["HALTER_JAVA"])
    home = subprocess.run([ROOT / "tools/jdk"], check=True, capture_output=True, text=True).stdout
    return [
        Path(home.strip()) / "bin/java", "--enable-native-access=ALL-UNNAMED", "-XX:+UseSerialGC",
        "-Xmx2g", f"-Dhalter.native={ROOT}/target/native", "-cp", ROOT / "bench/target/benchmarks.jar"]


def java(main, *arguments):
    """A peer's command: a class of the benchmarks."""
    return [*jvm(), f"dev.halter.bench.{main}", *arguments]


def python(script, *arguments):
    """A peer's command: a script of bench/python."""
    return [sys.executable, ROOT / "bench/python" / script, *arguments]


def take_turns(peers, figures, rounds):
    """{(figure, name): [answer, ...]} of peers {name: Peer}."""
    answers = {}
    for _ in range(rounds):
        for figure in figures:
            for name, peer in peers.items():
                answers.setdefault((figure, name), []).append(peer.ask(figure))
    return answers


def median(answers):
    """Of all runs of one figure's answers."""
    return statistics.median(run for answer in answers for run in answer["runs"])


def model(folder, dtype, shape, device):
    """A random model of this shape, {option of random_model.py: value}; written on first use."""
    folder = folder / "-".join([dtype] + [str(value) for value in shape.values()])
    if not (folder / "config.json").exists():
        options = [str(part) for name, value in shape.items() for part in (f"--{name}", value)]
        subprocess.run(
            python("random_model.py", folder, "--dtype", dtype, "--device", device, *options), check=True)
    return folder


def report(script, device, threads, **rest):
    """The frame of a report: where and how it came about."""
    return {
        "date": datetime.date.today().isoformat(), "machine": machine(device),
        "command": " ".join([f"bench/{script}", *sys.argv[1:]]), "threads": threads,
        "load": os.getloadavg()[0], **rest}


def write(out, report, caption, columns, rows):
    """Writes a report. Caption (Markdown), columns and rows of text are its table in README, where
    tools/readme puts it; the first column is aligned to the left, as are those that end in a blank."""
    report |= {"caption": caption, "columns": columns, "table": rows}
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n")


def machine(device):
    if device == "cuda":
        return subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            check=True, capture_output=True, text=True).stdout.strip()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()}, {os.cpu_count()} cores"
    return platform.processor()
