// Matching pursuits: one step of each row.
#include "sparse.cuh"

// The atom of largest |<atom, residual>|, lowest index on ties; -1 if there is none. The candidates of
// the place have values within `slack` of the exact ones. Those that could be best are compared by
// exact dots; if an atom outside of the lists could be better than they are, all atoms are.
// Moves d * 4 bytes per exact dot: mostly one to three of them.
__device__ __forceinline__ int best_atom(const SparseCandidates& place, float slack,
                                         const float* __restrict__ atoms,
                                         const float* __restrict__ residual, int n, int d) {
    const int* __restrict__ candidates = place.ids;
    const float* __restrict__ values = place.values;
    double* exact = place.exact;
    const int total = place.lists * place.kept, kept = place.kept;
    float top = -INFINITY, floor = -INFINITY;
    for (int i = threadIdx.x; i < total; i += blockDim.x) {
        const float magnitude = candidates[i] < 0 ? -INFINITY : fabsf(values[i]);
        top = magnitude > top ? magnitude : top;
        if (i % kept == kept - 1) floor = magnitude > floor ? magnitude : floor;
    }
    top = block_max(top);
    floor = block_max(floor);
    for (int i = threadIdx.x / warpSize; i < total; i += blockDim.x / warpSize) {
        double magnitude = -1;
        if (candidates[i] >= 0 && fabsf(values[i]) >= top - 2 * slack) {
            magnitude = fabs(warp_dot(atoms + (long long)candidates[i] * d, residual, d));
        }
        if (threadIdx.x % warpSize == 0) exact[i] = magnitude;
    }
    __syncthreads();
    double best = -1;
    for (int i = threadIdx.x; i < total; i += blockDim.x) {
        best = exact[i] > best ? exact[i] : best;
    }
    best = block_max(best);
    int atom = 0x7fffffff;
    if (best >= (double)floor + slack) {
        for (int i = threadIdx.x; i < total; i += blockDim.x) {
            if (exact[i] == best && candidates[i] < atom) atom = candidates[i];
        }
    } else {
        best = -1;
        for (int i = threadIdx.x / warpSize; i < n; i += blockDim.x / warpSize) {
            const double magnitude = fabs(warp_dot(atoms + (long long)i * d, residual, d));
            if (magnitude > best) {
                best = magnitude;
                atom = i;
            }
        }
        const double largest = block_max(best);
        if (best < largest) atom = 0x7fffffff;
    }
    atom = block_min(atom);
    return atom == 0x7fffffff ? -1 : atom;
}

// The place of an atom among a row's, or -1.
__device__ __forceinline__ int place_of(int atom, const int* ids, int count) {
    int place = -1;
    for (int i = threadIdx.x; i < count; i += blockDim.x) place = ids[i] == atom ? i : place;
    return block_max(place);
}

// A step of orthogonal matching pursuit: the best candidate joins the row's atoms, the coefficients
// become those of least squares, the residual follows. As scikit-learn's orthogonal_mp: the
// Cholesky factor L of the atoms' Gram matrix grows by a row (factor [rows, capacity, capacity]
// f64), and so does L^-1 <atoms, z> (work [rows, 2, capacity] f64, beside scratch). The row is done
// with `most` atoms, when |residual| <= tolerance, or when no atom can improve it: the best one is
// there already, depends on those that are there, or has a correlation within f32's rounding.
// atoms [n, d].
// rows.violations: largest |<atom, residual>| over the row's atoms, once it is done.
// PRECOND: one block per place, any block size; most <= rows.capacity.
// Moves (2 * count + 3) * d * 4 + count^2 * 8 bytes per place. All in one block: the steps depend
// on one another, and count is small.
extern "C" __global__ void orthogonal_matching_pursuit(
    SparseRows rows, SparseCandidates candidates, double* factor, double* work,
    const float* __restrict__ atoms, int n, int most, float tolerance,
    const int* __restrict__ live) {
    const int row = row_of(live, blockIdx.x), d = rows.d, capacity = rows.capacity;
    if (rows.states[row] != RUNNING) return;
    const long long first = (long long)row * capacity;
    const int count = rows.counts[row];
    int* ids = rows.ids + first;
    double* c = rows.coefficients + first;
    double* right = work + 2 * first;
    double* w = right + capacity;
    double* lower = factor + first * capacity;
    float* r = rows.residual + (long long)row * d;
    const float* __restrict__ z = rows.z + (long long)row * d;

    const int atom = best_atom(candidates.at(blockIdx.x), rows.slack[row], atoms, r, n, d);
    bool done = atom < 0 || place_of(atom, ids, count) >= 0;
    if (!done) {
        const float* a = atoms + (long long)atom * d;
        const double with_z = warp_dot(a, z, d);
        const double with_r = warp_dot(a, r, d);
        double pivot = warp_dot(a, a, d);
        dots(w, atoms, ids, count, a, d);
        solve_lower(w, lower, capacity, count);
        double along = 0;
        for (int i = 0; i < count; i++) {
            pivot -= w[i] * w[i];
            along += w[i] * right[i];
        }
        done = pivot <= 1e-12 || fabs(with_r) <= 2e-7;
        if (!done) {
            __syncthreads();  // all have read w
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                lower[(long long)count * capacity + i] = w[i];
            }
            const double root = sqrt(pivot);
            if (threadIdx.x == 0) {
                lower[(long long)count * capacity + count] = root;
                right[count] = (with_z - along) / root;
                ids[count] = atom;
                rows.counts[row] = count + 1;
                rows.iterations[row] = count + 1;
            }
            __syncthreads();
            for (int i = threadIdx.x; i <= count; i += blockDim.x) c[i] = right[i];
            __syncthreads();
            solve_upper(c, lower, capacity, count + 1);
            const double norm = sqrt(subtract(r, z, atoms, ids, c, count + 1, d));
            done = count + 1 >= most || norm <= tolerance || norm <= 1e-6;
        }
    }
    if (done) {
        const int size = rows.counts[row];
        __syncthreads();
        dots(w, atoms, ids, size, r, d);
        double worst = 0;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            worst = fabs(w[i]) > worst ? fabs(w[i]) : worst;
        }
        worst = block_max(worst);
        if (threadIdx.x == 0) {
            rows.violations[row] = worst;
            rows.states[row] = DONE;
        }
    }
}

// A step of plain matching pursuit: the coefficient of the best candidate takes in its correlation
// with the residual, nothing else moves. The row is done after `most` steps, or when no correlation
// is left. Arguments and PRECOND as above; moves 4 * d * 4 bytes per place.
extern "C" __global__ void matching_pursuit(SparseRows rows, SparseCandidates candidates,
                                            const float* __restrict__ atoms, int n, int most,
                                            const int* __restrict__ live) {
    const int row = row_of(live, blockIdx.x), d = rows.d;
    if (rows.states[row] != RUNNING) return;
    const long long first = (long long)row * rows.capacity;
    const int count = rows.counts[row];
    int* ids = rows.ids + first;
    double* c = rows.coefficients + first;
    float* r = rows.residual + (long long)row * d;
    const int atom = best_atom(candidates.at(blockIdx.x), rows.slack[row], atoms, r, n, d);
    const float* a = atoms + (long long)(atom < 0 ? 0 : atom) * d;
    const double value = warp_dot(a, r, d) / warp_dot(a, a, d);
    const bool none = atom < 0 || fabs(value) <= 2e-7;
    const int found = place_of(atom, ids, count);
    __syncthreads();  // all have read the residual
    if (!none) {
        for (int i = threadIdx.x; i < d; i += blockDim.x) r[i] = (float)(r[i] - value * a[i]);
    }
    if (threadIdx.x == 0) {
        if (!none) {
            const int place = found < 0 ? count : found;
            ids[place] = atom;
            c[place] = found < 0 ? value : c[place] + value;
            rows.counts[row] = found < 0 ? count + 1 : count;
            rows.iterations[row]++;
        }
        if (none || rows.iterations[row] >= most) rows.states[row] = DONE;
    }
}
