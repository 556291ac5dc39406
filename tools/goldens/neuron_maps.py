"""Writes what torch computes for neuron maps of the golden models.

    python tools/goldens/neuron_maps.py [--out src/test/resources/neuron-maps.safetensors]

For every model of MODELS, projection, decoding and both signs: the top tokens of some neurons of each
layer, their logits, and the log-sum-exp over the vocabulary, in float32 from the very weights in the
file. Tensors are `<model>/neurons` [L, N], which neurons of each layer; `<model>/<proj>/weight_norm`
[L, N]; and `<model>/<proj>/<decode>/` with `token_ids` [L, N, 2, K], `logits` [L, N, 2, K] and `log_z`
[L, N, 2]. Neurons are the first of each layer whose top logits all lead the next one by more than
rounding moves them, so that ids can be compared exactly.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

# Of four families, with weights in f16, f32 and bf16; qwen2's embeddings are tied.
MODELS = ["llama2", "llama-bias", "mistral", "qwen2", "qwen3"]
PROJECTIONS = ["up", "gate", "down"]
DECODES = ["raw", "unit", "norm"]
NEURONS = 12  # of a layer
KEPT = 4
GAP = 1e-4  # relative to the largest logit


def decode(weights: torch.Tensor, how: str, gain: torch.Tensor, eps: float) -> torch.Tensor:
    if how == "raw":
        return weights
    if how == "unit":
        return weights / weights.norm(dim=-1, keepdim=True)
    norm = LlamaRMSNorm(weights.shape[-1], eps)
    norm.weight.data = gain
    return norm(weights)


def clear(logits: torch.Tensor) -> torch.Tensor:
    """Whether a neuron's top tokens of both signs could not change places by rounding."""
    ok = torch.ones(logits.shape[0], dtype=torch.bool)
    for sign in (1, -1):
        top = (sign * logits).topk(KEPT + 1).values
        ok &= (top[:, :-1] - top[:, 1:]).amin(-1) > GAP * top[:, 0].abs()
    return ok


def maps(name: str, folder: Path) -> dict[str, torch.Tensor]:
    config = AutoConfig.from_pretrained(folder)
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= {key: value.float() for key, value in load_file(file).items()}
    head = tensors["model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"]
    gain = tensors["model.norm.weight"]
    eps = config.rms_norm_eps

    def logits(layer: int, projection: str, how: str) -> tuple[torch.Tensor, torch.Tensor]:
        weights = tensors[f"model.layers.{layer}.mlp.{projection}_proj.weight"]
        rows = weights.T if projection == "down" else weights
        return decode(rows, how, gain, eps) @ head.T, rows.norm(dim=-1)

    out: dict[str, list[torch.Tensor]] = {}
    for layer in range(config.num_hidden_layers):
        results = {(p, d): logits(layer, p, d) for p in PROJECTIONS for d in DECODES}
        ok = torch.stack([clear(found) for found, _ in results.values()]).all(0)
        neurons = ok.nonzero().flatten()[:NEURONS]
        assert len(neurons) == NEURONS, f"{name}: layer {layer} has {len(neurons)} clear neurons"
        out.setdefault("neurons", []).append(neurons.int())
        for (projection, how), (found, norms) in results.items():
            both = torch.stack([found[neurons], -found[neurons]], 1)
            top = both.topk(KEPT)
            for key, value in (("token_ids", top.indices.int()), ("logits", top.values),
                               ("log_z", both.logsumexp(-1))):
                out.setdefault(f"{projection}/{how}/{key}", []).append(value)
            if how == "raw":
                out.setdefault(f"{projection}/weight_norm", []).append(norms[neurons])
    return {f"{name}/{key}": torch.stack(value).contiguous() for key, value in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    resources = Path("src/test/resources")
    parser.add_argument("--out", type=Path, default=resources / "neuron-maps.safetensors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tensors: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name in MODELS:
            tensors |= maps(name, resources / "goldens" / name / "model")
    save_file(tensors, arguments.out, {"made by": "tools/goldens/neuron_maps.py"})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
