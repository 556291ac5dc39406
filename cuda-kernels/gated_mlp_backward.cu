// Gradients through silu(gate) * up.
#include "fast_math.cuh"
#include "types.cuh"

// In place, element by element: gate and up become their gradients, and post, which comes as the
// gradient of post = silu(gate) * up, becomes post itself: what the gradient of down_proj's weight is
// made from, so that the forward need not keep it.
// gate, up [rows, d_mlp] T with row stride `stride`, biases added; post [rows, d_mlp] T, contiguous.
// All arithmetic is f32.
// PRECOND: grid (rows, chunks) with any number of chunks and any block size; no two of the three
// overlap.
// Moves rows * d_mlp * 6 * sizeof(T) bytes, each element once.
template <typename T>
__device__ void gated_mlp_backward(T* __restrict__ gate, T* __restrict__ up, T* __restrict__ post,
                                   int d_mlp, long long stride) {
    T* __restrict__ g = gate + blockIdx.x * stride;
    T* __restrict__ u = up + blockIdx.x * stride;
    T* __restrict__ p = post + (long long)blockIdx.x * d_mlp;
    const int chunk = (d_mlp + gridDim.y - 1) / gridDim.y;
    const int begin = blockIdx.y * chunk;
    const int end = begin + chunk < d_mlp ? begin + chunk : d_mlp;
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float in = to_float(g[i]);
        const float factor = to_float(u[i]);
        const float gradient = to_float(p[i]);
        const float sigmoid = 1.0f / (1.0f + fast_exp(-in));
        const float silu = in * sigmoid;
        p[i] = from_float<T>(silu * factor);
        g[i] = from_float<T>(gradient * factor * (sigmoid + silu * (1.0f - sigmoid)));
        u[i] = from_float<T>(gradient * silu);
    }
}

#define GATED_MLP_BACKWARD(T)                                                                    \
    extern "C" __global__ void gated_mlp_backward_##T(T* gate, T* up, T* post, int d_mlp,        \
                                                      long long stride) {                        \
        gated_mlp_backward(gate, up, post, d_mlp, stride);                                       \
    }

GATED_MLP_BACKWARD(f32)
GATED_MLP_BACKWARD(bf16)
