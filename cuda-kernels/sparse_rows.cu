// The start and the end of sparse coding: rows become unit vectors, codes become results.
#include "sparse.cuh"
#include "types.cuh"

// z = residual = x / |x| for each row. A row of zeros is done, with an empty code; so is one with
// skip[row] != 0 (skip may be null), whose norm is given as 0. A row that is not finite gets that
// state, and zeros for z. x [rows, d] f32 with row stride `stride`.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * d * 12 bytes; one pass for the norm, which must be known before the second.
extern "C" __global__ void sparse_begin(const __grid_constant__ SparseRows rows,
                                        const float* __restrict__ x, long long stride,
                                        const int* __restrict__ skip) {
    const int row = blockIdx.x, d = rows.d;
    float* z = rows.z + (long long)row * d;
    float* residual = rows.residual + (long long)row * d;
    const float* from = x + row * stride;
    double squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) squares += (double)from[i] * from[i];
    const double norm = sqrt(block_sum(squares));
    const bool skipped = skip != nullptr && skip[row] != 0;
    const bool finite = norm <= 3.4028234663852886e38;
    const bool used = !skipped && finite && norm > 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const float unit = used ? (float)(from[i] / norm) : 0.0f;
        z[i] = unit;
        residual[i] = unit;
    }
    if (threadIdx.x == 0) {
        rows.norms[row] = used ? norm : 0.0;
        rows.states[row] = used ? RUNNING : skipped || finite ? DONE : NOT_FINITE;
        rows.counts[row] = 0;
        rows.iterations[row] = 0;
        rows.violations[row] = 0;
        rows.slack[row] = 0;
    }
}

// packed[place] = residual of row live[place] as T [places, d], and how far a product with it can be
// from the exact one: with residual r, rounded to r', and atoms moved by at most `narrowing` when
// rounded, slack = narrowing |r| + (1 + narrowing) |r - r'| (Cauchy-Schwarz), and a little for the
// sums.
// PRECOND: one block per place, any block size. Moves d * (4 + sizeof(T)) bytes per place.
template <typename T>
__device__ __forceinline__ void pack(T* packed, const SparseRows& rows,
                                     const int* __restrict__ live, float narrowing) {
    const int row = row_of(live, blockIdx.x), d = rows.d;
    const float* __restrict__ from = rows.residual + (long long)row * d;
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
    if (threadIdx.x == 0) {
        rows.slack[row] = (narrowing + SUMS_SLACK) * norm + (1 + narrowing) * step;
    }
}

#define SPARSE_PACK(T)                                                                          \
    extern "C" __global__ void sparse_pack_##T(T* packed, const __grid_constant__ SparseRows rows, \
                                               const int* live, float narrowing) {              \
        pack(packed, rows, live, narrowing);                                                    \
    }

SPARSE_PACK(f32)
SPARSE_PACK(bf16)

// A row's result: the atoms whose coefficient is not 0, their coefficients for the row as it was
// before it became a unit vector (and unit atoms), and in the measures: objective 1/2 |r|^2 +
// l1 |c|_1 + l2/2 |c|^2 of the unit vector, norm of the residual on the scale of x, largest
// violation. codes.iterations are those of rows already.
// PRECOND: one block per row, any block size; codes.capacity = rows.capacity. Moves d * 4 + count * 20
// bytes per row.
extern "C" __global__ void sparse_finish(const __grid_constant__ SparseCodes codes,
                                         const __grid_constant__ SparseRows rows, float l1,
                                         float l2) {
    const int row = blockIdx.x;
    const float* residual = rows.residual + (long long)row * rows.d;
    double squares = 0;
    for (int i = threadIdx.x; i < rows.d; i += blockDim.x) {
        const double r = residual[i];
        squares += r * r;
    }
    squares = block_sum(squares);
    if (threadIdx.x != 0) return;
    const long long first = (long long)row * rows.capacity;
    const double norm = rows.norms[row];
    const int count = rows.counts[row];
    double objective = 0.5 * squares;
    int size = 0;
    for (int i = 0; i < count; i++) {
        const double value = rows.coefficients[first + i];
        if (value == 0) continue;
        objective += l1 * fabs(value) + 0.5 * l2 * value * value;
        codes.support[first + size] = rows.ids[first + i];
        codes.coefficients[first + size] = (float)(value * norm);
        size++;
    }
    codes.sizes[row] = size;
    codes.measures[3 * row] = objective;
    codes.measures[3 * row + 1] = sqrt(squares) * norm;
    codes.measures[3 * row + 2] = rows.violations[row];
}

// out[row] += factor * sum of coefficient * atom over the row's support, or over those of its atoms
// with chosen[atom] != 0 (chosen may be null). out [rows, d] f32 with row stride `stride`.
// Rows to which nothing is added keep their bits.
// PRECOND: one block per row, any block size. Moves (size + 2) * d * 4 bytes per row.
extern "C" __global__ void sparse_combine(float* out, long long stride, float factor,
                                          const __grid_constant__ SparseCodes codes,
                                          const float* __restrict__ atoms,
                                          const int* __restrict__ chosen, int d) {
    const int row = blockIdx.x, size = codes.sizes[row];
    float* to = out + row * stride;
    for (int place = 0; place < size; place++) {
        const long long at = (long long)row * codes.capacity + place;
        const int atom = codes.support[at];
        if (chosen != nullptr && chosen[atom] == 0) continue;
        const float c = factor * codes.coefficients[at];
        const float* a = atoms + (long long)atom * d;
        for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] += c * a[i];
    }
}
