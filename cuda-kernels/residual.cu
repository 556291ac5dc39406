// x += y: what a branch (attention or MLP) adds to the residual stream.
#include "residual.cuh"

// x [rows, d] f32 += y [rows, d] T + bias [d] f32 (bias may be null). The branch site
// (hook_attn_out, hook_mlp_out) is y with its bias: it is written back where bias or steering
// changed it, so that y holds the site's value afterwards. The residual site (hook_resid_mid,
// hook_resid_post) is x after the sum.
// PRECOND: one block per row (grid.x = rows), any block size. Rows without bias go in packs of 16
// bytes where d is a multiple of a pack and x and y of 16, else element by element; where edits are
// more than added vectors, or a row is larger than a block holds, through memory.
// Moves rows * d * (8 + sizeof(T)) bytes, and another sizeof(T) per element where y is rewritten.
// With a thread for each pack all of a row is under way at once. Where the next norm follows
// undisturbed, add_rmsnorm (rmsnorm.cu) does both.
template <typename T>
__device__ void residual_add(float* x, T* y,
                             const float* __restrict__ bias, int d,
                             const int2* __restrict__ branch_ranges,
                             const int2* __restrict__ ranges, const Steering& steering) {
    constexpr int N = PACK<T>;
    const int row = blockIdx.x;
    float* to = x + (long long)row * d;
    T* from = y + (long long)row * d;
    const ResidualEdits edits = residual_edits(steering, branch_ranges, ranges, row);
    const bool in_packs = d % N == 0 && aligned(x, y);
    if constexpr (HOLDS_PACKS) {
        if (bias == nullptr && in_packs && edits.any() && adds_alone<N>(d, edits, steering.ops)) {
            add_held_row<N>(to, from, d, edits.residual, steering.ops, steering.report(row));
            return;
        }
    }
    if (bias != nullptr || edits.any()) {
        add_edited_row(to, from, bias, d, edits, steering.ops, steering.report(row));
    } else if (in_packs) {
        add_row<N>(to, from, d);
    } else {
        add_row<1>(to, from, d);
    }
}

extern "C" __global__ void residual_add_f32(float* x, float* y, const float* bias, int d,
                                            const int2* branch_ranges, const int2* ranges,
                                            const __grid_constant__ Steering steering) {
    residual_add(x, y, bias, d, branch_ranges, ranges, steering);
}

extern "C" __global__ void residual_add_bf16(float* x, bf16* y, const float* bias, int d,
                                             const int2* branch_ranges, const int2* ranges,
                                             const __grid_constant__ Steering steering) {
    residual_add(x, y, bias, d, branch_ranges, ranges, steering);
}
