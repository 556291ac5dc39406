"""Python's side of bench/concepts: answers figures from standard input, one a line, with a line of JSON.

omp:K:products     vectors/s of orthogonal matching pursuit for all vectors at once in torch f32: correlations
                   by one product a step, Gram-Schmidt for the residuals
omp:K:gram         the same with correlations from a Gram matrix made before
sklearn_omp:K      vectors/s of scikit-learn's orthogonal_mp_gram, Gram matrix made before
net:ALPHA:TAU      vectors/s of scikit-learn's ElasticNet, one vector after another
product:TYPE       products/s of all vectors with all atoms in torch

    sparse_coding.py DEVICE FILE THREADS RUNS
    sparse_coding.py make FILE ATOMS WIDTH VECTORS      writes a coherent dictionary and vectors
"""

import json
import resource
import statistics
import sys
import time

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

SLOW = {"sklearn_omp": 4, "net": 1}  # vectors of a run of what takes seconds for each
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def make(file, n, d, m):
    """Atoms with a common part of 0.44 (mean cosine 0.19) and families of 50 (cosines up to 0.7);
    vectors of 24 atoms and a fifth of noise."""
    random = np.random.default_rng(1)
    unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    gaussian = lambda rows: random.standard_normal((rows, d), dtype=np.float32) / np.float32(np.sqrt(d))
    families = gaussian((n + 49) // 50).repeat(50, axis=0)[:n]
    atoms = unit(0.62 * gaussian(1) + gaussian(n) + 0.8 * families)
    weights = random.uniform(0.3, 1, (m, 24)) * random.choice([-1, 1], (m, 24), p=[0.2, 0.8])
    chosen = random.integers(0, n, (m, 24))
    vectors = np.einsum("mk,mkd->md", weights.astype(np.float32), atoms[chosen])
    vectors += 0.2 * np.linalg.norm(vectors, axis=1, keepdims=True) * gaussian(m)
    cosines = atoms[:1000] @ atoms[:1000].T - np.eye(1000)
    print(f"{file}: mean cosine {cosines.mean():.2f}, largest {cosines.max():.2f}", file=sys.stderr)
    save_file({"atoms": atoms, "vectors": vectors.astype(np.float32)}, file)


def pursue(atoms, z, k, gram):
    """Batched OMP. Rows q of an orthonormal basis of each vector's atoms are kept; the residual loses
    its part along the new one. With a Gram matrix the correlations lose theirs, by D q."""
    rows = torch.arange(len(z), device=z.device)
    n, d = atoms.shape
    basis = torch.zeros(len(z), k, d, device=z.device)
    support = torch.zeros(len(z), k, dtype=torch.long, device=z.device)
    residual = z.clone()
    correlations = torch.mm(residual, atoms.T)
    along = torch.zeros(len(z), k, n, device=z.device) if gram is not None else None
    magnitude = torch.empty_like(correlations)
    for step in range(k):
        if step > 0 and gram is None:
            torch.mm(residual, atoms.T, out=correlations)
        best = torch.abs(correlations, out=magnitude).argmax(1)
        support[:, step] = best
        atom = atoms[best]
        done = basis[:, :step]
        part = torch.bmm(done, atom[:, :, None])
        q = atom - torch.bmm(part.transpose(1, 2), done)[:, 0]
        length = q.norm(dim=1, keepdim=True)
        q /= length
        basis[:, step] = q
        share = (q * residual).sum(1, keepdim=True)
        residual -= share * q
        if gram is not None:
            row = gram[best]
            if step > 0:
                row -= torch.bmm(part.transpose(1, 2), along[:, :step])[:, 0]
            row /= length
            along[:, step] = row
            correlations -= share * row
    chosen = atoms[support]
    return torch.linalg.lstsq(chosen.transpose(1, 2), z[:, :, None]).solution[:, :, 0], support


def main():
    if sys.argv[1] == "make":
        return make(sys.argv[2], *map(int, sys.argv[3:6]))
    device, file, threads, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    data = load_file(file)
    unit = data["atoms"] / np.linalg.norm(data["atoms"], axis=1, keepdims=True)
    vectors = data["vectors"] / np.linalg.norm(data["vectors"], axis=1, keepdims=True)
    atoms, z = torch.tensor(unit, device=device), torch.tensor(vectors, device=device)
    made = {}

    def gram():
        if "gram" not in made:
            made["gram"] = atoms @ atoms.T
        return made["gram"]

    def run(kind, rest):
        """Does the work of one run; returns how many there were of what is counted."""
        if kind == "omp":
            pursue(atoms, z, int(rest[0]), gram() if rest[1] == "gram" else None)
            return len(z)
        if kind == "product":
            x, w = made.setdefault(rest[0], (z.to(DTYPES[rest[0]]), atoms.to(DTYPES[rest[0]])))
            x @ w.T
            return 1
        if kind == "sklearn_omp":
            from sklearn.linear_model import orthogonal_mp_gram
            some = vectors[:SLOW[kind]]
            orthogonal_mp_gram(gram().cpu().numpy(), unit @ some.T, n_nonzero_coefs=int(rest[0]))
            return len(some)
        from sklearn.linear_model import ElasticNet
        alpha, tau = float(rest[0]) / unit.shape[1], float(rest[1])
        for vector in vectors[:SLOW[kind]]:
            ElasticNet(alpha=alpha, l1_ratio=tau, fit_intercept=False, max_iter=100_000).fit(unit.T, vector)
        return SLOW[kind]

    for line in sys.stdin:
        figure = line.strip()
        kind, *rest = figure.split(":")
        rates = []
        for _ in range(runs + (kind not in SLOW)):
            start = time.perf_counter()
            count = run(kind, rest)
            if device == "cuda":
                torch.cuda.synchronize()
            rates.append(count / (time.perf_counter() - start))
        rates = rates[-runs:]
        print(json.dumps({
            "figure": figure, "median": statistics.median(rates), "runs": rates, "unit": "1/s",
            "engine": f"torch {torch.__version__}",
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


if __name__ == "__main__":
    main()
