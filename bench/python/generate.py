"""Measures what transformers and plain torch make of a model, and what the machine gives.

    python generate.py --model DIR [--dtype f32|bf16] [--device cpu|cuda] [--threads 2] FIGURE …
    python generate.py --model DIR -          # reads figures from stdin, a line each

Figures, each answered by one line of JSON on stdout (see peer.py):

    decode:B     new tokens per second over B sequences (greedy, prompt of 16, cache on)
    static:B     the same by torch with a static cache and a CUDA graph (static_decode.py)
    prefill:P    prompt tokens per second of one prompt of P tokens, logits of the last only
    read, copy, triad        bytes per second through memory that no cache holds
    matmul:f32, matmul:bf16  FLOP/s of a bare product: [512, 2048] by [2048, 2048], on a GPU all 8192

decode and static take options after commas: prompt=N, tokens=N, and with any of top_p=X, top_k=K,
temperature=T they sample. A DIR without weights stands for random ones (random_model.py). With `-` the
model is loaded once and a driver can take turns between this and another engine.
"""

import argparse
import functools
import sys
from pathlib import Path

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache

import device as devices
import peer
import static_decode
from device import DTYPES, device_seconds, now, seconds
from random_model import open_model

PROMPT = 16
BIG = {"cpu": 1 << 28, "cuda": 1 << 32}  # bytes of an array, more than any cache
SWEEPS = {"cpu": 2, "cuda": 10}  # through the arrays in one run
# sdpa's for decode: cuDNN's, which torch prefers on some GPUs, compiles anew for every length of a cache.
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
SAMPLING = ("top_p", "top_k", "temperature")


class Transformers:
    """sdpa attention, a dynamic cache and no compilation: transformers as it comes, on its fastest
    attention. The loop calls the model itself, without what `generate()` adds to each step."""

    settings = {"engine": "transformers", "attention": "sdpa", "cache": "dynamic"}

    def __init__(self, folder, dtype, device):
        self.model = open_model(folder, DTYPES[dtype], device)
        self.dtype = dtype
        self.device = device

    def prompt(self, batch, length):
        generator = torch.Generator().manual_seed(length)
        ids = torch.randint(3, self.model.config.vocab_size, (batch, length), generator=generator)
        return ids.to(self.device)

    def decode(self, batch, tokens, prompt=PROMPT, pick=lambda logits: logits.argmax(-1)):
        """Seconds for `tokens` steps of all sequences."""
        cache = DynamicCache(config=self.model.config)
        with sdpa_kernel(KERNELS):
            last = self.model(self.prompt(batch, prompt), past_key_values=cache, logits_to_keep=1)
            ids = pick(last.logits[:, -1])
            start = now(self.device)
            for _ in range(tokens):
                logits = self.model(ids[:, None], past_key_values=cache, logits_to_keep=1).logits
                ids = pick(logits[:, -1])
            return now(self.device) - start

    def prefill(self, length):
        ids = self.prompt(1, length)
        start = now(self.device)
        self.model(ids, past_key_values=DynamicCache(config=self.model.config), logits_to_keep=1)
        return now(self.device) - start

    @functools.cached_property
    def blocks(self):
        return static_decode.blocks(self.model)

    def static(self, batch, tokens, prompt, pick):
        ids = self.prompt(batch, prompt)
        with sdpa_kernel(KERNELS):  # a graph keeps what it was recorded with
            return static_decode.StaticDecode(self.model, self.blocks, ids, tokens, pick)


def greedy(logits):
    return logits.argmax(-1)


def sample(logits, top_p=1.0, top_k=0, temperature=1.0):
    """Ids drawn of the top_k best (0: all) and of these the fewest that make up top_p. The draw is
    multinomial's own, p / exponential; multinomial itself waits for the device, which no graph can."""
    logits = logits.float() / temperature
    values, ids = logits.topk(top_k) if top_k else logits.sort(descending=True)
    p = values.softmax(-1)
    p = p.masked_fill(p.cumsum(-1) - p >= top_p, 0.0)
    drawn = (p / torch.empty_like(p).exponential_()).argmax(-1, keepdim=True)
    return ids.gather(-1, drawn)[:, 0]


def decoding(kind, size, options, engine, tokens):
    """decode or static: a Figure."""
    given = {name: float(options.pop(name)) for name in SAMPLING if name in options}
    if "top_k" in given:
        given["top_k"] = int(given["top_k"])
    pick = functools.partial(sample, **given) if given else greedy
    batch, prompt, tokens = int(size), int(options.pop("prompt", PROMPT)), int(options.pop("tokens", tokens))
    settings = {"dtype": engine.dtype, "batch": batch, "prompt": prompt, "new_tokens": tokens, **given}
    if kind == "decode":
        def run():
            return batch * tokens / engine.decode(batch, tokens, prompt, pick)
        return peer.Figure(run, "tokens/s", facts=engine.settings | settings)
    decode = engine.static(batch, tokens, prompt, pick)

    def run():
        decode.reset()
        return batch * tokens / seconds(lambda: decode.run(tokens), engine.device)
    settings["difference"] = decode.difference
    return peer.Figure(run, "tokens/s", facts=static_decode.SETTINGS | settings)


def prefill(size, engine):
    length = int(size)
    return peer.Figure(lambda: length / engine.prefill(length), "tokens/s",
                       facts=engine.settings | {"dtype": engine.dtype, "prompt": length})


def memory(kind, device):
    size, sweeps = BIG[device], SWEEPS[device]
    arrays = {"read": 1, "copy": 2, "triad": 3}[kind]
    a, *others = (torch.ones(size // 4, device=device) for _ in range(arrays))
    sweep = {
        "read": lambda: a.sum(),
        "copy": lambda: a.copy_(others[0]),
        "triad": lambda: torch.add(*others, alpha=3.0, out=a),
    }[kind]

    def run():
        time = device_seconds(lambda: [sweep() for _ in range(sweeps)], device)
        return sweeps * arrays * size / time
    return peer.Figure(run, "bytes/s", facts={"engine": "torch", "bytes": arrays * size, "sweeps": sweeps})


def matmul(dtype, device):
    rows, width = (8192, 8192) if device == "cuda" else (512, 2048)
    a = torch.randn(rows, width, device=device).to(DTYPES[dtype])
    b = torch.randn(width, width, device=device).to(DTYPES[dtype])
    out = torch.empty(rows, width, dtype=DTYPES[dtype], device=device)
    times = 20

    def run():
        time = device_seconds(lambda: [torch.matmul(a, b.T, out=out) for _ in range(times)], device)
        return times * 2 * rows * width * width / time
    moved = (a.numel() + b.numel() + out.numel()) * out.element_size()
    return peer.Figure(run, "flop/s", facts={
        "engine": "torch", "dtype": dtype, "bytes": moved, "rows": rows, "width": width})


def measure(figure, engine, tokens, device):
    """The Figure of a name."""
    name, *options = figure.split(",")
    kind, _, size = name.partition(":")
    options = dict(option.split("=") for option in options)
    made = None
    if kind in ("decode", "static", "prefill"):
        if engine is None:
            raise ValueError(f"{figure} needs --model")
        made = prefill(size, engine) if kind == "prefill" else decoding(kind, size, options, engine, tokens)
    elif name in ("read", "copy", "triad"):
        made = memory(name, device)
    elif kind == "matmul" and size in DTYPES:
        made = matmul(size, device)
    if made is None or options:
        raise ValueError(f"unknown figure {figure}")
    return made


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", nargs="+", metavar="FIGURE")
    parser.add_argument("--model", type=Path, help="a model folder, for decode, static and prefill")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32, help="steps of a decode run")
    parser.add_argument("--runs", type=int, default=2, help="warm runs of a figure, two at least")
    a = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(a.threads)
    engine = Transformers(a.model, a.dtype, a.device) if a.model else None
    with torch.inference_mode():
        peer.serve(
            lambda figure: measure(figure, engine, a.tokens, a.device), a.runs,
            devices.facts(a.device) | {"transformers": transformers.__version__},
            sys.stdin if a.figures == ["-"] else a.figures)


if __name__ == "__main__":
    main()
