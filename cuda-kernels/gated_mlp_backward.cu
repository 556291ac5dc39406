// Gradients through silu(gate) * up.
#include "fast_math.cuh"

// In place, element by element: gate and up become their gradients, and post, which comes as the
// gradient of post = silu(gate) * up, becomes post itself: what the gradient of down_proj's weight is
// made from, so that the forward need not keep it.
// gate, up [rows, d_mlp] f32 with row stride `stride`, biases added; post [rows, d_mlp] f32, contiguous.
// PRECOND: grid (rows, chunks) with any number of chunks and any block size; no two of the three
// overlap.
// Moves rows * d_mlp * 24 bytes, each once.
extern "C" __global__ void gated_mlp_backward_f32(float* __restrict__ gate,
                                                  float* __restrict__ up,
                                                  float* __restrict__ post, int d_mlp,
                                                  long long stride) {
    float* __restrict__ g = gate + blockIdx.x * stride;
    float* __restrict__ u = up + blockIdx.x * stride;
    float* __restrict__ p = post + (long long)blockIdx.x * d_mlp;
    const int chunk = (d_mlp + gridDim.y - 1) / gridDim.y;
    const int begin = blockIdx.y * chunk;
    const int end = begin + chunk < d_mlp ? begin + chunk : d_mlp;
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float sigmoid = 1.0f / (1.0f + fast_exp(-g[i]));
        const float silu = g[i] * sigmoid;
        const float gradient = p[i];
        p[i] = silu * u[i];
        g[i] = gradient * u[i] * (sigmoid + silu * (1.0f - sigmoid));
        u[i] = gradient * silu;
    }
}
