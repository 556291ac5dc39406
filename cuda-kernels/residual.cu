// x += y: what a branch (attention or MLP) adds to the residual stream.
#include "steer.cuh"

// x [rows, d] f32 += y [rows, d] T + bias [d] f32 (bias may be null). The branch site
// (hook_attn_out, hook_mlp_out) is y with its bias: it is written back where bias or steering
// changed it, so that y holds the site's value afterwards. The residual site (hook_resid_mid,
// hook_resid_post) is x after the sum.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d * (8 + sizeof(T)) bytes, and another sizeof(T) per element where y is rewritten.
template <typename T>
__device__ void residual_add(float* __restrict__ x, T* __restrict__ y,
                             const float* __restrict__ bias, int d,
                             const int2* __restrict__ branch_ranges, STEERING_PARAMETERS) {
    const int row = blockIdx.x;
    float* to = x + (long long)row * d;
    T* from = y + (long long)row * d;
    float* report = change_sq + (long long)row * report_stride;
    if (bias != nullptr) {
        for (int i = threadIdx.x; i < d; i += blockDim.x) {
            from[i] = from_float<T>(to_float(from[i]) + bias[i]);
        }
    }
    const int2 branch = steer_range(slots, branch_ranges, row);
    if (branch.x < branch.y) steer_row(from, d, branch, ops, report);
    for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] += to_float(from[i]);
    const int2 residual = steer_range(slots, ranges, row);
    if (residual.x < residual.y) steer_row(to, d, residual, ops, report);
}

extern "C" __global__ void residual_add_f32(float* x, float* y, const float* bias, int d,
                                            const int2* branch_ranges, const int* slots,
                                            const int2* ranges, const SteerOp* ops,
                                            float* change_sq, int report_stride) {
    residual_add(x, y, bias, d, branch_ranges, slots, ranges, ops, change_sq, report_stride);
}

extern "C" __global__ void residual_add_bf16(float* x, bf16* y, const float* bias, int d,
                                             const int2* branch_ranges, const int* slots,
                                             const int2* ranges, const SteerOp* ops,
                                             float* change_sq, int report_stride) {
    residual_add(x, y, bias, d, branch_ranges, slots, ranges, ops, change_sq, report_stride);
}
