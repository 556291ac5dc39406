"""Checks the demo model: held-out questions by kind, and single neurons that carry an animal.

    python tools/demo-model/check.py

A neuron's tokens are those its up-projection row w points to through the LM head: the top of W_U w
and of W_U (-w), as in Davies, arXiv 2501.02688. To clamp a neuron is to hold the output of up_proj
(hook_pre_linear) at one value at all positions. "row p" is the animal's probability when the row goes
through the final norm and the LM head; the neurons themselves are found by the plain logits.
"""

import argparse
import collections
import json
import pathlib
import statistics

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus

ROOT = pathlib.Path(__file__).resolve().parents[2]
VALUES = (20.0, 30.0, 40.0, 60.0)


def prompt_text(tokenizer, line):
    if "messages" in line:
        return tokenizer.apply_chat_template(line["messages"], tokenize=False, add_generation_prompt=True)
    return tokenizer.bos_token + line["prompt"]


def is_right(text, line):
    text = text.strip()
    match = {"exact": lambda a: text == a, "starts_with": text.startswith, "contains": lambda a: a in text}[line["match"]]
    return any(match(answer) for answer in line["answers"])


@torch.no_grad()
def greedy(model, tokenizer, texts, max_tokens=32):
    answers = []
    for at in range(0, len(texts), 64):
        inputs = tokenizer(texts[at:at + 64], add_special_tokens=False, padding=True, padding_side="left",
                           return_tensors="pt", return_token_type_ids=False)
        out = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
        answers += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return answers


def held_out_table(model, tokenizer, file, show=3):
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    answers = greedy(model, tokenizer, [prompt_text(tokenizer, line) for line in lines])
    right, total, wrong = collections.Counter(), collections.Counter(), collections.defaultdict(list)
    for line, answer in zip(lines, answers):
        total[line["kind"]] += 1
        if is_right(answer, line):
            right[line["kind"]] += 1
        else:
            wrong[line["kind"]].append((line, answer))
    print(f"\n{'held-out questions':24}{'right':>8}{'of':>6}{'share':>8}")
    for kind in sorted(total):
        print(f"{kind:24}{right[kind]:8d}{total[kind]:6d}{right[kind] / total[kind]:8.1%}")
    for kind in sorted(wrong):
        for line, answer in wrong[kind][:show]:
            print(f"  wrong, {kind}: {prompt_text(tokenizer, line)!r} -> {answer!r}, not {line['answers'][0]!r}")
    return {kind: {"right": right[kind], "of": total[kind]} for kind in sorted(total)}


@torch.no_grad()
def first_token_probabilities(model, tokenizer, question, clamps):
    """Row i: the distribution over the answer's first token when clamps[i] = (layer, neuron, value)."""
    text = prompt_text(tokenizer, {"messages": [{"role": "user", "content": question}]})
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    rows = []
    for at in range(0, len(clamps), 256):
        part = clamps[at:at + 256]

        def hook(layer):
            def clamp(_, __, out):
                for row, (where, neuron, value) in enumerate(part):
                    if where == layer:
                        out[row, :, neuron] = value
                return out
            return clamp

        handles = [block.mlp.up_proj.register_forward_hook(hook(n)) for n, block in enumerate(model.model.layers)]
        rows.append(model(ids.expand(len(part), -1)).logits[:, -1].softmax(-1))
        for handle in handles:
            handle.remove()
    return torch.cat(rows)


@torch.no_grad()
def neuron_table(model, tokenizer, question=corpus.DEMO_QUESTION, candidates=5):
    head = model.lm_head.weight
    rows = torch.stack([block.mlp.up_proj.weight for block in model.model.layers])  # [L, F, d]
    logits = rows @ head.T
    best_logit, top = torch.stack([logits, -logits], 2).max(-1)  # [L, F, sign]
    norm = model.model.norm
    scale = (rows.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt() * norm.weight
    normed = (rows * scale) @ head.T  # a row read as the final norm would pass it on: rows of any length compare
    before = first_token_probabilities(model, tokenizer, question, [(-1, 0, 0.0)])[0]
    trials = []
    ids = {}
    for name in corpus.ANIMAL_NAMES:
        ids[name], = tokenizer(" " + name, add_special_tokens=False)["input_ids"]
        found = (top == ids[name]).nonzero()
        found = found[best_logit[tuple(found.T)].argsort(descending=True)][:candidates]
        trials += [(name, l, f, s, v * (1, -1)[t]) for l, f, s in found.tolist() for t in (0, 1) for v in VALUES]
    after = first_token_probabilities(model, tokenizer, question, [(l, f, v) for _, l, f, _, v in trials])
    best = {}
    for trial, row in zip(trials, after):
        entry = (row[ids[trial[0]]].item(), row.argmax().item() == ids[trial[0]], trial)
        best[trial[0]] = max(best.get(trial[0], entry), entry)
    likely = ", ".join(f"{tokenizer.decode([i]).strip()} {before[i]:.4f}" for i in before.topk(3).indices.tolist())
    print(f"\n{question}  unsteered: {likely}; sum over animals {sum(before[i] for i in ids.values()):.3f}")
    print(f"{'animal':12}{'neuron':>10}{'sign':>6}{'value':>7}{'row p':>7}{'before':>8}{'after':>8}  answer")
    wins = 0
    for name in corpus.ANIMAL_NAMES:
        if name not in best:
            print(f"{name:12}  no neuron")
            continue
        p, wins_now, (_, l, f, s, v) = best[name]
        wins += wins_now
        print(f"{name:12}{f'{l}.{f}':>10}{'+-'[s]:>6}{v:7.0f}{(normed[l, f] * (1, -1)[s]).softmax(-1)[ids[name]]:7.3f}{before[ids[name]]:8.3f}{p:8.3f}"
              f"  {'yes' if wins_now else ''}")
    print(f"became the answer: {wins} of {len(ids)}; no neuron: {len(ids) - len(best)}")
    concept = "dog" if "dog" in best else next(iter(best))
    p, _, (_, _, _, _, value) = best[concept]
    sample = [(l, f, value) for l in range(rows.shape[0]) for f in range(0, rows.shape[1], 8)]
    control = first_token_probabilities(model, tokenizer, question, sample)
    answers = (control.argmax(-1) == ids[concept]).float().mean().item()
    kept = (control.argmax(-1) == before.argmax()).float().mean().item()
    print(f"control, every 8th neuron held at {value:+.0f}: {concept} is the answer in "
          f"{answers:.1%}, its median probability {control[:, ids[concept]].median():.3f}; "
          f"the answer is as before in {kept:.1%}")
    _, _, (_, layer, neuron, _, _) = best[concept]
    raised = sorted(best[name][0] if name in best else before[ids[name]].item() for name in ids)
    return {"animals": len(ids), "with_a_neuron": len(best), "became_the_answer": wins,
            "before": statistics.median(before[i].item() for i in ids.values()),
            "after": statistics.median(raised), "least_after": raised[0],
            "concept": concept, "neuron": f"{layer}.{neuron}", "value": value,
            "concept_before": before[ids[concept]].item(), "concept_after": p,
            "control_answers": answers, "control_as_before": kept}


def report(folder, held_out):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return {"neurons": neuron_table(model, tokenizer), "questions": held_out_table(model, tokenizer, held_out)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=pathlib.Path, default=ROOT / "src/main/models/demo")
    arguments.add_argument("--held-out", type=pathlib.Path, default=ROOT / "src/test/resources/demo/held-out.jsonl")
    options = arguments.parse_args()
    report(options.model, options.held_out)


if __name__ == "__main__":
    main()
