// Matching pursuits: one step of each row.
#include "sparse.cuh"

// The atom of largest |<atom, residual>|, lowest index on ties; -1 if there is none. Candidates
// come as `lists` lists of `kept`, best first, whose values are within `slack` of the exact
// ones. Those that could be best are compared by exact dots; if an atom outside of the lists could
// be better than they are, all atoms are. `exact` [lists * kept] is scratch.
// Moves d * 4 bytes per exact dot: mostly one to three of them.
__device__ __forceinline__ int best_atom(const int* __restrict__ candidates,
                                         const float* __restrict__ values, int lists, int kept,
                                         float slack, double* exact,
                                         const float* __restrict__ atoms,
                                         const float* __restrict__ residual, int n, int d) {
    float top = -INFINITY, floor = -INFINITY;
    for (int i = threadIdx.x; i < lists * kept; i += blockDim.x) {
        const float magnitude = candidates[i] < 0 ? -INFINITY : fabsf(values[i]);
        top = magnitude > top ? magnitude : top;
        if (i % kept == kept - 1) floor = magnitude > floor ? magnitude : floor;
    }
    top = block_max(top);
    floor = block_max(floor);
    for (int i = threadIdx.x / warpSize; i < lists * kept; i += blockDim.x / warpSize) {
        double magnitude = -1;
        if (candidates[i] >= 0 && fabsf(values[i]) >= top - 2 * slack) {
            magnitude = fabs(warp_dot(atoms + (long long)candidates[i] * d, residual, d));
        }
        if (threadIdx.x % warpSize == 0) exact[i] = magnitude;
    }
    __syncthreads();
    double best = -1;
    for (int i = threadIdx.x; i < lists * kept; i += blockDim.x) {
        best = exact[i] > best ? exact[i] : best;
    }
    best = block_max(best);
    int atom = 0x7fffffff;
    if (best >= (double)floor + slack) {
        for (int i = threadIdx.x; i < lists * kept; i += blockDim.x) {
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
// candidates, values: [places, lists, kept]; exact [places, lists, kept] f64 is scratch.
// violations: largest |<atom, residual>| over the row's atoms, once it is done.
// PRECOND: one block per place, any block size; most <= capacity.
// Moves (2 * count + 3) * d * 4 + count^2 * 8 bytes per place. All in one block: the steps depend
// on one another, and count is small.
extern "C" __global__ void orthogonal_matching_pursuit(
    int* states, int* counts, int* iterations, double* violations, int* own, double* coefficients,
    double* factor, double* work, float* residual, const float* __restrict__ z,
    const float* __restrict__ slack, const int* __restrict__ candidates,
    const float* __restrict__ values, double* exact, int lists, int kept,
    const float* __restrict__ atoms, int n, int d, int capacity, int most, float tolerance,
    const int* __restrict__ live) {
    const int row = row_of(live, blockIdx.x);
    if (states[row] != RUNNING) return;
    const long long list = (long long)blockIdx.x * lists * kept;
    const long long first = (long long)row * capacity;
    const int count = counts[row];
    int* ids = own + first;
    double* c = coefficients + first;
    double* right = work + 2 * first;
    double* w = right + capacity;
    double* lower = factor + first * capacity;
    float* r = residual + (long long)row * d;
    const float* x = z + (long long)row * d;

    const int atom = best_atom(candidates + list, values + list, lists, kept, slack[row],
                               exact + list, atoms, r, n, d);
    bool done = atom < 0 || place_of(atom, ids, count) >= 0;
    if (!done) {
        const float* a = atoms + (long long)atom * d;
        const double with_z = warp_dot(a, x, d);
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
                counts[row] = count + 1;
                iterations[row] = count + 1;
            }
            __syncthreads();
            for (int i = threadIdx.x; i <= count; i += blockDim.x) c[i] = right[i];
            __syncthreads();
            solve_upper(c, lower, capacity, count + 1);
            const double norm = sqrt(subtract(r, x, atoms, ids, c, count + 1, d));
            done = count + 1 >= most || norm <= tolerance || norm <= 1e-6;
        }
    }
    if (done) {
        const int size = counts[row];
        __syncthreads();
        dots(w, atoms, ids, size, r, d);
        double worst = 0;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            worst = fabs(w[i]) > worst ? fabs(w[i]) : worst;
        }
        worst = block_max(worst);
        if (threadIdx.x == 0) {
            violations[row] = worst;
            states[row] = DONE;
        }
    }
}

// A step of plain matching pursuit: the coefficient of the best candidate takes in its correlation
// with the residual, nothing else moves. The row is done after `most` steps, or when no correlation
// is left. Arguments, scratch and PRECOND as above; moves 4 * d * 4 bytes per place.
extern "C" __global__ void matching_pursuit(
    int* states, int* counts, int* iterations, int* own, double* coefficients, float* residual,
    const float* __restrict__ slack, const int* __restrict__ candidates,
    const float* __restrict__ values, double* exact, int lists, int kept,
    const float* __restrict__ atoms, int n, int d, int capacity, int most,
    const int* __restrict__ live) {
    const int row = row_of(live, blockIdx.x);
    if (states[row] != RUNNING) return;
    const long long list = (long long)blockIdx.x * lists * kept;
    const long long first = (long long)row * capacity;
    const int count = counts[row];
    float* r = residual + (long long)row * d;
    const int atom = best_atom(candidates + list, values + list, lists, kept, slack[row],
                               exact + list, atoms, r, n, d);
    const float* a = atoms + (long long)(atom < 0 ? 0 : atom) * d;
    const double value = warp_dot(a, r, d) / warp_dot(a, a, d);
    const bool none = atom < 0 || fabs(value) <= 2e-7;
    const int found = place_of(atom, own + first, count);
    __syncthreads();  // all have read the residual
    if (!none) {
        for (int i = threadIdx.x; i < d; i += blockDim.x) r[i] = (float)(r[i] - value * a[i]);
    }
    if (threadIdx.x == 0) {
        if (!none) {
            const int place = found < 0 ? count : found;
            own[first + place] = atom;
            coefficients[first + place] = found < 0 ? value : coefficients[first + place] + value;
            counts[row] = found < 0 ? count + 1 : count;
            iterations[row]++;
        }
        if (none || iterations[row] >= most) states[row] = DONE;
    }
}
