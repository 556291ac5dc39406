// Candidates of sparse coding: in each chunk of 1,024 atoms the few with the largest correlation
// with the residual. Which of them are best is decided by exact dots, in other kernels.
#include "sparse.cuh"

// Leaves out the atoms that the row has, and keeps the `kept` entries of largest magnitude of a
// tile of `width` correlations, best first, lowest index on ties; id -1 where nothing is left.
__device__ __forceinline__ void select(int* __restrict__ ids, float* __restrict__ values,
                                       float* tile, int first, int width, int kept,
                                       const int* __restrict__ own, int count) {
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int at = own[i] - first;
        if (at >= 0 && at < width) tile[at] = 0;
    }
    __syncthreads();
    for (int place = 0; place < kept; place++) {
        float largest = 0;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            const float magnitude = fabsf(tile[i]);
            largest = magnitude > largest ? magnitude : largest;
        }
        largest = block_max(largest);
        int at = 0x7fffffff;
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            at = fabsf(tile[i]) == largest && i < at ? i : at;
        }
        at = block_min(at);
        if (threadIdx.x == 0) {
            ids[place] = largest > 0 ? first + at : -1;
            values[place] = largest > 0 ? tile[at] : -INFINITY;
            tile[at] = 0;
        }
        __syncthreads();
    }
}

// candidates and values [places, chunks, kept] of correlations [places, n] f32 that a product made.
// Rows that are not running are left as they are. own, counts: the atoms of each row.
// PRECOND: grid (places, ceil(n / 1024)), any block size; correlations are finite.
// Moves n * 4 bytes per place. A chunk is a block, so that a single row fills a GPU.
extern "C" __global__ void screen_product(int* __restrict__ candidates,
                                          float* __restrict__ values,
                                          const float* __restrict__ correlations, int n, int kept,
                                          const int* __restrict__ states,
                                          const int* __restrict__ own,
                                          const int* __restrict__ counts, int capacity,
                                          const int* __restrict__ live) {
    __shared__ float tile[CHUNK];
    const int row = row_of(live, blockIdx.x);
    if (states[row] != RUNNING) return;
    const int first = blockIdx.y * CHUNK;
    const int width = n - first < CHUNK ? n - first : CHUNK;
    const float* from = correlations + (long long)blockIdx.x * n + first;
    for (int i = threadIdx.x; i < width; i += blockDim.x) tile[i] = from[i];
    const long long list = ((long long)blockIdx.x * gridDim.y + blockIdx.y) * kept;
    select(candidates + list, values + list, tile, first, width, kept,
           own + (long long)row * capacity, counts[row]);
}

// The same from the Gram matrix of the atoms [n, n] f32: correlations with the residual are those
// with z, `start` [rows, n], less the sum of coefficient * row of the Gram matrix over the row's
// atoms. Also writes how far they can be off, slack [rows]. With again = 1 the row's own atoms are
// candidates too.
// PRECOND: as screen_product. Moves (count + 1) * n * 4 bytes per place; four rows of the matrix at
// a time, so that the tile is written a quarter as often.
extern "C" __global__ void screen_gram(int* __restrict__ candidates, float* __restrict__ values,
                                       float* __restrict__ slack, const float* __restrict__ start,
                                       const float* __restrict__ gram, int n, int kept,
                                       const int* __restrict__ states,
                                       const int* __restrict__ own,
                                       const double* __restrict__ coefficients,
                                       const int* __restrict__ counts, int capacity,
                                       int again, const int* __restrict__ live) {
    __shared__ float tile[CHUNK];
    const int row = row_of(live, blockIdx.x);
    if (states[row] != RUNNING) return;
    const int first = blockIdx.y * CHUNK;
    const int width = n - first < CHUNK ? n - first : CHUNK;
    const int count = counts[row];
    const int* atoms = own + (long long)row * capacity;
    const double* c = coefficients + (long long)row * capacity;
    const float* from = start + (long long)row * n + first;
    for (int i = threadIdx.x; i < width; i += blockDim.x) tile[i] = from[i];
    // A thread reads and writes its own places only, so no barrier is needed before select's.
    float rows[4];
    const float* of[4];
    int filled = 0;
    float magnitude = 0;
    for (int atom = 0; atom < count; atom++) {
        const float value = (float)c[atom];
        magnitude += fabsf(value);
        if (value != 0) {
            rows[filled] = value;
            of[filled] = gram + (long long)atoms[atom] * n + first;
            filled++;
        }
        if (filled == 4) {
            const float *__restrict__ g0 = of[0], *__restrict__ g1 = of[1];
            const float *__restrict__ g2 = of[2], *__restrict__ g3 = of[3];
            const float c0 = rows[0], c1 = rows[1], c2 = rows[2], c3 = rows[3];
            for (int i = threadIdx.x; i < width; i += blockDim.x) {
                tile[i] -= (c0 * g0[i] + c1 * g1[i]) + (c2 * g2[i] + c3 * g3[i]);
            }
            filled = 0;
        }
    }
    for (int left = 0; left < filled; left++) {
        const float* g = of[left];
        for (int i = threadIdx.x; i < width; i += blockDim.x) tile[i] -= rows[left] * g[i];
    }
    // f32's unit of rounding is 6e-8; every entry of the matrix is at most 1.
    if (blockIdx.y == 0 && threadIdx.x == 0) slack[row] = 1e-6f * (1 + magnitude);
    const long long list = ((long long)blockIdx.x * gridDim.y + blockIdx.y) * kept;
    select(candidates + list, values + list, tile, first, width, kept, atoms, again ? 0 : count);
}
