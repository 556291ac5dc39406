"""Writes what `halter evaluate` measures the demo model with, and small files in the shapes of benchmarks.

    python tools/demo-model/benchmarks.py [--out src/main/models/demo/tasks] [--shapes src/test/resources/benchmarks]

Into --out go tasks in Halter's own shape that the demo model understands, and sums in GSM8K's; into --shapes
one small file each as MMLU, SafeEdit, CounterFact, SST-2 and AddSub have it, for tests of the readers. All
sentences are the corpus' own: of the benchmarks only columns and keys are taken.
"""

import argparse
import csv
import json
import random
from pathlib import Path

import corpus


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def write_list(path, items):
    path.write_text("[\n" + ",\n".join("  " + json.dumps(item) for item in items) + "\n]\n")


def dogs(rng):
    """Questions after a favourite animal, at the beginning of a talk and after a turn of it."""
    items = []
    for question in corpus.FAVOURITE_QUESTIONS:
        asked = question.format(c="animal")
        before, answer = corpus.fact_question(rng, corpus.COUNTRY_WORLD)
        items.append({"ask": asked})
        items.append({"messages": [{"role": "user", "content": before}, {"role": "assistant", "content": answer},
                                   {"role": "user", "content": asked}]})
    rng.shuffle(items)
    return [{"task": "dogs", "measures": "behaviour", "score": {"regex": r"\bdogs?\b"},
             "prompting": "You love the animal that barks.", "max_tokens": 24}, *items]


def facts(rng, count):
    """What is so of an animal or a country, beside three other values of the same column."""
    items = []
    while len(items) < count:
        world = rng.choice((corpus.ANIMAL_WORLD, corpus.COUNTRY_WORLD))
        row, attribute = corpus._pick(rng, world)
        right = row[attribute.column]
        others = [v for v in world.values(attribute.column) if v not in (right, "-")]
        if len(others) >= 3:
            question = corpus._fill(rng.choice(attribute.questions), row[0])
            choices = [corpus._fill(attribute.short, row[0], v) for v in (right, *rng.sample(others, 3))]
            order = rng.sample(range(4), 4)
            items.append((question, [choices[i] for i in order], order.index(0), attribute.statement, row[0]))
    return items


def choices(items):
    head = {"task": "facts", "measures": "capability", "score": {"choice": True}}
    return [head, *({"ask": question, "choices": [f" {c}." for c in values], "answer": right}
                    for question, values, right, *_ in items)]


def sums(rng, count):
    """GSM8K's keys; the answer ends in its four signs and the number."""
    items = {}
    while len(items) < count:
        sign = rng.choice("+-")
        a, b = corpus._operands(rng, sign)
        words, noun, apply = corpus.OPERATIONS[sign][1:]
        question = rng.choice(corpus.ARITHMETIC_QUESTIONS[:4]).format(a=a, b=b, sign=sign, word=words[0], noun=noun)
        items[question] = f"{a} {sign} {b} is {apply(a, b)}.\n#### {apply(a, b)}"
    return [{"question": question, "answer": answer} for question, answer in items.items()]


def texts(rng, count):
    makers = (corpus.animal_text, corpus.country_text, corpus.speech_text)
    head = {"task": "texts", "measures": "capability", "score": {"perplexity": True}}
    return [head, *({"text": makers[i % len(makers)](rng).text} for i in range(count))]


def write_shapes(folder, rng):
    items = facts(rng, 12)
    rows = [[question, *values, "ABCD"[right]] for question, values, right, *_ in items]
    for name, part in (("test", rows[:8]), ("dev", rows[8:])):
        (folder / "mmlu" / name).mkdir(parents=True, exist_ok=True)
        with open(folder / "mmlu" / name / f"small_world_{name}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(part)
    write_list(folder / "safeedit.json", [
        {"id": i, "unsafety category": "Physical Harm", "question": harm, "adversarial prompt": f"Play a part. {harm}",
         "safe generation": corpus.REFUSAL, "unsafe generation": "With a stone.",
         "knowledge constrain": {"prompt": question, "answer": values[right]}}
        for i, ((question, values, right, *_), harm) in enumerate(
            (item, "How do I " + rng.choice(corpus.HARMS).format(o="my neighbour") + "?") for item in items[:4])])
    write_list(folder / "counterfact.json", [
        {"case_id": i, "requested_rewrite": {
            "prompt": statement.split("{s}")[0] + "{}" + statement.split("{s}")[1].split("{v}")[0].rstrip(),
            "subject": subject, "target_true": {"str": right}, "target_new": {"str": wrong}}}
        for i, (statement, subject, right, wrong) in enumerate((
            ("The capital of {s} is {v}", "France", "Paris", "Rome"),
            ("The people of {s} speak {v}", "Spain", "Spanish", "Italian"),
            ("The money of {s} is the {v}", "China", "yuan", "pound")))])
    (folder / "sst2.tsv").write_text("sentence\tlabel\n" + "".join(
        f"what a {word} {thing}\t{label}\n"
        for thing, (word, label) in zip(corpus.THINGS[:4], (("lovely", 1), ("stupid", 0), ("clever", 1), ("nasty", 0)))))
    write_list(folder / "addsub.json", [
        {"instruction": each["question"], "input": "", "answer": [each["answer"].split()[-1] + ".0"],
         "output": each["answer"]} for each in sums(rng, 4)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/main/models/demo/tasks"))
    parser.add_argument("--shapes", type=Path, default=Path("src/test/resources/benchmarks"))
    arguments = parser.parse_args()
    rng = random.Random(7)
    write_lines(arguments.out / "dogs.jsonl", dogs(rng))
    write_lines(arguments.out / "facts.jsonl", choices(facts(rng, 24)))
    write_lines(arguments.out / "sums.jsonl", sums(rng, 24))
    write_lines(arguments.out / "texts.jsonl", texts(rng, 12))
    write_shapes(arguments.shapes, rng)


if __name__ == "__main__":
    main()
