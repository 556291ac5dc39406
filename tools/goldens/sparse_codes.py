#!/usr/bin/env python3
"""Goldens for dev.halter.sparse: codes by scikit-learn on small, coherent dictionaries.

Writes src/test/resources/sparse/: for each dictionary NAME.safetensors (`atoms` [n, d], not
of unit length, and `vectors` [m, d]) and NAME.json with what scikit-learn makes of them in float64:
supports, coefficients and residuals of orthogonal_mp, objectives and supports of elastic net and
lasso at a tight tolerance. All on unit vectors and unit atoms; coefficients are scaled back.

    python tools/goldens/sparse_codes.py        # scikit-learn 1.9.1, numpy 2.4.6, safetensors 0.8.0

Checks itself: the KKT conditions of every elastic net hold to 1e-7. Vectors for which the atom that
OMP chooses leads the next one by less than f32 could turn around are drawn again.
"""

import json
import pathlib
import warnings

import numpy as np
from safetensors.numpy import save_file
from sklearn.linear_model import ElasticNet, orthogonal_mp

OUT = pathlib.Path(__file__).resolve().parents[2] / "src/test/resources/sparse"
STOPS = {"omp": {"atoms": 10}, "omp_tolerance": {"tolerance": 0.4}}
NETS = [(0.05, 0.95), (0.02, 0.9), (0.05, 1.0), (0.2, 0.5)]


def dictionaries(random):
    d = 40
    yield "gaussian", random.standard_normal((256, d)), d
    # One direction that all share, as activations of a model do.
    mean = 3 * random.standard_normal(d) / np.sqrt(d)
    yield "shared-mean", random.standard_normal((256, d)) / np.sqrt(d) * 2 + mean, d
    # Families of ten that differ by a hundredth.
    family = np.repeat(random.standard_normal((25, d)), 10, axis=0)
    yield "near-parallel", family + 0.01 * random.standard_normal((250, d)), d
    # Every fifth atom repeats one of before, at twice the length.
    atoms = random.standard_normal((200, d)) + 0.5
    atoms[4::5] = 2 * atoms[3::5]
    yield "duplicates", atoms, d
    # More than one chunk of 1,024.
    yield "wide", (random.standard_normal((1300, 24)) + 0.4), 24


class Tie(Exception):
    pass


def vector(random, unit, sparse):
    """Five atoms and some noise, or nothing but noise."""
    n, d = unit.shape
    row = random.standard_normal(d)
    if sparse:
        weights = random.uniform(0.5, 2, 5) * random.choice([-1, 1], 5)
        row = 0.15 * row / np.sqrt(d) + weights @ unit[random.choice(n, 5, replace=False)]
    return (row * random.uniform(0.1, 30)).astype(np.float32).astype(np.float64)


def vectors(random, unit):
    rows = []
    while len(rows) < 11:
        row = vector(random, unit, len(rows) < 8)
        try:
            for stop in STOPS.values():
                pursuit(unit, row / np.linalg.norm(row), **stop)
            rows.append(row)
        except Tie:
            pass
    return np.array(rows)


def pursuit(unit, z, **stop):
    """Support in the order in which it was chosen, by asking for one atom more each time."""
    support, k = [], 0
    while True:
        k += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = orthogonal_mp(unit.T, z, n_nonzero_coefs=k)
        new = [int(atom) for atom in np.flatnonzero(code) if atom not in support]
        if len(new) != 1:
            raise SystemExit(f"{len(new)} new atoms at {k}: choose another seed")
        support += new
        residual = z - code @ unit
        if k == stop.get("atoms") or residual @ residual <= stop.get("tolerance", 0) ** 2:
            return support, code[support], residual
        after = np.sort(np.abs(unit @ residual))[::-1]
        if 1e-14 < after[0] - after[1] < 2e-6:
            raise Tie


def net(unit, z, alpha, tau):
    d = len(z)
    model = ElasticNet(alpha=alpha / d, l1_ratio=tau, fit_intercept=False, tol=1e-14, max_iter=2_000_000)
    code = model.fit(unit.T, z).coef_
    residual = z - code @ unit
    l1, l2 = alpha * tau, alpha * (1 - tau)
    gradient = unit @ residual - l2 * code
    worst = np.where(code == 0, np.abs(gradient) - l1, np.abs(gradient - l1 * np.sign(code))).max()
    assert worst < 1e-7, worst
    objective = residual @ residual / 2 + l1 * np.abs(code).sum() + l2 / 2 * code @ code
    return {"objective": objective, "atoms": int(np.count_nonzero(code))}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(4)
    for name, atoms, d in dictionaries(random):
        atoms = atoms.astype(np.float32)
        norms = np.linalg.norm(atoms.astype(np.float64), axis=1)
        unit = atoms / norms[:, None]
        rows = vectors(random, unit)
        save_file({"atoms": atoms, "vectors": rows.astype(np.float32)}, OUT / f"{name}.safetensors")
        golden = {"omp": [], "omp_tolerance": [], "nets": []}
        for row in rows:
            scale = np.linalg.norm(row)
            for key, stop in STOPS.items():
                support, code, residual = pursuit(unit, row / scale, **stop)
                golden[key].append({"support": support, "coefficients": list(code * scale / norms[support]),
                                    "residual_norm": scale * np.linalg.norm(residual)})
        for alpha, tau in NETS:
            codes = [net(unit, row / np.linalg.norm(row), alpha, tau) for row in rows]
            golden["nets"].append({"alpha": alpha, "tau": tau, "codes": codes})
        (OUT / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
        print(name, atoms.shape, [code["atoms"] for code in golden["nets"][0]["codes"]])


if __name__ == "__main__":
    main()
