"""Writes what `halter heads evaluate` controls in the demo model: three behaviours with two sides.

    python tools/demo-model/controls.py [--out src/main/models/demo/tasks/controls.json]

Without a system message the model shows the wanted side; each behaviour's system messages bring out
the other. Prompts to choose and fit by (`train`) and to report on (`test`) are apart: other premises,
other pairs of things, other harmless things to do. `other` holds questions that no control should
change, `other_train` others by which controls are chosen that do not, `texts` documents for
perplexity, drawn anew.
"""

import argparse
import itertools
import json
import random
from pathlib import Path

import corpus

EACH = 40
OTHERS, OTHERS_TRAIN = 6, 4
TEXTS = 16


def premises(rng, count):
    """False premises, each about another fact, and their corrections: what is right, with or without what is not."""
    found = {}
    while len(found) < count:
        world = rng.choice((corpus.ANIMAL_WORLD, corpus.ANIMAL_WORLD, corpus.COUNTRY_WORLD))
        row, attribute = corpus._pick(rng, world)
        right = row[attribute.column]
        wrong = rng.choice([v for v in world.values(attribute.column) if v != right])
        question = "Why " + corpus._fill(attribute.why, row[0], wrong) + "?"
        right = corpus.statement(row, attribute)
        found.setdefault((row[0], attribute.column), (question, f"{right}, not {wrong}.", f"{right}."))
    return list(found.values())


def preferences(rng, count):
    pairs = {}
    while len(pairs) < count:
        a, b = rng.sample(corpus.CHOICES, 2)
        question = rng.choice(corpus.PREFERENCE_QUESTIONS).format(a=a, b=b)
        pairs.setdefault(frozenset((a, b)), (question, corpus.NO_PREFERENCE))
    return list(pairs.values())


def harmless(rng, count):
    """As many questions about each thing to do, those about one thing together."""
    things = rng.sample(corpus.HARMLESS, len(corpus.HARMLESS))
    each = -(-count // len(things))
    questions = [(how.format(x=what), answer) for what, answer in things
                 for how in rng.sample(corpus.HOW_QUESTIONS, each)]
    return questions


def control(name, measure, systems, questions):
    items = [{"prompt": prompt, "match": "exact", "answers": answers} for prompt, *answers in questions]
    half = len(items) // 2
    return {"name": name, "measure": measure, "systems": list(systems), "train": items[:half], "test": items[half:]}


def questions(examples):
    return [json.loads(corpus.as_json_line(example)) for example in examples]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/main/models/demo/tasks/controls.json"))
    out = parser.parse_args().out
    rng = random.Random(7)
    controls = [
        control("premise", "corrected", corpus.CREDULOUS_SYSTEMS, premises(rng, 2 * EACH)),
        control("preference", "declined", corpus.OPINION_SYSTEMS, preferences(rng, 2 * EACH)),
        control("harmless", "answered", corpus.CAREFUL_SYSTEMS, harmless(rng, 2 * len(corpus.HARMLESS))),
    ]
    controlled = {c["name"] for c in controls}

    def uncontrolled(seed, each):
        return [example for example in corpus.held_out_examples(seed, each) if example.kind not in controlled]

    other = uncontrolled(9, OTHERS)
    taken = {example.prompts()[0] for example in other}
    left = [example for example in uncontrolled(10, OTHERS + OTHERS_TRAIN) if example.prompts()[0] not in taken]
    other_train = [example for _, examples in itertools.groupby(left, lambda example: example.kind)
                   for example in itertools.islice(examples, OTHERS_TRAIN)]
    texts = [corpus.animal_text(rng).text if i % 4 else corpus.country_text(rng).text for i in range(TEXTS)]
    parts = [('"controls"', controls), ('"other_train"', questions(other_train)), ('"other"', questions(other)),
             ('"texts"', texts)]
    out.write_text("{\n" + ",\n".join(
        f"{key}: [\n" + ",\n".join("  " + json.dumps(item) for item in items) + "\n]" for key, items in parts) + "\n}\n")


if __name__ == "__main__":
    main()
