// out[i] = x[index[i]]: the rows whose logits are wanted.

// out [n, d] f32; x [rows, d] f32; index [n].
// PRECOND: one block per output row (grid.x = n), any block size; 0 <= index[i] < rows.
// Moves n * d * 8 bytes.
extern "C" __global__ void gather_rows(float* out, const float* __restrict__ x,
                                       const int* __restrict__ index, int d) {
    const float* from = x + (long long)index[blockIdx.x] * d;
    float* to = out + (long long)blockIdx.x * d;
    for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] = from[i];
}
