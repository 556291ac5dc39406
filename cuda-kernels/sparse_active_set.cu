// Elastic net and lasso: one round of the active set method of each row.
#include "sparse.cuh"

__device__ __forceinline__ double soft(double x, double threshold) {
    return x > threshold ? x - threshold : x < -threshold ? x + threshold : 0.0;
}

/// How far an atom with coefficient c and correlation g violates its optimality condition:
/// g - l2 c = l1 sign(c) where c is not 0, |g| <= l1 where it is.
__device__ __forceinline__ double violation(double g, double c, double l1, double l2) {
    if (c == 0) return fabs(g) > l1 ? fabs(g) - l1 : 0.0;
    return fabs(g - l2 * c - (c > 0 ? l1 : -l1));
}

/// The working sets of all rows, by row.
struct SparseWorking {
    float* gram;     // [rows, capacity, capacity] Gram matrix of the set's atoms, kept over rounds
    double* factor;  // [rows, capacity, capacity] scratch
    double* work;    // [rows, 2, capacity] scratch
    int* active;     // [rows, capacity + 1] scratch
};

/// A row's problem over its working set of m atoms, in device memory.
struct Working {
    int m;
    double* c;              // [m] coefficients
    double* g;              // [m] correlations with the residual, kept up to date with c
    double* step;           // [m] scratch
    int* active;            // [m] places of coefficients that are not 0
    double* factor;         // [m, m] scratch
    const float* gram;      // [m, m]
    long long stride;       // of factor and gram
};

/// Entries of the working set's Gram matrix in rows and columns [from, m), up to the diagonal and
/// mirrored. A warp makes four by four at a time, from eight atoms read once; in f32, since what
/// that leaves is put right by the next round's exact correlations.
__device__ __forceinline__ void extend_gram(float* gram, long long stride, int from, int m,
                                            const float* __restrict__ atoms, const int* ids,
                                            int d) {
    const int warp = threadIdx.x / warpSize, warps = blockDim.x / warpSize;
    for (int j = from; j < m; j += 4) {
        for (int i = 4 * warp; i < m && i < j + 4; i += 4 * warps) {
            const float *row[4], *column[4];
            for (int k = 0; k < 4; k++) {
                row[k] = atoms + (long long)ids[j + k < m ? j + k : j] * d;
                column[k] = atoms + (long long)ids[i + k < m ? i + k : i] * d;
            }
            const float *__restrict__ r0 = row[0], *__restrict__ r1 = row[1];
            const float *__restrict__ r2 = row[2], *__restrict__ r3 = row[3];
            const float *__restrict__ c0 = column[0], *__restrict__ c1 = column[1];
            const float *__restrict__ c2 = column[2], *__restrict__ c3 = column[3];
            float s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
            float s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
            for (int k = threadIdx.x % warpSize; k < d; k += warpSize) {
                const float a0 = r0[k], a1 = r1[k], a2 = r2[k], a3 = r3[k];
                const float b0 = c0[k], b1 = c1[k], b2 = c2[k], b3 = c3[k];
                s00 += a0 * b0, s01 += a0 * b1, s02 += a0 * b2, s03 += a0 * b3;
                s10 += a1 * b0, s11 += a1 * b1, s12 += a1 * b2, s13 += a1 * b3;
                s20 += a2 * b0, s21 += a2 * b1, s22 += a2 * b2, s23 += a2 * b3;
                s30 += a3 * b0, s31 += a3 * b1, s32 += a3 * b2, s33 += a3 * b3;
            }
            float sums[16] = {s00, s01, s02, s03, s10, s11, s12, s13,
                              s20, s21, s22, s23, s30, s31, s32, s33};
            for (int k = 0; k < 16; k++) sums[k] = warp_reduce(sums[k], Sum());
            if (threadIdx.x % warpSize == 0) {
                for (int k = 0; k < 16; k++) {
                    const int y = j + k / 4, x = i + k % 4;
                    if (y >= m || x > y) continue;
                    gram[y * stride + x] = sums[k];
                    gram[x * stride + y] = sums[k];
                }
            }
        }
    }
}

/// The same from the Gram matrix of all atoms [n, n]: a row for each warp.
__device__ __forceinline__ void gather_gram(float* gram, long long stride, int from, int m,
                                            const float* __restrict__ known, const int* ids, int n) {
    const int warp = threadIdx.x / warpSize, warps = blockDim.x / warpSize;
    for (int j = from + warp; j < m; j += warps) {
        const float* __restrict__ row = known + (long long)ids[j] * n;
#pragma unroll 4
        for (int i = threadIdx.x % warpSize; i <= j; i += warpSize) {
            const float entry = row[ids[i]];
            gram[j * stride + i] = entry;
            gram[i * stride + j] = entry;
        }
    }
}

/// Coordinate descent: each coefficient in turn becomes the best for what the others are.
/// The objective never grows. One warp does it, which has nobody to wait for.
__device__ __forceinline__ void sweep(const Working& w, double l1, double l2) {
    for (int j = 0; j < w.m; j++) {
        const float* row = w.gram + j * w.stride;
        const double square = row[j];
        const double old = w.c[j];
        const double best_scaled = soft(w.g[j] + square * old, l1);
        const double best = best_scaled == 0 ? 0.0 : best_scaled / (square + l2);
        const double change = best - old;
        if (change == 0) continue;  // for all lanes alike
        __syncwarp();               // all have read c and g
        for (int i = threadIdx.x; i < w.m; i += warpSize) w.g[i] -= change * row[i];
        if (threadIdx.x == 0) w.c[j] = best;
        __syncwarp();
    }
}

/// factor = Cholesky factor of the active atoms' Gram matrix + l2 I, lower. An atom that depends on
/// those before it gets a row of zeros: solving leaves it where it is.
__device__ __forceinline__ void factorise(const Working& w, int count, double l2) {
    const int warp = threadIdx.x / warpSize, warps = blockDim.x / warpSize;
    const int lane = threadIdx.x % warpSize;
    for (int j = 0; j < count; j++) {
        const double* of_j = w.factor + j * w.stride;
        for (int i = j + warp; i < count; i += warps) {
            double* of_i = w.factor + i * w.stride;
            double sum = 0;
            for (int k = lane; k < j; k += warpSize) sum += of_i[k] * of_j[k];
            sum = warp_reduce(sum, Sum());
            if (lane == 0) {
                of_i[j] = w.gram[w.active[i] * w.stride + w.active[j]] + (i == j ? l2 : 0.0) - sum;
            }
        }
        __syncthreads();
        const double pivot = of_j[j];
        const double root = pivot > 1e-7 ? sqrt(pivot) : 0.0;
        __syncthreads();
        for (int i = j + threadIdx.x; i < count; i += blockDim.x) {
            double* at = w.factor + i * w.stride + j;
            *at = i == j ? root : root > 0 ? *at / root : 0.0;
        }
        __syncthreads();
    }
}

/// Moves the active coefficients to the minimiser for their signs (Newton's step, exact), or as far
/// towards it as no sign changes; those that reach 0 become 0. Returns whether it got there.
__device__ __forceinline__ bool newton(const Working& w, int count, double l1, double l2) {
    factorise(w, count, l2);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const double c = w.c[w.active[i]];
        w.step[i] = w.g[w.active[i]] - l2 * c - (c > 0 ? l1 : -l1);
    }
    __syncthreads();
    solve_lower(w.step, w.factor, w.stride, count);
    solve_upper(w.step, w.factor, w.stride, count);
    double share = 1;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const double c = w.c[w.active[i]], to = c + w.step[i];
        if (c > 0 ? to <= 0 : to >= 0) share = fmin(share, -c / w.step[i]);
    }
    share = block_reduce(share, Smaller());
    for (int i = 0; i < count; i++) {
        const float* row = w.gram + w.active[i] * w.stride;
        const double change = share * w.step[i];
        for (int j = threadIdx.x; j < w.m; j += blockDim.x) w.g[j] -= change * row[j];
    }
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const double c = w.c[w.active[i]], to = c + share * w.step[i];
        // What rounding leaves on the other side of 0, or an ulp before it, has reached it.
        w.c[w.active[i]] = (c > 0 ? to <= 1e-14 : to >= -1e-14) ? 0.0 : to;
    }
    __syncthreads();
    return share == 1;
}

/// Minimises over the working set: sweeps find the signs, Newton's steps make it exact. Both lower
/// the objective, so it ends; the bound is for what rounding can do.
__device__ __forceinline__ void minimise(const Working& w, double l1, double l2) {
    for (int turn = 0; turn < 200; turn++) {
        if (threadIdx.x < warpSize) {
            for (int i = 0; i < 3; i++) sweep(w, l1, l2);
        }
        if (threadIdx.x == 0) {
            int count = 0;
            for (int j = 0; j < w.m; j++) {
                if (w.c[j] != 0) w.active[count++] = j;
            }
            w.active[w.m] = count;
        }
        __syncthreads();
        const int count = w.active[w.m];
        const bool whole = newton(w, count, l1, l2);
        if (!whole) continue;
        double worst = 0;
        for (int j = threadIdx.x; j < w.m; j += blockDim.x) {
            worst = fmax(worst, violation(w.g[j], w.c[j], l1, l2));
        }
        if (block_max(worst) <= fmax(1e-8 * l1, 1e-14)) return;
    }
}

// A round: checks the optimality conditions on all atoms with the residual as it is, and unless
// they hold to 1e-5 of l1, or to what the rounding of a residual in f32 leaves of them, takes the
// candidates that violate them into the row's working set, minimises over that, and makes the
// residual anew. The row is done when the conditions hold, FULL when its working set has no room.
// The atoms outside of the lists are known to keep within l1 if the last of each list is below it
// by `slack`; if not, the list's atoms join the working set (and will be left out of the next
// lists) although they do not violate, so that a round always brings the end nearer.
// The row's atoms are its working set, those with coefficient 0 too. atoms [n, d]; `known` is their
// Gram matrix [n, n], or null. rows.violations: largest one found.
// Source: You et al., EnSC (CVPR 2016), for the rounds; that sweeps and Newton's steps solve the
// small problem is ours.
// PRECOND: one block per place, any block size, on which no bit depends; the working set is not among
// the candidates.
// Moves (count + new) * d * 4 + new * count * d * 4 bytes (these mostly from cache) per place.
extern "C" __global__ void active_set(const __grid_constant__ SparseRows rows,
                                      const __grid_constant__ SparseCandidates candidates,
                                      const __grid_constant__ SparseWorking working,
                                      const float* __restrict__ atoms,
                                      const float* __restrict__ known, int n, float threshold,
                                      float ridge, const int* __restrict__ live) {
    const int row = row_of(live, blockIdx.x), d = rows.d, capacity = rows.capacity;
    if (rows.states[row] != RUNNING) return;
    const SparseCandidates place = candidates.at(blockIdx.x);
    const int* __restrict__ candidate = place.ids;
    const float* __restrict__ value = place.values;
    double* correlation = place.exact;
    const int kept = place.kept, total = place.lists * kept;
    const long long first = (long long)row * capacity;
    int* ids = rows.ids + first;
    float* gram = working.gram + first * capacity;
    float* r = rows.residual + (long long)row * d;
    const double l1 = threshold, l2 = ridge;
    const float near = threshold - rows.slack[row];  // from here on an atom may violate
    const int count = rows.counts[row];
    Working w = {count,
                 rows.coefficients + first,
                 working.work + 2 * first,
                 working.work + 2 * first + capacity,
                 working.active + first + row,
                 working.factor + first * capacity,
                 gram,
                 capacity};

    // Rounding r to f32 moves its product with a unit atom by up to 2^-24 |r|: no round can make
    // less of a violation than that.
    const double tolerance = fmax(1e-5 * l1, sqrt(warp_dot(r, r, d)) / (1 << 24));

    dots(w.g, atoms, ids, count, r, d);
    double worst = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        worst = fmax(worst, violation(w.g[i], w.c[i], l1, l2));
    }
    int open = 0;  // lists that may go on with atoms that violate
    for (int i = threadIdx.x / warpSize; i < total; i += blockDim.x / warpSize) {
        double dot = 0;
        if (candidate[i] >= 0 && fabsf(value[i]) >= near) {
            dot = warp_dot(atoms + (long long)candidate[i] * d, r, d);
            if (i % kept == kept - 1) open = 1;
        }
        if (threadIdx.x % warpSize == 0) correlation[i] = dot;
        worst = fmax(worst, violation(dot, 0, l1, l2));
    }
    worst = block_max(worst);
    open = block_max(open);
    if (threadIdx.x == 0) {
        rows.violations[row] = worst;
        rows.iterations[row]++;
    }
    if (worst <= tolerance && !open) {
        if (threadIdx.x == 0) rows.states[row] = DONE;
        return;
    }

    if (threadIdx.x == 0) {
        int m = count;
        for (int i = 0; i < total; i++) {
            const int last = i - i % kept + kept - 1;
            const bool goes_on = candidate[last] >= 0 && fabsf(value[last]) >= near;
            if (fabs(correlation[i]) <= l1 && !(goes_on && candidate[i] >= 0)) continue;
            if (m == capacity) {
                rows.states[row] = FULL;
                break;
            }
            ids[m] = candidate[i];
            w.c[m] = 0;
            w.g[m] = correlation[i];
            m++;
        }
        rows.counts[row] = m;
    }
    __syncthreads();
    w.m = rows.counts[row];
    if (known == nullptr) {
        extend_gram(gram, capacity, count, w.m, atoms, ids, d);
    } else {
        gather_gram(gram, capacity, count, w.m, known, ids, n);
    }
    __syncthreads();
    minimise(w, l1, l2);
    subtract(r, rows.z + (long long)row * d, atoms, ids, w.c, w.m, d);
}
