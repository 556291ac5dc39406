"""Measures the demo model, for the tables of the documents, and others of train.py beside it.

    python tools/demo-model/results.py [--other DIR NAME]… [--only PART …] [--out bench/results]

Each part becomes a report, from which tools/readme makes the table:
questions, neurons   of all models: check.py, and what `halter evaluate paper davies` says of them
pace, sac, arithmetic   `halter evaluate paper`, on the model that ships
tuning               `halter heads evaluate --part tuning --everything`
readings             how far the ways to decode a neuron agree
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import check

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/python"))
import turns  # noqa: E402

HALTER = [ROOT / "halter"]
SHIPS = ("as it ships", ROOT / "src/main/models/demo")
HELD_OUT = ROOT / "src/test/resources/demo/held-out.jsonl"
WORDS = 50


def halter(*arguments):
    """The JSON that a command prints."""
    command = [*HALTER, *arguments, "--json"]
    print("halter", *arguments, flush=True)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)


def percent(share):
    return f"{100 * share:.1f} %"


def shown(figure):
    """A figure of a claim as text, with its interval if it has one."""
    if figure["value"] is None:
        return "–"
    if figure["unit"] == "share":
        interval = figure["low"] is not None
        return percent(figure["value"]) + (
            f" [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]" if interval else "") + f" of {figure['n']:,}"
    if figure["unit"] == "seconds":
        return f"{figure['value']:.3g} s"
    return f"{figure['value']:,.0f}" if figure["value"] == round(figure["value"]) else f"{figure['value']:.4g}"


def figures(claims):
    return {figure["name"]: figure for claim in claims["claims"] for figure in claim["figures"]}


@functools.cache
def checked(folder):
    return check.report(folder, HELD_OUT)


def questions(models):
    measured = {name: checked(folder)["questions"] for name, folder in models}
    first = measured[SHIPS[0]]
    rows = [[kind, str(first[kind]["of"]), *(str(each[kind]["right"]) for each in measured.values())] for kind in first]
    total = ["all", *(str(sum(int(row[i]) for row in rows)) for i in range(1, len(rows[0])))]
    return measured, "right answers to held-out questions, by transformers in f32 (`check.py`)", [
        "kind of question", "of", *measured], [*rows, total]


def neurons(models):
    found = [checked(folder)["neurons"] for _, folder in models]
    claims = [halter("evaluate", "paper", "davies", "--words", str(WORDS), "--model", str(folder))
              for _, folder in models]
    named = [figures(each) for each in claims]
    rows = [
        ["animals that some neuron decodes to first", *(f"{f['with_a_neuron']} of {f['animals']}" for f in found)],
        ["animals that a clamp of such a neuron makes the answer",
         *(f"{f['became_the_answer']} of {f['animals']}" for f in found)],
        ["an animal's probability as the answer, median: as it is, clamped",
         *(f"{f['before']:.3f}, {f['after']:.3f}" for f in found)],
        ["the dog's: its neuron, as it is, clamped",
         *(f"{f['neuron']} at {f['value']:+.0f}: {f['concept_before']:.3f}, {f['concept_after']:.3f}" for f in found)],
        ["every eighth neuron held at that value: the dog is the answer, the answer is as before",
         *(f"{percent(f['control_answers'])}, {percent(f['control_as_before'])}" for f in found)],
        ["words that some neuron decodes to first, with a neuron that raises them tenfold",
         *(shown(f["words with a working neuron"]) for f in named)],
        ["likewise of random neurons", *(shown(f["likewise of random neurons"]) for f in named)],
    ]
    return {"check": found, "davies": claims}, (
        "Davies' claims (arXiv 2501.02688): the upper rows by `check.py`, clamps at ±20 to ±60 of up to five neurons "
        f"an animal; the last two by `halter evaluate paper davies --words {WORDS}`, with intervals of 95 %"), [
        " ", *(name for name, _ in models)], rows


def arithmetic(_):
    claims = halter("evaluate", "paper", "arithmetic")
    rows = [[claim["claim"] if i == 0 else "", figure["name"], shown(figure)]
            for claim in claims["claims"] for i, figure in enumerate(claim["figures"])]
    return claims, "`halter evaluate paper arithmetic`, on the model that ships", [
        "claim ", "what ", "this model"], rows


def pace(_):
    claims = halter("evaluate", "paper", "pace")
    gone, kept, both, *_ = ({f["name"]: f for f in claim["figures"]} for claim in claims["claims"])
    rows = [[method, shown(gone[method]), shown(kept[f"{method}: unrelated answers"]),
             shown(kept[f"{method}: perplexity"]), shown(both[method])] for method in gone]
    return claims, "`halter evaluate paper pace`, on the model that ships", [
        "method", "answers without the behaviour", "unrelated answers right", "perplexity",
        "plain x unrelated"], rows


def sac(_):
    claims = halter("evaluate", "paper", "sac")
    shares, other = {}, {f["name"]: f for f in claims["claims"][-1]["figures"]}
    for claim in claims["claims"][1:-1]:
        for figure in claim["figures"]:
            row, task = figure["name"].split(": ")
            shares.setdefault(row, {})[task] = percent(figure["value"])
    tasks = list(next(iter(shares.values())))
    rows = [[row, *(shares[row][task] for task in tasks), percent(other[row]["value"])]
            for row in other if row in shares]
    few = {f["name"]: f for f in claims["claims"][0]["figures"]}
    heads = ", ".join(f"{task} {round(few[f'heads of {task}']['value'] * few[f'heads of {task}']['n'])}"
                      for task in tasks)
    total = few[f"heads of {tasks[0]}"]["n"]
    return claims, (
        f"`halter evaluate paper sac`, on the model that ships: wanted answers on test prompts. Heads, of {total}: "
        f"{heads}"), ["control", *tasks, "other questions"], rows


def tuning(_):
    document = halter("heads", "evaluate", "--part", "tuning", "--everything")
    report = document["tuning"]

    def row(name, weights, shares):
        other = list(shares["other"].values())
        return [name, weights, percent(shares["new_sums"]), percent(shares["known_sums"]),
                percent(sum(other) / len(other)), f"{shares['perplexity']:.3f}"]

    rows = [row("nothing", "–", report["before"])]
    for each in report["rows"]:
        heads = f" ({', '.join(each['heads'])})" if 0 < len(each["heads"]) <= 4 and "random" not in each["tuned"] else ""
        rows.append(row(each["tuned"] + heads, f"{each['parameters']:,.0f}", each))
    return document, (
        f"`halter heads evaluate --part tuning --everything`, on the model that ships (f32): heads found with "
        f"{report['pairs']} known sums, {report['learnt']} new ones learnt, {report['measured']} further ones measured"
    ), ["tuned", "weights", "new sums", "known sums", "other questions", "perplexity"], rows


def readings(_):
    pairs = (("up raw", "up unit"), ("up raw", "up norm"), ("gate raw", "gate norm"), ("down raw", "down norm"),
             ("up raw", "gate raw"), ("up raw", "down raw"), ("gate raw", "down raw"))
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        maps = {}
        for name in sorted({name for pair in pairs for name in pair}):
            proj, decode = name.split()
            maps[name] = str(Path(folder) / f"{proj}-{decode}.safetensors")
            made = halter("map", "--proj", proj, "--decode", decode, "--out", maps[name])
        for a, b in pairs:
            measured[f"{a}, {b}"] = halter("agree", maps[a], maps[b])
    rows = [[name, percent(each["agreement"]), percent(each["top_k"]["overlap"])] for name, each in measured.items()]
    return measured, f"{made['neurons']:,} neurons of the model that ships, both signs (`halter agree`)", [
        "readings", "same top token", "same of the top 10"], rows


PARTS = {f.__name__: f for f in (questions, neurons, pace, sac, arithmetic, tuning, readings)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", nargs=2, action="append", default=[], metavar=("DIR", "NAME"),
                        help="another folder that train.py wrote, and what its column is called")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results")
    options = parser.parse_args()
    for part in options.only:
        models = [SHIPS, *((name, Path(folder)) for folder, name in options.other)]
        document, caption, columns, rows = PARTS[part](models)
        report = {"date": turns.report("", "cpu", None)["date"], "machine": turns.machine("cpu"),
                  "command": f"tools/demo-model/results.py --only {part}", "document": document}
        turns.write(options.out / f"demo-{part}-{report['date']}.json", report,
                    f"{caption}; {report['machine']}, {report['date']}.", columns, rows)


if __name__ == "__main__":
    main()
