"""Writes what reference implementations make of fixed inputs: `src/test/resources/metrics.json`.

    pip install torch==2.13.0 transformers==5.18.0 numpy scipy==1.17.1 sacrebleu==2.6.0
    python tools/goldens/metrics.py [--out src/test/resources/metrics.json]

Words are sacrebleu's tokenizer 13a, intervals scipy's percentile bootstrap of 20,000 resamples, perplexity
and KL torch's losses over transformers' logits of a golden model, whose head 0.1 is knocked out by a hook.
n-gram entropy is the formula of ROME and EasyEdit over these words.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy
import torch
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from scipy import stats
from transformers import AutoModelForCausalLM

TEXTS = ("The cat sat on the mat, and the cat sat on the mat.", "It costs 3,000.50 (or $12-14), says \"Anna\".",
         "one", "", "no no no no no", "Fish &amp; chips: e.g. cod/haddock -- 5.2% don't.", "Ünïcödé wörds — für alle!")
MODEL = Path("src/test/resources/goldens/llama-bias/model")


def ngrams(words, n):
    return Counter(" ".join(words[i:i + n]) for i in range(len(words) - n + 1))


def entropy(words, n):
    counts = numpy.array(list(ngrams(words, n).values()), dtype=float)
    shares = counts / counts.sum() if len(counts) else counts
    return float(-(shares * numpy.log2(shares)).sum()) + 0.0


def of_text(text):
    words = Tokenizer13a()(text).split()
    entropies = [entropy(words, n) for n in (1, 2, 3)]
    return {"text": text, "words": words, "counts": [ngrams(words, n) for n in (1, 2, 3)],
            "distinct": [len(ngrams(words, n)) / (len(words) - n + 1) if len(words) >= n else None for n in (1, 2, 3)],
            "entropy": entropies,
            "weighted_entropy": float(numpy.mean(numpy.array(entropies[1:]) * numpy.array([2 / 3, 4 / 3])))}


def of_sample(values, counts, perplexity):
    def statistic(values, counts, axis):
        ratio = values.sum(axis=axis) / counts.sum(axis=axis)
        return numpy.exp(ratio) if perplexity else ratio

    interval = stats.bootstrap((values, counts), statistic, paired=True, vectorized=True, n_resamples=20_000,
                               method="percentile", rng=numpy.random.default_rng(0)).confidence_interval
    return {"values": values.tolist(), "counts": counts.tolist(), "perplexity": perplexity,
            "value": float(statistic(values, counts, 0)), "low": float(interval.low), "high": float(interval.high)}


def samples():
    rng = numpy.random.default_rng(5)
    yield of_sample(rng.random(25).round(3), numpy.ones(25), False)
    yield of_sample((rng.random(40) < 0.3).astype(float), numpy.ones(40), False)
    counts = rng.integers(3, 30, 30).astype(float)
    yield of_sample((counts * rng.gamma(2, 0.7, 30)).round(3), counts, True)


def of_model():
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()
    rng = numpy.random.default_rng(7)
    texts = [rng.integers(3, model.config.vocab_size, n).tolist() for n in (12, 2, 25)]
    d_head = getattr(model.config, "head_dim", None) or model.config.hidden_size // model.config.num_attention_heads

    def knock_out(module, inputs):
        z = inputs[0].clone()
        z[..., d_head:2 * d_head] = 0
        return (z,)

    def run():
        losses, logits = [], []
        for text in texts:
            with torch.no_grad():
                out = model(torch.tensor([text])).logits[0].double()
            losses.append(torch.nn.functional.cross_entropy(out[:-1], torch.tensor(text[1:]), reduction="none"))
            logits.append(out.log_softmax(-1))
        return torch.cat(losses).mean().exp().item(), logits[0]

    before, unsteered = run()
    hook = model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(knock_out)
    after, steered = run()
    hook.remove()
    divergence = torch.nn.functional.kl_div(steered, unsteered, log_target=True, reduction="none").sum(-1)
    return {"texts": texts, "perplexity": before, "steered_perplexity": after, "divergence": divergence.tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/test/resources/metrics.json"))
    share = stats.binom(60, 0.25)
    document = {"texts": [of_text(text) for text in TEXTS], "samples": list(samples()),
                "share": {"value": 0.25, "n": 60, "low": share.ppf(0.025) / 60, "high": share.ppf(0.975) / 60},
                "model": of_model()}
    parser.parse_args().out.write_text(json.dumps(document, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
