#!/usr/bin/env python3
"""Goldens for dev.halter.generation.Sampler: what transformers' logits processors make of logits.

Writes src/test/resources/logits-processors.json: for each case a row of logits, the tokens of prompt
and generation before it, the settings, the row after bias and penalties (`changed`) and
the tokens that temperature and cuts leave (`kept`). float32 on the CPU. The processors are
transformers', in vLLM's order; OpenAI's frequency and presence penalties, which transformers has
not, are the two lines of vLLM's apply_penalties.

    python tools/goldens/logits_processors.py        # torch 2.13.0, transformers 5.18.0

Checks itself: rows in which a setting changes nothing, or a cut is so close to a token that rounding
could decide, are drawn again.
"""

import json
import pathlib

import numpy as np
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

OUT = pathlib.Path(__file__).resolve().parents[2] / "src/test/resources/logits-processors.json"
VOCABULARY = 61
NONE = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": {},
}
CASES = [
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.7},
    {"presence_penalty": 0.6},
    {"frequency_penalty": 0.37},
    {"presence_penalty": -1.1, "frequency_penalty": -0.3},
    {"logit_bias": {3: 2.5, 17: -100.0, 40: 0.3}},
    {"repetition_penalty": 1.7, "presence_penalty": 0.21, "frequency_penalty": 0.43,
     "logit_bias": {0: -0.7, 5: 4.1, 60: 1.3}},
    {"min_p": 0.2},
    {"min_p": 0.05, "temperature": 1.7},
    {"min_p": 0.1, "temperature": 0.6, "top_k": 7},
    {"min_p": 0.03, "temperature": 1.4, "top_k": 20, "top_p": 0.8},
    {"min_p": 0.02, "temperature": 1.2, "top_p": 0.9, "repetition_penalty": 1.2,
     "frequency_penalty": 0.5, "logit_bias": {11: 3.0, 12: -4.0}},
]


class Again(Exception):
    pass


def require(holds):
    if not holds:
        raise Again


def changed(logits, prompt, generated, s):
    ids = torch.tensor([prompt + generated])
    row = logits[None].clone()
    if s["logit_bias"]:
        row = SequenceBiasLogitsProcessor({(t,): b for t, b in s["logit_bias"].items()})(ids, row)
    if s["repetition_penalty"] != 1:
        row = RepetitionPenaltyLogitsProcessor(s["repetition_penalty"])(ids, row)
    counts = torch.bincount(torch.tensor(generated), minlength=VOCABULARY)[None]
    row = row - s["frequency_penalty"] * counts
    row = row - s["presence_penalty"] * (counts > 0)
    return row


def kept(row, s):
    ids = torch.zeros((1, 1), dtype=torch.long)
    warpers = [TemperatureLogitsWarper(s["temperature"])]
    if s["min_p"]:
        warpers.append(MinPLogitsWarper(s["min_p"]))
    if s["top_k"]:
        warpers.append(TopKLogitsWarper(s["top_k"]))
    if s["top_p"] < 1:
        warpers.append(TopPLogitsWarper(s["top_p"]))
    for warper in warpers:
        before = torch.isfinite(row).sum()
        row = warper(ids, row)
        require(isinstance(warper, TemperatureLogitsWarper) or torch.isfinite(row).sum() < before)
    return sorted(torch.nonzero(torch.isfinite(row[0]))[:, 0].tolist())


def case(random, settings):
    s = NONE | settings
    logits = torch.tensor(random.normal(0.5, 2, VOCABULARY), dtype=torch.float32)
    prompt = random.integers(0, VOCABULARY, 12).tolist()
    generated = random.integers(0, VOCABULARY, 9).tolist()
    generated += generated[:3] + generated[:1]  # some come again, one of them twice
    row = changed(logits, prompt, generated, s)
    changes = {"repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias"}
    require(bool(settings.keys() & changes) != torch.equal(row[0], logits))
    keeps = kept(row, s)
    for nudge in (1 - 1e-4, 1 + 1e-4):
        top_p = s["top_p"] * nudge if s["top_p"] < 1 else 1.0
        require(kept(row, dict(s, min_p=s["min_p"] * nudge, top_p=top_p)) == keeps)
    return {
        "settings": {k: v for k, v in s.items() if v != NONE[k]},
        "prompt": prompt,
        "generated": generated,
        "logits": [float(x) for x in logits],
        "changed": [float(x) for x in row[0]],
        "kept": keeps,
    }


def drawn(random, settings):
    while True:
        try:
            return case(random, settings)
        except Again:
            pass


def main():
    random = np.random.default_rng(16)
    cases = [drawn(random, settings) for settings in CASES]
    lines = ",\n".join(json.dumps(c) for c in cases)
    OUT.write_text('{"cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
