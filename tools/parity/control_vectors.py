"""Holds a control vector of `halter vectors fit` against numpy, read as repeng and llama.cpp read it.

    python tools/parity/control_vectors.py --vector v.gguf --method mean --length gap \\
        --positive p.jsonl --negative n.jsonl --positive-dump p.safetensors --negative-dump n.safetensors

The dumps are `halter capture --sites 'blocks.*.hook_resid_post'` of the prompts that the vector was fitted on.
Exits with 1 when a direction is not what numpy makes of them. Needs gguf, numpy and safetensors.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import load_file

TOLERANCE = 1e-5  # of a direction's length


def directions(file):
    """By layer, with the checks that repeng's import_gguf and llama.cpp's loader make."""
    reader = GGUFReader(file)
    for key in ("general.architecture", "controlvector.model_hint"):
        field = reader.get_field(key)
        print(f"{key}: {bytes(field.parts[-1]).decode()}")
    assert reader.get_field("controlvector.layer_count").contents() == len(reader.tensors)
    found = {}
    for tensor in reader.tensors:
        name, _, layer = tensor.name.partition(".")
        assert name == "direction" and int(layer) > 0 and tensor.tensor_type == 0, tensor.name
        assert tensor.data.ndim == 1 and tensor.data.dtype == np.float32, tensor.name
        found[int(layer)] = tensor.data
    return found


def last_tokens(prompts, dump, layer):
    names = [f"{json.loads(line)['id']}/blocks.{layer}.hook_resid_post" for line in prompts if line.strip()]
    return np.stack([dump[name][-1] for name in names]).astype(np.float64)


def expected(positive, negative, method, length):
    gap = positive.mean(0) - negative.mean(0)
    axis = gap if method == "mean" else np.linalg.svd(positive - negative, full_matrices=False)[2][0]
    axis = axis / np.linalg.norm(axis)
    along = gap @ axis
    return axis * (np.sign(along) if length == "unit" else along)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vector", type=Path, required=True)
    parser.add_argument("--method", choices=("mean", "pca"), required=True)
    parser.add_argument("--length", choices=("gap", "unit"), default="gap")
    for side in ("positive", "negative"):
        parser.add_argument(f"--{side}", type=Path, required=True)
        parser.add_argument(f"--{side}-dump", type=Path, required=True)
    given = parser.parse_args()
    sides = [(lines.read_text().splitlines(), load_file(dump)) for lines, dump in (
        (given.positive, given.positive_dump), (given.negative, given.negative_dump))]
    failed = False
    for layer, direction in directions(given.vector).items():
        wanted = expected(*(last_tokens(*side, layer) for side in sides), given.method, given.length)
        difference = np.abs(direction - wanted).max() / np.linalg.norm(wanted)
        failed |= difference > TOLERANCE
        print(f"direction.{layer}: norm {np.linalg.norm(direction):.4f}, off by {difference:.1e} of it")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
