// x += y over one row of the residual stream.
#pragma once
#include "norm.cuh"
#include "steer.cuh"

// Packs of its row that a thread keeps in registers, from the sum on. With 512 threads that is all of
// a row up to d = 4096 (f32) or 8192 (bf16).
constexpr int HELD = HOLDS_PACKS ? 2 : 0;

// The edits of one row at the branch's site and at the residual site after it.
struct ResidualEdits {
    int2 branch, residual;

    __device__ __forceinline__ bool any() const {
        return branch.x < branch.y || residual.x < residual.y;
    }
};

__device__ __forceinline__ ResidualEdits residual_edits(const Steering& steering,
                                                        const int2* branch_ranges,
                                                        const int2* ranges, int row) {
    return {steering.range(branch_ranges, row), steering.range(ranges, row)};
}

// x[d] += y[d], both as they are: a row without edits and bias.
template <int N, typename T>
__device__ __forceinline__ void add_row(float* __restrict__ x, const T* __restrict__ y, int d) {
    for (int i = threadIdx.x * N; i < d; i += blockDim.x * N) {
        Pack<float, N> sum;
        Pack<T, N> added;
        sum.load(x + i);
        added.load(y + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) sum.at[j] += to_float(added.at[j]);
        sum.store(x + i);
    }
}

// Whether all of a row is held in packs of N, and all that is done to it beside the sum is that
// vectors are added to the residual: then it need not go through memory.
template <int N>
__device__ __forceinline__ bool adds_alone(int d, const ResidualEdits& edits, const SteerOp* ops) {
    if (d > HELD * N * (int)blockDim.x || edits.branch.x < edits.branch.y) return false;
    bool alone = true;
    for (int i = edits.residual.x; i < edits.residual.y; i++) alone &= ops[i].kind == STEER_ADD;
    return alone;
}

// Adds the vectors of such a row, of which a thread holds packs from threadIdx.x * N on: as steer_row
// does, whose loops are of single elements, each behind the store of the one before.
// PRECOND: vectors lie at multiples of 16 (Pool).
template <int N, int PACKS>
__device__ __forceinline__ void add_vectors(Pack<float, N> (&held)[PACKS], int d, int2 range,
                                            const SteerOp* ops, float* report) {
    const int first = threadIdx.x * N;
    const int step = blockDim.x * N;
    for (int i = range.x; i < range.y; i++) {
        const SteerOp& op = ops[i];
        const float* vector = static_cast<const float*>(op.payload);
        float changed = 0;
        UNROLL_ALL
        for (int k = 0; k < HELD; k++) {
            if (first + k * step >= d) continue;
            Pack<float, N> v;
            v.load(vector + first + k * step);
            UNROLL_ALL
            for (int j = 0; j < N; j++) {
                const float added = op.a * v.at[j];
                held[k].at[j] += added;
                changed += added * added;
            }
        }
        changed = block_sum(changed);
        if (threadIdx.x == 0) report[op.report] = changed;
    }
}

// x[d] += y[d] and the vectors of a row that is held.
template <int N, typename T>
__device__ __forceinline__ void add_held_row(float* x, const T* y, int d, int2 range,
                                             const SteerOp* ops, float* report) {
    const int first = threadIdx.x * N;
    const int step = blockDim.x * N;
    Pack<float, N> held[HELD + 1] = {};
    Pack<T, N> added[HELD + 1] = {};
    UNROLL_ALL
    for (int k = 0; k < HELD; k++) {
        if (first + k * step >= d) continue;
        held[k].load(x + first + k * step);
        added[k].load(y + first + k * step);
    }
    UNROLL_ALL
    for (int k = 0; k < HELD; k++) {
        UNROLL_ALL
        for (int j = 0; j < N; j++) held[k].at[j] += to_float(added[k].at[j]);
    }
    add_vectors<N>(held, d, range, ops, report);
    UNROLL_ALL
    for (int k = 0; k < HELD; k++) {
        if (first + k * step < d) held[k].store(x + first + k * step);
    }
}

// The same with bias and edits, through memory: each thread touches only elements
// threadIdx.x + n * blockDim.x.
template <typename T>
__device__ void add_edited_row(float* x, T* y, const float* bias, int d, const ResidualEdits edits,
                               const SteerOp* ops, float* report) {
    if (bias != nullptr) {
        for (int i = threadIdx.x; i < d; i += blockDim.x) {
            y[i] = from_float<T>(to_float(y[i]) + bias[i]);
        }
    }
    if (edits.branch.x < edits.branch.y) steer_row(y, d, edits.branch, ops, report);
    for (int i = threadIdx.x; i < d; i += blockDim.x) x[i] += to_float(y[i]);
    if (edits.residual.x < edits.residual.y) steer_row(x, d, edits.residual, ops, report);
}
