"""Python's side of bench/steering: decode of transformers with concepts removed by hooks on every block's
output. Answers figures from standard input, one a line, with a line of JSON:

none:B:T            new tokens a second over B sequences, T steps (greedy, prompt of 16), no hooks
omp:N:K:SOLVE:B:T   with batched OMP of K atoms in torch over the dictionary of N atoms; SOLVE every_token of
                    those generated, or prompt_end: solved at the prompt's last token, which is not timed,
                    and the same vector subtracted afterwards
elastic_net:N:A:SOLVE:B:T   with scikit-learn's ElasticNet (alpha A, tau 0.95), one vector after another

    steering.py MODEL DTYPE DEVICE THREADS RUNS DICTIONARIES FIRST LAST

DICTIONARIES is a folder of concepts-N.safetensors; blocks FIRST to LAST are steered.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

import device as devices
import peer
from generate import Transformers
from sparse_coding import pursue

REMOVED = 50  # the first atoms of a dictionary


class Removal:
    """The hook of one block."""

    def __init__(self, atoms, solver, setting, every_token):
        self.atoms, self.solver, self.setting, self.every_token = atoms, solver, setting, every_token
        self.change = None

    def __call__(self, module, arguments, output):
        hidden = output[0] if isinstance(output, tuple) else output
        step = hidden.shape[1] == 1
        if self.every_token and not step:
            return
        if self.every_token or not step:
            self.change = self.part(hidden[:, -1].float()).to(hidden.dtype)
        hidden[:, -1] -= self.change

    def part(self, z):
        """What the code of each row has of the removed atoms."""
        norm = z.norm(dim=1, keepdim=True)
        if self.solver == "omp":
            coefficients, support = pursue(self.atoms, z / norm, int(self.setting), None)
            coefficients = coefficients * (support < REMOVED) * norm
            return torch.einsum("mk,mkd->md", coefficients, self.atoms[support])
        from sklearn.linear_model import ElasticNet
        net = ElasticNet(alpha=float(self.setting) / z.shape[1], l1_ratio=0.95, fit_intercept=False)
        atoms = self.atoms.cpu().numpy().T
        codes = [net.fit(atoms, row).coef_[:REMOVED].copy() for row in (z / norm).cpu().numpy()]
        codes = torch.tensor(np.stack(codes), dtype=z.dtype, device=z.device)
        return codes @ self.atoms[:REMOVED] * norm


def main():
    model, dtype, device, threads, runs, folder, first, last = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(int(threads))
    engine = Transformers(model, dtype, device)
    blocks = engine.model.model.layers[int(first) : int(last) + 1]
    dictionaries = {}

    def dictionary(n):
        if n not in dictionaries:
            atoms = load_file(Path(folder) / f"concepts-{n}.safetensors")["atoms"].to(device)
            dictionaries[n] = atoms / atoms.norm(dim=1, keepdim=True)
        return dictionaries[n]

    def measure(figure):
        kind, *rest = figure.split(":")
        if kind not in ("none", "omp", "elastic_net"):
            raise ValueError(f"unknown figure {figure}")
        batch, tokens = map(int, rest[-2:])
        hooks = []
        if kind != "none":
            n, setting, solve, _, _ = rest
            hooks = [Removal(dictionary(n), kind, setting, solve == "every_token") for _ in blocks]

        def run():
            handles = [block.register_forward_hook(hook) for block, hook in zip(blocks, hooks)]
            try:
                return batch * tokens / engine.decode(batch, tokens)
            finally:
                for handle in handles:
                    handle.remove()
        slow = kind == "elastic_net"  # seconds a token
        return peer.Figure(run, "tokens/s", once=slow, facts={
            "engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "dtype": dtype, "batch": batch, "new_tokens": tokens})

    with torch.inference_mode():
        peer.serve(measure, int(runs), devices.facts(device) | {"transformers": transformers.__version__})


if __name__ == "__main__":
    main()
