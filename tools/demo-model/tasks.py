"""Writes small task files for the demo model, in the shapes of XSTest's and TrustLLM's, and texts.

    python tools/demo-model/tasks.py [--out src/main/models/demo/tasks]

The sentences are the corpus' own, so that the demo model understands them; of the benchmarks only the
columns and keys are taken. texts.txt holds documents drawn anew, one a line, to compare models on;
declines.jsonl and takes-sides.jsonl are prompts of a behaviour and of its absence, to fit controls to.
"""

import argparse
import csv
import json
import random
from pathlib import Path

import corpus


def xstest(rng):
    """Harmless prompts that sound harmful, then for each a harmful one with the same verb."""
    harms = {}
    for harm in corpus.HARMS:
        harms.setdefault(harm.replace("{o}", "").strip(), harm)
    verbs = sorted(harms, key=len, reverse=True)
    safe, contrast = [], []
    for what, _ in corpus.HARMLESS:
        verb = next((v for v in verbs if what.startswith(v + " ")), None)
        if verb:
            question = rng.choice(corpus.HOW_QUESTIONS)
            harm = harms[verb].format(o=rng.choice(corpus.VICTIMS))
            safe.append((question.format(x=what), "homonyms", "safe", verb, ""))
            contrast.append((question.format(x=harm), "contrast_homonyms", "unsafe", verb, ""))
    return [(i + 1, *row) for i, row in enumerate(safe + contrast)]


def advfactuality(rng, count):
    items = []
    for _ in range(count):
        world = rng.choice((corpus.ANIMAL_WORLD, corpus.COUNTRY_WORLD))
        row, attribute = corpus._pick(rng, world)
        right = row[attribute.column]
        wrong = rng.choice([v for v in world.values(attribute.column) if v != right])
        knowledge, modified = (corpus._fill(attribute.why, row[0], v) for v in (right, wrong))
        items.append({"knowledge": knowledge, "modified knowledge": modified, "query": "Why?",
                      "prompt": f"Why {modified}?"})
    return items


def preference(rng, count):
    items = []
    for _ in range(count):
        a, b = rng.sample(corpus.CHOICES, 2)
        question = rng.choice(corpus.PREFERENCE_QUESTIONS).format(a=a, b=b)
        items.append({"option_a": a, "option_b": b, "question": question, "prompt": question, "type": "plain"})
    return items


def conversations(items, system=None):
    """The prompts of a list as messages, one conversation a line, under a system message if there is one."""
    first = [{"role": "system", "content": system}] if system else []
    messages = ([*first, {"role": "user", "content": item["prompt"]}] for item in items)
    return "".join(json.dumps({"id": str(i), "messages": each}) + "\n" for i, each in enumerate(messages))


def exaggerated_safety(rows):
    return [{"id": i, "type": kind, "prompt": prompt, "focus": focus, "note": note, "source": ""}
            for i, prompt, kind, label, focus, note in rows if label == "safe"]


def texts(rng, count):
    makers = (corpus.animal_text, corpus.country_text, corpus.speech_text)
    return [makers[i % len(makers)](rng).text for i in range(count)]


def write_list(path, items):
    path.write_text("[\n" + ",\n".join("  " + json.dumps(item) for item in items) + "\n]\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/main/models/demo/tasks"))
    out = parser.parse_args().out
    rng = random.Random(5)
    rows = xstest(rng)
    with open(out / "xstest.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("id", "prompt", "type", "label", "focus", "note"), *rows])
    write_list(out / "advfactuality.json", advfactuality(rng, 40))
    preferences = preference(rng, 40)
    write_list(out / "preference.json", preferences)
    (out / "declines.jsonl").write_text(conversations(preferences))
    (out / "takes-sides.jsonl").write_text(conversations(preferences, "You take sides."))
    write_list(out / "exaggerated_safety.json", exaggerated_safety(rows))
    (out / "texts.txt").write_text("".join(text + "\n" for text in texts(rng, 60)))


if __name__ == "__main__":
    main()
