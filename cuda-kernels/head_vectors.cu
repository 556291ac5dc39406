// Vectors that tuning learns for chosen heads' outputs (LoFiT, Yin et al. 2406.01563): a factor or an
// offset for each element of z. Halter serves them as a plan, so the arithmetic here is head_affine's.
#include "types.cuh"

// z_h = (1 + v_h) z_h if `scales`, else z_h + v_h, in place, for the listed heads.
// z [rows, stride] T, of which head h has [h * d_head, (h + 1) * d_head); heads [n], each once;
// values [n, d_head] f32: how far the factor is from 1, or the offset.
// PRECOND: grid (rows, n), any block size.
// Moves rows * n * d_head * 2 * sizeof(T) bytes and the values. One rounding, and the same as apply_map's in
// attention.cu with a diagonal map: a plan of these values gives the same bits.
template <typename T>
__device__ void head_vectors(T* z, const int* __restrict__ heads, const float* __restrict__ values,
                             int scales, int d_head, long long stride) {
    T* to = z + blockIdx.x * stride + (long long)heads[blockIdx.y] * d_head;
    const float* v = values + (long long)blockIdx.y * d_head;
    for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
        const float before = to_float(to[d]);
        to[d] = from_float<T>(scales ? before * (1.0f + v[d]) : before + v[d]);
    }
}

// The gradient of the values, over parts of the rows; and where `scales`, dz becomes that of z as it was:
//   parts[p, i] = sum over the part's rows of dz z (or of dz);  dz = (1 + v) dz
// dz [rows, stride] T, the gradient of z after the change; z likewise, before it; heads, values as above;
// parts [ceil(rows / part_rows), n, d_head] f32, written.
// PRECOND: grid (n, parts), any block size; a block of d_head threads reads whole lines.
// Moves rows * n * d_head * (scales ? 3 : 1) * sizeof(T) bytes. A sum runs over its rows in order.
template <typename T>
__device__ void head_vectors_gradient(float* __restrict__ parts, T* dz, const T* __restrict__ z,
                                      const int* __restrict__ heads,
                                      const float* __restrict__ values, int scales, int rows,
                                      int part_rows, int d_head, long long stride) {
    const long long column = (long long)heads[blockIdx.x] * d_head;
    const float* v = values + (long long)blockIdx.x * d_head;
    float* to = parts + ((long long)blockIdx.y * gridDim.x + blockIdx.x) * d_head;
    const int begin = blockIdx.y * part_rows;
    const int end = begin + part_rows < rows ? begin + part_rows : rows;
    for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
        const float factor = 1.0f + v[d];
        float sum = 0;
        for (int row = begin; row < end; row++) {
            const long long at = row * stride + column + d;
            const float gradient = to_float(dz[at]);
            sum += scales ? gradient * to_float(z[at]) : gradient;
            if (scales) dz[at] = from_float<T>(gradient * factor);
        }
        to[d] = sum;
    }
}

#define HEAD_VECTORS(T)                                                                           \
    extern "C" __global__ void head_vectors_##T(T* z, const int* heads, const float* values,      \
                                                int scales, int d_head, long long stride) {       \
        head_vectors(z, heads, values, scales, d_head, stride);                                   \
    }                                                                                             \
    extern "C" __global__ void head_vectors_gradient_##T(                                         \
        float* parts, T* dz, const T* z, const int* heads, const float* values, int scales,       \
        int rows, int part_rows, int d_head, long long stride) {                                  \
        head_vectors_gradient(parts, dz, z, heads, values, scales, rows, part_rows, d_head,       \
                              stride);                                                            \
    }

HEAD_VECTORS(f32)
HEAD_VECTORS(bf16)

// gradient = the sum of the parts, in order. parts [count, columns] f32, gradient [columns] f32.
// PRECOND: any grid of one dimension, any block size.
// Moves (count + 1) * columns * 4 bytes.
extern "C" __global__ void sum_of_parts_f32(float* __restrict__ gradient,
                                            const float* __restrict__ parts, int count, int columns) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < columns; i += gridDim.x * blockDim.x) {
        float sum = 0;
        for (int part = 0; part < count; part++) sum += parts[(long long)part * columns + i];
        gradient[i] = sum;
    }
}
