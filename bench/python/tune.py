"""Tuning of heads as torch does it, what `halter tune` is compared with.

    python bench/python/tune.py masked|modules --model DIR --data F --heads L.H,... --steps N --batch-size N

masked: as the code of 2409.01658 does it: every weight has a gradient and a place in AdamW, and what is not
tuned of a gradient is set to zero. modules: gradients of the projections that hold tuned heads alone, masked
in the same way, which is the most that torch takes off without code of one's own. Lines of a step, all of one
length, are one batch; sdpa attention, f32, logits of the completions alone. One line of JSON comes out.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def masks(model, heads):
    """{parameter: mask} of the tuned slices."""
    config = model.config
    d_head = config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    chosen = {}
    for layer, head in heads:
        attention = model.model.layers[layer].self_attn
        for name in PROJECTIONS:
            weight = getattr(attention, name).weight
            mask = chosen.setdefault(weight, torch.zeros_like(weight))
            at = head // group if name in ("k_proj", "v_proj") else head
            span = slice(at * d_head, (at + 1) * d_head)
            mask[(slice(None), span) if name == "o_proj" else span] = 1
    return chosen


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("masked", "modules"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--heads", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    model = AutoModelForCausalLM.from_pretrained(
        a.model, dtype=torch.float32, attn_implementation="sdpa").train()
    tuned = masks(model, [tuple(map(int, name.split("."))) for name in a.heads.split(",")])
    for parameter in model.parameters():
        parameter.requires_grad_(a.mode == "masked" or parameter in tuned)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=a.learning_rate, weight_decay=0.0)
    lines = [json.loads(line) for line in a.data.read_text().splitlines()][:a.batch_size]
    tokens = torch.tensor([line["prompt_tokens"] + line["completion_tokens"] for line in lines])
    prompt = len(lines[0]["prompt_tokens"])
    losses = []
    for step in range(a.steps):
        if step == 1:  # the first one warms up
            start = time.perf_counter()
        optimizer.zero_grad()
        logits = model(tokens[:, :-1], logits_to_keep=tokens.shape[1] - prompt).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, prompt:].flatten())
        loss.backward()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(tuned[parameter]) if parameter in tuned else parameter.grad.zero_()
        optimizer.step()
        losses.append(loss.item())
    seconds = (time.perf_counter() - start) / (a.steps - 1)
    print(json.dumps({
        "losses": losses, "seconds_per_step": seconds,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))


if __name__ == "__main__":
    main()
