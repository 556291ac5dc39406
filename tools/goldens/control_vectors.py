#!/usr/bin/env python3
"""Goldens for control vectors: what repeng makes of two sides of activations, and the file that it writes.

Writes into src/test/resources/control-vectors/:
  sides.safetensors  `positive`, `negative` [n, d], more pairs than values and fewer of them (`few_`); of
                     each `mean` [d], the difference of the means; `pca` [d], repeng's pca_center: first
                     principal component of the activations less their pair's midpoint, of length 1, turned to
                     where positive ones project higher; `explained`, its share of the variance
  repeng.gguf        `pca` and `few_pca` as directions 1 and 3, by the gguf package as repeng's export_gguf does

    python tools/goldens/control_vectors.py      # numpy 2.4.6, scikit-learn 1.9.1, safetensors 0.8.0, gguf 0.19.0

Checks itself: most pairs project in the right order, and pca is not just the mean.
"""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

OUT = Path(__file__).resolve().parents[2] / "src/test/resources/control-vectors"


def sides(rng, n, d):
    """Activations with a common direction, one along which pairs differ at random, and noise."""
    common, other = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    base = 4 * rng.standard_normal((n, d))
    half = np.outer(1 + 0.3 * rng.standard_normal(n), common) + np.outer(rng.standard_normal(n), other) / 2
    half += 0.2 * rng.standard_normal((n, d))
    return (base + half).astype(np.float32), (base - half).astype(np.float32)


def fitted(positive, negative):
    positive, negative = positive.astype(np.float64), negative.astype(np.float64)
    middle = (positive + negative) / 2
    rows = np.concatenate([positive - middle, negative - middle])
    found = PCA(n_components=1, svd_solver="full").fit(rows)
    pca = found.components_[0]
    higher = np.mean(positive @ pca > negative @ pca)
    pca = pca if higher > 0.5 else -pca
    assert max(higher, 1 - higher) > 0.8, higher
    mean = positive.mean(0) - negative.mean(0)
    cosine = pca @ mean / np.linalg.norm(mean)
    assert 0.5 < cosine < 0.9999, cosine
    explained = np.array([found.explained_variance_ratio_[0]])
    return {"mean": mean, "pca": pca, "explained": explained}


def main():
    OUT.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    tensors = {}
    for prefix, n, d in (("", 40, 12), ("few_", 6, 12)):
        positive, negative = sides(rng, n, d)
        made = {"positive": positive, "negative": negative} | fitted(positive, negative)
        tensors |= {prefix + name: value.astype(np.float32) for name, value in made.items()}
    save_file(tensors, OUT / "sides.safetensors")
    writer = GGUFWriter(OUT / "repeng.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    writer.add_tensor("direction.1", tensors["pca"])
    writer.add_tensor("direction.3", tensors["few_pca"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
