#!/usr/bin/env python3
"""Goldens for heads that are mapped by z -> A z + b.

Writes into src/test/resources/head-controls/:
  maps.json            for dev.halter.heads.GaussianTransform: samples of two sets, a shrinkage, and for
                       each method A [d, d] and b [d] in float64, with matrix roots by scipy.linalg.sqrtm
  llama3.safetensors   a control of heads 0.1, 1.0, 1.4 and 2.5 of the golden model llama3 as `halter heads
                       fit` writes it, without a fingerprint; `tokens` [p]; `plain` and `mapped` [p, V]:
                       logits by transformers, the second with hooks before o_proj that map every token

    python tools/goldens/head_controls.py        # numpy 2.4.6, scipy 1.17.1, torch 2.13.0, transformers 5.18.0

Checks itself: whitening and transport carry the negative covariance into the positive one to 1e-9, and
the control moves the logits.
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.linalg import inv, sqrtm
from transformers import AutoModelForCausalLM

RESOURCES = pathlib.Path(__file__).resolve().parents[2] / "src/test/resources"
OUT = RESOURCES / "head-controls"


def shrunk(samples, rho):
    covariance = np.cov(samples, rowvar=False)
    d = len(covariance)
    return (1 - rho) * covariance + rho * np.trace(covariance) / d * np.eye(d)


def maps(negative, positive, rho):
    s_n, s_p = shrunk(negative, rho), shrunk(positive, rho)
    root, inverse = sqrtm(s_n).real, inv(sqrtm(s_n).real)
    a = {
        "mean": np.eye(len(s_n)),
        "whiten": sqrtm(s_p).real @ inverse,
        "transport": inverse @ sqrtm(root @ s_p @ root).real @ inverse,
    }
    for method in ("whiten", "transport"):
        assert np.allclose(a[method] @ s_n @ a[method].T, s_p, atol=1e-9)
    return {m: {"a": x.tolist(), "b": (positive.mean(0) - x @ negative.mean(0)).tolist()} for m, x in a.items()}


def gaussians():
    random = np.random.default_rng(4)
    cases = []
    # Enough samples; fewer samples than dimensions, so that shrinkage is needed.
    for d, n_negative, n_positive, rho in ((3, 20, 15, 0.0), (5, 4, 6, 0.2)):
        mix = random.standard_normal((2, d, d))
        negative = (random.standard_normal((n_negative, d)) @ mix[0] + random.standard_normal(d)).astype(np.float32)
        positive = (random.standard_normal((n_positive, d)) @ mix[1] + random.standard_normal(d)).astype(np.float32)
        cases.append({
            "shrinkage": rho, "negative": negative.tolist(), "positive": positive.tolist(),
            "maps": maps(negative.astype(np.float64), positive.astype(np.float64), rho),
        })
    (OUT / "maps.json").write_text(json.dumps({"cases": cases}) + "\n")


def mapped_heads():
    model = AutoModelForCausalLM.from_pretrained(
        RESOURCES / "goldens/llama3/model", dtype=torch.float32, attn_implementation="eager").eval()
    d = model.config.head_dim
    random = torch.Generator().manual_seed(5)
    heads = torch.tensor([[0, 1], [1, 0], [1, 4], [2, 5]], dtype=torch.int32)
    a = torch.eye(d) + torch.randn(len(heads), d, d, generator=random) / d ** 0.5
    b = torch.randn(len(heads), d, generator=random) * 0.3
    tokens = torch.randint(3, model.config.vocab_size, (9,), generator=random)

    def hook(layer):
        def before_o_proj(_, inputs):
            z = inputs[0].clone()
            for i, (where, head) in enumerate(heads.tolist()):
                if where == layer:
                    z[..., head * d:(head + 1) * d] = z[..., head * d:(head + 1) * d] @ a[i].T + b[i]
            return (z,)
        return before_o_proj

    with torch.no_grad():
        plain = model(tokens[None]).logits[0]
        for layer, block in enumerate(model.model.layers):
            block.self_attn.o_proj.register_forward_pre_hook(hook(layer))
        mapped = model(tokens[None]).logits[0]
    assert (mapped - plain).norm() > 0.03 * plain.norm()
    save_file({"heads": heads, "A": a, "b": b, "tokens": tokens.int(), "plain": plain, "mapped": mapped},
              OUT / "llama3.safetensors")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    gaussians()
    mapped_heads()


if __name__ == "__main__":
    main()
