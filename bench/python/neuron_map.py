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
import threading
from pathlib import Path

import torch
from safetensors import safe_open

import device as devices
import peer
from device import seconds
from random_model import open_model

KEPT = 10
UP = "model.layers.{}.mlp.up_proj.weight"
HEADS = ("lm_head.weight", "model.embed_tokens.weight")  # the second if they are tied


def weights(folder: Path, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All up-projections [N, d] and the LM head [V, d]; random ones if the folder has no weights."""
    config = json.loads((folder / "config.json").read_text())
    tensor = tensors(folder, config, device)
    head = next(found for found in map(tensor, HEADS) if found is not None)
    return torch.cat([tensor(UP.format(layer)) for layer in range(config["num_hidden_layers"])]), head


def tensors(folder: Path, config: dict, device: str):
    """What gives the model's tensors by name, or None."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return dict(open_model(folder, config["dtype"], device).named_parameters()).get
    handles = [safe_open(file, "pt", device=device) for file in files]
    by_name = {name: handle for handle in handles for name in handle.keys()}
    return lambda name: by_name[name].get_tensor(name) if name in by_name else None


class Mapper:
    def __init__(self, head: torch.Tensor, device: str):
        self.head = head
        self.device = device

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


def measure(mapper: Mapper, vectors: torch.Tensor, figure: str) -> peer.Figure:
    """The Figure of a name."""
    kind, *rest = figure.split(":")
    if kind == "product":
        return product(mapper, vectors)
    count, sign = int(rest[0]), rest[1]
    work, unit, amount = {
        "chunked": (lambda: mapper.map(vectors, count, sign), "neurons/s", len(vectors)),
        "loop": (lambda: mapper.loop(vectors[:count], sign), "neurons/s", min(count, len(vectors))),
        "memory": (lambda: mapper.map(vectors, count, sign), "bytes", None),
    }[kind]
    if kind == "memory":
        return peer.Figure(lambda: mapper.growth(work), unit)
    return peer.Figure(lambda: amount / seconds(work, mapper.device), unit)


def product(mapper: Mapper, vectors: torch.Tensor) -> peer.Figure:
    sizes = (1024, 4096) if mapper.device == "cpu" else (8192, 16384)
    sizes = [min(size, len(vectors)) for size in sizes]

    def run():
        return len(vectors) / min(
            seconds(lambda: mapper.product(vectors, rows), mapper.device) for rows in sizes)
    return peer.Figure(run, "neurons/s")


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
    vectors, head = weights(a.model, a.device)
    vectors = vectors[:a.neurons] if a.neurons else vectors
    mapper = Mapper(head, a.device)
    with torch.inference_mode():
        peer.serve(lambda figure: measure(mapper, vectors, figure), a.runs, devices.facts(a.device))


if __name__ == "__main__":
    main()
