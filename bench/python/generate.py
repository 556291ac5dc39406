"""Measures what transformers on torch CPU makes of a model, and what the machine gives.

    python generate.py --model DIR [--dtype f32|bf16] [--device cpu|cuda] [--threads 2] FIGURE …
    python generate.py --model DIR -          # reads figures from stdin, a line each

Figures, each answered by one line of JSON on stdout:

    decode:B     new tokens per second over B sequences (greedy, prompt of 16, cache on)
    prefill:P    prompt tokens per second of one prompt of P tokens, logits of the last only
    read, copy, triad        bytes per second through memory that no cache holds
    matmul:f32, matmul:bf16  FLOP/s of a bare product: [512, 2048] by [2048, 2048], on a GPU all 8192

With `-` the model is loaded once and a driver can take turns between this and another engine.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
PROMPT = 16
BIG = 1 << 26  # floats: 256 MiB, more than any cache


class Transformers:
    """sdpa attention, a dynamic cache and no compilation: transformers as it comes, on its fastest
    attention. The loop calls the model itself, without what `generate()` adds to each step."""

    settings = {"engine": "transformers", "attention": "sdpa", "cache": "dynamic"}

    def __init__(self, folder, dtype, device):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation="sdpa"
        ).to(device).eval()
        self.dtype = dtype
        self.device = device

    def prompt(self, batch, length):
        generator = torch.Generator().manual_seed(length)
        ids = torch.randint(3, self.model.config.vocab_size, (batch, length), generator=generator)
        return ids.to(self.device)

    def decode(self, batch, tokens):
        """Seconds for `tokens` steps of all sequences."""
        cache = DynamicCache(config=self.model.config)
        last = self.model(self.prompt(batch, PROMPT), past_key_values=cache, logits_to_keep=1)
        ids = last.logits[:, -1].argmax(-1, keepdim=True)
        start = now(self.device)
        for _ in range(tokens):
            logits = self.model(ids, past_key_values=cache, logits_to_keep=1).logits
            ids = logits[:, -1].argmax(-1, keepdim=True)
        return now(self.device) - start

    def prefill(self, length):
        ids = self.prompt(1, length)
        start = now(self.device)
        self.model(ids, past_key_values=DynamicCache(config=self.model.config), logits_to_keep=1)
        return now(self.device) - start


def rates(run, amount, runs):
    """amount per second of each of `runs` runs, after one to warm up."""
    run()
    return [amount / run() for _ in range(runs)]


def now(device):
    """The time once all work queued on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(work, device):
    def run():
        start = now(device)
        work()
        return now(device) - start

    return run


def memory(kind, runs, device):
    a, b, c = (torch.ones(BIG, device=device) for _ in range(3))
    work, arrays = {
        "read": (lambda: a.sum(), 1),
        "copy": (lambda: a.copy_(b), 2),
        "triad": (lambda: torch.add(b, c, alpha=3.0, out=a), 3),
    }[kind]
    return rates(timed(work, device), arrays * BIG * 4, runs)


def matmul(dtype, runs, device):
    rows, width = (8192, 8192) if device == "cuda" else (512, 2048)
    a = torch.randn(rows, width, device=device).to(DTYPES[dtype])
    b = torch.randn(width, width, device=device).to(DTYPES[dtype])
    out = torch.empty(rows, width, dtype=DTYPES[dtype], device=device)
    times = 20

    def work():
        for _ in range(times):
            torch.matmul(a, b.T, out=out)

    return rates(timed(work, device), times * 2 * rows * width * width, runs)


def measure(figure, engine, tokens, runs, device):
    kind, _, size = figure.partition(":")
    if kind in ("decode", "prefill"):
        if engine is None:
            raise ValueError(f"{figure} needs --model")
        settings = engine.settings | {"dtype": engine.dtype}
        size = int(size)
        if kind == "decode":
            found = rates(lambda: engine.decode(size, tokens), size * tokens, runs)
            settings |= {"batch": size, "prompt": PROMPT, "new_tokens": tokens}
        else:
            found = rates(lambda: engine.prefill(size), size, runs)
            settings |= {"prompt": size}
        unit = "tokens/s"
    elif kind in ("read", "copy", "triad"):
        found, unit, settings = memory(kind, runs, device), "bytes/s", {"engine": "torch"}
    elif kind == "matmul" and size in DTYPES:
        found, unit = matmul(size, runs, device), "flop/s"
        settings = {"engine": "torch", "dtype": size}
    else:
        raise ValueError(f"unknown figure {figure}")
    return {
        "figure": figure,
        "median": statistics.median(found),
        "unit": unit,
        "runs": found,
        **settings,
        "threads": torch.get_num_threads(),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", nargs="+", metavar="FIGURE")
    parser.add_argument("--model", type=Path, help="a model folder, for decode and prefill")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32, help="steps of a decode run")
    parser.add_argument("--runs", type=int, default=3, help="runs of a figure; all are printed")
    a = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(a.threads)
    engine = Transformers(a.model, a.dtype, a.device) if a.model else None
    figures = (line.strip() for line in sys.stdin) if a.figures == ["-"] else a.figures
    with torch.inference_mode():
        for figure in figures:
            try:
                print(json.dumps(measure(figure, engine, a.tokens, a.runs, a.device)), flush=True)
            except ValueError as error:
                parser.error(str(error))


if __name__ == "__main__":
    main()
