// Neurons' weight vectors, made ready for the LM head.
#include "reduce.cuh"
#include "types.cuh"

// dev.halter.neurons.NeuronMap.Decode.
enum Decode { DECODE_RAW = 0, DECODE_UNIT = 1, DECODE_NORM = 2 };

// norms [rows] = |w|; out [rows, d], unless null, = w (DECODE_RAW), w / |w| and 0 where that is 0
// (DECODE_UNIT), or gain * w / sqrt(mean(w^2) + eps) (DECODE_NORM), rounded once to To.
// w [rows, d]; gain [d] is read for DECODE_NORM only. A row whose squares overflow f32 becomes NaN
// but for DECODE_RAW.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d * (sizeof(From) + sizeof(To)) bytes; the second pass over w comes from L1.
// Without out only w.
template <typename From, typename To>
__device__ void neuron_vectors(To* out, float* norms,
                               const From* __restrict__ w, const float* __restrict__ gain, int d,
                               float eps, int decode) {
    const From* from = w + (long long)blockIdx.x * d;
    float squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const float x = to_float(from[i]);
        squares += x * x;
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) norms[blockIdx.x] = sqrtf(squares);
    if (out == nullptr) return;
    const float length = decode == DECODE_UNIT ? sqrtf(squares) : sqrtf(squares / d + eps);
    float factor = length > 0.0f ? 1.0f / length : 0.0f;
    factor = length < INFINITY ? factor : NAN;
    To* to = out + (long long)blockIdx.x * d;
    if (decode == DECODE_NORM) {
        for (int i = threadIdx.x; i < d; i += blockDim.x) {
            to[i] = from_float<To>(to_float(from[i]) * factor * gain[i]);
        }
        return;
    }
    if (decode == DECODE_RAW) factor = 1.0f;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        to[i] = from_float<To>(to_float(from[i]) * factor);
    }
}

#define NEURON_VECTORS(From, To)                                                               \
    extern "C" __global__ void neuron_vectors_##From##_##To(                                   \
        To* out, float* norms, const From* __restrict__ w, const float* __restrict__ gain, int d,   \
        float eps, int decode) {                                                               \
        neuron_vectors(out, norms, w, gain, d, eps, decode);                                   \
    }

NEURON_VECTORS(f32, f32)
NEURON_VECTORS(f32, bf16)
NEURON_VECTORS(f16, f32)
NEURON_VECTORS(f16, bf16)
NEURON_VECTORS(bf16, f32)
NEURON_VECTORS(bf16, bf16)

// out [columns, rows] = in [rows, columns] transposed, whose rows are `stride` elements apart:
// neurons that are columns of their matrix become rows.
// PRECOND: one block per tile of 32 x 32, grid = (ceil(columns / 32), ceil(rows / 32)), any block
// size.
// Moves rows * columns * 2 elements, 32 neighbours at a time on both sides: through shared memory,
// whose rows are one longer so that a column's elements lie in different banks.
template <typename T>
__device__ void transpose(T* out, const T* __restrict__ in, long long stride, int rows,
                          int columns) {
    __shared__ T tile[32][33];
    const int row = blockIdx.y * 32;
    const int column = blockIdx.x * 32;
    const int height = rows - row < 32 ? rows - row : 32;
    const int width = columns - column < 32 ? columns - column : 32;
    for (int e = threadIdx.x; e < 32 * height; e += blockDim.x) {
        const int r = e / 32;
        const int c = e % 32;
        if (c < width) tile[r][c] = in[(row + r) * stride + column + c];
    }
    __syncthreads();
    for (int e = threadIdx.x; e < 32 * width; e += blockDim.x) {
        const int c = e / 32;
        const int r = e % 32;
        if (r < height) out[(long long)(column + c) * rows + row + r] = tile[r][c];
    }
}

extern "C" __global__ void transpose_16(unsigned short* out,
                                        const unsigned short* __restrict__ in, long long stride,
                                        int rows, int columns) {
    transpose(out, in, stride, rows, columns);
}

extern "C" __global__ void transpose_32(unsigned int* out,
                                        const unsigned int* __restrict__ in, long long stride,
                                        int rows, int columns) {
    transpose(out, in, stride, rows, columns);
}
