// Rows of attention whose elements four lanes of a warp share as an mma's C, or a wgmma's, has them:
// the reductions of their softmax, and what becomes of a row of z before it is stored.
#pragma once
#include "mma_sm80.cuh"
#include "steer.cuh"

// A reduction over the four lanes that hold a row of an mma's C. They may be the only ones here.
__device__ __forceinline__ float quad_sum(float value) {
    const unsigned quad = 0xfu << (threadIdx.x % 32 & ~3);
    value += __shfl_xor_sync(quad, value, 1);
    return value + __shfl_xor_sync(quad, value, 2);
}

__device__ __forceinline__ float quad_max(float value) {
    const unsigned quad = 0xfu << (threadIdx.x % 32 & ~3);
    value = fmaxf(value, __shfl_xor_sync(quad, value, 1));
    return fmaxf(value, __shfl_xor_sync(quad, value, 2));
}

// What of a softmax's maximum may be subtracted: a row may have seen no key yet.
__device__ __forceinline__ float finite_maximum(float maximum) {
    return maximum == -INFINITY ? 0.0f : maximum;
}

// edited = A sums + b (steer_map) of the quad's row h, by way of `own`, D_HEAD floats of shared memory
// for this row alone.
template <int D_HEAD>
__device__ __forceinline__ void apply_map(float (&edited)[D_HEAD / 8][2],
                                          const float (&sums)[D_HEAD / 8][4], int h, float* own,
                                          const float* map) {
    const int lane = threadIdx.x % 32;
    const unsigned quad = 0xfu << (lane & ~3);
    const int column = mma_c(lane, 2 * h).column;
    const float* b = map + D_HEAD * D_HEAD;
#pragma unroll
    for (int d = 0; d < D_HEAD / 8; d++) {
        for (int i = 0; i < 2; i++) {
            own[d * 8 + column + i] = sums[d][2 * h + i];
            edited[d][i] = b[d * 8 + column + i];
        }
    }
    __syncwarp(quad);  // the whole row is there
    for (int e = 0; e < D_HEAD; e++) {
        const float factor = own[e];
#pragma unroll
        for (int d = 0; d < D_HEAD / 8; d++) {
            for (int i = 0; i < 2; i++) {
                edited[d][i] = fmaf(factor, map[e * D_HEAD + d * 8 + column + i], edited[d][i]);
            }
        }
    }
    __syncwarp(quad);  // all have read it: a further edit may write it
}

// Ends the quad's row h: sums of weighted values, the largest score and the sum of weights become z
// of `row` and `head` with the head edits of the site made to it, and the log-sum-exp where that is
// wanted. own: as for apply_map.
template <int D_HEAD>
__device__ __forceinline__ void finish_row(bf16* z, float* log_sum, float (&sums)[D_HEAD / 8][4],
                                           int h, float maximum, float total, int row, int head,
                                           int n_heads, float scale, float* own,
                                           const int2* ranges, const Steering& steering) {
    const int lane = threadIdx.x % 32;
    if (log_sum != nullptr && lane % 4 == 0) {
        log_sum[(long long)row * n_heads + head] = fmaf(maximum, scale, logf(total));
    }
    const float inverse = 1.0f / total;
#pragma unroll
    for (int d = 0; d < D_HEAD / 8; d++) {
        sums[d][2 * h] *= inverse;
        sums[d][2 * h + 1] *= inverse;
    }
    const int2 range = steering.range(ranges, row);
    for (int k = range.x; k < range.y; k++) {
        const SteerOp& op = steering.ops[k];
        const int place = steer_head(op, head);
        if (place < 0) continue;
        float edited[D_HEAD / 8][2];
        if (op.kind == STEER_AFFINE) {
            apply_map<D_HEAD>(edited, sums, h, own, steer_map(op, place, D_HEAD));
        } else {
#pragma unroll
            for (int d = 0; d < D_HEAD / 8; d++) {
                for (int i = 0; i < 2; i++) edited[d][i] = op.a * sums[d][2 * h + i];
            }
        }
        float changed = 0;
#pragma unroll
        for (int d = 0; d < D_HEAD / 8; d++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float& value = sums[d][2 * h + i];
                changed += (edited[d][i] - value) * (edited[d][i] - value);
                value = edited[d][i];
            }
        }
        changed = quad_sum(changed);
        if (lane % 4 == 0) {
            steering.report(row)[op.report + head] = changed;
        }
    }
    bf16* to = z + ((long long)row * n_heads + head) * D_HEAD;
#pragma unroll
    for (int d = 0; d < D_HEAD / 8; d++) {
        *reinterpret_cast<unsigned*>(to + d * 8 + mma_c(lane, 2 * h).column) =
            bf16_pair(sums[d][2 * h], sums[d][2 * h + 1]);
    }
}
