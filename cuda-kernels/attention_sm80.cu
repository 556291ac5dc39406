// attention.cu on tensor cores, for bf16 and heads of 64 or 128: FlashAttention-2 (Dao 2023) over
// pages.
#include "kv_cache.cuh"
#include "mma_sm80.cuh"
#include "steer.cuh"

// Packed rows of a block: 16, the rows of an mma, for each of its warps.
constexpr int WARP_ROWS = 16;

// Element (row, column) of a matrix in shared memory with rows of COLUMNS bf16. The 16-byte pieces
// of a row change places with the row, so that the eight rows of an 8 x 8 matrix lie in different
// banks.
template <int COLUMNS>
__device__ __forceinline__ int swizzled(int row, int column) {
    return row * COLUMNS + (column / 8 ^ row % 8) * 8 + column % 8;
}

// Starts copying a matrix [ROWS][COLUMNS] into shared memory, swizzled; rows from `rows` on become
// zeros.
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void start_page(bf16* shared, const bf16* global, int rows) {
    for (int i = threadIdx.x; i < ROWS * COLUMNS / 8; i += blockDim.x) {
        const int row = i / (COLUMNS / 8), column = i % (COLUMNS / 8) * 8;
        start_copy(shared + swizzled<COLUMNS>(row, column), global + i * 8, row < rows);
    }
    end_copy_group();
}

// c[N / 8][4] += a[K / 16][4] times the matrix [K][N] in shared memory.
template <int K, int N>
__device__ __forceinline__ void multiply(float (&c)[N / 8][4], const unsigned (&a)[K / 16][4],
                                         const bf16* shared) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < K; k += 16) {
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            unsigned b[4];
            load_transposed(b, shared + swizzled<N>(k + lane % 16, n + lane / 16 * 8));
            mma(c[n / 8], a[k / 16], b[0], b[1]);
            mma(c[n / 8 + 1], a[k / 16], b[2], b[3]);
        }
    }
}

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

// Contract and arguments of `attention` in attention.cu, with these differences: T is bf16 and
// d_head is D_HEAD; weights are rounded to bf16 before they meet the values; a tile has at most
// 16 * warps rows times heads of a group; and a value that is NaN or infinite reaches all rows of
// the tiles that read its page, also those that do not see it (its sequence is lost in any case).
// A row's bits do not depend on the other rows of its tile or on the tile's size.
// PRECOND: grid (tiles, KV); block a multiple of 32 with 16 * (block / 32) >= rows of a tile times
// H / KV; dynamic shared memory 256 * D_HEAD bytes.
// Moves each visible page once per tile and KV head. The page's keys arrive while the values before
// them are multiplied, the values while the keys are. Warps split rows, not keys: decoding keeps
// one warp of a block busy with products, which is enough, since it waits for memory.
template <int D_HEAD>
__device__ void attention_sm80(bf16* __restrict__ z, const bf16* __restrict__ qkv,
                               const bf16* __restrict__ k_cache, const bf16* __restrict__ v_cache,
                               const int* __restrict__ page_table, int pages_per_sequence,
                               const int4* __restrict__ tiles, int n_heads, int n_kv_heads,
                               float scale, int window, STEERING_PARAMETERS) {
    SHARED_DYNAMIC(bf16, k_page);              // [D_HEAD][PAGE]
    bf16* v_page = k_page + D_HEAD * PAGE;     // [PAGE][D_HEAD]
    const int4 tile = tiles[blockIdx.x];
    const int kv_head = blockIdx.y;
    const int group = n_heads / n_kv_heads;
    const int packed = tile.y * group;
    const int lane = threadIdx.x % 32;

    // The warp's packed rows, and the two of them of which this lane holds elements.
    const int first = threadIdx.x / 32 * WARP_ROWS;
    const int last = min(first + WARP_ROWS, packed) - 1;
    const bool active = first <= last;
    const int first_position = tile.w + first / group;
    const int last_position = tile.w + last / group;
    bool holds[2];
    int row[2], head[2], position[2];
    for (int h = 0; h < 2; h++) {
        const int i = first + mma_c(lane, 2 * h).row;
        holds[h] = i < packed;
        row[h] = tile.x + i / group;
        head[h] = kv_head * group + i % group;
        position[h] = tile.w + i / group;
    }

    unsigned q[D_HEAD / 16][4];
    const long long width = (long long)(n_heads + 2 * n_kv_heads) * D_HEAD;
#pragma unroll
    for (int k = 0; k < D_HEAD / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int h = i % 2;  // mma_a and mma_c have the same rows
            const bf16* from = qkv + row[h] * width + head[h] * D_HEAD + k * 16 +
                               mma_a(lane, i).column;
            q[k][i] = holds[h] ? *reinterpret_cast<const unsigned*>(from) : 0;
        }
    }

    float sums[D_HEAD / 8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY};  // of score / ln 2
    float total[2] = {0, 0};                    // of this lane's keys

    const int first_key = window == 0 || tile.w < window ? 0 : tile.w - window + 1;
    const int end = tile.w + tile.y;
    int page = first_key / PAGE * PAGE;
    long long at = page_offset(page_table, pages_per_sequence, tile.z, page, kv_head, n_kv_heads,
                               D_HEAD);
    start_page<D_HEAD, PAGE>(k_page, k_cache + at, D_HEAD);
    for (; page < end; page += PAGE) {
        // Places that no token has taken yet hold anything: no weight may meet them.
        start_page<PAGE, D_HEAD>(v_page, v_cache + at, end - page);
        wait_for_copies<1>();
        __syncthreads();  // the keys are there
        const bool sees = active && page <= last_position &&
                          (window == 0 || first_position - page - PAGE + 1 < window);
        float scores[PAGE / 8][4] = {};
        if (sees) multiply<D_HEAD, PAGE>(scores, q, k_page);
        __syncthreads();  // all are done with the keys
        if (page + PAGE < end) {
            at = page_offset(page_table, pages_per_sequence, tile.z, page + PAGE, kv_head,
                             n_kv_heads, D_HEAD);
            start_page<D_HEAD, PAGE>(k_page, k_cache + at, D_HEAD);
        } else {
            end_copy_group();  // so that the values' group is the last but one here too
        }

        unsigned weights[PAGE / 16][4];
        if (sees) {
            const bool whole = page + PAGE - 1 <= first_position &&
                               (window == 0 || last_position - page < window);
#pragma unroll
            for (int n = 0; n < PAGE / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int back = position[i / 2] - (page + n * 8 + mma_c(lane, i).column);
                    const bool visible = whole || (back >= 0 && (window == 0 || back < window));
                    scores[n][i] = visible ? scores[n][i] * (scale * 1.44269504f) : -INFINITY;
                }
            }
            for (int h = 0; h < 2; h++) {
                float top = maximum[h];
#pragma unroll
                for (int n = 0; n < PAGE / 8; n++) {
                    top = fmaxf(top, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
                }
                top = quad_max(top);
                const float reference = top == -INFINITY ? 0.0f : top;  // a row may see no key yet
                const float correction = exp2f(maximum[h] - reference);
                maximum[h] = top;
                total[h] *= correction;
#pragma unroll
                for (int n = 0; n < PAGE / 8; n++) {
                    scores[n][2 * h] = exp2f(scores[n][2 * h] - reference);
                    scores[n][2 * h + 1] = exp2f(scores[n][2 * h + 1] - reference);
                    total[h] += scores[n][2 * h] + scores[n][2 * h + 1];
                }
#pragma unroll
                for (int d = 0; d < D_HEAD / 8; d++) {
                    sums[d][2 * h] *= correction;
                    sums[d][2 * h + 1] *= correction;
                }
            }
            // Two neighbouring C tiles of 8 keys are the A of a product over 16 keys.
#pragma unroll
            for (int k = 0; k < PAGE / 16; k++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float* c = scores[2 * k + i / 2] + i % 2 * 2;
                    weights[k][i] = bf16_pair(c[0], c[1]);
                }
            }
        }
        wait_for_copies<1>();
        __syncthreads();  // the values are there
        if (sees) multiply<PAGE, D_HEAD>(sums, weights, v_page);
        __syncthreads();  // all are done with the values
    }

    for (int h = 0; h < 2; h++) {
        if (!holds[h]) continue;
        const float inverse = 1.0f / quad_sum(total[h]);
#pragma unroll
        for (int d = 0; d < D_HEAD / 8; d++) {
            sums[d][2 * h] *= inverse;
            sums[d][2 * h + 1] *= inverse;
        }
        const int2 range = steer_range(slots, ranges, row[h]);
        for (int k = range.x; k < range.y; k++) {
            const SteerOp& op = ops[k];
            const int place = steer_head(op, head[h]);
            if (place < 0) continue;
            float edited[D_HEAD / 8][2];
            if (op.kind == STEER_AFFINE) {
                // Pages have done their work: they hold the rows of all warps as f32.
                float* own = reinterpret_cast<float*>(k_page) +
                             (first + mma_c(lane, 2 * h).row) * D_HEAD;
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
                change_sq[(long long)row[h] * report_stride + op.report + head[h]] = changed;
            }
        }
        bf16* to = z + ((long long)row[h] * n_heads + head[h]) * D_HEAD;
#pragma unroll
        for (int d = 0; d < D_HEAD / 8; d++) {
            *reinterpret_cast<unsigned*>(to + d * 8 + mma_c(lane, 2 * h).column) =
                bf16_pair(sums[d][2 * h], sums[d][2 * h + 1]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(128)
    attention_sm80_64(bf16* z, const bf16* qkv, const bf16* k_cache, const bf16* v_cache,
                      const int* page_table, int pages_per_sequence, const int4* tiles,
                      int n_heads, int n_kv_heads, int d_head, float scale, int window,
                      const int* slots, const int2* ranges, const SteerOp* ops, float* change_sq,
                      int report_stride) {
    attention_sm80<64>(z, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles, n_heads,
                       n_kv_heads, scale, window, slots, ranges, ops, change_sq, report_stride);
}

extern "C" __global__ void __launch_bounds__(128)
    attention_sm80_128(bf16* z, const bf16* qkv, const bf16* k_cache, const bf16* v_cache,
                       const int* page_table, int pages_per_sequence, const int4* tiles,
                       int n_heads, int n_kv_heads, int d_head, float scale, int window,
                       const int* slots, const int2* ranges, const SteerOp* ops, float* change_sq,
                       int report_stride) {
    attention_sm80<128>(z, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles, n_heads,
                        n_kv_heads, scale, window, slots, ranges, ops, change_sq, report_stride);
}
