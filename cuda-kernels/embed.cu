// x[row] = table[tokens[row]]: token embeddings into the residual stream.
#include "steer.cuh"

// x [rows, d] f32; table [vocabulary, d] in the file's type; tokens [rows]. Site: hook_embed.
// PRECOND: one block per row (grid.x = rows), any block size; 0 <= tokens[row] < vocabulary. Packs of
// 16 bytes of the table where d is a multiple of one and x and the table lie at multiples of 16.
// Moves rows * d * (sizeof(W) + 4) bytes. One row a block: rows are wide enough to fill it.
template <int N, typename W>
__device__ __forceinline__ void embed_row(float* out, const W* __restrict__ in, int d) {
    for (int i = threadIdx.x * N; i < d; i += blockDim.x * N) {
        Pack<W, N> from;
        Pack<float, N> to;
        from.load(in + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) to.at[j] = to_float(from.at[j]);
        to.store(out + i);
    }
}

template <typename W>
__device__ void embed(float* x, const W* __restrict__ table, const int* __restrict__ tokens,
                      int d, const int2* __restrict__ ranges, const Steering& steering) {
    const int row = blockIdx.x;
    float* out = x + (long long)row * d;
    const W* in = table + (long long)tokens[row] * d;
    if (d % PACK<W> == 0 && aligned(x, table)) {
        embed_row<PACK<W>>(out, in, d);
    } else {
        embed_row<1>(out, in, d);
    }
    const int2 range = steering.range(ranges, row);
    if (range.x < range.y) {
        __syncthreads();  // edits are of elements that other threads made
        steer_row(out, d, range, steering.ops, steering.report(row));
    }
}

extern "C" __global__ void embed_f32(float* x, const float* table, const int* tokens, int d,
                                     const int2* ranges,
                                     const __grid_constant__ Steering steering) {
    embed(x, table, tokens, d, ranges, steering);
}

extern "C" __global__ void embed_f16(float* x, const f16* table, const int* tokens, int d,
                                     const int2* ranges,
                                     const __grid_constant__ Steering steering) {
    embed(x, table, tokens, d, ranges, steering);
}

extern "C" __global__ void embed_bf16(float* x, const bf16* table, const int* tokens, int d,
                                      const int2* ranges,
                                      const __grid_constant__ Steering steering) {
    embed(x, table, tokens, d, ranges, steering);
}
