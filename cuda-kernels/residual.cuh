// x += y over one row of the residual stream.
#pragma once
#include "steer.cuh"

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
