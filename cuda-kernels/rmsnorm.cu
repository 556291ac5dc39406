// out = x / sqrt(mean(x^2) + eps) * weight, row by row.
#include "steer.cuh"

// out [rows, d] T; x [rows, d] f32, edited in place where the site hook_resid_pre is steered;
// weight [d] f32. For capture, unless null: scale [rows] = sqrt(mean(x^2) + eps) (hook_scale) and
// normalized [rows, d] = x / scale (hook_normalized, before the gain).
// A row whose squares overflow f32 becomes NaN.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d * (4 + sizeof(T)) bytes; the second pass over x comes from L1.
template <typename T>
__device__ void rmsnorm(T* __restrict__ out, float* __restrict__ x,
                        const float* __restrict__ weight, int d, float eps,
                        float* __restrict__ scale, float* __restrict__ normalized,
                        STEERING_PARAMETERS) {
    const int row = blockIdx.x;
    float* in = x + (long long)row * d;
    const int2 range = steer_range(slots, ranges, row);
    if (range.x < range.y) {
        steer_row(in, d, range, ops, change_sq + (long long)row * report_stride);
    }
    float squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) squares += in[i] * in[i];
    const float rms = sqrtf(block_sum(squares) / d + eps);
    // Where the squares overflow, 1 / rms would be 0 and a row of zeros go on as if it were one.
    const float inverse = rms < INFINITY ? 1.0f / rms : NAN;
    T* to = out + (long long)row * d;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        to[i] = from_float<T>(in[i] * inverse * weight[i]);
    }
    if (scale != nullptr && threadIdx.x == 0) scale[row] = rms;
    if (normalized != nullptr) {
        float* keep = normalized + (long long)row * d;
        for (int i = threadIdx.x; i < d; i += blockDim.x) keep[i] = in[i] * inverse;
    }
}

extern "C" __global__ void rmsnorm_f32(float* out, float* x, const float* weight, int d, float eps,
                                       float* scale, float* normalized, const int* slots,
                                       const int2* ranges, const SteerOp* ops, float* change_sq,
                                       int report_stride) {
    rmsnorm(out, x, weight, d, eps, scale, normalized, slots, ranges, ops, change_sq,
            report_stride);
}

extern "C" __global__ void rmsnorm_bf16(bf16* out, float* x, const float* weight, int d, float eps,
                                        float* scale, float* normalized, const int* slots,
                                        const int2* ranges, const SteerOp* ops, float* change_sq,
                                        int report_stride) {
    rmsnorm(out, x, weight, d, eps, scale, normalized, slots, ranges, ops, change_sq,
            report_stride);
}
