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
import select
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOAD_SECONDS = 120  # that a peer may take to start and answer its first figure
FIGURE_SECONDS = 60  # that it may take for another one

# Environment variables that cap the instruction set: Halter's, and those of torch and what it multiplies by.
CAPS = ("HALTER_MAX_ISA", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


class Peer:
    """An engine that answers figures, with further environment variables if there are any.

    A figure that fails costs only itself: its answer is {"figure", "error"}, and an engine that ended, hung
    or failed is started anew for the next figure, since a fault of the device stays with its process. All
    answers are appended to the file that HALTER_ANSWERS names, the moment they are there. `deadline` (of
    time.monotonic) is when all has to be done: from then on every figure fails at once, and until then each
    has its own limit. Without a deadline there is none."""

    def __init__(self, command, name="", deadline=None, **environment):
        self.command = [str(part) for part in command]
        self.name = name
        self.deadline = deadline
        self.environment = environment
        self.process = None

    def ask(self, figure):
        answer = self.answer(figure)
        if "error" in answer:
            self.kill()
        if "HALTER_ANSWERS" in os.environ:
            with open(os.environ["HALTER_ANSWERS"], "a") as file:
                file.write(json.dumps({"peer": self.name, **answer}) + "\n")
        return answer

    def answer(self, figure):
        seconds = FIGURE_SECONDS + (LOAD_SECONDS if self.process is None else 0)
        if self.process is None:
            self.process = start(
                self.command, env=os.environ | self.environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, cwd=ROOT)
        until = None
        if self.deadline is not None:
            until = min(time.monotonic() + seconds, self.deadline)
        try:
            self.process.stdin.write(f"{figure}\n".encode())
            self.process.stdin.flush()
            return json.loads(self.line(until))
        except TimeoutError:
            late = until == self.deadline
            return {"figure": figure, "error": "time is up" if late else f"no answer within {seconds} s"}
        except (OSError, EOFError, ValueError) as error:
            status = self.process.wait()
            return {"figure": figure, "error": f"the engine ended, exit status {status} ({error})"}

    def line(self, until):
        """The next line of output, read without a buffer in between, so that select knows of all of it."""
        line = b""
        while not line.endswith(b"\n"):
            left = None if until is None else max(0, until - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                raise EOFError("end of its output")
            line += part
        return line

    def close(self):
        """Lets the engine end, if it does so at once."""
        if self.process is not None:
            self.process.stdin.close()
            left = 20 if self.deadline is None else self.deadline - time.monotonic()
            try:
                self.process.wait(max(0.1, min(20, left)))
            except subprocess.TimeoutExpired:
                pass
            self.kill()

    def kill(self):
        if self.process is not None:
            end(self.process)
            self.process = None


def start(command, **settings):
    """A process in a session of its own, so that it can be ended with all that it has started."""
    return subprocess.Popen(command, start_new_session=True, **settings)


def end(process):
    """Ends a process of start() and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


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


def java(main, *arguments, **properties):
    """A peer's command: a class of the benchmarks, with system properties halter.NAME, which win over those of jvm()."""
    named = [f"-Dhalter.{name}={value}" for name, value in properties.items()]
    return [*jvm(), *named, f"dev.halter.bench.{main}", *arguments]


def python(script, *arguments):
    """A peer's command: a script of bench/python."""
    return [sys.executable, ROOT / "bench/python" / script, *arguments]


def median(answers):
    """Of all runs of one figure's answers; ends the benchmark if it has none."""
    for answer in answers:
        if "error" in answer:
            sys.exit(f"{answer['figure']}: {answer['error']}")
    return statistics.median(run for answer in answers for run in answer["runs"])


# What bench/compare and bench/builds ask for.
GENERATION = ["decode:1", "decode:32", "prefill:512"]

# Shapes of random models: one whose steps are long beside what stands around them, and one to try scripts with.
SMALL = {"layers": 12, "d-model": 768, "heads": 12, "kv-heads": 12, "d-mlp": 2048, "vocab": 32000}
TINY = {"layers": 3, "d-model": 64, "heads": 4, "kv-heads": 2, "d-mlp": 96, "vocab": 100}


def model(folder, dtype, shape):
    """A random model of this shape, {option of random_model.py: value}; written on first use."""
    folder = folder / "-".join([dtype] + [str(value) for value in shape.values()])
    if not (folder / "config.json").exists():
        options = [str(part) for name, value in shape.items() for part in (f"--{name}", value)]
        subprocess.run(
            python("random_model.py", folder, "--dtype", dtype, *options), check=True)
    return folder


def path_patching_flop(shape, pairs, tokens):
    """Of the products that a sweep over all heads needs: two forward passes, and the rows of all senders."""
    d, f, layers, heads = shape["d-model"], shape["d-mlp"], shape["layers"], shape["heads"]
    kv = d * shape["kv-heads"] // heads
    passes = 2 * tokens * layers * (2 * d * d + 2 * d * kv + 3 * d * f)
    mlps = heads * layers * (layers + 1) // 2 + layers * (layers - 1) // 2 + layers
    return 2 * pairs * (passes + 3 * d * f * mlps + layers * d * d)


def report(script, device, threads, **rest):
    """The frame of a report: where and how it came about."""
    caps = [f"{name}={os.environ[name]}" for name in CAPS if name in os.environ]
    return {
        "date": datetime.date.today().isoformat(), "machine": machine(device),
        "command": " ".join([*caps, f"bench/{script}", *sys.argv[1:]]), "threads": threads,
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
