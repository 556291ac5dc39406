// The edits of a d_model site by themselves, for those that come after or between edits that are more
// than one kernel; all others are made where the activation is.
#include "steer.cuh"

// x [rows, d] f32, edited in place (steer_row); rows without an edit are left alone.
// PRECOND: one block per row (grid.x = rows), any block size. Moves d * 8 bytes per edit, and d * 4 of
// its vector: a row stays in the cache from one edit to the next, so that they share a block.
extern "C" __global__ void steer_rows(float* x, int d, const int2* ranges,
                                      const __grid_constant__ Steering steering) {
    const int row = blockIdx.x;
    const int2 range = steering.range(ranges, row);
    steer_row(x + (long long)row * d, d, range, steering.ops, steering.report(row));
}
