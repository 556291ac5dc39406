// Candidates of sparse coding: in each chunk of atoms the few with the largest correlation
// with the residual. Which of them are best is decided by exact dots, in other kernels.
#include "sparse.cuh"

/// Most atoms of a chunk.
constexpr int MOST_IN_CHUNK = 4096;

// Leaves out the atoms that the row has, and keeps the `kept` entries of largest magnitude of a
// tile of `width` correlations, best first, lowest index on ties; id -1 where nothing is left.
__device__ __forceinline__ void select(int* ids, float* values, float* tile, int first, int width,
                                       int kept, const int* __restrict__ taken, int count) {
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int at = taken[i] - first;
        if (at >= 0 && at < width) tile[at] = 0;
    }
    __syncthreads();
    for (int place = 0; place < kept; place++) {
        // Magnitude and index as one integer, whose maximum is one vectorised pass: floats that are
        // not negative have the order of their bits, and of equal ones the lowest index is largest.
        long long best = 0;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            const long long magnitude = __float_as_int(tile[i]) & 0x7fffffff;
            const long long key = (magnitude << 32) + (0x7fffffff - i);
            best = key > best ? key : best;
        }
        best = block_reduce(best, Larger());
        const int at = 0x7fffffff - (int)(best & 0x7fffffff);
        if (threadIdx.x == 0) {
            const bool found = (best >> 32) > 0;
            ids[place] = found ? first + at : -1;
            values[place] = found ? tile[at] : -INFINITY;
            if (found) tile[at] = 0;
        }
        __syncthreads();
    }
}

// Candidates, a list of each chunk of atoms, of correlations [places, n] f32 that a product made. Rows
// that are not running are left as they are.
// PRECOND: grid (places, lists), lists = ceil(n / chunk), any block size; chunk <= MOST_IN_CHUNK;
// correlations are finite.
// Moves n * 4 bytes per place. A chunk is a block, so that a single row can fill a GPU; on a CPU
// larger ones read memory in longer runs.
extern "C" __global__ void screen_product(SparseCandidates candidates, SparseRows rows,
                                          const float* __restrict__ correlations, int n,
                                          int chunk, const int* __restrict__ live) {
    __shared__ float tile[MOST_IN_CHUNK];
    const int row = row_of(live, blockIdx.x);
    if (rows.states[row] != RUNNING) return;
    const int first = blockIdx.y * chunk;
    const int width = n - first < chunk ? n - first : chunk;
    const float* from = correlations + (long long)blockIdx.x * n + first;
    for (int i = threadIdx.x; i < width; i += blockDim.x) tile[i] = from[i];
    const long long list = ((long long)blockIdx.x * gridDim.y + blockIdx.y) * candidates.kept;
    select(candidates.ids + list, candidates.values + list, tile, first, width, candidates.kept,
           rows.ids + (long long)row * rows.capacity, rows.counts[row]);
}

// The same from the Gram matrix of the atoms [n, n] f32: correlations with the residual are those
// with z, `start` [rows, n], less the sum of coefficient * row of the Gram matrix over the row's
// atoms. Also writes how far they can be off, the row's slack. With again = 1 the row's own atoms are
// candidates too.
// PRECOND: as screen_product. Moves (count + 1) * n * 4 bytes per place; four rows of the matrix at
// a time, so that the tile is written a quarter as often.
extern "C" __global__ void screen_gram(SparseCandidates candidates, SparseRows rows,
                                       const float* __restrict__ start,
                                       const float* __restrict__ gram, int n, int chunk, int again,
                                       const int* __restrict__ live) {
    __shared__ float tile[MOST_IN_CHUNK];
    const int row = row_of(live, blockIdx.x);
    if (rows.states[row] != RUNNING) return;
    const int first = blockIdx.y * chunk;
    const int width = n - first < chunk ? n - first : chunk;
    const int count = rows.counts[row];
    const int* atoms = rows.ids + (long long)row * rows.capacity;
    const double* c = rows.coefficients + (long long)row * rows.capacity;
    const float* from = start + (long long)row * n + first;
    for (int i = threadIdx.x; i < width; i += blockDim.x) tile[i] = from[i];
    // A thread reads and writes its own places only, so no barrier is needed before select's.
    float weights[4];
    const float* of[4];
    int filled = 0;
    float magnitude = 0;
    for (int atom = 0; atom < count; atom++) {
        const float value = (float)c[atom];
        magnitude += fabsf(value);
        if (value != 0) {
            weights[filled] = value;
            of[filled] = gram + (long long)atoms[atom] * n + first;
            filled++;
        }
        if (filled == 4) {
            const float *__restrict__ g0 = of[0], *__restrict__ g1 = of[1];
            const float *__restrict__ g2 = of[2], *__restrict__ g3 = of[3];
            const float c0 = weights[0], c1 = weights[1], c2 = weights[2], c3 = weights[3];
            for (int i = threadIdx.x; i < width; i += blockDim.x) {
                tile[i] -= (c0 * g0[i] + c1 * g1[i]) + (c2 * g2[i] + c3 * g3[i]);
            }
            filled = 0;
        }
    }
    for (int left = 0; left < filled; left++) {
        const float* g = of[left];
        for (int i = threadIdx.x; i < width; i += blockDim.x) tile[i] -= weights[left] * g[i];
    }
    // f32's unit of rounding is 6e-8; every entry of the matrix is at most 1.
    if (blockIdx.y == 0 && threadIdx.x == 0) rows.slack[row] = 1e-6f * (1 + magnitude);
    const long long list = ((long long)blockIdx.x * gridDim.y + blockIdx.y) * candidates.kept;
    select(candidates.ids + list, candidates.values + list, tile, first, width, candidates.kept,
           atoms, again ? 0 : count);
}
