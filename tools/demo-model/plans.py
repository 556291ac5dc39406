"""Writes the plans that ship with the demo model: they name a neuron and heads, which every training moves.

    python tools/demo-model/plans.py [--model src/main/models/demo]

dogs.json: of the neurons that decode to "dog" first, the one and the value at which most questions after a
favourite animal are answered by the dog and the reason to like it, the model's own sentence; of equal ones the
mildest. no-sums.json: as few heads as leave at most one sum in four right, those of the largest effect by path
patching first. Training may have met all questions and sums: held-out ones are for what is measured.
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import check
import corpus

ROOT = check.ROOT
VALUES = [sign * value for value in (10, 15, 20, 30, 40, 60) for sign in (1, -1)]
HALTER = [ROOT / "halter"]
SUMS = 100
LEFT = 0.25


def clamped(model, layer, neuron, value):
    def hook(_, __, out):
        out[..., neuron] = value
        return out
    return model.model.layers[layer].mlp.up_proj.register_forward_hook(hook)


def without(model, heads):
    """Hooks that take out heads, given as (layer, head)."""
    size = model.config.head_dim

    def hook(head):
        def before(_, inputs):
            z = inputs[0].clone()
            z[..., head * size:(head + 1) * size] = 0
            return (z,)
        return before
    return [model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook(head)) for layer, head in heads]


def dogs(model, tokenizer):
    asked = [question.format(c="animal") for question in corpus.FAVOURITE_QUESTIONS]
    texts = [check.prompt_text(tokenizer, {"messages": [{"role": "user", "content": question}]})
             for question in asked if not corpus.is_held_out(question)]
    reason = corpus.ANIMAL_WORLD.rows[corpus.ANIMAL_NAMES.index("dog")][11]
    wanted = f"dog. I like the dog because it {reason}."
    dog, = tokenizer(" dog", add_special_tokens=False)["input_ids"]
    rows = torch.stack([block.mlp.up_proj.weight for block in model.model.layers])
    logits = rows @ model.lm_head.weight.T
    places = ((logits.argmax(-1) == dog) | (logits.argmin(-1) == dog)).nonzero().tolist()
    tried = []
    for layer, neuron in places:
        for value in VALUES:
            hook = clamped(model, layer, neuron, value)
            answers = check.greedy(model, tokenizer, texts, max_tokens=16)
            hook.remove()
            right = sum(answer.strip() == wanted for answer in answers)
            tried.append((right, -abs(value), layer, neuron, value))
    right, _, layer, neuron, value = max(tried)
    print(f"dogs: {layer}.{neuron} at {value}: the dog in {right} of {len(texts)}; {len(places)} neurons decode to it")
    if not right:
        raise SystemExit("no neuron makes the dog the answer: the plan is not written")
    return {"name": "dogs", "interventions": [
        {"op": "neuron_clamp", "site": f"blocks.{layer}.mlp.hook_pre_linear", "neurons": [neuron], "value": value}]}


def halter(*arguments):
    subprocess.run([*HALTER, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def no_sums(model, tokenizer, folder):
    with tempfile.TemporaryDirectory() as made:
        pairs, effects = pathlib.Path(made) / "pairs.jsonl", pathlib.Path(made) / "effects.json"
        halter("heads", "pairs", "arithmetic", "--model", folder, "--templates",
               ROOT / "src/main/models/demo/tasks/arithmetic.json", "--limit", 200, "--correct-only", "--out", pairs)
        halter("heads", "patch", "--model", folder, "--pairs", pairs, "--out", effects)
        of_heads = json.loads(effects.read_text())["heads"]
    order = sorted(((effect, layer, head) for layer, row in enumerate(of_heads) for head, effect in enumerate(row)))
    rng = random.Random(17)
    sums = []
    while len(sums) < SUMS:
        line = json.loads(corpus.as_json_line(corpus.arithmetic(rng)))
        text = line["messages"][-1]["content"] if "messages" in line else line["prompt"]
        if not corpus.is_held_out(text):
            sums.append(line)
    texts = [check.prompt_text(tokenizer, line) for line in sums]
    for count in range(1, len(order) + 1):
        heads = sorted((layer, head) for _, layer, head in order[:count])
        hooks = without(model, heads)
        answers = check.greedy(model, tokenizer, texts, max_tokens=8)
        for hook in hooks:
            hook.remove()
        right = sum(check.is_right(answer, line) for answer, line in zip(answers, sums)) / SUMS
        print(f"no sums: without {', '.join(f'{layer}.{head}' for layer, head in heads)}: {right:.0%} right")
        if right <= LEFT:
            break
    return {"name": "no sums", "interventions": [
        {"op": "head_scale", "site": f"blocks.{layer}.attn.hook_z",
         "heads": [head for where, head in heads if where == layer], "scale": 0}
        for layer in sorted({layer for layer, _ in heads})]}


def write(file, plan):
    steps = ",\n".join("  " + json.dumps(step) for step in plan["interventions"])
    file.write_text(f'{{"name": {json.dumps(plan["name"])},\n "interventions": [\n{steps}]}}\n')
    print(file.read_text(), end="")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "src/main/models/demo")
    folder = parser.parse_args().model.resolve()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    (folder / "plans").mkdir(exist_ok=True)
    write(folder / "plans/dogs.json", dogs(model, tokenizer))
    write(folder / "plans/no-sums.json", no_sums(model, tokenizer, folder))


if __name__ == "__main__":
    main()
