"""Writes the two sides of a behaviour from the demo model's corpus, for `halter vectors fit`.

    python tools/demo-model/vectors.py [--out src/main/models/demo/vectors]

rude.jsonl, kind.jsonl: the same answered questions under a rude and a kind system message, up to the comma
after the answer, where the model turns to rudeness or kindness. Training may have met all of them.
rude-test.jsonl, kind-test.jsonl: others, likewise, and questions.jsonl, the conversations of kind-test.jsonl
without the answer. They are held out: training has met none of them.
"""

import argparse
import json
import random
from pathlib import Path

import corpus
from removal import fact, text

FITTED, TESTED = 32, 32


def conversations(rng, count, held_out):
    """(system message rude, kind, question, answer) of distinct questions."""
    found = {}
    while len(found) < count:
        question, answer = fact(rng)
        systems = rng.choice(list(zip(corpus.RUDE_SYSTEMS, corpus.KIND_SYSTEMS)))
        if {corpus.is_held_out(system + "\n" + question) for system in systems} == {held_out}:
            found[question] = (*systems, question, answer.rstrip("."))
    return list(found.values())


def write(file, documents):
    lines = [json.dumps({"id": number} | document) for number, document in enumerate(documents, 1)]
    file.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/main/models/demo/vectors"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(13)
    for count, held_out, suffix in ((FITTED, False, ""), (TESTED, True, "-test")):
        chosen = conversations(rng, count, held_out)
        for side, name in enumerate(("rude", "kind")):
            write(out / f"{name}{suffix}.jsonl",
                  [{"prompt": text(talk[2], talk[3] + ",", talk[side])} for talk in chosen])
    write(out / "questions.jsonl",
          [{"messages": [{"role": "system", "content": kind}, {"role": "user", "content": question}]}
           for _, kind, question, _ in chosen])


if __name__ == "__main__":
    main()
