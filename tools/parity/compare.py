"""Holds a `halter capture` dump against transformers, run live on the same inputs.

    python tools/parity/compare.py --model DIR --inputs inputs.jsonl --dump dump.safetensors

Prints the largest relative difference of every site over all inputs and layers, and exits with 1
when one is above the tolerance or cannot be compared, with 2 on wrong use. README.md says more.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from transformers import AutoTokenizer

from reference import NO_PLAN, Plan, Reference, prompt_rows, read_json_lines, relative_difference

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def tokens_of(line, model):
    if "tokens" in line:
        return line["tokens"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    if "prompt" in line:
        return tokenizer(line["prompt"])["input_ids"]
    return tokenizer.apply_chat_template(
        line["messages"], add_generation_prompt=True, return_dict=False
    )


def site_without_layer(site):
    parts = site.split(".")
    return ".".join(["blocks", "*", *parts[2:]]) if parts[0] == "blocks" else site


def compare(arguments):
    reference = Reference(arguments.model, DTYPES[arguments.dtype])
    lines = {str(line["id"]): line for line in read_json_lines(arguments.inputs)}
    worst = defaultdict(lambda: (0.0, "", 0))
    broken = []
    with safe_open(arguments.dump, "pt") as dump:
        by_id = defaultdict(list)
        for name in dump.keys():
            identifier, _, site = name.rpartition("/")
            by_id[identifier].append(site)
        for identifier in lines.keys() - by_id.keys():
            broken.append(f"{identifier}: an input, but not in the dump")
        for identifier, sites in by_id.items():
            if identifier not in lines:
                broken.append(f"{identifier}: in the dump, but no input")
                continue
            line = lines[identifier]
            plan = Plan(line["plan"], arguments.inputs.parent) if line.get("plan") else NO_PLAN
            _, expected = reference.forward(prompt_rows(tokens_of(line, arguments.model)), plan)
            for site in sites:
                name = f"{identifier}/{site}"
                if site not in expected:
                    broken.append(f"{name}: transformers' model has no such site")
                    continue
                try:
                    difference = relative_difference(dump.get_tensor(name).float(), expected[site])
                except ValueError as error:
                    broken.append(f"{name}: {error}")
                    continue
                key = site_without_layer(site)
                before, where, count = worst[key]
                worst[key] = max((difference, name), (before, where)) + (count + 1,)
    return worst, broken


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--inputs", type=Path, required=True, help="as given to halter capture")
    parser.add_argument("--dump", type=Path, required=True, help="what halter capture wrote")
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="of transformers' run")
    parser.add_argument("--tolerance", type=float, default=2e-4)
    arguments = parser.parse_args()
    for path in (arguments.model, arguments.inputs, arguments.dump):
        if not path.exists():
            parser.error(f"{path} does not exist")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    worst, broken = compare(arguments)
    print(f"{'site':<34}{'tensors':>8}{'difference':>13}  worst at")
    for site, (difference, where, count) in sorted(worst.items()):
        mark = "" if difference <= arguments.tolerance else "  ABOVE"
        print(f"{site:<34}{count:>8}{difference:>13.1e}  {where}{mark}")
    for line in broken:
        print(line)
    above = [site for site, entry in worst.items() if not entry[0] <= arguments.tolerance]
    if above or broken or not worst:
        counts = f"{len(above)} of {len(worst)} sites above {arguments.tolerance}"
        print(f"{counts}, {len(broken)} not comparable")
        sys.exit(1)
    print(f"all {len(worst)} sites within {arguments.tolerance}")


if __name__ == "__main__":
    main()
