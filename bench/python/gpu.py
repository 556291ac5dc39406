"""What a GPU run measures, stage by stage: Halter, and Python on the same card in the same run.

Every stage returns the raw answers of its peers (bench/python/turns.py); tools/gpu/publish makes README's
tables of them. The dry form takes the same figures over a stand-in for the driver, with every length a
sixteenth and a small model, so that a wrong context or option shows where there is no card.
"""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import turns

LLAMA_8B = {"layers": 32, "d-model": 4096, "heads": 32, "kv-heads": 8, "d-mlp": 14336, "vocab": 128256}
NUCLEUS = "top_p=0.9"
SAMPLED = f"decode:1,{NUCLEUS},top_k=40"
NET = "net:0.05:0.95"
TINY = {"layers": 2, "d-model": 128, "heads": 2, "kv-heads": 1, "d-mlp": 192, "vocab": 512}


@dataclasses.dataclass(frozen=True)
class Size:
    """How large everything is."""

    shape: dict
    unit: int  # of lengths
    batches: tuple
    few_rows: tuple  # batches with products of their own
    shared: int  # tokens that rows have in common
    attended: tuple  # tokens for which attention is launched in a run, then prompts
    tokens: int  # of a decode run
    hooked_tokens: int  # of one by transformers
    requests: int  # that share K plans
    plan_tokens: int
    plans: tuple
    first: tuple  # plans on one prompt, its tokens, share of the depth from which they act on all
    top: tuple  # rows at a time, calls, columns, d_model, entries kept, sign
    chunk: int  # torch's rows at a time
    sparse: tuple  # atoms, d, vectors
    pairs: tuple  # pairs, tokens
    atoms: int  # of the dictionary while decoding
    k: int  # atoms that a pursuit takes
    layers: tuple  # first and last from which concepts are removed
    tuned: tuple  # heads, tokens of a step, tokens of a line

    @property
    def context(self):
        return 144 * self.unit

    @property
    def after_long(self):
        """Decoding behind a long prompt."""
        return f"decode:1,prompt={64 * self.unit}"

    @property
    def prefill(self):
        return f"prefill:{125 * self.unit}"

    @property
    def capture(self):
        return self.prefill.replace("prefill", "capture")

    @property
    def sparse_figures(self):
        """Each solver by its two ways, the pursuit first."""
        return [f"{solver}:{how}" for solver in (f"omp:{self.k}", NET) for how in ("gram", "products")]

    @property
    def code_figures(self):
        """One vector's code as a decode step makes it."""
        pursuits = [f"decode:{how}:omp:{self.k}" for how in ("rounds", "block", "cluster", "products")]
        return [*pursuits, *(f"decode:{how}:{NET}" for how in ("gram", "products"))]

    @property
    def pairs_figure(self):
        return "{}:{}".format(*self.pairs)

    @property
    def tuned_figure(self):
        return "tune:{}:{}:{}".format(*self.tuned)

    @property
    def plans_options(self):
        return f"requests={self.requests},tokens={self.plan_tokens}"

    @property
    def shared_options(self):
        """One prompt for all rows. Its last token is each row's own: its logits are wanted."""
        return f"prompt={self.shared + 1},shared=true"

    @property
    def first_figures(self):
        """Plans on one prompt: each reads it whole, and lower layers are shared."""
        return ["first:{},prompt={},from={},shared={}".format(*self.first, shared) for shared in ("false", "true")]


REAL = Size(
    LLAMA_8B, 16, (1, 32, 128), (1, 2, 4, 8), 1024, (400_000, 2000, 8000, 32000), 64, 32, 256, 128, (0, 1, 8, 64, 256),
    (64, 512, 0.75),
    (65536, 1, 128256, 4096, 10, "both"), 8192, (40000, 4096, 4096), (100, 32), 10000, 32, (3, 21), (32, 8192, 512))
DRY = Size(
    TINY, 1, (1, 2, 3), (1, 8), 128, (1, 125), 4, 4, 4, 4, (0, 1, 2), (2, 40, 0.5),
    (64, 1, 500, 64, 10, "both"), 32, (120, 64, 16), (3, 4), 100, 4, (0, 1), (2, 32, 16))


class Stages:
    """The stages that measure. `work` is a folder for models and data, `logs` one for what is kept."""

    def __init__(self, size, work, logs, torch_device, profiler=shutil.which("ncu")):
        self.size, self.work, self.logs = size, Path(work), Path(logs)
        self.torch_device, self.profiler = torch_device, profiler
        self.model = self.work / "model"

    def config(self):
        """A folder with a config alone: both sides make random weights of their own in memory."""
        if not self.model.exists():
            options = [str(part) for name, value in self.size.shape.items() for part in (f"--{name}", value)]
            subprocess.run(
                turns.python("random_model.py", self.model, "--dtype", "bf16", "--config-only", *options),
                check=True, timeout=60)
        return self.model

    def figures(self, until, name, tokens=None, context=None, batch=None, under=(), **properties):
        """Halter's peer for generation."""
        size = self.size
        command = turns.java(
            "Figures", self.config(), "cuda", "bf16", 2, tokens or size.tokens, 2,
            context or size.context, batch or size.batches[-1], **properties)
        return turns.Peer([*under, *command], name, until)

    def generation(self):
        """Figures of generation: short prompts, a long one, a prefill, and sampling."""
        return [*(f"decode:{batch}" for batch in self.size.batches), self.size.after_long, self.size.prefill,
                SAMPLED]

    def decode(self, until):
        """Generation by Halter, draws of a row and of many, and with the portable kernel of attention."""
        drawn = [f"decode:{batch},{NUCLEUS}" for batch in (self.size.batches[0], self.size.batches[-1])]
        rows = ask(self.figures(until, "halter"), [*self.generation(), *drawn])
        portable = self.figures(until, "halter, attention portable", attention="portable")
        return told(rows + ask(portable, self.generation()))

    def few_rows(self, until):
        """Steps of few rows, whose products are our own, as they are on sm_90: their launches and attention's
        overlapping; then by the portable kernels, and by cuBLAS's. Of one row also with launches of the products
        alone overlapping, and one after another."""
        one = ["decode:1", self.size.after_long]
        all_rows = one + [f"decode:{batch}" for batch in self.size.few_rows[1:]]
        ways = (
            ("halter", {"few_rows": "own"}, all_rows),
            ("halter, products overlap", {"few_rows": "own", "pdl": "multiply_few"}, one),
            ("halter, one after another", {"few_rows": "own", "pdl": "off"}, one),
            ("halter, portable", {"few_rows": "portable"}, all_rows),
            ("halter, few rows by cuBLAS", {"few_rows": "cublas"}, all_rows))
        return told([
            row for name, way, figures in ways for row in ask(self.figures(until, name, **way), figures)])

    def few_kernels(self, until):
        """Microseconds of each product of one row, and of a layer's of more: with launches overlapping, one after
        another, and of the portable kernels."""
        parts = [f"{kind}:1" for kind in ("gate", "down", "o", "rope")]
        figures = parts + [f"layer:{rows}" for rows in self.size.few_rows]
        ways = {
            "halter": {"few_rows": "own"}, "halter, one after another": {"few_rows": "own", "pdl": "off"},
            "halter, portable": {"few_rows": "portable"}}
        return told([
            row for name, way in ways.items()
            for row in ask(turns.Peer(turns.java("FewRowsFigures", self.config(), 2, **way), name, until), figures)])

    def capture(self, until):
        """A prefill, and the same with every block's residual stream captured; their share of one another."""
        rows = ask(self.figures(until, "halter"), [self.size.prefill, self.size.capture])
        answer = told(rows)
        if not answer["failures"]:
            plain, captured = (row["median"] for row in rows)
            token = 4 * self.size.shape["layers"] * self.size.shape["d-model"]  # bytes that come back
            answer["details"].append(
                f"with capture {plain / captured:.2f} times the time, {token * captured / 1e9:.1f} GB/s come back")
        return answer

    def cascade(self, until):
        """Decoding of rows that have one prompt, with its keys read once for all rows and by each; and the
        kernels of attention where they are read once."""
        figures = [f"decode:{batch},{self.size.shared_options}" for batch in self.size.batches[1:]]
        rows = ask(self.figures(until, "halter"), figures)
        rows += ask(self.figures(until, "halter, cascade off", cascade="off"), figures)
        report = self.logs / "cascade.csv"
        under = self.under(report, "--kernel-name", "regex:embed|attention")
        step = figures[-1].replace("decode", "step")
        rows += ask(self.figures(until, "profiled", tokens=8, under=under), [step])
        return profiled(rows, [step], report)

    def attention(self, until):
        """Attention over a prompt in one layer, by wgmma and by mma.sync."""
        peer = turns.Peer(
            turns.java("AttentionFigures", "cuda", self.size.attended[0], 2), "halter", until)
        figures = [f"{form}:{prompt}" for prompt in self.size.attended[1:] for form in ("auto", "sm80")]
        return told(ask(peer, figures))

    def torch(self, until):
        """Generation by transformers as it comes; by torch with a static cache and a CUDA graph; and what
        the card gives."""
        python = turns.Peer(turns.python(
            "generate.py", "--model", self.config(), "--dtype", "bf16", "--device", self.torch_device,
            "--tokens", self.size.hooked_tokens, "--runs", 2, "-"), "torch", until)
        static = [f"static:{figure.removeprefix('decode:')}" for figure in self.generation()
                  if figure.startswith("decode:")]
        # The sampling one last: a graph that cannot be captured may leave torch's draws in disorder.
        return told(ask(
            python, ["copy", "read", "matmul:bf16", *static[:-1], *self.generation(), static[-1]]))

    def kernels(self, until):
        """Every kernel of a decode step and of a prefill: its time and the bytes that it moved, by the
        profiler."""
        report = self.logs / "kernels.csv"
        decoding = ["decode:1", self.size.after_long, f"decode:{self.size.batches[1]}", SAMPLED,
                    f"decode:1,{NUCLEUS}"]
        steps = [figure.replace("decode", "step") for figure in decoding]
        steps.append(self.size.prefill.replace("prefill", "prompt"))
        peer = self.figures(
            until, "profiled", tokens=8, batch=self.size.batches[1], under=self.under(report))
        return profiled(ask(peer, steps), steps, report)

    def under(self, report, *options):
        """What a peer runs under whose kernels are to be measured; nothing without a profiler."""
        if not self.profiler:
            return []
        metrics = "gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum"
        return [
            self.profiler, "--clock-control", "none", "--profile-from-start", "off", "--graph-profiling",
            "node", "--metrics", metrics, *options, "--print-units", "base", "--csv", "--log-file", report]

    def top(self, until):
        """multiplyTop in all forms at the map's shape, and torch's product and one chunk."""
        sizes = (*self.size.top, 2, 2)
        halter = turns.Peer(turns.java("TopFigures", "cuda", "bf16", *sizes), "halter", until)
        torch = turns.Peer(turns.python("top.py", self.torch_device, "bf16", *sizes), "torch", until)
        rows = ask(halter, ["top:cublas", "top:sm90", "top:sm80"])
        return told(rows + ask(torch, ["product", f"torch:{self.size.chunk}"]))

    def dictionary(self, atoms, d, vectors):
        file = self.work / f"dictionary-{atoms}.safetensors"
        if not file.exists():
            subprocess.run(
                turns.python("sparse_coding.py", "make", file, atoms, d, vectors, self.torch_device),
                check=True, timeout=60)
        return file

    def removed_concepts(self):
        """The dictionary of which concepts are removed while decoding, for any layer."""
        return self.dictionary(str(self.size.atoms), str(self.size.shape["d-model"]), "1")

    def sparse(self, until):
        """Sparse codes: pursuit and elastic net, by products and by a Gram matrix."""
        file = self.dictionary(*map(str, self.size.sparse))
        halter = turns.Peer(turns.java("ConceptFigures", "cuda", file, 2, 2), "halter", until)
        torch = turns.Peer(
            turns.python("sparse_coding.py", self.torch_device, file, 2, 1), "torch", until)
        figures = self.size.sparse_figures
        return told(ask(halter, figures) + ask(torch, [*figures[:2], "product:f32"]))

    def heads(self, until):
        """Path patching of every head, and our own way in torch."""
        pairs = self.size.pairs_figure
        halter = turns.Peer(
            turns.java("PathPatchingFigures", self.config(), "cuda", "bf16", 2, 2), "halter", until)
        rows = ask(halter, [f"sweep:{pairs}", f"probability:{pairs}"])
        torch = turns.Peer(turns.python(
            "path_patching.py", "--model", self.config(), "--dtype", "bf16", "--device", self.torch_device),
            "torch", until)
        return told(rows + ask(torch, [f"tails:{pairs}"]))

    def tune(self, until):
        """Steps of `halter tune` over chosen heads: forward, backward and AdamW, in bf16."""
        halter = turns.Peer(
            turns.java("TuneFigures", self.config(), "cuda", "bf16", *self.size.tuned, 2), "halter", until)
        answer = told(ask(halter, [self.size.tuned_figure]))
        answer["details"] += [f"memory in use after a step: {row['used_bytes'] / 2**30:.1f} GiB"
                              for row in answer["rows"] if "used_bytes" in row]
        return answer

    def plans(self, until):
        """K distinct plans over the same requests: EasySteer's measurement of plans per request; and many on one
        prompt."""
        size = self.size
        peer = self.figures(
            until, "halter", context=max(2 * size.plan_tokens, size.first[1]) + 16, batch=size.requests)
        figures = [f"plans:{count},{size.plans_options}" for count in size.plans]
        return told(ask(peer, figures + size.first_figures))

    def steering(self, until):
        """Decoding while concepts are removed: one code of the prompt's end, or one at every token."""
        size = self.size
        file = self.removed_concepts()
        ways = {
            "net-prompt-end": {"solver": "elastic_net", "alpha": 0.05, "tau": 0.95, "solve": "prompt_end"},
            "net-every-token": {"solver": "elastic_net", "alpha": 0.05, "tau": 0.95, "solve": "every_token",
                                "when": {"generation": "all"}},
            "omp-every-token": {"solver": "omp", "k": size.k, "solve": "every_token",
                                "when": {"generation": "all"}}}
        figures = ["decode:1"]
        for name, way in ways.items():
            removal = {"op": "remove_concepts", "dictionary": str(file), "layers": list(size.layers),
                       "remove": [str(i) for i in range(50)], **way}
            plan = self.work / f"{name}.json"
            plan.write_text(json.dumps({"interventions": [removal]}))
            tokens = size.tokens if way["solve"] == "prompt_end" else 8
            figures.append(f"decode:1,tokens={tokens},plan={plan}")
        return told(ask(self.figures(until, "halter"), figures))

    def codes(self, until):
        """The code of one vector, a layer's share of a decode step, by each of the ways to make it; and every
        kernel of it, by the profiler."""
        command = turns.java("ConceptFigures", "cuda", self.removed_concepts(), 2, 9)
        rows = ask(turns.Peer(command, "halter", until), self.size.code_figures)
        figures = [figure.replace("decode", "step") for figure in self.size.code_figures]
        report = self.logs / "codes.csv"
        peer = turns.Peer([*self.under(report), *command], "profiled", until)
        answer = profiled(rows + ask(peer, figures), figures, report, first="sparse_begin")
        for row in rows:
            if "median" in row:
                answer["details"].append(f"{row['figure']}: {1e6 / row['median']:.1f} us a vector")
        for step in answer["steps"]:
            answer["details"].append(step["figure"] + ": " + ", ".join(
                f"{kernel['launches']} {kernel['kernel']} {kernel['ns'] / 1e3:.1f} us"
                for kernel in step["kernels"]))
        return answer


def ask(peer, figures):
    """All answers of a peer, which then ends."""
    answers = [{"peer": peer.name, **peer.ask(figure)} for figure in figures]
    peer.close()
    return answers


def told(rows):
    """What a stage returns: its rows, and each in a line for people."""
    details = []
    for row in rows:
        found = f"{row['median']:,.4g} {row.get('unit', '')}" if "median" in row else row["error"]
        unsettled = "" if row.get("settled", True) else " (runs did not settle)"
        details.append(f"{row['peer']}: {row['figure']}: {found}{unsettled}")
    bad = [row["figure"] for row in rows if "error" in row]
    return {"summary": f"{len(rows) - len(bad)} figures, {len(bad)} failed", "rows": rows,
            "details": details, "failures": bad}


def profiled(rows, figures, report, first="embed"):
    """What a stage returns whose last figures a profiler watched; each begins with a kernel of name `first`."""
    found = []
    if report.exists():
        found = [{"figure": figure, "kernels": kernels}
                 for figure, kernels in zip(figures, steps_of(report, first))]
    answer = told(rows)
    for step in found:
        total = sum(kernel["ns"] for kernel in step["kernels"])
        launches = sum(kernel["launches"] for kernel in step["kernels"])
        answer["details"].append(f"{step['figure']}: {launches} kernels, {total / 1e6:.3f} ms")
    return answer | {"steps": found}


def steps_of(report, first="embed"):
    """The steps in a profiler's CSV, each a list of kernels by name and grid, in order of time. A step begins
    with a kernel whose name begins with `first`."""
    with open(report, errors="replace") as file:
        lines = [line for line in file if line.startswith('"')]
    launches = {}
    for row in csv.DictReader(lines):
        launch = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"], "grid": row["Grid Size"]})
        launch[row["Metric Name"]] = float(row["Metric Value"].replace(",", ""))
    steps = []
    for launch in launches.values():
        if launch["kernel"].startswith(first):
            steps.append({})
        if not steps:
            continue
        key = launch["kernel"], launch["grid"]
        entry = steps[-1].setdefault(
            key, {"kernel": key[0], "grid": key[1], "launches": 0, "ns": 0, "read": 0, "written": 0})
        entry["launches"] += 1
        entry["ns"] += launch.get("gpu__time_duration.sum", 0)
        entry["read"] += launch.get("dram__bytes_read.sum", 0)
        entry["written"] += launch.get("dram__bytes_write.sum", 0)
    return [sorted(step.values(), key=lambda entry: -entry["ns"]) for step in steps]
