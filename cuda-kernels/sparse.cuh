// What the kernels of sparse coding share. A batch is rows of unit vectors; a code of a row is kept as
// the atoms that it has so far with their coefficients, and as the residual z - sum of coefficient *
// atom in f32. Atoms [n, d] are unit vectors in f32.
//
// Most kernels have one block for each place of a list `live` of rows; null stands for all rows in
// order. What screening makes for them lies packed by place, everything else by row.
//
// The structures are records of the same names in dev.halter.sparse, field by field. Kernels take them
// as __grid_constant__, which are read where they are used: as plain parameters nvcc keeps fields in
// registers from the start (active_set took 100 instead of 80 on sm_90).

#pragma once

#include "reduce.cuh"

/// States of a row.
constexpr int RUNNING = 0, DONE = 1, NOT_FINITE = 2, FULL = 3;

/// What sums in f32 may add to how far the correlation of a unit vector with an atom is off.
constexpr float SUMS_SLACK = 4e-6f;

/// A batch while it is coded, by row.
struct SparseRows {
    float* z;              // [rows, d] x / |x|
    float* residual;       // [rows, d]
    double* norms;         // [rows] |x|
    int* states;           // [rows]
    int* counts;           // [rows] atoms so far
    int* iterations;       // [rows]
    double* violations;    // [rows] largest violation of the solver's optimality conditions
    float* slack;          // [rows] how far screening may be off
    int* ids;              // [rows, capacity] atoms so far
    double* coefficients;  // [rows, capacity] theirs, for z
    int capacity;
    int d;
};

/// Atoms that could matter, by place: `lists` lists of `kept`, best first; id -1 where a list has no
/// more.
struct SparseCandidates {
    int* ids;        // [places, lists, kept]
    float* values;   // [places, lists, kept] correlations with the residual, within the row's slack
    double* exact;   // [places, lists, kept] scratch of the kernel that takes its pick
    int lists;
    int kept;

    /// Those of one place.
    __device__ __forceinline__ SparseCandidates at(int place) const {
        const long long from = (long long)place * lists * kept;
        return {ids + from, values + from, exact + from, lists, kept};
    }
};

/// The codes of a batch, by row: atoms whose coefficient is not 0.
struct SparseCodes {
    int* support;         // [rows, capacity]
    float* coefficients;  // [rows, capacity] of unit atoms, on the scale of x
    int* sizes;           // [rows]
    int* iterations;      // [rows]
    double* measures;     // [rows, 3] see sparse_finish
    int capacity;
};

__device__ __forceinline__ int row_of(const int* live, int place) {
    return live == nullptr ? place : live[place];
}

__device__ __forceinline__ double block_sum(double value) {
    return block_reduce(value, Sum());
}

__device__ __forceinline__ double block_max(double value) {
    return block_reduce(value, Larger());
}

/// <a, b> of two vectors of length d, in all lanes of a warp.
__device__ __forceinline__ double warp_dot(const float* __restrict__ a,
                                           const float* __restrict__ b, int d) {
    double sum = 0;
    for (int i = threadIdx.x % warpSize; i < d; i += warpSize) sum += (double)a[i] * b[i];
    return warp_reduce(sum, Sum());
}

/// out[i] = <atom ids[i], x> for i < count, a warp for each. Ends with a barrier.
__device__ __forceinline__ void dots(double* out, const float* atoms, const int* ids, int count,
                                     const float* x, int d) {
    for (int i = threadIdx.x / warpSize; i < count; i += blockDim.x / warpSize) {
        const double dot = warp_dot(atoms + (long long)ids[i] * d, x, d);
        if (threadIdx.x % warpSize == 0) out[i] = dot;
    }
    __syncthreads();
}

/// residual = z - sum of coefficients[i] * atom ids[i], summed in f64; returns its norm squared.
__device__ __forceinline__ double subtract(float* residual, const float* __restrict__ z,
                                           const float* __restrict__ atoms, const int* ids,
                                           const double* coefficients, int count, int d) {
    const int tile = 512;
    __shared__ double left[tile];  // a thread uses its own places only
    double squares = 0;
    for (int begin = 0; begin < d; begin += tile) {
        const int width = d - begin < tile ? d - begin : tile;
        for (int i = threadIdx.x; i < width; i += blockDim.x) left[i] = z[begin + i];
        for (int atom = 0; atom < count; atom++) {
            const double c = coefficients[atom];
            if (c == 0) continue;
            const float* a = atoms + (long long)ids[atom] * d + begin;
            for (int i = threadIdx.x; i < width; i += blockDim.x) left[i] -= c * a[i];
        }
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            residual[begin + i] = (float)left[i];
            squares += left[i] * left[i];
        }
    }
    return block_sum(squares);
}

/// Solves L x = b in place for the lower triangle L [m, m] (row stride `stride`); where its
/// diagonal is 0, x is 0. The first warp works; ends with a barrier.
__device__ __forceinline__ void solve_lower(double* x, const double* __restrict__ lower,
                                            int stride, int m) {
    if (threadIdx.x < warpSize) {
        for (int i = 0; i < m; i++) {
            const double* row = lower + (long long)i * stride;
            double sum = 0;
            for (int k = threadIdx.x; k < i; k += warpSize) sum += row[k] * x[k];
            sum = warp_reduce(sum, Sum());
            if (threadIdx.x == 0) x[i] = row[i] > 0 ? (x[i] - sum) / row[i] : 0.0;
            __syncwarp();
        }
    }
    __syncthreads();
}

/// Solves transpose(L) x = b in place; see solve_lower.
__device__ __forceinline__ void solve_upper(double* x, const double* __restrict__ lower,
                                            int stride, int m) {
    if (threadIdx.x < warpSize) {
        for (int i = m - 1; i >= 0; i--) {
            const double* row = lower + (long long)i * stride;
            if (threadIdx.x == 0) x[i] = row[i] > 0 ? x[i] / row[i] : 0.0;
            __syncwarp();
            const double value = x[i];
            for (int k = threadIdx.x; k < i; k += warpSize) x[k] -= row[k] * value;
            __syncwarp();
        }
    }
    __syncthreads();
}
