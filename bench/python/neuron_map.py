"""torch's side of bench/map: a neuron map of a model's up-projections in chunks, or neuron by neuron.

    python neuron_map.py --model DIR [--device cpu|cuda] [--threads 2] [--runs 3] [--neurons N] -

It reads figures from standard input, one a line, and answers each with a line of JSON:

    chunked:ROWS:SIGN   neurons a second, ROWS neurons at a time
    memory:ROWS:SIGN    bytes by which the process's memory (on CUDA the card's) grows meanwhile
    loop:N:SIGN         neurons a second, one at a time, over N of them
    product             neurons a second of the bare product with the LM head, the best of two chunk sizes

Logits are made in the file's type, as fast as torch can, and then taken in f32: ids, logits and
log-sum-exp of bf16 logits would be good to eight bits.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from pathlib import Path

import torch
from safetensors import safe_open

KEPT = 10


class Mapper:
    def __init__(self, folder: Path, device: str):
        self.device = device
        self.files = {}
        for file in sorted(folder.glob("*.safetensors")):
            handle = safe_open(file, "pt", device=device)
            self.files |= {name: handle for name in handle.keys()}
        self.layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        tied = "lm_head.weight" not in self.files
        self.head = self.tensor("model.embed_tokens.weight" if tied else "lm_head.weight")

    def tensor(self, name: str) -> torch.Tensor:
        return self.files[name].get_tensor(name)

    def neurons(self, layer: int) -> torch.Tensor:
        return self.tensor(f"model.layers.{layer}.mlp.up_proj.weight")

    def map(self, vectors: torch.Tensor, rows: int, sign: str):
        """Ids, logits [N, S, K] and log-sum-exp [N, S]."""
        parts = [self.chunk(vectors[i:i + rows], sign) for i in range(0, len(vectors), rows)]
        return [torch.cat(column) for column in zip(*parts)]

    def chunk(self, vectors: torch.Tensor, sign: str):
        logits = (vectors @ self.head.T).float()
        ids, values, sums = [], [], []
        if sign in ("both", "plus"):
            top = logits.topk(KEPT)
            ids.append(top.indices.int()), values.append(top.values), sums.append(logits.logsumexp(-1))
        if sign in ("both", "minus"):
            logits.neg_()
            top = logits.topk(KEPT)
            ids.append(top.indices.int()), values.append(top.values), sums.append(logits.logsumexp(-1))
        return torch.stack(ids, 1), torch.stack(values, 1), torch.stack(sums, 1)

    def loop(self, vectors: torch.Tensor, sign: str):
        for vector in vectors:
            self.chunk(vector[None], sign)

    def product(self, vectors: torch.Tensor, rows: int):
        out = torch.empty(rows, len(self.head), dtype=self.head.dtype, device=self.device)
        for i in range(0, len(vectors), rows):
            part = vectors[i:i + rows]
            torch.mm(part, self.head.T, out=out[:len(part)])

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work) -> float:
        self.synchronize()
        start = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - start

    def growth(self, work) -> int:
        if self.device == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            work()
            return torch.cuda.max_memory_allocated() - before
        before = most = anonymous()
        done = threading.Event()

        def watch():
            nonlocal most
            while not done.wait(0.002):
                most = max(most, anonymous())

        thread = threading.Thread(target=watch)
        thread.start()
        work()
        done.set()
        thread.join()
        return most - before


def anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return -1


def answer(mapper: Mapper, vectors: torch.Tensor, figure: str) -> float:
    kind, *rest = figure.split(":")
    if kind == "product":
        sizes = (1024, 4096) if mapper.device == "cpu" else (8192, 16384)
        sizes = [min(size, len(vectors)) for size in sizes]
        return len(vectors) / min(
            mapper.seconds(lambda: mapper.product(vectors, rows)) for rows in sizes)
    count, sign = int(rest[0]), rest[1]
    if kind == "loop":
        return count / mapper.seconds(lambda: mapper.loop(vectors[:count], sign))
    if kind == "memory":
        return mapper.growth(lambda: mapper.map(vectors, count, sign))
    return len(vectors) / mapper.seconds(lambda: mapper.map(vectors, count, sign))


def serve(mapper: Mapper, runs: int, neurons: int):
    vectors = torch.cat([mapper.neurons(layer) for layer in range(mapper.layers)])
    vectors = vectors[:neurons] if neurons else vectors
    for line in sys.stdin:
        figure = line.strip()
        with torch.inference_mode():
            answer(mapper, vectors, figure)
            results = [answer(mapper, vectors, figure) for _ in range(runs)]
        print(json.dumps({
            "figure": figure, "median": statistics.median(results), "runs": results,
            "engine": f"torch {torch.__version__}"}), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--neurons", type=int, default=0, help="the first so many; 0 = all")
    parser.add_argument("stdin", choices=["-"])
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    serve(Mapper(a.model, a.device), a.runs, a.neurons)


if __name__ == "__main__":
    main()
