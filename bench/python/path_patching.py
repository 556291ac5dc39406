"""Path patching from every head to the logits, as it is done in Python, on a sample of the heads.

    python path_patching.py --model DIR [--sample N] < FIGURES

Figures METHOD:P:T are answered with heads times pairs a second: P pairs of T random tokens, MLPs
recomputed, the answer's logit alone. The two runs that fill the caches are part of it. Methods:

    loop     the usual way: for each head one forward pass of all pairs, with hooks on every o_proj that
             put the reference's heads back and the sender's last token in (methods of path_patching
             libraries), logits of the last token
    batched  the same batched over heads, and no more of it than must be: from the sender's layer on,
             attention outputs added from the cache, MLPs at every position, --rows tokens at once
    tails    what we know to be equal: with attention frozen only the last token changes, so each head
             is one row through the later MLPs; rows of all heads of a layer and all pairs together

loop and batched patch `--sample` heads, spread over the layers, and their time is scaled to all of
them; tails does all. On the CPU a loop runs once, cold. Model and arithmetic: transformers, f32 or --dtype.
"""

import argparse
from pathlib import Path

import torch
import transformers

import device as devices
import peer
from device import DTYPES, now
from random_model import open_model


class Patching:
    def __init__(self, folder, dtype, device):
        self.model = open_model(folder, DTYPES[dtype], device)
        self.device, self.dtype = device, dtype
        self.blocks = self.model.model.layers
        c = self.model.config
        self.heads = c.num_attention_heads
        self.d_head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads

    def prompts(self, pairs, tokens):
        draw = torch.Generator().manual_seed(1)
        size = (2, pairs, tokens)
        return torch.randint(3, self.model.config.vocab_size, size, generator=draw).to(self.device)

    def hooked(self, layer, before, after):
        """Handles of hooks: before(l, input of o_proj) and after(l, name, output)."""
        return [
            self.blocks[layer].self_attn.o_proj.register_forward_pre_hook(
                lambda _, args, l=layer: before(l, args[0])),
            self.blocks[layer].self_attn.register_forward_hook(
                lambda _, __, out, l=layer: after(l, "attention", out[0])),
            self.blocks[layer].mlp.register_forward_hook(
                lambda _, __, out, l=layer: after(l, "mlp", out)),
            self.blocks[layer].register_forward_pre_hook(
                lambda _, args, l=layer: after(l, "resid_pre", args[0])),
        ]

    def cache(self, ids, keep):
        """z and what else keep names of every layer, from one forward pass."""
        kept, handles = {}, []

        def before(layer, z):
            kept["z", layer] = z

        def after(layer, name, value):
            if name in keep:
                kept[name, layer] = value

        for layer in range(len(self.blocks)):
            handles += self.hooked(layer, before, after)
        self.model.model(ids, use_cache=False)
        for handle in handles:
            handle.remove()
        return kept

    def logits(self, last):
        """Answers' logits (token 5, say) of rows that have passed all blocks."""
        return self.model.model.norm(last).float() @ self.model.lm_head.weight[5].float()

    def columns(self, head):
        return slice(head * self.d_head, (head + 1) * self.d_head)

    def patched(self, reference, other, layer, heads):
        """z of a layer with each of the heads patched in at the last token: [heads * pairs, T, d]."""
        z = reference["z", layer]
        copies = z.repeat(len(heads), 1, 1)
        for i, head in enumerate(heads):
            rows = slice(i * len(z), (i + 1) * len(z))
            copies[rows, -1, self.columns(head)] = other["z", layer][:, -1, self.columns(head)]
        return copies

    def loop(self, ids, senders):
        reference, other = (self.cache(part, ()) for part in ids)
        start = now(self.device)
        for layer, head in senders:
            patched = self.patched(reference, other, layer, [head])
            handles = [
                block.self_attn.o_proj.register_forward_pre_hook(
                    lambda _, __, l=l: (patched if l == layer else reference["z", l],))
                for l, block in enumerate(self.blocks)]
            hidden = self.model.model(ids[0], use_cache=False).last_hidden_state[:, -1]
            (hidden.float() @ self.model.lm_head.weight[5].float()).cpu()
            for handle in handles:
                handle.remove()
        return now(self.device) - start

    def batched(self, ids, senders, most):
        reference, other = (self.cache(part, ("resid_pre", "attention")) for part in ids)
        start = now(self.device)
        by_layer = {}
        for layer, head in senders:
            by_layer.setdefault(layer, []).append(head)
        for layer, heads in by_layer.items():
            pairs, tokens = ids[0].shape
            at_once = max(1, most // (pairs * tokens))
            for first in range(0, len(heads), at_once):
                some = heads[first:first + at_once]
                x = reference["resid_pre", layer].repeat(len(some), 1, 1)
                z = self.patched(reference, other, layer, some)
                x = x + self.blocks[layer].self_attn.o_proj(z)
                x = x + self.mlp(layer, x)
                for later in range(layer + 1, len(self.blocks)):
                    x = x + reference["attention", later].repeat(len(some), 1, 1)
                    x = x + self.mlp(later, x)
                self.logits(x[:, -1]).cpu()
        return now(self.device) - start

    def mlp(self, layer, x):
        return self.blocks[layer].mlp(self.blocks[layer].post_attention_layernorm(x))

    def tails(self, ids, senders):
        keep = ("resid_pre", "attention")
        reference, other = (
            {key: value[:, -1] for key, value in self.cache(part, keep).items()} for part in ids)
        start = now(self.device)
        pairs = ids.shape[1]
        base = reference["resid_pre", 0]
        x = base[:0]
        for layer, block in enumerate(self.blocks):
            base = base + reference["attention", layer]
            x = x + reference["attention", layer].repeat(len(x) // pairs, 1)
            dz = (other["z", layer] - reference["z", layer]).view(pairs, self.heads, self.d_head)
            w = block.self_attn.o_proj.weight.view(-1, self.heads, self.d_head)
            delta = torch.einsum("phk,dhk->hpd", dz, w) + base
            x = torch.cat([base, x, delta.flatten(0, 1)]) if layer == 0 else torch.cat(
                [x, delta.flatten(0, 1)])
            x = torch.cat([part + self.mlp(layer, part) for part in x.split(2048)])
            base = x[:pairs]
        self.logits(x).cpu()
        return now(self.device) - start


def measure(patching, figure, sample, most):
    """The Figure of a name."""
    method, pairs, tokens = figure.split(":")
    ids = patching.prompts(int(pairs), int(tokens))
    layers = len(patching.blocks)
    everyone = [(layer, head) for layer in range(layers) for head in range(patching.heads)]
    spread = [everyone[(2 * i + 1) * len(everyone) // (2 * sample)] for i in range(sample)]
    middle = [(layers // 2, head) for head in range(min(sample, patching.heads))]  # they go together
    # A layer's cost in batched falls with its number: scaled by the MLPs that its senders pass.
    mlps = sum(layers - layer for layer, _ in everyone) / sum(layers - layer for layer, _ in middle)
    some, scale, work = {
        "loop": (spread, len(everyone) / sample, lambda: patching.loop(ids, spread)),
        "batched": (middle, mlps, lambda: patching.batched(ids, middle, most)),
        "tails": (everyone, 1, lambda: patching.tails(ids, everyone)),
    }[method]

    def run():
        start = now(patching.device)
        senders = work()
        caches = now(patching.device) - start - senders
        return len(everyone) * int(pairs) / (caches + senders * scale)
    slow = method == "loop" and patching.device == "cpu"  # seconds a head
    return peer.Figure(run, "heads x pairs/s", once=slow, facts={
        "engine": "transformers", "dtype": patching.dtype, "heads_timed": len(some)})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=int, default=3, help="heads that loop and batched patch")
    parser.add_argument("--rows", type=int, default=8192, help="tokens at once in batched")
    parser.add_argument("--runs", type=int, default=1)
    a = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(a.threads)
    patching = Patching(a.model, a.dtype, a.device)
    with torch.inference_mode():
        peer.serve(lambda figure: measure(patching, figure, a.sample, a.rows), a.runs,
                   devices.facts(a.device) | {"transformers": transformers.__version__})


if __name__ == "__main__":
    main()
