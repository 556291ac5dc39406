"""torch's side of bench/top: answers figures from standard input, one a line, with a line of JSON.

torch:N   seconds for the largest and smallest entries and both log-sum-exps of each row of x wᵀ, or its
          largest in magnitude, N rows of the product at a time
product   seconds of the bare product, 8,192 rows at a time into one buffer

    top.py DEVICE DTYPE ROWS CALLS COLUMNS D_MODEL KEPT both|absolute THREADS RUNS
"""

import sys

import torch

import device as devices
import peer
from device import DTYPES, seconds


def main():
    device, dtype = sys.argv[1], DTYPES[sys.argv[2]]
    rows, calls, columns, d_model, kept = map(int, sys.argv[3:8])
    sign, threads, runs = sys.argv[8], int(sys.argv[9]), int(sys.argv[10])
    torch.set_num_threads(threads)
    x = (torch.rand(rows, d_model, device=device) / 8 - 1 / 16).to(dtype)
    w = (torch.rand(columns, d_model, device=device) / 8 - 1 / 16).to(dtype)

    def measure(figure):
        kind, _, size = figure.partition(":")
        work = {"product": lambda: product(x, w, min(8192, rows)),
                "torch": lambda: tops(x, w, kept, sign, int(size))}[kind]

        def all_calls():
            for _ in range(calls):
                work()
        return peer.Figure(lambda: seconds(all_calls, device), "s", facts={"dtype": sys.argv[2]})

    with torch.inference_mode():
        peer.serve(measure, runs, devices.facts(device))


def tops(x, w, kept, sign, chunk):
    for begin in range(0, len(x), chunk):
        entries = (x[begin:begin + chunk] @ w.T).float()
        if sign == "absolute":
            entries.gather(1, entries.abs().topk(kept, 1).indices)
            continue
        for signed in (entries, -entries):
            signed.logsumexp(1)
            signed.topk(kept, 1)


def product(x, w, chunk):
    out = torch.empty(chunk, len(w), dtype=x.dtype, device=x.device)
    for begin in range(0, len(x), chunk):
        part = x[begin:begin + chunk]
        torch.mm(part, w.T, out=out[:len(part)])


if __name__ == "__main__":
    main()
