"""Writes what transformers with hooks makes of heads that are taken out, for golden models.

    python tools/goldens/knockout.py [--goldens src/test/resources/goldens]

For each model below: `knockout.json` beside its `cases.json`: the heads, two source prompts, a question,
and the logits of the question's last token with the input of o_proj changed in the heads' parts:

    intact         nothing changed
    zero_all       0 at every token
    mean_all       the mean over all tokens of both sources, at every token
    mean_end       the mean over the last tokens of both sources, at the last token
    resample_end   the last token of the second source, at the last token

All in f32 from the weights in the file.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

MODELS = {"llama3": ["0.1", "1.0", "1.5", "2.2"], "llama-bias": ["0.2", "1.4"], "qwen3": ["0.3", "2.1", "2.0"]}


class Hooked:
    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        c = self.model.config
        self.d_head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads

    def run(self, tokens, edit=None):
        """Logits of the last token and z [layer][T, H, dh]; edit(layer, z) changes z in place."""
        seen, handles = [], []

        def before(layer):
            def hook(_, args):
                z = args[0].clone().view(len(tokens), -1, self.d_head)
                seen.append(z.clone())
                if edit:
                    edit(layer, z)
                return (z.view(args[0].shape),)
            return hook

        for layer, block in enumerate(self.model.model.layers):
            handles.append(block.self_attn.o_proj.register_forward_pre_hook(before(layer)))
        with torch.no_grad():
            logits = self.model(torch.tensor([tokens])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return logits, seen


def knockouts(hooked, heads, sources, question):
    zs = [hooked.run(source)[1] for source in sources]

    def run(value, tokens):
        def edit(layer, z):
            for l, h in heads:
                if l == layer:
                    z[tokens, h] = value(l, h)
        return hooked.run(question, edit)[0]

    every, end = slice(None), slice(-1, None)
    return {
        "intact": hooked.run(question)[0],
        "zero_all": run(lambda l, h: 0.0, every),
        "mean_all": run(lambda l, h: torch.cat([z[l][:, h] for z in zs]).mean(0), every),
        "mean_end": run(lambda l, h: torch.stack([z[l][-1, h] for z in zs]).mean(0), end),
        "resample_end": run(lambda l, h: zs[1][l][-1, h], end),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--goldens", type=Path, default=Path("src/test/resources/goldens"))
    goldens = parser.parse_args().goldens
    for name, heads in MODELS.items():
        hooked = Hooked(goldens / name / "model")
        generator = torch.Generator().manual_seed(7)
        vocabulary = hooked.model.config.vocab_size
        prompts = [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in (9, 14, 11)]
        pairs = [tuple(map(int, head.split("."))) for head in heads]
        logits = knockouts(hooked, pairs, prompts[:2], prompts[2])
        for kind, values in logits.items():
            off = (values - logits["intact"]).abs().max() / logits["intact"].abs().max()
            assert kind == "intact" or off > 0.03, f"{name}: {kind} changes the logits by {off:.1e} only"
        golden = {"heads": heads, "sources": prompts[:2], "question": prompts[2],
                  "logits": {kind: [round(v, 7) for v in values.tolist()] for kind, values in logits.items()}}
        (goldens / name / "knockout.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
