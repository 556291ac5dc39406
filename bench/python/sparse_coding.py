"""Python's side of bench/concepts: answers figures from standard input, one a line, with a line of JSON.

omp:K:products     vectors/s of orthogonal matching pursuit for all vectors at once in torch f32: correlations
                   by one product a step, Gram-Schmidt for the residuals
omp:K:gram         the same with correlations from a Gram matrix made before
sklearn_omp:K      vectors/s of scikit-learn's orthogonal_mp_gram, Gram matrix made before
net:ALPHA:TAU      vectors/s of scikit-learn's ElasticNet, one vector after another
product:TYPE       products/s of all vectors with all atoms in torch

    sparse_coding.py DEVICE FILE THREADS RUNS
    sparse_coding.py make FILE ATOMS WIDTH VECTORS [DEVICE]

The second writes a coherent dictionary and vectors, made on the device (cpu if it is not given).
"""

import sys

import torch
from safetensors.torch import load_file, save_file

import device as devices
import peer
from device import DTYPES, seconds

SLOW = {"sklearn_omp": 4, "net": 1}  # vectors of a run of what takes seconds for each


def make(file, n, d, m, device="cpu"):
    """Atoms with a common part of 0.44 (mean cosine 0.19) and families of 50 (cosines up to 0.7);
    vectors of 24 atoms and a fifth of noise."""
    n, d, m = int(n), int(d), int(m)
    draw = torch.Generator(device).manual_seed(1)
    gaussian = lambda rows: torch.randn(rows, d, generator=draw, device=device) * d ** -0.5
    uniform = lambda: torch.rand(m, 24, generator=draw, device=device)
    families = gaussian((n + 49) // 50).repeat_interleave(50, 0)[:n]
    atoms = unit(0.62 * gaussian(1) + gaussian(n) + 0.8 * families)
    weights = (0.3 + 0.7 * uniform()) * torch.where(uniform() < 0.2, -1.0, 1.0)
    chosen = torch.randint(n, (m, 24), generator=draw, device=device)
    vectors = torch.bmm(weights[:, None], atoms[chosen])[:, 0]
    vectors += 0.2 * vectors.norm(dim=1, keepdim=True) * gaussian(m)
    some = atoms[:1000]
    cosines = some @ some.T - torch.eye(len(some), device=device)
    print(f"{file}: mean cosine {cosines.mean():.2f}, largest {cosines.max():.2f}", file=sys.stderr)
    save_file({"atoms": atoms.cpu(), "vectors": vectors.cpu()}, file)


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def pursue(atoms, z, k, gram):
    """Batched OMP. Rows q of an orthonormal basis of each vector's atoms are kept; the residual loses
    its part along the new one. With a Gram matrix the correlations lose theirs, by D q. Atoms are the basis
    times a triangle, by which coefficients are solved for: of least squares a GPU does one row at a time."""
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
    triangle = torch.bmm(basis, chosen.transpose(1, 2))
    coefficients = torch.linalg.solve_triangular(triangle, torch.bmm(basis, z[:, :, None]), upper=True)
    return coefficients[:, :, 0], support


class Coding:
    """The figures of a file's atoms and vectors."""

    def __init__(self, file, device):
        data = load_file(file, device=device)
        self.device = device
        self.atoms, self.z = unit(data["atoms"]), unit(data["vectors"])
        self.made = None

    def gram(self):
        if self.made is None:
            self.made = self.atoms @ self.atoms.T
        return self.made

    def measure(self, figure):
        """The Figure of a name; what may be there when the clock starts is made here."""
        kind, *rest = figure.split(":")
        count, work = {"omp": self.omp, "product": self.product, "sklearn_omp": self.sklearn_omp,
                       "net": self.net}[kind](*rest)
        unit = "products/s" if kind == "product" else "vectors/s"
        return peer.Figure(lambda: count / seconds(work, self.device), unit, once=kind in SLOW)

    def omp(self, k, how):
        gram = {"gram": self.gram, "products": lambda: None}[how]()
        return len(self.z), lambda: pursue(self.atoms, self.z, int(k), gram)

    def product(self, dtype):
        x, w = self.z.to(DTYPES[dtype]), self.atoms.to(DTYPES[dtype])
        return 1, lambda: x @ w.T

    def sklearn_omp(self, k):
        from sklearn.linear_model import orthogonal_mp_gram
        some, gram = self.z[:SLOW["sklearn_omp"]].cpu().numpy(), self.gram().cpu().numpy()
        atoms = self.atoms.cpu().numpy()
        return len(some), lambda: orthogonal_mp_gram(gram, atoms @ some.T, n_nonzero_coefs=int(k))

    def net(self, alpha, tau):
        from sklearn.linear_model import ElasticNet
        some, atoms = self.z[:SLOW["net"]].cpu().numpy(), self.atoms.cpu().numpy()
        net = ElasticNet(alpha=float(alpha) / atoms.shape[1], l1_ratio=float(tau), fit_intercept=False,
                         max_iter=100_000)
        return len(some), lambda: [net.fit(atoms.T, vector) for vector in some]


def main():
    if sys.argv[1] == "make":
        return make(*sys.argv[2:7])
    device, file, threads, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.inference_mode():
        peer.serve(Coding(file, device).measure, runs, devices.facts(device))


if __name__ == "__main__":
    main()
