// The start and the end of sparse coding: rows become unit vectors, codes become results.
#include "sparse.cuh"
#include "types.cuh"

// z = residual = x / |x| for each row; norms [rows] f64. A row of zeros is done, with an empty
// code; so is one with skip[row] != 0 (skip may be null), whose norm is given as 0. A row that is
// not finite gets that state, and zeros for z. x [rows, d] f32 with row stride `stride`.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d * 12 bytes; one pass for the norm, which must be known before the second.
extern "C" __global__ void sparse_begin(float* z, float* residual, double* norms, int* states,
                                        int* counts, int* iterations, double* violations,
                                        const float* __restrict__ x, long long stride,
                                        const int* __restrict__ skip, int d) {
    const int row = blockIdx.x;
    const float* from = x + row * stride;
    double squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) squares += (double)from[i] * from[i];
    const double norm = sqrt(block_sum(squares));
    const bool skipped = skip != nullptr && skip[row] != 0;
    const bool finite = norm <= 3.4028234663852886e38;
    const bool used = !skipped && finite && norm > 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const float unit = used ? (float)(from[i] / norm) : 0.0f;
        z[(long long)row * d + i] = unit;
        residual[(long long)row * d + i] = unit;
    }
    if (threadIdx.x == 0) {
        norms[row] = used ? norm : 0.0;
        states[row] = used ? RUNNING : skipped || finite ? DONE : NOT_FINITE;
        counts[row] = 0;
        iterations[row] = 0;
        violations[row] = 0;
    }
}

// packed[place] = residual[live[place]] as T, and how far a product with it can be from the exact
// one: with residual r, rounded to r', and atoms moved by at most `narrowing` when rounded, slack
// [rows] = narrowing |r| + (1 + narrowing) |r - r'| (Cauchy-Schwarz), and a little for the sums.
// PRECOND: one block per place, any block size. Moves d * (4 + sizeof(T)) bytes per place.
template <typename T>
__device__ __forceinline__ void pack(T* packed, float* slack, const float* __restrict__ residual,
                                     const int* __restrict__ live, int d, float narrowing) {
    const int row = row_of(live, blockIdx.x);
    const float* from = residual + (long long)row * d;
    T* to = packed + (long long)blockIdx.x * d;
    float squares = 0, moved = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const T narrow = from_float<T>(from[i]);
        const float step = from[i] - to_float(narrow);
        to[i] = narrow;
        squares += from[i] * from[i];
        moved += step * step;
    }
    const float norm = sqrtf(block_sum(squares));
    const float step = sqrtf(block_sum(moved));
    if (threadIdx.x == 0) slack[row] = (narrowing + 4e-6f) * norm + (1 + narrowing) * step;
}

#define SPARSE_PACK(T)                                                                        \
    extern "C" __global__ void sparse_pack_##T(T* packed, float* slack, const float* residual, \
                                               const int* live, int d, float narrowing) {     \
        pack(packed, slack, residual, live, d, narrowing);                                    \
    }

SPARSE_PACK(f32)
SPARSE_PACK(bf16)

// A row's result: the atoms whose coefficient is not 0 in `support` [rows, capacity], their
// coefficients for the row as it was before it became a unit vector (and unit atoms), how many
// (`sizes`), and in `measures` [rows, 3] f64: objective 1/2 |r|^2 + l1 |c|_1 + l2/2 |c|^2 of the
// unit vector, norm of the residual on the scale of x, largest violation.
// PRECOND: one block per row, any block size. Moves d * 4 + count * 20 bytes per row.
extern "C" __global__ void sparse_finish(int* support, float* coefficients, int* sizes,
                                         double* measures, const int* __restrict__ counts,
                                         const int* __restrict__ ids,
                                         const double* __restrict__ c,
                                         const float* __restrict__ residual,
                                         const double* __restrict__ norms,
                                         const double* __restrict__ violations, int d,
                                         int capacity, float l1, float l2) {
    const int row = blockIdx.x;
    double squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const double r = residual[(long long)row * d + i];
        squares += r * r;
    }
    squares = block_sum(squares);
    if (threadIdx.x != 0) return;
    const long long first = (long long)row * capacity;
    double objective = 0.5 * squares;
    int size = 0;
    for (int i = 0; i < counts[row]; i++) {
        const double value = c[first + i];
        if (value == 0) continue;
        objective += l1 * fabs(value) + 0.5 * l2 * value * value;
        support[first + size] = ids[first + i];
        coefficients[first + size] = (float)(value * norms[row]);
        size++;
    }
    sizes[row] = size;
    measures[3 * row] = objective;
    measures[3 * row + 1] = sqrt(squares) * norms[row];
    measures[3 * row + 2] = violations[row];
}

// out[row] += factor * sum of coefficient * atom over the row's support, or over those of its atoms
// with chosen[atom] != 0 (chosen may be null). out [rows, d] f32 with row stride `stride`.
// Rows to which nothing is added keep their bits.
// PRECOND: one block per row, any block size. Moves (size + 2) * d * 4 bytes per row.
extern "C" __global__ void sparse_combine(float* out, long long stride, float factor,
                                          const int* __restrict__ support,
                                          const float* __restrict__ coefficients,
                                          const int* __restrict__ sizes, int capacity,
                                          const float* __restrict__ atoms,
                                          const int* __restrict__ chosen, int d) {
    const int row = blockIdx.x;
    float* to = out + row * stride;
    for (int place = 0; place < sizes[row]; place++) {
        const long long at = (long long)row * capacity + place;
        const int atom = support[at];
        if (chosen != nullptr && chosen[atom] == 0) continue;
        const float c = factor * coefficients[at];
        const float* a = atoms + (long long)atom * d;
        for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] += c * a[i];
    }
}
