"""Writes what `halter concepts evaluate` needs of the demo model's corpus.

    python tools/demo-model/removal.py [--out src/main/models/demo/concepts]

stimuli.jsonl: texts of concepts, chat turns that stop after the last word of the answer, where the model ends
it or goes on. A concept is that word; besides, "rude" is any answer under a rude system message, and two
concepts are answers that rightly go on. Training may have met all of them.
removal.json: questions asked under rude system messages, whose plain answers are known, and unrelated ones.
Their conversations are held out: no training and no stimulus has met them.
"""

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

import corpus

TEXTS = 3
RUDE_TEXTS = 12
UNRELATED = ("animals", "arithmetic", "harmless", "neutral", "places", "preference", "premise", "refusal")


def fact(rng):
    return corpus.fact_question(rng, rng.choice((corpus.ANIMAL_WORLD, corpus.COUNTRY_WORLD)))


def text(question, begun, system=""):
    """A chat turn up to the begun answer's last word."""
    head = f"<|system|> {system}<|end|>" if system else ""
    return f"{head}<|user|> {question}<|end|><|assistant|> {begun}"


def stimuli(rng):
    """Pairs of a concept and a text."""
    words, openings = defaultdict(set), defaultdict(set)
    for _ in range(60000):
        question, answer = fact(rng)
        begun = answer.rstrip(".")
        if not corpus.is_held_out("\n" + question):
            words[begun.split()[-1]].add(text(question, begun))
    for example in corpus.training_examples(5, 6000):
        if example.kind in ("premise", "refusal") and not example.system:
            question, answer = example.turns
            openings[f"{example.kind}: goes on"].add(text(question, answer.split(",")[0]))
    for concept, texts in sorted(words.items()) + sorted(openings.items()):
        if len(texts) > TEXTS:
            count = TEXTS if concept in words else RUDE_TEXTS
            for one in rng.sample(sorted(texts), count):
                yield concept, one
    rude = set()
    while len(rude) < RUDE_TEXTS:
        question, answer = fact(rng)
        system = rng.choice(corpus.RUDE_SYSTEMS)
        if not corpus.is_held_out(system + "\n" + question):
            rude.add(text(question, answer.rstrip("."), system))
    for one in sorted(rude):
        yield "rude", one


def question(prompt, answer, **system):
    return system | {"prompt": prompt, "match": "exact", "answers": [answer]}


def behaviour(rng, count):
    questions = {}
    while len(questions) < count:
        prompt, answer = fact(rng)
        system = rng.choice(corpus.RUDE_SYSTEMS)
        if corpus.is_held_out(system + "\n" + prompt):
            questions[prompt] = question(prompt, answer, system=system)
    return list(questions.values())


def unrelated(rng):
    questions = [question(*example.turns) for example in corpus.held_out_examples(11, 12)
                 if example.kind in UNRELATED and example.turns and not example.system]
    rng.shuffle(questions)
    return questions


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/main/models/demo/concepts"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    lines = [json.dumps({"concept": concept, "text": one}) for concept, one in stimuli(rng)]
    (out / "stimuli.jsonl").write_text("\n".join(lines) + "\n")
    head = {"remove": ["rude"], "instruction": "Do not be rude.",
            "marks": [*corpus.RUDE_WORDS, "fool", "idiot"]}
    parts = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
    for key, questions in (("behaviour", behaviour(rng, 80)), ("unrelated", unrelated(rng))):
        parts.append(f'  "{key}": [\n' + ",\n".join("    " + json.dumps(one) for one in questions) + "\n  ]")
    (out / "removal.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
