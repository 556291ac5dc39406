// out = silu(gate) * up: the gated MLP between its two products, with the neuron edits.
#include "fast_math.cuh"
#include "steer.cuh"

__device__ __forceinline__ float silu(float value) { return value / (1.0f + fast_exp(-value)); }

// out [rows, d_mlp] T, contiguous; gate, up [rows, d_mlp] T with row stride `stride`; biases
// [d_mlp] f32 or null. Sites: hook_pre = gate, hook_pre_linear = up (both with bias, rewritten
// where bias or steering changed them), hook_post = out. The edits of a slot come sorted by site
// (pre, pre_linear, post), so that each acts on what the ones before it left.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d_mlp * 3 * sizeof(T) bytes; edits cost only the neurons they name.
template <typename T>
__device__ void gated_mlp(T* __restrict__ out, T* __restrict__ gate, T* __restrict__ up,
                          const float* __restrict__ gate_bias, const float* __restrict__ up_bias,
                          int d_mlp, long long stride, STEERING_PARAMETERS) {
    const int row = blockIdx.x;
    T* g = gate + row * stride;
    T* u = up + row * stride;
    T* to = out + (long long)row * d_mlp;
    if (gate_bias != nullptr) {
        for (int i = threadIdx.x; i < d_mlp; i += blockDim.x) {
            g[i] = from_float<T>(to_float(g[i]) + gate_bias[i]);
        }
    }
    if (up_bias != nullptr) {
        for (int i = threadIdx.x; i < d_mlp; i += blockDim.x) {
            u[i] = from_float<T>(to_float(u[i]) + up_bias[i]);
        }
    }
    for (int i = threadIdx.x; i < d_mlp; i += blockDim.x) {
        to[i] = from_float<T>(silu(to_float(g[i])) * to_float(u[i]));
    }
    const int2 range = steer_range(slots, ranges, row);
    if (range.x == range.y) return;
    __syncthreads();  // edits pick neurons that other threads wrote
    for (int i = range.x; i < range.y; i++) {
        const SteerOp& op = ops[i];
        const int* neurons = static_cast<const int*>(op.payload);
        T* site = op.kind == STEER_GATE ? g : op.kind == STEER_UP ? u : to;
        float changed = 0;
        for (int j = threadIdx.x; j < op.count; j += blockDim.x) {
            const int n = neurons[j];
            const float before = to_float(site[n]);
            const float after = steer_neuron(op, before);
            site[n] = from_float<T>(after);
            changed += (after - before) * (after - before);
            if (op.kind != STEER_POST) {
                to[n] = from_float<T>(silu(to_float(g[n])) * to_float(u[n]));
            }
        }
        changed = block_sum(changed);  // its barriers also keep one edit before the next
        if (threadIdx.x == 0) change_sq[(long long)row * report_stride + op.report] = changed;
    }
}

extern "C" __global__ void gated_mlp_f32(float* out, float* gate, float* up,
                                         const float* gate_bias, const float* up_bias, int d_mlp,
                                         long long stride, const int* slots, const int2* ranges,
                                         const SteerOp* ops, float* change_sq, int report_stride) {
    gated_mlp(out, gate, up, gate_bias, up_bias, d_mlp, stride, slots, ranges, ops, change_sq,
              report_stride);
}

extern "C" __global__ void gated_mlp_bf16(bf16* out, bf16* gate, bf16* up, const float* gate_bias,
                                          const float* up_bias, int d_mlp, long long stride,
                                          const int* slots, const int2* ranges, const SteerOp* ops,
                                          float* change_sq, int report_stride) {
    gated_mlp(out, gate, up, gate_bias, up_bias, d_mlp, stride, slots, ranges, ops, change_sq,
              report_stride);
}
