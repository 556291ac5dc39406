// attention.cu on tensor cores, for bf16 and heads of 64 or 128: FlashAttention-2 (Dao 2023) over
// pages, and for decoding the keys split over blocks (Flash-Decoding, Dao et al. 2023).
//
// Three mappings make the same numbers, so that a row's bits depend neither on the batch nor on which
// of them it took. All cut the keys at multiples of SPLIT, wherever the row stands, make each
// split's unnormalised z, largest score and sum of weights from nothing, and fold the splits in
// order (Fold). `attention_sm80` walks all splits of a tile of rows in one block, for prefill;
// `attention_split_sm80` takes one row's split a block, and the last of a row's blocks folds what these
// leave; `attention_shared_sm80` takes, before it, a split that many rows have in common.
// A split of which a row sees nothing folds to what was there before, bit by bit.
#include "attention_rows.cuh"
#include "kv_cache.cuh"
#include "launch_order.cuh"

// Packed rows of a block: 16, the rows of an mma, for each of its warps.
constexpr int WARP_ROWS = 16;

// Most packed rows of a block.
constexpr int MOST = 64;

// Of a block: a constant, so that the places of a thread's copies are too.
constexpr int THREADS = 128;

// Keys of a split: two pages. One layer of Llama-3.1-8B has 8 KV heads, so a decode step of one row
// at 1k context is 64 blocks of 64 KiB of keys and values each, all of it under way at once: 4 MiB,
// where 4.3 TB/s times 0.7 us of latency ask for 3 MB over 132 SMs. At 2k nearly every SM has a
// block, at 6k three, which is what fits. Measured on an H200, when a launch of its own merged: 4.9 us a
// layer at 80 tokens, 6.2 and 4.0 for the merge at 1k, where one block for each KV head took 44. By
// arithmetic, not measured: 64 keys would spare 0.5 us at 1k, but write and fold twice as much (each split leaves 528 bytes a head
// for its 64 KiB a group: 3 % of the traffic at 4 heads); 256 keys leave 100 SMs idle at 1k and take
// 1.5 us longer there.
constexpr int SPLIT = 2 * PAGE;

// What a split leaves of one head in the scratch, in floats: z [D_HEAD] unnormalised, the largest
// score, the sum of weights, and two to keep it aligned to 16 bytes.
template <int D_HEAD>
constexpr int PARTIAL = D_HEAD + 4;

// The splits of which the query at `position` sees a key: `count` of them, the first at key
// `first * SPLIT`; `first_key` is the first key that it sees.
struct Splits {
    int first, count, first_key;
};

__device__ __forceinline__ Splits splits_of(int position, int window) {
    const int first_key = window == 0 || position < window ? 0 : position - window + 1;
    const int first = first_key / SPLIT;
    return {first, position / SPLIT - first + 1, first_key};
}

// Element (row, column) of a matrix in shared memory with rows of COLUMNS bf16. The 16-byte pieces
// of a row change places with the row, so that the eight rows of an 8 x 8 matrix lie in different
// banks.
template <int COLUMNS>
__device__ __forceinline__ int swizzled(int row, int column) {
    return row * COLUMNS + (column / 8 ^ row % 8) * 8 + column % 8;
}

// Which pieces of a matrix with rows of COLUMNS bf16 a thread copies: those at its column of every TURN'th
// row from its row on.
template <int COLUMNS>
struct Pieces {
    static constexpr int EACH = COLUMNS / 8;       // of a row
    static constexpr int TURN = THREADS / EACH;    // rows that all threads copy at once
    static_assert(TURN % 8 == 0, "the swizzle is alike in all turns");
    const int row = threadIdx.x / EACH, column = threadIdx.x % EACH * 8;
};

// Starts copying a matrix [ROWS][COLUMNS] into shared memory, swizzled; rows from `rows` on become
// zeros.
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void start_page(bf16* shared, const bf16* global, int rows) {
    constexpr int TURN = Pieces<COLUMNS>::TURN;
    static_assert(ROWS % TURN == 0, "whole turns");
    const auto [row, column] = Pieces<COLUMNS>();
    const int to = swizzled<COLUMNS>(row, column), from = row * COLUMNS + column;
#pragma unroll
    for (int i = 0; i < ROWS; i += TURN) {
        start_copy(shared + i * COLUMNS + to, global + i * COLUMNS + from, row + i < rows);
    }
    end_copy_group();
}

// The key and the value at one place of a page. Copies of the page may bring what was there before: the
// threads that made those (start_page) read it anew, and store it when their own copies have come.
template <int D_HEAD>
struct NewestKey {
    using Own = Pieces<PAGE>;
    bf16 at[D_HEAD / Own::TURN];

    __device__ __forceinline__ void load(const bf16* page, int place) {
        const auto [row, column] = Own();
        if (place / 8 * 8 != column) return;
#pragma unroll
        for (int d = 0; d < D_HEAD; d += Own::TURN) at[d / Own::TURN] = page[(row + d) * PAGE + place];
    }

    __device__ __forceinline__ void store(bf16* shared, int place) const {
        const auto [row, column] = Own();
        if (place / 8 * 8 != column) return;
        bf16* to = shared + swizzled<PAGE>(row, place);
#pragma unroll
        for (int d = 0; d < D_HEAD; d += Own::TURN) to[d * PAGE] = at[d / Own::TURN];
    }
};

template <int D_HEAD>
struct NewestValue {
    using Own = Pieces<D_HEAD>;
    uint4 piece;

    __device__ __forceinline__ void load(const bf16* page, int place) {
        const auto [row, column] = Own();
        if (place % Own::TURN != row) return;
        piece = *reinterpret_cast<const uint4*>(page + place * D_HEAD + column);
    }

    __device__ __forceinline__ void store(bf16* shared, int place) const {
        const auto [row, column] = Own();
        if (place % Own::TURN != row) return;
        *reinterpret_cast<uint4*>(shared + swizzled<D_HEAD>(place, column)) = piece;
    }
};

// An mma's A of [16][K]: in registers, or swizzled rows in shared memory.
template <int K>
struct InRegisters {
    const unsigned (&parts)[K / 16][4];

    __device__ __forceinline__ void load(unsigned (&a)[4], int k) const {
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = parts[k / 16][i];
    }
};

template <int K>
struct InShared {
    const bf16* rows;

    __device__ __forceinline__ void load(unsigned (&a)[4], int k) const {
        const int lane = threadIdx.x % 32;
        load_matrices(a, rows + (swizzled<K>(lane % 16, lane / 16 * 8) ^ k));
    }
};

// c[OWN / 8][4] += a [16][K] times columns [first, first + OWN) of the matrix [K][N] in shared
// memory; first a multiple of OWN.
template <int K, int N, int OWN = N, typename A>
__device__ __forceinline__ void multiply(float (&c)[OWN / 8][4], const A& rows, const bf16* shared,
                                         int first = 0) {
    const int lane = threadIdx.x % 32;
    // Piece and row are combined by xor, and n has no bits in common with what is before it.
    const int at = swizzled<N>(lane % 16, first + lane / 16 * 8);
#pragma unroll
    for (int k = 0; k < K; k += 16) {
        unsigned a[4];
        rows.load(a, k);
#pragma unroll
        for (int n = 0; n < OWN; n += 16) {
            unsigned b[4];
            load_transposed(b, shared + k * N + (at ^ n));
            mma(c[n / 8], a, b[0], b[1]);
            mma(c[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

// The A of products over D_HEAD, from global memory: this lane's elements of its two rows, zeros for a
// row that does not hold anything.
template <int D_HEAD>
__device__ __forceinline__ void load_queries(unsigned (&q)[D_HEAD / 16][4],
                                             const bf16* const (&rows)[2], const bool (&holds)[2]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < D_HEAD / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const bf16* from = rows[i % 2] + k * 16 + mma_a(lane, i).column;
            q[k][i] = holds[i % 2] ? *reinterpret_cast<const unsigned*>(from) : 0;
        }
    }
}

// Folds a split into those before it: maximum and total here, then each column of z by the call.
// Sums of products are written as fmaf here and below, so that every kernel rounds them alike.
struct Fold {
    float before, now;  // factors of what there was and of the split

    // c: that of scores in the exponent of 2.
    __device__ __forceinline__ Fold(float& maximum, float& total, float of_split,
                                    float total_of_split, float c) {
        const float top = fmaxf(maximum, of_split);
        const float reference = finite_maximum(top);
        before = exp2f((maximum - reference) * c);
        now = exp2f((of_split - reference) * c);
        maximum = top;
        total = fmaf(total_of_split, now, total * before);
    }

    __device__ __forceinline__ float operator()(float value, float of_split) const {
        return fmaf(of_split, now, value * before);
    }
};

// Online softmax over a page, for the two rows of this lane: scores of the page's 64 keys become
// weights, and sums (any of the row's columns) and totals are corrected for a maximum that grew.
// `whole`: both rows see all of the page.
template <int N>
__device__ __forceinline__ void weigh_page(unsigned (&weights)[PAGE / 16][4],
                                           float (&scores)[PAGE / 8][4], float (&sums)[N][4],
                                           float (&maximum)[2], float (&total)[2],
                                           const int (&position)[2], int page, bool whole, int window,
                                           float c) {
    const int lane = threadIdx.x % 32;
    if (!whole) {
#pragma unroll
        for (int n = 0; n < PAGE / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int back = position[i / 2] - (page + n * 8 + mma_c(lane, i).column);
                const bool visible = back >= 0 && (window == 0 || back < window);
                scores[n][i] = visible ? scores[n][i] : -INFINITY;
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = maximum[h];
#pragma unroll
        for (int n = 0; n < PAGE / 8; n++) {
            top = fmaxf(top, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
        }
        top = quad_max(top);
        const float reference = finite_maximum(top);
        const float correction = exp2f((maximum[h] - reference) * c);
        const float shift = -reference * c;
        maximum[h] = top;
        float of_page = 0;  // of this lane's keys
#pragma unroll
        for (int n = 0; n < PAGE / 8; n++) {
            scores[n][2 * h] = exp2f(fmaf(scores[n][2 * h], c, shift));
            scores[n][2 * h + 1] = exp2f(fmaf(scores[n][2 * h + 1], c, shift));
            of_page += scores[n][2 * h] + scores[n][2 * h + 1];
        }
        total[h] = fmaf(total[h], correction, of_page);
#pragma unroll
        for (int d = 0; d < N; d++) {
            sums[d][2 * h] *= correction;
            sums[d][2 * h + 1] *= correction;
        }
    }
    // Two neighbouring C tiles of 8 keys are the A of a product over 16 keys.
#pragma unroll
    for (int k = 0; k < PAGE / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float* pair = scores[2 * k + i / 2] + i % 2 * 2;
            weights[k][i] = bf16_pair(pair[0], pair[1]);
        }
    }
}

// Contract and arguments of `attention` in attention.cu, with these differences: T is bf16 and
// d_head is D_HEAD; weights are rounded to bf16 before they meet the values; a tile has at most
// 64 rows times heads of a group; and a value that is NaN or infinite reaches all rows of
// the tiles that read its page, also those that do not see it (its sequence is lost in any case).
// Queries lie in shared memory, since sums, what is folded and scores fill a lane's registers.
// A row's bits do not depend on the other rows of its tile or on the tile's size, and are those of
// attention_split_sm80.
// PRECOND: grid (tiles, KV); block 128; rows of a tile times H / KV at most MOST; dynamic
// shared memory 384 * D_HEAD bytes.
// Moves each visible page once per tile and KV head, and each row's queries and z. The page's keys arrive while the values before
// them are multiplied, the values while the keys are. Warps split rows, not keys. What is folded
// stays in registers: for heads of 128 two blocks fit an SM, as did before keys were cut. (Queries
// in registers too were tried and spilled; folds in shared memory were not: with them an SM of
// 100 KiB has room for one block only.)
template <int D_HEAD>
__device__ void attention_sm80(bf16* z, float* log_sum, const bf16* __restrict__ qkv,
                               const bf16* __restrict__ k_cache, const bf16* __restrict__ v_cache,
                               const int* __restrict__ page_table, int pages_per_sequence,
                               const int4* __restrict__ tiles, int n_heads, int n_kv_heads,
                               float scale, int window, const int2* __restrict__ ranges,
                               const Steering& steering) {
    SHARED_DYNAMIC(bf16, k_page);              // [D_HEAD][PAGE]
    bf16* v_page = k_page + D_HEAD * PAGE;     // [PAGE][D_HEAD]
    bf16* q_rows = v_page + PAGE * D_HEAD;     // [MOST][D_HEAD]
    const int4 tile = tiles[blockIdx.x];
    const int kv_head = blockIdx.y;
    const int group = n_heads / n_kv_heads;
    const int packed = tile.y * group;
    const int lane = threadIdx.x % 32;

    // The warp's packed rows, and the two of them of which this lane holds elements.
    const int first = threadIdx.x / 32 * WARP_ROWS;
    const int last_position =
        first < packed ? tile.w + (min(first + WARP_ROWS, packed) - 1) / group : -1;
    const int end = tile.w + tile.y;
    int position[2];
    for (int h = 0; h < 2; h++) position[h] = tile.w + (first + mma_c(lane, 2 * h).row) / group;
    // Packed row i is row i / group of the tile under head i % group of the KV head.
    for (int i = threadIdx.x; i < MOST * D_HEAD / 8; i += THREADS) {
        const int at = i / (D_HEAD / 8), column = i % (D_HEAD / 8) * 8;
        const long long head = (tile.x + at / group) * (n_heads + 2LL * n_kv_heads) +
                               kv_head * group + at % group;
        start_copy(q_rows + swizzled<D_HEAD>(at, column),
                   at < packed ? qkv + head * D_HEAD + column : qkv, at < packed);
    }
    end_copy_group();

    float sums[D_HEAD / 8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY};
    float total[2] = {0, 0};  // of this lane's keys
    float folded[D_HEAD / 8][4] = {};
    float folded_maximum[2] = {-INFINITY, -INFINITY};
    float folded_total[2] = {0, 0};
    const float c = scale * 1.44269504f;
    const auto fold_split = [&] {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const Fold fold(folded_maximum[h], folded_total[h], maximum[h], quad_sum(total[h]), c);
            maximum[h] = -INFINITY;
            total[h] = 0;
#pragma unroll
            for (int d = 0; d < D_HEAD / 8; d++) {
                for (int i = 2 * h; i < 2 * h + 2; i++) {
                    folded[d][i] = fold(folded[d][i], sums[d][i]);
                    sums[d][i] = 0;
                }
            }
        }
    };

    const int first_key = window == 0 || tile.w < window ? 0 : tile.w - window + 1;
    int page = first_key / PAGE * PAGE;
    long long at = page_offset(page_table, pages_per_sequence, tile.z, page, kv_head, n_kv_heads,
                               D_HEAD);
    start_page<D_HEAD, PAGE>(k_page, k_cache + at, D_HEAD);
    for (; page < end; page += PAGE) {
        // Places that no token has taken yet hold anything: no weight may meet them.
        start_page<PAGE, D_HEAD>(v_page, v_cache + at, end - page);
        wait_for_copies<1>();
        __syncthreads();  // the keys are there, and the queries
        const bool sees = page <= last_position;
        float scores[PAGE / 8][4] = {};
        if (sees) {
            multiply<D_HEAD, PAGE>(scores, InShared<D_HEAD>{q_rows + first * D_HEAD}, k_page);
        }
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
            const bool whole = page + PAGE - 1 <= tile.w && (window == 0 || end - 1 - page < window);
            weigh_page(weights, scores, sums, maximum, total, position, page, whole, window, c);
        }
        wait_for_copies<1>();
        __syncthreads();  // the values are there
        if (sees) multiply<PAGE, D_HEAD>(sums, InRegisters<PAGE>{weights}, v_page);
        __syncthreads();  // all are done with the values
        if ((page + PAGE) % SPLIT == 0 || page + PAGE >= end) fold_split();
    }

#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (position[h] >= end) continue;
        const int i = first + mma_c(lane, 2 * h).row;
        // Pages have done their work: they hold the rows of all warps as f32.
        finish_row<D_HEAD>(z, log_sum, folded, h, folded_maximum[h], folded_total[h],
                           tile.x + i / group, kv_head * group + i % group, n_heads, scale,
                           reinterpret_cast<float*>(k_page) + i * D_HEAD, ranges, steering);
    }
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_sm80_64(bf16* z, float* log_sum, const bf16* qkv, const bf16* k_cache,
                      const bf16* v_cache, const int* page_table, int pages_per_sequence,
                      const int4* tiles, int n_heads, int n_kv_heads, int d_head, float scale, int window,
                      const int2* ranges, const __grid_constant__ Steering steering) {
    attention_sm80<64>(z, log_sum, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles,
                       n_heads, n_kv_heads, scale, window, ranges, steering);
}

extern "C" __global__ void __launch_bounds__(128, 2)
    attention_sm80_128(bf16* z, float* log_sum, const bf16* qkv, const bf16* k_cache,
                       const bf16* v_cache, const int* page_table, int pages_per_sequence,
                       const int4* tiles, int n_heads, int n_kv_heads, int d_head, float scale, int window,
                       const int2* ranges, const __grid_constant__ Steering steering) {
    attention_sm80<128>(z, log_sum, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles,
                        n_heads, n_kv_heads, scale, window, ranges, steering);
}

// A lane's columns of a head.
template <int N>
struct alignas(4 * N) Columns {
    float at[N];
};

template <int N>
__device__ __forceinline__ Columns<N> columns(const float* from) {
    return *reinterpret_cast<const Columns<N>*>(from);
}

// Likewise, of what another SM has just written: not from L1, where its line may have been before.
template <int N>
__device__ __forceinline__ Columns<N> fresh_columns(const float* from) {
#ifdef __CUDACC__
    Columns<N> to;
    if constexpr (N == 4) {
        const float4 bytes = __ldcg(reinterpret_cast<const float4*>(from));
        memcpy(&to, &bytes, sizeof to);
    } else {
        const float2 bytes = __ldcg(reinterpret_cast<const float2*>(from));
        memcpy(&to, &bytes, sizeof to);
    }
    return to;
#else
    return columns<N>(from);
#endif
}

// Orders what the block did before, as far as barriers tell this thread of it, before what it does after,
// for all blocks. __threadfence also puts fences of the whole device in one order, which takes longer and
// which a count does not need.
__device__ __forceinline__ void fence_device() {
#ifdef __CUDACC__
    asm volatile("fence.acq_rel.gpu;" : : : "memory");
#else
    __threadfence();
#endif
}

// Folds the `count` splits that a row's blocks left of a head, in order, makes the head edits (as
// attention.cu says; they act on the whole z and so cannot be made before) and stores z. Called by a
// warp; `whole` is its room for D_HEAD floats.
// Moves 4 * PARTIAL bytes for each split, from L2, and writes 2 * D_HEAD: at 1k context and 32 heads
// 135 KB a row. A lane holds D_HEAD / 32 neighbouring columns (loads of 16 bytes for heads of 128)
// and has up to FLIGHT splits under way.
// The sums of an edited head's map run in attention_sm80's order and have its bits; the reported
// change is summed over lanes in another.
template <int D_HEAD>
__device__ __forceinline__ void merge_splits(bf16* z, const float* partials, const int4 tile,
                                             int head, int n_heads, int count, float c,
                                             const int2 range, float* whole,
                                             const Steering& steering) {
    constexpr int N = D_HEAD / 32;
    constexpr int FLIGHT = 16;
    const int lane = threadIdx.x % 32;
    const float* from = partials + ((long long)tile.y * n_heads + head) * PARTIAL<D_HEAD>;
    const long long stride = (long long)n_heads * PARTIAL<D_HEAD>;
    float value[N] = {};
    float maximum = -INFINITY;
    float total = 0;
    for (int first = 0; first < count; first += FLIGHT) {
        Columns<N> sums[FLIGHT] = {};
        Columns<2> ends[FLIGHT] = {};  // maximum and total
#pragma unroll
        for (int i = 0; i < FLIGHT; i++) {
            if (first + i < count) {
                const float* split = from + (first + i) * stride;
                sums[i] = fresh_columns<N>(split + lane * N);
                ends[i] = fresh_columns<2>(split + D_HEAD);
            }
        }
#pragma unroll
        for (int i = 0; i < FLIGHT; i++) {
            if (first + i < count) {
                const Fold fold(maximum, total, ends[i].at[0], ends[i].at[1], c);
                for (int n = 0; n < N; n++) value[n] = fold(value[n], sums[i].at[n]);
            }
        }
    }
    const float inverse = 1.0f / total;
    for (int n = 0; n < N; n++) value[n] *= inverse;

    for (int k = range.x; k < range.y; k++) {
        const SteerOp& op = steering.ops[k];
        const int place = steer_head(op, head);
        if (place < 0) continue;
        float edited[N];
        if (op.kind == STEER_AFFINE) {
            const float* map = steer_map(op, place, D_HEAD) + lane * N;
            for (int n = 0; n < N; n++) whole[lane * N + n] = value[n];
            __syncwarp();  // the whole value is there
            const Columns<N> b = columns<N>(map + D_HEAD * D_HEAD);
            for (int n = 0; n < N; n++) edited[n] = b.at[n];
#pragma unroll 16
            for (int e = 0; e < D_HEAD; e++) {
                const Columns<N> a = columns<N>(map + e * D_HEAD);
                for (int n = 0; n < N; n++) edited[n] = fmaf(whole[e], a.at[n], edited[n]);
            }
            __syncwarp();  // all have read it: a further edit may write it
        } else {
            for (int n = 0; n < N; n++) edited[n] = op.a * value[n];
        }
        float changed = 0;
        for (int n = 0; n < N; n++) {
            changed += (edited[n] - value[n]) * (edited[n] - value[n]);
            value[n] = edited[n];
        }
        changed = warp_reduce(changed, Sum());
        if (lane == 0) {
            steering.report(tile.x)[op.report + head] = changed;
        }
    }
    bf16* to = z + ((long long)tile.x * n_heads + head) * D_HEAD + lane * N;
    for (int n = 0; n < N; n += 2) {
        *reinterpret_cast<unsigned*>(to + n) = bf16_pair(value[n], value[n + 1]);
    }
}

// A split of one row's keys for the heads of one KV head: what it leaves goes to the scratch, or, where
// it is the row's only split and no head of the row is edited, finished to z. The last block of a row
// and KV head to leave its sums merges them (merge_splits), so that no launch of its own follows.
// z, qkv, k_cache, v_cache and page_table as for attention_sm80. tiles [grid.x] = {row, its first
// place in the scratch, sequence, position}; partials [place][H][PARTIAL], of which split s of the
// row, counted from the first that it sees, has place `first + s`; own [tiles] is the first split of
// each, counted from key 0, that is not there yet (attention_shared_sm80), and null means 0; arrived
// [tiles][KV] int are 0 before and after. Blocks whose split lies past the
// row's end, or starts past it because of a window, end at once, so that a grid recorded for some
// context is right for every shorter one, and the grid's extent changes no bits.
// PRECOND: grid (tiles, KV, at least the splits of every row from its own on); own at most
// position / SPLIT; block 128; H / KV <= 16; dynamic shared memory 512 * D_HEAD + 8192 bytes. Launched
// early (launch_order.cuh), kernels that may still run write, of what a row's pages hold up to its position,
// nothing but that position.
// Moves, per row, KV head and split, its visible pages, which all are under way before the first is
// used, the row's queries, and 4 * PARTIAL bytes a head, or 2 * D_HEAD of a finished z. All warps work
// on the same 16 packed rows: each makes a quarter of both pages' scores, which they exchange at once,
// all make the same weights, and each a quarter of z's columns: a row's sums are those of
// attention_sm80, where one warp made all of them, with a quarter of the products one after another.
// 152 registers, so that three blocks share an SM, as shared memory lets them. Where blocks are few, one
// waits most of its time, for its tile, page numbers, keys and the other blocks' sums in turn; so what
// does not depend on each other is asked for together, and all but the queries and the row's own key and
// value while launches before still run (not measured yet). Rows of larger groups and spans of several
// rows take that kernel.
template <int D_HEAD>
__device__ void attention_split_sm80(bf16* z, float* partials, int* arrived, const bf16* qkv,
                                     const bf16* k_cache, const bf16* v_cache,
                                     const int* __restrict__ page_table, int pages_per_sequence,
                                     const int4* __restrict__ tiles, const int* __restrict__ own,
                                     int n_heads, int n_kv_heads, float scale, int window,
                                     const int2* __restrict__ ranges, const Steering& steering) {
    constexpr int WARPS = 4;
    constexpr int KEYS = PAGE / WARPS, COLUMNS = D_HEAD / WARPS;  // of a warp
    constexpr int PAGES = SPLIT / PAGE;
    static_assert(COLUMNS % 16 == 0, "what multiply takes at once");
    const int4 tile = tiles[blockIdx.x];
    const int position = tile.w;
    const Splits splits = splits_of(position, window);
    const int made = own == nullptr ? 0 : max(0, own[blockIdx.x] - splits.first);
    const int split = made + blockIdx.z;
    if (split >= splits.count) return;
    SHARED_DYNAMIC(bf16, k_pages);                     // [PAGES][D_HEAD][PAGE]
    bf16* v_pages = k_pages + PAGES * D_HEAD * PAGE;   // [PAGES][PAGE][D_HEAD]
    // [PAGES][PAGE / 8][32 lanes]: a lane's part of each C tile
    float4* exchanged = reinterpret_cast<float4*>(v_pages + PAGES * PAGE * D_HEAD);
    const int kv_head = blockIdx.y;
    const int group = n_heads / n_kv_heads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    const int begin = max((splits.first + split) * SPLIT, splits.first_key) / PAGE * PAGE;
    const int end = min((splits.first + split + 1) * SPLIT, position + 1);
    // Both pages' places are asked for at once, and before the queries: what waits for them is most.
    long long places[PAGES];
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        places[i] = page_offset(page_table, pages_per_sequence, tile.z,
                                min(begin + i * PAGE, position), kv_head, n_kv_heads, D_HEAD);
    }

    // The two heads of the group of which this lane holds elements.
    bool holds[2];
    int head[2];
    for (int h = 0; h < 2; h++) {
        const int i = mma_c(lane, 2 * h).row;
        holds[h] = i < group;
        head[h] = kv_head * group + i;
    }
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        if (begin + i * PAGE < end) {
            start_page<D_HEAD, PAGE>(k_pages + i * D_HEAD * PAGE, k_cache + places[i], D_HEAD);
        } else {
            end_copy_group();
        }
    }
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        const int page = begin + i * PAGE;
        if (page < end) {
            // Places that no token has taken yet hold anything: no weight may meet them.
            start_page<PAGE, D_HEAD>(v_pages + i * PAGE * D_HEAD, v_cache + places[i], end - page);
        } else {
            end_copy_group();
        }
    }
    const int2 range = steering.range(ranges, tile.x);  // which is wanted at the end

    wait_for_launches_before();
    // The copies may have come too early for `position` itself, which is in the last of the places above.
    const int newest = position - begin;  // its place in this split
    const bool has_newest = position < end;
    NewestKey<D_HEAD> newest_key;
    NewestValue<D_HEAD> newest_value;
    if (has_newest) {
        newest_key.load(k_cache + places[PAGES - 1], newest % PAGE);
        newest_value.load(v_cache + places[PAGES - 1], newest % PAGE);
    }
    unsigned q[D_HEAD / 16][4];
    const bf16* row = qkv + (long long)tile.x * (n_heads + 2 * n_kv_heads) * D_HEAD;
    const bf16* const queries[2] = {row + head[0] * D_HEAD, row + head[1] * D_HEAD};
    load_queries<D_HEAD>(q, queries, holds);

    wait_for_copies<PAGES>();
    if (has_newest) newest_key.store(k_pages + newest / PAGE * D_HEAD * PAGE, newest % PAGE);
    __syncthreads();  // the keys are there
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        if (begin + i * PAGE >= end) break;
        float own_scores[KEYS / 8][4] = {};
        multiply<D_HEAD, PAGE, KEYS>(own_scores, InRegisters<D_HEAD>{q}, k_pages + i * D_HEAD * PAGE,
                                     warp * KEYS);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            const float(&part)[4] = own_scores[n];
            exchanged[(i * (PAGE / 8) + warp * (KEYS / 8) + n) * 32 + lane] =
                make_float4(part[0], part[1], part[2], part[3]);
        }
    }
    wait_for_copies<0>();
    if (has_newest) newest_value.store(v_pages + newest / PAGE * PAGE * D_HEAD, newest % PAGE);
    __syncthreads();  // the values are there, and the scores

    const float c = scale * 1.44269504f;
    const int positions[2] = {position, position};
    float sums[COLUMNS / 8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY};
    float total[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        const int page = begin + i * PAGE;
        if (page >= end) break;
        float scores[PAGE / 8][4];
#pragma unroll
        for (int n = 0; n < PAGE / 8; n++) {
            const float4 part = exchanged[(i * (PAGE / 8) + n) * 32 + lane];
            scores[n][0] = part.x;
            scores[n][1] = part.y;
            scores[n][2] = part.z;
            scores[n][3] = part.w;
        }
        const bool whole = page + PAGE - 1 <= position &&
                           (window == 0 || position - page < window);
        unsigned weights[PAGE / 16][4];
        weigh_page(weights, scores, sums, maximum, total, positions, page, whole, window, c);
        multiply<PAGE, D_HEAD, COLUMNS>(sums, InRegisters<PAGE>{weights}, v_pages + i * PAGE * D_HEAD,
                                        warp * COLUMNS);
    }

    const bool finishes = splits.count == 1 && range.x == range.y;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float all = quad_sum(total[h]);
        if (!holds[h]) continue;
        const int first = warp * COLUMNS + mma_c(lane, 2 * h).column;
        if (finishes) {
            const float inverse = 1.0f / all;
            bf16* to = z + ((long long)tile.x * n_heads + head[h]) * D_HEAD + first;
#pragma unroll
            for (int d = 0; d < COLUMNS / 8; d++) {
                *reinterpret_cast<unsigned*>(to + d * 8) =
                    bf16_pair(sums[d][2 * h] * inverse, sums[d][2 * h + 1] * inverse);
            }
        } else {
            float* to =
                partials + ((long long)(tile.y + split) * n_heads + head[h]) * PARTIAL<D_HEAD>;
#pragma unroll
            for (int d = 0; d < COLUMNS / 8; d++) {
                *reinterpret_cast<float2*>(to + first + d * 8) =
                    make_float2(sums[d][2 * h], sums[d][2 * h + 1]);
            }
            if (warp == 0 && lane % 4 == 0) {
                *reinterpret_cast<float2*>(to + D_HEAD) = make_float2(maximum[h], all);
            }
        }
    }
    if (finishes) return;

    __shared__ bool is_last;
    __syncthreads();
    if (threadIdx.x == 0) {
        int* count = arrived + blockIdx.x * n_kv_heads + kv_head;
        fence_device();  // before the count, what all of the block left
        is_last = atomicAdd(count, 1) == splits.count - made - 1;
        fence_device();  // before what others left is read
        if (is_last) *count = 0;  // for the next launch
    }
    __syncthreads();
    if (!is_last) return;
    float* whole = reinterpret_cast<float*>(k_pages) + warp * D_HEAD;  // the keys' time is over
    for (int i = warp; i < group; i += WARPS) {
        merge_splits<D_HEAD>(z, partials, tile, kv_head * group + i, n_heads, splits.count, c, range,
                             whole, steering);
    }
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_split_sm80_64(bf16* z, float* partials, int* arrived, const bf16* qkv, const bf16* k_cache,
                            const bf16* v_cache, const int* page_table, int pages_per_sequence,
                            const int4* tiles, const int* own, int n_heads, int n_kv_heads,
                            float scale, int window, const int2* ranges,
                            const __grid_constant__ Steering steering) {
    let_next_launch_begin();  // a product's weights come meanwhile
    attention_split_sm80<64>(z, partials, arrived, qkv, k_cache, v_cache, page_table, pages_per_sequence,
                             tiles, own, n_heads, n_kv_heads, scale, window, ranges, steering);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_split_sm80_128(bf16* z, float* partials, int* arrived, const bf16* qkv, const bf16* k_cache,
                            const bf16* v_cache, const int* page_table, int pages_per_sequence,
                            const int4* tiles, const int* own, int n_heads, int n_kv_heads,
                            float scale, int window, const int2* ranges,
                            const __grid_constant__ Steering steering) {
    let_next_launch_begin();  // a product's weights come meanwhile
    attention_split_sm80<128>(z, partials, arrived, qkv, k_cache, v_cache, page_table, pages_per_sequence,
                             tiles, own, n_heads, n_kv_heads, scale, window, ranges, steering);
}

// A split of keys that rows of a step have in common (cascade inference: Ye et al. 2024, FlashInfer;
// Hydragen, Juravsky et al. 2024): what attention_split_sm80 would leave of it for each, so that it only
// makes their others and merges all. qkv, k_cache, v_cache, page_table, tiles and partials as there. A
// block takes rows of tiles next to each other: parts [grid.x] = {first tile, tiles, first split, end},
// splits counted from key 0; {0, 0, 0, 0} has nothing to do, and neither have blocks past a part's end, so
// that a recorded grid is right for other parts.
// PRECOND: grid (parts, KV, at least the splits of every part); a part's tiles have the same pages up to
// key end * SPLIT, none of them is at a position before it, and tiles times H / KV are at most MOST; block
// 128; dynamic shared memory 512 * D_HEAD bytes.
// Moves a split's keys and values once per part and KV head, all under way before the first is used, and
// for each row its queries and 4 * PARTIAL bytes a head. For 128 rows of Llama-3.1-8B after 1,024 tokens
// in common that is 34 MB of keys and values a layer where attention_split_sm80 reads 537, and 17 MB of
// sums that both write. Each warp has 16 packed rows and makes of them what attention_sm80 makes: a row's
// bits are the same. Queries lie in registers, since nothing is folded here.
template <int D_HEAD>
__device__ void attention_shared_sm80(float* partials, const bf16* __restrict__ qkv,
                                      const bf16* __restrict__ k_cache,
                                      const bf16* __restrict__ v_cache,
                                      const int* __restrict__ page_table, int pages_per_sequence,
                                      const int4* __restrict__ tiles,
                                      const int4* __restrict__ parts, int n_heads, int n_kv_heads,
                                      float scale, int window) {
    constexpr int PAGES = SPLIT / PAGE;
    static_assert(PAGES == 2, "what the waits below are written for");
    const int4 part = parts[blockIdx.x];
    const int split = part.z + blockIdx.z;
    if (split >= part.w) return;
    SHARED_DYNAMIC(bf16, k_pages);                    // [PAGES][D_HEAD][PAGE]
    bf16* v_pages = k_pages + PAGES * D_HEAD * PAGE;  // [PAGES][PAGE][D_HEAD]
    const int kv_head = blockIdx.y;
    const int group = n_heads / n_kv_heads;
    const int packed = part.y * group;
    const int lane = threadIdx.x % 32;

    if (window != 0) {
        bool seen = false;
        for (int i = 0; i < part.y; i++) {
            seen |= splits_of(tiles[part.x + i].w, window).first <= split;
        }
        if (!seen) return;
    }

    // The two packed rows of which this lane holds elements: row i is that of tile i / group under head
    // i % group of the KV head.
    const int first = threadIdx.x / 32 * WARP_ROWS;
    const bool works = first < packed;
    bool holds[2];
    int position[2];
    const bf16* queries[2];
    int left[2];  // where what is left of it goes, -1 where the row does not see the split
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int i = first + mma_c(lane, 2 * h).row;
        holds[h] = i < packed;
        const int4 tile = tiles[part.x + (holds[h] ? i / group : 0)];
        const int head = kv_head * group + i % group;
        position[h] = tile.w;
        queries[h] = qkv + ((long long)tile.x * (n_heads + 2 * n_kv_heads) + head) * D_HEAD;
        const int place = split - splits_of(tile.w, window).first;
        left[h] = holds[h] && place >= 0 ? (tile.y + place) * n_heads + head : -1;
    }
    const int begin = split * SPLIT;
    const int sequence = tiles[part.x].z;
    long long places[PAGES];
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        places[i] = page_offset(page_table, pages_per_sequence, sequence, begin + i * PAGE, kv_head,
                                n_kv_heads, D_HEAD);
    }
    unsigned q[D_HEAD / 16][4];
    load_queries<D_HEAD>(q, queries, holds);
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        start_page<D_HEAD, PAGE>(k_pages + i * D_HEAD * PAGE, k_cache + places[i], D_HEAD);
        start_page<PAGE, D_HEAD>(v_pages + i * PAGE * D_HEAD, v_cache + places[i], PAGE);
    }

    const float c = scale * 1.44269504f;
    float sums[D_HEAD / 8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY};
    float total[2] = {0, 0};  // of this lane's keys
#pragma unroll
    for (int i = 0; i < PAGES; i++) {
        const int page = begin + i * PAGE;
        if (i == 0) {
            wait_for_copies<3>();
        } else {
            wait_for_copies<1>();
        }
        __syncthreads();  // the keys are there
        unsigned weights[PAGE / 16][4];
        if (works) {
            float scores[PAGE / 8][4] = {};
            multiply<D_HEAD, PAGE>(scores, InRegisters<D_HEAD>{q}, k_pages + i * D_HEAD * PAGE);
            const bool whole =
                window == 0 || (position[0] - page < window && position[1] - page < window);
            weigh_page(weights, scores, sums, maximum, total, position, page, whole, window, c);
        }
        if (i == 0) {
            wait_for_copies<2>();
        } else {
            wait_for_copies<0>();
        }
        __syncthreads();  // the values are there
        if (works) {
            multiply<PAGE, D_HEAD>(sums, InRegisters<PAGE>{weights}, v_pages + i * PAGE * D_HEAD);
        }
    }
    if (!works) return;

#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float all = quad_sum(total[h]);
        if (left[h] < 0) continue;
        float* to = partials + (long long)left[h] * PARTIAL<D_HEAD>;
        const int column = mma_c(lane, 2 * h).column;
#pragma unroll
        for (int d = 0; d < D_HEAD / 8; d++) {
            *reinterpret_cast<float2*>(to + d * 8 + column) =
                make_float2(sums[d][2 * h], sums[d][2 * h + 1]);
        }
        if (lane % 4 == 0) {
            *reinterpret_cast<float2*>(to + D_HEAD) = make_float2(maximum[h], all);
        }
    }
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_shared_sm80_64(float* partials, const bf16* qkv, const bf16* k_cache,
                             const bf16* v_cache, const int* page_table, int pages_per_sequence,
                             const int4* tiles, const int4* parts, int n_heads, int n_kv_heads,
                             float scale, int window) {
    attention_shared_sm80<64>(partials, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles,
                              parts, n_heads, n_kv_heads, scale, window);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_shared_sm80_128(float* partials, const bf16* qkv, const bf16* k_cache,
                             const bf16* v_cache, const int* page_table, int pages_per_sequence,
                             const int4* tiles, const int4* parts, int n_heads, int n_kv_heads,
                             float scale, int window) {
    attention_shared_sm80<128>(partials, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles,
                              parts, n_heads, n_kv_heads, scale, window);
}
