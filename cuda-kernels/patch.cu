// Path patching: values put at sites of a step, rows of many patched residual streams that share
// what comes from their pair of prompts, and the logits of a few tokens.
#include "reduce.cuh"
#include "types.cuh"

// For each of n cells {row, column, source}: to[row, column + j] = values[source, j], j < width, or +=
// it with `add`. to [_, stride] T, values [_, width] f32.
// PRECOND: one block per cell (grid.x = n), any block size; no two cells overlap.
// Moves n * width * (4 + 2 * sizeof(T)) bytes.
template <typename T>
__device__ void put_cells(T* to, const float* __restrict__ values,
                          const int* __restrict__ cells, int width, long long stride, int add) {
    const int* cell = cells + 3 * blockIdx.x;
    T* into = to + cell[0] * stride + cell[1];
    const float* from = values + (long long)cell[2] * width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        into[i] = from_float<T>(add ? to_float(into[i]) + from[i] : from[i]);
    }
}

extern "C" __global__ void put_cells_f32(float* to, const float* values, const int* cells,
                                         int width, long long stride, int add) {
    put_cells(to, values, cells, width, stride, add);
}

extern "C" __global__ void put_cells_bf16(bf16* to, const float* values, const int* cells,
                                          int width, long long stride, int add) {
    put_cells(to, values, cells, width, stride, add);
}

// x [rows, d] f32 += a[row % n], a [n, d] f32: what the rows of one pair of prompts share.
// PRECOND: one block per row (grid.x = rows), any block size; a and x do not overlap.
// Moves rows * d * 12 bytes, a mostly from L2.
extern "C" __global__ void add_repeated(float* x, const float* __restrict__ a, int n,
                                        int d) {
    float* to = x + (long long)blockIdx.x * d;
    const float* from = a + (long long)(blockIdx.x % n) * d;
    for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] += from[i];
}

// The final norm and the logits of k tokens, all in f32: out [rows, k] f32, with
// out[r, j] = (x_r * gain / sqrt(mean(x_r^2) + eps)) . head[tokens[r % n, j]], and 0 where that token
// is -1. x [rows, d] f32; gain [d] f32; head [vocabulary, d] W; tokens [n, k].
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d * (4 + k * sizeof(W)) bytes, rows of the head mostly from L2. One dot product for a
// logit: the whole vocabulary would cost as much as an MLP.
template <typename W>
__device__ void token_logits(float* out, const float* __restrict__ x,
                             const float* __restrict__ gain, int d, float eps,
                             const W* __restrict__ head, const int* __restrict__ tokens, int k,
                             int n) {
    const int row = blockIdx.x;
    const float* from = x + (long long)row * d;
    float squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) squares += from[i] * from[i];
    const float rms = sqrtf(block_sum(squares) / d + eps);
    const float inverse = rms < INFINITY ? 1.0f / rms : NAN;  // as rmsnorm does
    for (int j = 0; j < k; j++) {
        const int token = tokens[(row % n) * k + j];
        float sum = 0;
        if (token >= 0) {
            const W* weight = head + (long long)token * d;
            for (int i = threadIdx.x; i < d; i += blockDim.x) {
                sum += from[i] * gain[i] * to_float(weight[i]);
            }
        }
        sum = block_sum(sum) * inverse;
        if (threadIdx.x == 0) out[(long long)row * k + j] = token >= 0 ? sum : 0.0f;
    }
}

#define TOKEN_LOGITS(W)                                                                          \
    extern "C" __global__ void token_logits_##W(float* out, const float* x, const float* gain,   \
                                                int d, float eps, const W* head,                 \
                                                const int* tokens, int k, int n) {               \
        token_logits(out, x, gain, d, eps, head, tokens, k, n);                                  \
    }

TOKEN_LOGITS(f32)
TOKEN_LOGITS(f16)
TOKEN_LOGITS(bf16)

// out[row, part] = a[row, part] . b[row, part], the dot products of vectors of `width` elements.
// out [rows, parts] f32; a, b [rows, parts, width] f32.
// PRECOND: grid (rows, parts), any block size.
// Moves rows * parts * (8 * width + 4) bytes.
extern "C" __global__ void dot_parts(float* out, const float* __restrict__ a,
                                     const float* __restrict__ b, int width) {
    const long long part = (long long)blockIdx.x * gridDim.y + blockIdx.y;
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        sum += a[part * width + i] * b[part * width + i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[part] = sum;
}
