"""Writes 20 steps of tuning as torch makes them, of a golden model: `tuning.json` beside its cases.

    python tools/goldens/tuning.py [--goldens src/test/resources/goldens]

The slices of chosen heads and MLPs are the only parameters that torch.optim.AdamW knows; everything else of
a step is torch's and transformers' own too: clip_grad_norm_, get_scheduler. All texts are one batch, in
f32. `setting` has the options of `halter tune`; `steps` their `loss`, `grad_norm` and `learning_rate`.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, get_scheduler

MODEL = "llama-bias"  # its file is f32, so that nothing is rounded between steps
HEADS, MLPS = ["0.4", "1.0", "1.2"], [0]
SETTING = {
    "learning_rate": 0.01,
    "steps": 20,
    "lr_scheduler": "cosine",
    "warmup_ratio": 0.15,
    "weight_decay": 0.1,
    "max_grad_norm": 2.0,
}
LENGTHS = [(5, 4), (1, 37), (20, 1), (3, 12)]


def slices(model):
    """(weight, index, factor of the gradient) of every slice."""
    config = model.config
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    group = config.num_attention_heads // config.num_key_value_heads
    chosen = [tuple(map(int, name.split("."))) for name in HEADS]
    found = {}
    for layer, head in chosen:
        tuned = sum(other == layer for other, _ in chosen)
        scale = config.num_attention_heads / tuned
        attention = model.model.layers[layer].self_attn
        rows = slice(head * d_head, (head + 1) * d_head)
        kv_rows = slice(head // group * d_head, (head // group + 1) * d_head)
        found[f"{layer}.q.{head}"] = (attention.q_proj.weight, rows, scale)
        found[f"{layer}.k.{head // group}"] = (attention.k_proj.weight, kv_rows, scale)
        found[f"{layer}.v.{head // group}"] = (attention.v_proj.weight, kv_rows, scale)
        found[f"{layer}.o.{head}"] = (attention.o_proj.weight, (slice(None), rows), scale)
    for layer in MLPS:
        for name in ("gate", "up", "down"):
            weight = getattr(model.model.layers[layer].mlp, f"{name}_proj").weight
            found[f"{layer}.{name}"] = (weight, slice(None), 1.0)
    return list(found.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=Path("src/test/resources/goldens"))
    folder = parser.parse_args().goldens / MODEL
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, attn_implementation="eager").eval()
    chosen = random.Random("tuning")
    sequences = [{key: [chosen.randrange(3, model.config.vocab_size) for _ in range(length)]
                  for key, length in zip(("prompt_tokens", "completion_tokens"), lengths)}
                 for lengths in LENGTHS]
    targets = sum(len(s["completion_tokens"]) for s in sequences)
    places = slices(model)
    parameters = [torch.nn.Parameter(weight[at].detach().clone()) for weight, at, _ in places]
    steps = SETTING["steps"]
    optimizer = torch.optim.AdamW(
        parameters, lr=SETTING["learning_rate"], weight_decay=SETTING["weight_decay"])
    schedule = get_scheduler(
        SETTING["lr_scheduler"], optimizer,
        num_warmup_steps=-(-int(SETTING["warmup_ratio"] * steps * 1000) // 1000),
        num_training_steps=steps)
    made = []
    for _ in range(steps):
        model.zero_grad()
        loss = 0.0
        for sequence in sequences:
            tokens = sequence["prompt_tokens"] + sequence["completion_tokens"]
            prompt = len(sequence["prompt_tokens"])
            logits = model(torch.tensor([tokens[:-1]])).logits[0, prompt - 1:]
            part = torch.nn.functional.cross_entropy(
                logits, torch.tensor(tokens[prompt:]), reduction="sum") / targets
            part.backward()
            loss += part.item()
        for parameter, (weight, at, scale) in zip(parameters, places):
            parameter.grad = scale * weight.grad[at].clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, SETTING["max_grad_norm"]).item()
        made.append({"loss": loss, "grad_norm": norm, "learning_rate": schedule.get_last_lr()[0]})
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for parameter, (weight, at, _) in zip(parameters, places):
                weight[at] = parameter
    cut = sum(step["grad_norm"] > SETTING["max_grad_norm"] for step in made)
    assert 0 < cut < steps, f"{cut} of {steps} gradients are cut"
    assert made[-1]["loss"] < made[0]["loss"] / 2, "nothing is learnt"
    lines = ",\n  ".join(json.dumps(step) for step in made)
    document = json.dumps({"heads": HEADS, "mlps": MLPS, "setting": SETTING, "sequences": sequences})
    (folder / "tuning.json").write_text(f'{document[:-1]},\n"steps": [\n  {lines}\n]}}\n')
    print(f"loss {made[0]['loss']:.4f} to {made[-1]['loss']:.4f}, {cut} of {steps} gradients cut")


if __name__ == "__main__":
    main()
