// Kernels that take concepts out of rows of the residual stream, given the rows' sparse codes. How a
// steering slot is treated stands in a table int4[slots] {mask, flags, report, strength}: which
// atoms go (row of `masks`; -1: the slot is left alone), SOLVE | APPLY, the first of the slot's
// REPORTED places in a row of the report, and the bits of the float that the change is multiplied by.

#include "sparse.cuh"
#include "types.cuh"

/// Flags of a slot.
constexpr int SOLVE = 1, APPLY = 2;

/// Atoms of a row that the report names: the strongest of those removed.
constexpr int NAMED = 8;

// skip[row] = 0 where the row's code is wanted, 1 elsewhere. slots [rows], skip [rows].
// PRECOND: any grid and block. Moves 24 bytes per row. One thread per row: there is nothing to share.
extern "C" __global__ void concept_rows(int* skip, const int* __restrict__ slots,
                                        const int4* __restrict__ table, int rows) {
    for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < rows; row += gridDim.x * blockDim.x) {
        const int4 how = table[slots[row]];
        skip[row] = how.x >= 0 && (how.y & SOLVE) ? 0 : 1;
    }
}

// Where the slot says SOLVE: removed[at] = strength * sum of coefficient * atom over the atoms of
// the row's code whose bit is set in the slot's mask; at = sequences[row], or row where sequences
// is null. Where it says APPLY: x[row] -= removed[at]. Writes to the report (f32, REPORTED places
// from the slot's): squared norm of the change, rounds, worst KKT violation, number of atoms removed,
// NAMED ids (bits of an int), NAMED coefficients, squared norm of the row before the change.
// x [rows, d], removed [sequences or rows, d], atoms [n, d], masks [., words] of 32 bits, changes
// [rows, stride].
// PRECOND: one block per row, any block size. Moves (removed atoms + 4) * d * 4 bytes per row. One
// block per row, since a code's sum must be whole before it is applied.
extern "C" __global__ void remove_concepts(
    float* x, float* removed, const int* __restrict__ slots,
    const int* __restrict__ sequences, const int4* __restrict__ table, const int* __restrict__ masks,
    int words, SparseCodes codes, const float* __restrict__ atoms, float* changes, int stride, int d) {
    const int row = blockIdx.x;
    const int4 how = table[slots[row]];
    if (how.x < 0) return;
    float* to = removed + (long long)(sequences == nullptr ? row : sequences[row]) * d;
    float* values = x + (long long)row * d;
    float* report = changes + (long long)row * stride + how.z;
    if (how.y & SOLVE) {
        const float strength = __int_as_float(how.w);
        const int* mask = masks + (long long)how.x * words;
        const long long first = (long long)row * codes.capacity;
        const int* __restrict__ support = codes.support + first;
        const float* __restrict__ coefficients = codes.coefficients + first;
        const int size = codes.sizes[row];
        for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] = 0;
        for (int place = 0; place < size; place++) {
            const int atom = support[place];
            if (((unsigned)mask[atom / 32] >> (atom % 32) & 1) == 0) continue;
            const float c = strength * coefficients[place];
            const float* a = atoms + (long long)atom * d;
            for (int i = threadIdx.x; i < d; i += blockDim.x) to[i] += c * a[i];
        }
        if (threadIdx.x == 0) {
            int found = 0;
            for (int place = 0; place < size; place++) {
                const int atom = support[place];
                if (((unsigned)mask[atom / 32] >> (atom % 32) & 1) == 0) continue;
                const float c = coefficients[place];
                int rank = found < NAMED ? found : NAMED;
                while (rank > 0 && fabsf(report[4 + NAMED + rank - 1]) < fabsf(c)) {
                    if (rank < NAMED) {
                        report[4 + rank] = report[4 + rank - 1];
                        report[4 + NAMED + rank] = report[4 + NAMED + rank - 1];
                    }
                    rank--;
                }
                if (rank < NAMED) {
                    report[4 + rank] = __int_as_float(atom);
                    report[4 + NAMED + rank] = c;
                }
                found++;
            }
            report[1] = (float)codes.iterations[row];
            report[2] = (float)codes.measures[3 * row + 2];
            report[3] = (float)found;
        }
    }
    if (how.y & APPLY) {
        float squares = 0, before = 0;
        for (int i = threadIdx.x; i < d; i += blockDim.x) {
            before += values[i] * values[i];
            values[i] -= to[i];
            squares += to[i] * to[i];
        }
        squares = block_sum(squares);
        before = block_sum(before);
        if (threadIdx.x == 0) {
            report[0] = squares;
            report[4 + 2 * NAMED] = before;
        }
    }
}
