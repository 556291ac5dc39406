"""Writes the gradients that torch's autograd gives for chosen heads and MLPs, for golden models.

    python tools/goldens/gradients.py [--goldens src/test/resources/goldens]

For each model below: `gradients.json` beside its `cases.json`, with `sequences` (`prompt_tokens` and
`completion_tokens`), the `heads` (LAYER.HEAD) and `mlps` (layers) that are tuned and the `loss`: the mean
over the tokens of all completions, in nats; and `gradients.safetensors`, F32:

    LAYER.q.HEAD        [d_head, d_model]: the head's rows of W_Q
    LAYER.k.GROUP, LAYER.v.GROUP    likewise, the rows of its KV group
    LAYER.o.HEAD        [d_model, d_head]: its columns of W_O
    LAYER.gate, LAYER.up, LAYER.down    every seventh element of the whole matrix, row by row
    LAYER.scale.HEAD    [d_head]: of s where the heads' z are (1 + s) z, at s of start(HEAD); loss `scale_loss`
    LAYER.bias.HEAD     [d_head]: of b where they are z + b, at b = s; loss `bias_loss`

The model runs in f64 from the very weights in the file, one sequence at a time, so that rounding is the
reader's alone. `bf16` in the JSON says how far torch's own gradients are from these when the model runs in
bf16: the largest `relative_l2` (norm of the difference over norm) and the smallest `cosine` of a tensor.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

# Model: heads and layers of MLPs. The lowest layer has heads alone, an MLP alone, or both.
MODELS = {
    "llama3": (["1.2", "1.3", "2.0", "2.5"], [2]),
    "llama32": (["0.1", "1.0", "1.3"], []),
    "llama-bias": (["0.4", "1.0", "1.2"], [0]),
    "mistral": (["1.0", "2.1", "2.2"], [1]),
    "qwen2": (["1.5", "1.0"], [0]),
    "qwen3": (["1.1", "2.3"], [1]),
}
LENGTHS = [(5, 4), (1, 37), (20, 1)]  # of prompts and completions; mistral's window is 16
KEPT = 7


def backward(model, sequences):
    """Adds to all gradients; returns the loss."""
    targets = sum(len(s["completion_tokens"]) for s in sequences)
    total = 0.0
    for sequence in sequences:
        tokens = sequence["prompt_tokens"] + sequence["completion_tokens"]
        prompt = len(sequence["prompt_tokens"])
        logits = model(torch.tensor([tokens[:-1]])).logits[0, prompt - 1:]
        loss = torch.nn.functional.cross_entropy(
            logits, torch.tensor(tokens[prompt:]), reduction="sum") / targets
        loss.backward()
        total += loss.item()
    return total


def start(head, d_head):
    return (0.5 * torch.cos(3.0 * torch.arange(d_head, dtype=torch.float64) + head)).float().double()


def vector_gradients(model, heads, d_head, kind, sequences):
    """Of a vector for each head, by a hook before o_proj."""
    vectors, hooks = {}, []
    for name in heads:
        layer, head = map(int, name.split("."))
        vectors[(layer, head)] = start(head, d_head).requires_grad_()

        def change(module, inputs, layer=layer, head=head):
            (z,) = inputs
            part = z[..., head * d_head:(head + 1) * d_head]
            vector = vectors[(layer, head)]
            part = (part * (1 + vector) if kind == "scale" else part + vector).to(z.dtype)
            return (torch.cat((z[..., :head * d_head], part, z[..., (head + 1) * d_head:]), dim=-1),)

        hooks.append(model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(change))
    loss = backward(model, sequences)
    for hook in hooks:
        hook.remove()
    return loss, {f"{layer}.{kind}.{head}": v.grad for (layer, head), v in vectors.items()}


def gradients(folder, heads, mlps, sequences, dtype):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager").eval()
    config = model.config
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    group = config.num_attention_heads // config.num_key_value_heads
    losses = {"loss": backward(model, sequences)}
    kept = {}
    for layer, head in (map(int, name.split(".")) for name in heads):
        attention = model.model.layers[layer].self_attn
        rows = slice(head * d_head, (head + 1) * d_head)
        kv = head // group
        kv_rows = slice(kv * d_head, (kv + 1) * d_head)
        kept[f"{layer}.q.{head}"] = attention.q_proj.weight.grad[rows]
        kept[f"{layer}.k.{kv}"] = attention.k_proj.weight.grad[kv_rows]
        kept[f"{layer}.v.{kv}"] = attention.v_proj.weight.grad[kv_rows]
        kept[f"{layer}.o.{head}"] = attention.o_proj.weight.grad[:, rows]
    for layer in mlps:
        for name in ("gate", "up", "down"):
            weight = getattr(model.model.layers[layer].mlp, f"{name}_proj").weight
            kept[f"{layer}.{name}"] = weight.grad.flatten()[::KEPT]
    model.zero_grad(set_to_none=True)  # what is kept stays as it is
    for kind in ("scale", "bias"):
        losses[f"{kind}_loss"], vectors = vector_gradients(model, heads, d_head, kind, sequences)
        kept.update(vectors)
    return losses, {name: value.float().contiguous().clone() for name, value in kept.items()}


def distance(tensors, others):
    """The largest relative difference and the smallest cosine of any tensor."""
    pairs = [(tensor.double().flatten(), others[name].double().flatten())
             for name, tensor in tensors.items()]
    return {"relative_l2": max(((a - b).norm() / a.norm()).item() for a, b in pairs),
            "cosine": min((a @ b / a.norm() / b.norm()).item() for a, b in pairs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=Path("src/test/resources/goldens"))
    goldens = parser.parse_args().goldens
    for name, (heads, mlps) in MODELS.items():
        folder = goldens / name
        config = json.loads((folder / "model/config.json").read_text())
        chosen = random.Random(name)
        sequences = [{key: [chosen.randrange(3, config["vocab_size"]) for _ in range(length)]
                      for key, length in zip(("prompt_tokens", "completion_tokens"), lengths)}
                     for lengths in LENGTHS]
        losses, tensors = gradients(folder / "model", heads, mlps, sequences, torch.float64)
        _, rounded = gradients(folder / "model", heads, mlps, sequences, torch.bfloat16)
        document = {"heads": heads, "mlps": mlps, **losses, "bf16": distance(tensors, rounded),
                    "sequences": sequences}
        (folder / "gradients.json").write_text(json.dumps(document) + "\n")
        save_file(tensors, folder / "gradients.safetensors")
        size = (folder / "gradients.safetensors").stat().st_size
        print(f"{name}: loss {losses['loss']:.4f}, {len(tensors)} tensors, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
