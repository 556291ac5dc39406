"""Writes what transformers with hooks makes of path and activation patching, for golden models.

    python tools/goldens/patching.py [--goldens src/test/resources/goldens]

For each model below: `patching.json` beside its `cases.json`, with pairs of prompts and, for each, the
logits of the answer and the foil at the last token under every patch:

    recompute, frozen   {"heads": [L][H][2], "mlps": [L][2]}: path patching to the logits, prompts may
                        differ in length; with recompute also "probability": [L][H] of the answer
    receivers           of aligned pairs: a list of {"receivers", "heads", "mlps"}: path patching of all
                        positions through queries, keys or values; senders that reach none are null
    grids               of aligned pairs: {"hook_resid_pre", "hook_z", "hook_mlp_out": [L][T][2],
                        "hook_z_heads": [L][H][T][2]}: activation patching, counterfactual into reference

Definitions: Wang et al. 2211.00593, appendix B. All in f32 from the weights in the file, one hooked
forward pass for each patch, with nothing clever about it.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

# Model: receiver sets of which the senders' effects are kept.
MODELS = {
    "llama3": [["2.3.q"], ["1.4.k", "2.1.k"], ["2.0.v", "2.5.q", "1.2.v"]],
    "llama-bias": [["1.4.q"], ["1.0.k"]],
    "mistral": [["2.2.v", "2.0.k"]],
    "qwen3": [["1.1.q", "1.2.k"]],
}


class Hooked:
    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        c = self.model.config
        self.layers, self.heads = c.num_hidden_layers, c.num_attention_heads
        self.kv_heads = c.num_key_value_heads
        self.d_head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        self.vocabulary = c.vocab_size

    def module(self, site, layer):
        block = self.model.model.layers[layer]
        return {"z": block.self_attn.o_proj, "mlp": block.mlp, "resid_pre": block,
                "q": block.self_attn.q_proj, "k": block.self_attn.k_proj,
                "v": block.self_attn.v_proj}[site]

    def run(self, tokens, edits=None, keep=()):
        """Logits of the last token and the values at `keep`. edits {(site, layer): value -> value}."""
        edits, kept, handles = edits or {}, {}, []

        def hook(key, before):
            def on_input(_, args, kwargs):
                value = args[0] if args else kwargs["hidden_states"]
                value = edits[key](value) if key in edits else value
                kept[key] = value
                return ((value, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": value})

            def on_output(_, __, value):
                value = edits[key](value) if key in edits else value
                kept[key] = value
                return value

            module = self.module(*key)
            return (module.register_forward_pre_hook(on_input, with_kwargs=True) if before
                    else module.register_forward_hook(on_output))

        for key in {*edits, *keep}:
            handles.append(hook(key, key[0] in ("z", "resid_pre")))
        with torch.no_grad():
            logits = self.model(torch.tensor([tokens])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return logits, kept

    def everything(self, tokens):
        sites = [(site, layer) for site in ("z", "mlp", "resid_pre") for layer in range(self.layers)]
        return self.run(tokens, keep=sites)

    def head(self, head):
        return slice(head * self.d_head, (head + 1) * self.d_head)


def replaced(value):
    return lambda _: value


def with_part(original, rows, columns, part):
    value = original.clone()
    value[0, rows, columns] = part
    return value


def frozen_heads(reference, layers):
    return {("z", layer): replaced(reference["z", layer]) for layer in range(layers)}


def senders(model, reference, other, rows, other_rows):
    """((layer, head or None), edits with all heads frozen but the sender)."""
    for layer in range(model.layers):
        for head in [*range(model.heads), None]:
            edits = frozen_heads(reference, model.layers)
            if head is None:
                part = other["mlp", layer][0, other_rows]

                def set_rows(value, part=part):
                    return with_part(value, rows, slice(None), part)

                edits["mlp", layer] = set_rows
            else:
                columns = model.head(head)
                part = other["z", layer][0, other_rows, columns]
                edits["z", layer] = replaced(
                    with_part(reference["z", layer], rows, columns, part))
            yield (layer, head), edits


def measured(logits, pair):
    return [logits[pair["answer_token"]].item(), logits[pair["foil_token"]].item()]


def table(model, results):
    return {"heads": [[results[layer, head] for head in range(model.heads)]
                      for layer in range(model.layers)],
            "mlps": [results[layer, None] for layer in range(model.layers)]}


def to_logits(model, pair):
    _, reference = model.everything(pair["reference_tokens"])
    _, other = model.everything(pair["counterfactual_tokens"])
    end = slice(len(pair["reference_tokens"]) - 1, None)
    other_end = slice(len(pair["counterfactual_tokens"]) - 1, None)
    recompute, frozen, probability = {}, {}, {}
    for sender, edits in senders(model, reference, other, end, other_end):
        logits, _ = model.run(pair["reference_tokens"], edits)
        recompute[sender] = measured(logits, pair)
        probability[sender] = logits.softmax(-1)[pair["answer_token"]].item()
        layer, head = sender
        for l in range(model.layers):
            if head is not None or l != layer:
                edits["mlp", l] = replaced(reference["mlp", l])
            else:
                edits["mlp", l] = replaced(with_part(
                    reference["mlp", l], end, slice(None), other["mlp", l][0, other_end]))
        frozen[sender] = measured(model.run(pair["reference_tokens"], edits)[0], pair)
    return {"recompute": table(model, recompute) | {"probability": table(model, probability)["heads"]},
            "frozen": table(model, frozen)}


def through(model, pair, receivers):
    """Steps A to D of the paper's appendix B, senders patched at every position."""
    tokens = pair["reference_tokens"]
    places = []
    for name in receivers:
        layer, head, site = name.split(".")
        head = int(head) if site == "q" else int(head) // (model.heads // model.kv_heads)
        places.append(((site, int(layer)), model.head(head)))
    _, reference = model.everything(tokens)
    _, other = model.everything(pair["counterfactual_tokens"])
    rows = slice(None)
    results = {}
    for sender, edits in senders(model, reference, other, rows, rows):
        if sender[0] >= max(key[1] for key, _ in places):
            results[sender] = None
            continue
        _, patched = model.run(tokens, edits, keep={key for key, _ in places})
        final = {}
        for key, columns in places:
            before = final.get(key, lambda value: value)

            def edit(value, before=before, key=key, columns=columns):
                return with_part(before(value), rows, columns, patched[key][0, rows, columns])

            final[key] = edit
        results[sender] = measured(model.run(tokens, final)[0], pair)
    return {"receivers": receivers} | table(model, results)


def grids(model, pair):
    tokens = pair["reference_tokens"]
    _, other = model.everything(pair["counterfactual_tokens"])

    def cell(site, layer, position, columns):
        part = other[site, layer][0, position, columns]
        edits = {(site, layer): lambda value: with_part(value, position, columns, part)}
        return measured(model.run(tokens, edits)[0], pair)

    def grid(site, columns=slice(None)):
        return [[cell(site, layer, position, columns) for position in range(len(tokens))]
                for layer in range(model.layers)]

    heads = [grid("z", model.head(head)) for head in range(model.heads)]
    return {"hook_resid_pre": grid("resid_pre"), "hook_z": grid("z"), "hook_mlp_out": grid("mlp"),
            "hook_z_heads": [list(layer) for layer in zip(*heads)]}


def pairs(model):
    """Different lengths, an equal prefix, and two aligned pairs."""
    draw = random.Random(7)

    def prompt(length):
        return [draw.randrange(3, model.vocabulary) for _ in range(length)]

    def other(tokens, at):
        return tokens[:at] + [t % (model.vocabulary - 3) + 3 for t in tokens[at:at + 1]] + tokens[at + 1:]

    first, second, third = prompt(9), prompt(5), prompt(7)
    prompts = [(first, other(first, 4)), (second, prompt(8)), (third, prompt(7))]
    return [dict(reference_tokens=a, counterfactual_tokens=b,
                 answer_token=draw.randrange(3, model.vocabulary),
                 foil_token=draw.randrange(3, model.vocabulary)) for a, b in prompts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=Path("src/test/resources/goldens"))
    a = parser.parse_args()
    torch.set_num_threads(1)
    for name, receivers in MODELS.items():
        model = Hooked(a.goldens / name / "model")
        cases = []
        for pair in pairs(model):
            logits, _ = model.everything(pair["reference_tokens"])
            case = {"pair": pair, "reference": measured(logits, pair),
                    "reference_probability": logits.softmax(-1)[pair["answer_token"]].item()}
            case |= to_logits(model, pair)
            if len(pair["reference_tokens"]) == len(pair["counterfactual_tokens"]):
                case["receivers"] = [through(model, pair, chosen) for chosen in receivers]
                case["grids"] = grids(model, pair)
            cases.append(case)
        text = json.dumps({"cases": cases}, separators=(",", ":"), default=float)
        (a.goldens / name / "patching.json").write_text(text + "\n")
        print(name, len(text))


if __name__ == "__main__":
    main()
