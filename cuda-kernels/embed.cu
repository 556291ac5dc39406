// x[row] = table[tokens[row]]: token embeddings into the residual stream.
#include "steer.cuh"

// x [rows, d] f32; table [vocabulary, d] in the file's type; tokens [rows]. Site: hook_embed.
// PRECOND: one block per row (grid.x = rows), any block size; 0 <= tokens[row] < vocabulary.
// Moves rows * d * (sizeof(W) + 4) bytes. One row a block: rows are wide enough to fill it.
template <typename W>
__device__ void embed(float* x, const W* __restrict__ table, const int* __restrict__ tokens,
                      int d, STEERING_PARAMETERS) {
    const int row = blockIdx.x;
    float* out = x + (long long)row * d;
    const W* in = table + (long long)tokens[row] * d;
    for (int i = threadIdx.x; i < d; i += blockDim.x) out[i] = to_float(in[i]);
    const int2 range = steer_range(slots, ranges, row);
    if (range.x < range.y) {
        steer_row(out, d, range, ops, change_sq + (long long)row * report_stride);
    }
}

extern "C" __global__ void embed_f32(float* x, const float* table, const int* tokens, int d,
                                     const int* slots, const int2* ranges, const SteerOp* ops,
                                     float* change_sq, int report_stride) {
    embed(x, table, tokens, d, slots, ranges, ops, change_sq, report_stride);
}

extern "C" __global__ void embed_f16(float* x, const f16* table, const int* tokens, int d,
                                     const int* slots, const int2* ranges, const SteerOp* ops,
                                     float* change_sq, int report_stride) {
    embed(x, table, tokens, d, slots, ranges, ops, change_sq, report_stride);
}

extern "C" __global__ void embed_bf16(float* x, const bf16* table, const int* tokens, int d,
                                      const int* slots, const int2* ranges, const SteerOp* ops,
                                      float* change_sq, int report_stride) {
    embed(x, table, tokens, d, slots, ranges, ops, change_sq, report_stride);
}
