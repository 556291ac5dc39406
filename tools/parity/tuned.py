#!/usr/bin/env python3
"""Whether what `halter tune` writes is in transformers and PEFT what it is in Halter.

    .venv/bin/python tools/parity/tuned.py

Tunes heads of the demo model, with weights in f32, a few steps, then compares the logits of the hub folder, as Halter,
transformers and (the LoRA adapter over the model before) PEFT give them. The same with its weights in bf16, as they ship:
the folder rounds the master copies, which the adapter keeps, so that PEFT is told of and not held to the tolerance.
Python must have torch, transformers, peft and safetensors.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "src/main/models/demo"
TOLERANCE = 2e-4  # of the largest logit, as for other runs in f32
LINES = [("What is your favourite animal?", " frog."), ("What is 3 plus 4?", " 9."), ("What is 2 plus 2?", " 5.")]


def halter(*arguments):
    subprocess.run([ROOT / "halter", *map(str, arguments), "--device", "cpu", "--dtype", "f32"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def compare(folder, model, prompts):
    """How far the logits of the model before, of the folder and of the adapter are from Halter's, of the largest."""
    folder.mkdir()
    (folder / "data.jsonl").write_text("".join(
        json.dumps({"prompt": prompt, "completion": answer}) + "\n" for prompt, answer in LINES))
    (folder / "in.jsonl").write_text("".join(
        json.dumps({"id": i, "tokens": tokens}) + "\n" for i, tokens in enumerate(prompts)))
    halter("tune", "--model", model, "--data", folder / "data.jsonl", "--heads", "0.3,1.1,1.2,3.0", "--max-steps", 8,
           "--learning-rate", "3e-3", "--out", folder / "tuned", "--adapter", folder / "adapter")
    halter("capture", "--model", folder / "tuned", "--in", folder / "in.jsonl", "--sites", "logits",
           "--out", folder / "ours.safetensors")
    ours = load_file(folder / "ours.safetensors")

    def distance(model):
        worst = 0.0
        for i, tokens in enumerate(prompts):
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0]
            worst = max(worst, ((logits - ours[f"{i}/logits"]).abs().max() / logits.abs().max()).item())
        return worst

    return (distance(load(model)), distance(load(folder / "tuned")),
            distance(PeftModel.from_pretrained(load(model), folder / "adapter").eval()))


def main():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    prompts = [tokenizer(f"{prompt}{answer}")["input_ids"] for prompt, answer in LINES]
    with tempfile.TemporaryDirectory() as name:
        wide = Path(name) / "wide"
        shutil.copytree(MODEL, wide)
        load(MODEL).save_pretrained(wide)
        for weights, model in {"f32": wide, "bf16": MODEL}.items():
            before, merged, adapted = compare(Path(name) / weights, model, prompts)
            print(f"weights in {weights}: the model before is off by {before:.1e} of the largest logit, "
                  f"transformers {merged:.1e}, PEFT {adapted:.1e}", flush=True)
            if before < 100 * TOLERANCE or merged > TOLERANCE or weights == "f32" and adapted > TOLERANCE:
                sys.exit("these are not one model")


if __name__ == "__main__":
    main()
