// Rows of a matrix by their indices: those whose logits are wanted, those that somebody reads.
#include "types.cuh"

// out[i] = x[index[i]].
// out [n, d] f32; x [rows, d] f32; index [n].
// PRECOND: one block per output row (grid.x = n), any block size; 0 <= index[i] < rows. Packs of 16
// bytes where d is a multiple of one and out and x lie at multiples of 16.
// Moves n * d * 8 bytes.
template <int N>
__device__ __forceinline__ void copy_row(float* to, const float* __restrict__ from, int d) {
    for (int i = threadIdx.x * N; i < d; i += blockDim.x * N) {
        Pack<float, N> pack;
        pack.load(from + i);
        pack.store(to + i);
    }
}

extern "C" __global__ void gather_rows(float* out, const float* __restrict__ x,
                                       const int* __restrict__ index, int d) {
    const float* from = x + (long long)index[blockIdx.x] * d;
    float* to = out + (long long)blockIdx.x * d;
    if (d % PACK<float> == 0 && aligned(out, x)) {
        copy_row<PACK<float>>(to, from, d);
    } else {
        copy_row<1>(to, from, d);
    }
}

// out[i] = in[index[i]], the first `width` columns of rows of `stride` elements, exactly.
// out [n, width] f32; in [rows, stride] T; index [n].
// PRECOND: one block per output row (grid.x = n), any block size; 0 <= index[i] < rows; out and in do
// not overlap. Rows may: with stride 1 index[i] is an element (CodeLog).
// Moves n * width * (4 + sizeof(T)) bytes.
template <typename T>
__device__ void read_rows(float* out, const T* __restrict__ in, const int* __restrict__ index,
                          int width, long long stride) {
    const T* from = in + index[blockIdx.x] * stride;
    float* to = out + (long long)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = to_float(from[i]);
}

// out[i] = in[index[i]] - out[i]: what changed since read_rows. Shapes and PRECOND as there.
// Moves n * width * (8 + sizeof(T)) bytes.
template <typename T>
__device__ void read_changes(float* out, const T* __restrict__ in, const int* __restrict__ index,
                             int width, long long stride) {
    const T* from = in + index[blockIdx.x] * stride;
    float* to = out + (long long)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = to_float(from[i]) - to[i];
}

#define READ_ROWS(T)                                                                             \
    extern "C" __global__ void read_rows_##T(float* out, const T* in, const int* index,          \
                                             int width, long long stride) {                      \
        read_rows(out, in, index, width, stride);                                                \
    }

#define READ_CHANGES(T)                                                                          \
    extern "C" __global__ void read_changes_##T(float* out, const T* in, const int* index,       \
                                                int width, long long stride) {                   \
        read_changes(out, in, index, width, stride);                                             \
    }

READ_ROWS(f32)
READ_ROWS(f16)  // of weights
READ_ROWS(bf16)
READ_CHANGES(f32)
READ_CHANGES(bf16)
