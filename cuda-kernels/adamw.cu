// One step of AdamW on a slice of a weight matrix, and the squares that its gradient's norm is made of.
#include "reduce.cuh"
#include "types.cuh"

// What all slices of a step have in common; Java's record of this name.
struct AdamStep {
    float kept;     // 1 - learning rate * decay
    float rate;     // learning rate / (1 - beta1^step)
    float share1;   // 1 - beta1
    float beta2;
    float share2;   // 1 - beta2
    float root;     // sqrt(1 - beta2^step)
    float epsilon;
    float factor;   // of the gradient
};

// AdamW (Loshchilov and Hutter 1711.05101) with decoupled decay, in torch's order:
//   first += share1 (g - first);  second = beta2 second + share2 g^2
//   master = kept master - rate first / (sqrt(second) / root + epsilon)
// and weight = master, rounded to T.
// weight [rows, columns] T with row stride `stride`: the slice where it lies in its matrix; nothing
// beside it is touched, by decay neither. master, first, second, gradient [rows, columns] f32, contiguous.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * columns * (28 + sizeof(T)) bytes. The master copy keeps what bf16 weights would round away.
// What does not change is not written, so that it keeps its bits, the sign of a zero among them.
template <typename T>
__device__ void adamw(T* __restrict__ weight, float* __restrict__ master,
                      float* __restrict__ first, float* __restrict__ second,
                      const float* __restrict__ gradient, int columns, long long stride,
                      const AdamStep& step) {
    const long long at = (long long)blockIdx.x * columns;
    T* to = weight + blockIdx.x * stride;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        const float g = gradient[at + i] * step.factor;
        const float m = first[at + i] + step.share1 * (g - first[at + i]);
        const float v = step.beta2 * second[at + i] + step.share2 * g * g;
        const float before = master[at + i];
        const float after =
            before * step.kept - step.rate * m / (sqrtf(v) / step.root + step.epsilon);
        first[at + i] = m;
        second[at + i] = v;
        if (after != before) {
            master[at + i] = after;
            to[i] = from_float<T>(after);
        }
    }
}

#define ADAMW(T)                                                                                  \
    extern "C" __global__ void adamw_##T(T* weight, float* master, float* first, float* second,   \
                                         const float* gradient, int columns, long long stride,    \
                                         const __grid_constant__ AdamStep step) {                 \
        adamw(weight, master, first, second, gradient, columns, stride, step);                    \
    }

ADAMW(f32)
ADAMW(f16)
ADAMW(bf16)

// master = weight, exactly: what the optimiser starts from. Shapes and PRECOND as for adamw.
// Moves rows * columns * (4 + sizeof(T)) bytes.
template <typename T>
__device__ void read_slice(float* master, const T* __restrict__ weight, int columns,
                           long long stride) {
    const T* from = weight + blockIdx.x * stride;
    float* to = master + (long long)blockIdx.x * columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) to[i] = to_float(from[i]);
}

#define READ_SLICE(T)                                                                           \
    extern "C" __global__ void read_slice_##T(float* master, const T* weight, int columns,      \
                                              long long stride) {                               \
        read_slice(master, weight, columns, stride);                                            \
    }

READ_SLICE(f32)
READ_SLICE(f16)
READ_SLICE(bf16)

// weight = master, rounded: where a run goes on. Shapes and PRECOND as for adamw.
// Moves rows * columns * (4 + sizeof(T)) bytes.
template <typename T>
__device__ void write_slice(T* __restrict__ weight, const float* __restrict__ master, int columns,
                            long long stride) {
    T* to = weight + blockIdx.x * stride;
    const float* from = master + (long long)blockIdx.x * columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) to[i] = from_float<T>(from[i]);
}

#define WRITE_SLICE(T)                                                                          \
    extern "C" __global__ void write_slice_##T(T* weight, const float* master, int columns,     \
                                               long long stride) {                              \
        write_slice(weight, master, columns, stride);                                           \
    }

WRITE_SLICE(f32)
WRITE_SLICE(f16)
WRITE_SLICE(bf16)

// squares[row] = the sum of the squares of values [rows, columns] f32.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * (columns + 1) * 4 bytes. The rows' sums are added by the host, in f64 and in order.
extern "C" __global__ void squares_of_rows(float* squares, const float* __restrict__ values,
                                           int columns) {
    const float* row = values + (long long)blockIdx.x * columns;
    float sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += row[i] * row[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// sum += values: gradients of batches that share a step.
// sum, values [rows, columns] f32.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * columns * 12 bytes.
extern "C" __global__ void add_values(float* __restrict__ sum, const float* __restrict__ values,
                                      int columns) {
    const long long at = (long long)blockIdx.x * columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum[at + i] += values[at + i];
}
