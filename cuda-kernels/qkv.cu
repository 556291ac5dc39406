// Between the q, k, v product and attention: biases and per-head norms, rotary embedding, and the
// append to the cache; in one launch, or in two where somebody looks at hook_q, hook_k or hook_v.
#include "kv_cache.cuh"
#include "reduce.cuh"
#include "rope.cuh"
#include "types.cuh"

// Pairs of a pack. Where a pack is one element, in the CPU's solo build, it is an array that fills vector
// registers: what lies behind pointers of which any may be null, g++ took pair by pair.
template <typename T>
constexpr int HEAD_PACK = PACK<T> == 1 ? 32 : PACK<T>;

// The heads [begin, end) of ROWS rows that a block works on, in packs of N pairs of elements i and
// i + d_head / 2. Neighbouring threads have neighbouring rows. Each head of a row has as many threads
// as packs, if the block has so many: a thread begins with element `first` of head begin + of_block.
template <int N, int ROWS>
struct HeadThreads {
    int pairs, lanes, at_once, of_block, first;

    __device__ __forceinline__ explicit HeadThreads(int d_head) {
        const int threads = blockDim.x < ROWS ? 1 : blockDim.x / ROWS;  // of a row
        const int thread = threadIdx.x / ROWS;
        pairs = d_head / 2;
        const int packs = pairs / N;
        lanes = threads < packs ? threads : packs;
        at_once = threads / lanes;
        of_block = thread / lanes;
        first = thread % lanes * N;
    }
};

// What is done to a head before it rotates; each may be null, and both norms are or neither is.
struct HeadChanges {
    const float* bias;    // [(H + 2 * KV) * d_head]
    const float* q_norm;  // gain [d_head] of q's RMSNorm
    const float* k_norm;
    float eps;
};

// A row's heads [begin, end) of x [(H + 2 * KV) * d_head], in place: plus bias, then q and k heads by
// RMSNorm, each by itself (Qwen3). The rounding is transformers': to T after the bias, after the
// division, and after the product with the gain. `sums` has room for blockDim.x floats. Every thread
// calls it, with its own row or null, and finds the elements that it is to rotate as it left them.
template <int N, int ROWS, typename T>
__device__ __forceinline__ void change_heads(T* x, float* sums, const HeadChanges changes,
                                             int begin, int end, int n_heads, int n_kv_heads,
                                             int d_head) {
    const HeadThreads<N, ROWS> threads(d_head);
    const int pairs = threads.pairs;
    const int step = threads.lanes * N;
    for (int round = begin; round < end; round += threads.at_once) {
        const int head = round + threads.of_block;
        const bool works = threads.of_block < threads.at_once && head < end && x != nullptr;
        const bool norms = changes.q_norm != nullptr && head < n_heads + n_kv_heads;
        T* own = x + (long long)head * d_head;
        float squares = 0;
        if (works && (changes.bias != nullptr || norms)) {
            const float* bias = changes.bias == nullptr ? nullptr : changes.bias + head * d_head;
            for (int i = threads.first; i < pairs; i += step) {
                Pack<T, N> a, b;
                a.load(own + i);
                b.load(own + pairs + i);
                if (bias != nullptr) {
                    Pack<float, N> more_a, more_b;
                    more_a.load(bias + i);
                    more_b.load(bias + pairs + i);
                    UNROLL_ALL
                    for (int j = 0; j < N; j++) {
                        a.at[j] = from_float<T>(to_float(a.at[j]) + more_a.at[j]);
                        b.at[j] = from_float<T>(to_float(b.at[j]) + more_b.at[j]);
                    }
                    a.store(own + i);
                    b.store(own + pairs + i);
                }
                UNROLL_ALL
                for (int j = 0; j < N; j++) {
                    squares += to_float(a.at[j]) * to_float(a.at[j]) +
                               to_float(b.at[j]) * to_float(b.at[j]);
                }
            }
        }
        if (changes.q_norm == nullptr) continue;
        // Threads of a head need not be a warp's part: they meet in shared memory.
        sums[threadIdx.x] = squares;
        __syncthreads();
        if (works && norms) {
            float all = 0;
            for (int i = 0; i < threads.lanes; i++) {
                all += sums[(threads.of_block * threads.lanes + i) * ROWS + threadIdx.x % ROWS];
            }
            const float inverse = 1.0f / sqrtf(all / d_head + changes.eps);
            const float* gain = head < n_heads ? changes.q_norm : changes.k_norm;
            for (int i = threads.first; i < pairs; i += step) {
                Pack<T, N> a, b;
                Pack<float, N> gain_a, gain_b;
                a.load(own + i);
                b.load(own + pairs + i);
                gain_a.load(gain + i);
                gain_b.load(gain + pairs + i);
                UNROLL_ALL
                for (int j = 0; j < N; j++) {
                    const T to_a = from_float<T>(to_float(a.at[j]) * inverse);
                    const T to_b = from_float<T>(to_float(b.at[j]) * inverse);
                    a.at[j] = from_float<T>(gain_a.at[j] * to_float(to_a));
                    b.at[j] = from_float<T>(gain_b.at[j] * to_float(to_b));
                }
                a.store(own + i);
                b.store(own + pairs + i);
            }
        }
        __syncthreads();  // all have read the sums
    }
}

// The heads of a row that a block of a grid (rows, parts) works on.
struct HeadPart {
    int begin, end;

    __device__ __forceinline__ explicit HeadPart(int heads) {
        const int part = (heads + gridDim.y - 1) / gridDim.y;
        begin = blockIdx.y * part;
        end = begin + part < heads ? begin + part : heads;
    }
};

// Whether heads can go in packs.
template <typename T>
__device__ __forceinline__ bool heads_in_packs(const T* qkv, const T* cache,
                                               const HeadChanges& changes, int d_head) {
    return d_head / 2 % HEAD_PACK<T> == 0 &&
           aligned(qkv, cache) && aligned(changes.bias, changes.q_norm, changes.k_norm);
}

// qkv [rows, (H + 2 * KV) * d_head] T in place, heads in the order q, k, v: change_heads.
// PRECOND: grid (rows, parts) with any number of parts and any block size, on which the bits of a norm
// depend; d_head even; dynamic shared memory 4 * blockDim.x bytes. Packs as rope_append's.
// Moves rows * (H + 2 * KV) * d_head * 2 * sizeof(T) bytes; without a bias KV for 2 * KV, as v has no
// norm. Launched only for models that have biases or norms, and where rope_append may not do it.
template <typename T>
__device__ void qkv_bias_norm(T* qkv, const HeadChanges changes, int n_heads, int n_kv_heads,
                              int d_head) {
    SHARED_DYNAMIC(float, sums);
    const int heads = n_heads + 2 * n_kv_heads;
    const HeadPart part(heads);
    T* x = qkv + (long long)blockIdx.x * heads * d_head;
    if (heads_in_packs(qkv, qkv, changes, d_head)) {
        change_heads<HEAD_PACK<T>, 1>(x, sums, changes, part.begin, part.end, n_heads, n_kv_heads,
                                      d_head);
    } else {
        change_heads<1, 1>(x, sums, changes, part.begin, part.end, n_heads, n_kv_heads, d_head);
    }
}

extern "C" __global__ void qkv_bias_norm_f32(float* qkv, const float* bias, const float* q_norm,
                                             const float* k_norm, float eps, int n_heads,
                                             int n_kv_heads, int d_head) {
    qkv_bias_norm(qkv, {bias, q_norm, k_norm, eps}, n_heads, n_kv_heads, d_head);
}

extern "C" __global__ void qkv_bias_norm_bf16(bf16* qkv, const float* bias, const float* q_norm,
                                              const float* k_norm, float eps, int n_heads,
                                              int n_kv_heads, int d_head) {
    qkv_bias_norm(qkv, {bias, q_norm, k_norm, eps}, n_heads, n_kv_heads, d_head);
}

// Whether a thread loads its first packs before it computes angles. Not in the CPU's solo build,
// whose one thread runs plain loops.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr bool LOADS_AHEAD = true;
#else
constexpr bool LOADS_AHEAD = false;
#endif

// Where tokens go in the cache, and by which angles their heads turn.
struct RopeRows {
    int count;             // of the block's rows, ROWS or, in the last block, less
    const int* positions;  // [count]
    const int* sequence;   // [count]
    const int* page_table;
    int pages_per_sequence;
    const float* inverse_frequencies;
};

// A row's floats among the angles of a block: one more than it has, so that neighbouring rows lie in
// neighbouring banks.
template <int ROWS>
__device__ __forceinline__ int angles_stride(int pairs) {
    return ROWS == 1 ? pairs : pairs + 1;
}

// The heads [begin, end) of a thread's row, x [(H + 2 * KV) * d_head] or null if it has none, in packs
// of N pairs; `own` is which of the block's rows it is.
// `shared` has room for the cosines and sines of the block's rows, [2][ROWS][angles_stride].
template <int N, int ROWS, typename T>
__device__ __forceinline__ void rope_heads(T* x, int own, float* shared, const RopeRows rows,
                                           T* k_cache, T* v_cache, int begin, int end, int n_heads,
                                           int n_kv_heads, int d_head) {
    const HeadThreads<N, ROWS> threads(d_head);
    const int pairs = threads.pairs, lanes = threads.lanes, heads_at_once = threads.at_once;
    const int first = threads.first, of_block = threads.of_block;
    const bool works = of_block < heads_at_once && begin + of_block < end && x != nullptr;
    // In this order, since a thread waits where it uses what it loads: the packs, which need
    // nothing, then what the page's number needs, whose own load is under way while angles are made.
    Pack<T, N> a, b;
    if (LOADS_AHEAD && works) {
        const T* pair = x + (long long)(begin + of_block) * d_head + first;
        a.load(pair);
        b.load(pair + pairs);
    }
    const int row = x == nullptr ? 0 : own;
    const int position = rows.positions[row];
    const long long token =
        page_offset(rows.page_table, rows.pages_per_sequence, rows.sequence[row], position, 0,
                    n_kv_heads, d_head);
    const int stride = angles_stride<ROWS>(pairs);
    float* cosines = shared;
    float* sines = shared + ROWS * stride;
    for (int i = threadIdx.x; i < pairs * rows.count; i += blockDim.x) {
        const int of_row = ROWS == 1 ? 0 : i / pairs, pair = i - of_row * pairs;
        const int at = of_row * stride + pair;
        const float angle = (float)(ROWS == 1 ? position : rows.positions[of_row]) *
                            rows.inverse_frequencies[pair];
        sincosf(angle, sines + at, cosines + at);
    }
    __syncthreads();
    if (!works) return;
    cosines += row * stride;
    sines += row * stride;
    T* k_page = k_cache + token + position % PAGE;
    T* v_page = v_cache + token + (long long)(position % PAGE) * d_head;
    bool loaded = LOADS_AHEAD;
    for (int head = begin + of_block; head < end; head += heads_at_once) {
        T* pair = x + (long long)head * d_head;
        const bool rotates = head < n_heads + n_kv_heads;
        T* k = head < n_heads || !rotates ? nullptr
                                          : k_page + (long long)(head - n_heads) * d_head * PAGE;
        T* v = rotates ? nullptr
                       : v_page + (long long)(head - n_heads - n_kv_heads) * d_head * PAGE;
        for (int i = first; i < pairs; i += lanes * N) {
            if (!loaded) {
                a.load(pair + i);
                b.load(pair + pairs + i);
            }
            loaded = false;
            if (rotates) {
                UNROLL_ALL
                for (int j = 0; j < N; j++) {
                    const Rotated to(to_float(a.at[j]), to_float(b.at[j]), cosines[i + j],
                                     sines[i + j]);
                    a.at[j] = from_float<T>(to.first);
                    b.at[j] = from_float<T>(to.second);
                }
                a.store(pair + i);
                b.store(pair + pairs + i);
            }
            if (k != nullptr) {
                UNROLL_ALL
                for (int j = 0; j < N; j++) {
                    k[(i + j) * PAGE] = a.at[j];
                    k[(pairs + i + j) * PAGE] = b.at[j];
                }
            }
            if (v != nullptr) {
                a.store(v + i);
                b.store(v + pairs + i);
            }
        }
    }
}

// Rows of a block of rope_append_rows.
constexpr int ROPE_ROWS = 8;

// Changes the heads of qkv [rows, (H + 2 * KV) * d_head] T as qkv_bias_norm does, with its bits, where
// any of its arguments is not null; then rotates q and k in place and appends k and v to the cache
// (kv_cache.cuh) at positions[row] of sequence[row]. Rotary embedding (Su et al. 2021) as
// transformers does it: elements i and i + d_head / 2 of a head turn by the angle
// position * inverse_frequencies[i], an f32 product; its cosine and sine are f32 and the result is
// rounded to T once (transformers in bf16 rounds cosine, sine and both products as well).
// PRECOND: grid (rows, parts) with any number of parts and any block size (that of qkv_bias_norm, for
// the bits of its norms): the parts of a row share
// its heads; d_head even; dynamic shared memory 4 * (d_head + blockDim.x) bytes; no two rows with the
// same position of the same sequence. rope_append_rows: grid (ceil(rows / ROPE_ROWS), parts), ROPE_ROWS
// times the threads, dynamic shared memory 4 * (ROPE_ROWS * (d_head + 2) + blockDim.x) bytes; the bits
// of its norms are those of blocks of a ROPE_ROWSth. Packs of 16 bytes where d_head / 2 is a multiple of a pack and
// qkv, v_cache, biases and gains lie at multiples of 16, else pair by pair.
// Moves rows * (2 * H + 5 * KV) * d_head * sizeof(T) bytes: k is written twice, turned in qkv as well
// as to its page; what is changed before goes through L1. Each block computes its row's angles
// once for its heads; a thread has both its packs under way meanwhile. With one block per row,
// which this was before, batch 1 took 20 rounds of 2-byte loads. The keys' stores are scattered
// (d-major pages), which is paid once per token and gained back at every read. A prompt of 2,000 tokens
// scatters two million of them, which took an H200 42 us, at 0.67 TB/s: so many rows go by
// rope_append_rows, where neighbouring threads store the keys of neighbouring rows, which lie side by
// side where these follow each other, 16 bytes for a warp's 8 rows of bf16, and no row of a warp needs
// to know that. Rows of decoding, each of another sequence, have nothing to gain by it.
template <int ROWS, typename T>
__device__ void rope_append(T* qkv, const HeadChanges changes,
                            const float* __restrict__ inverse_frequencies,
                            const int* __restrict__ positions, const int* __restrict__ sequence,
                            const int* __restrict__ page_table, int pages_per_sequence,
                            T* k_cache, T* v_cache, int n_heads, int n_kv_heads, int d_head,
                            int rows) {
    SHARED_DYNAMIC(float, shared);
    constexpr int N = HEAD_PACK<T>;
    const int row = blockIdx.x * ROWS;
    const int heads = n_heads + 2 * n_kv_heads;
    const HeadPart part(heads);
    const RopeRows its{rows - row < ROWS ? rows - row : ROWS, positions + row, sequence + row,
                       page_table, pages_per_sequence, inverse_frequencies};
    float* sums = shared + 2 * ROWS * angles_stride<ROWS>(d_head / 2);
    const bool changed = changes.bias != nullptr || changes.q_norm != nullptr;
    const bool packs = heads_in_packs(qkv, v_cache, changes, d_head);
    // The only thread of the CPU's solo build takes one row after another.
    constexpr int ROUNDS = LOADS_AHEAD ? 1 : ROWS;
    for (int round = 0; round < ROUNDS; round++) {
        const int own = round + threadIdx.x % ROWS;
        T* x = own < its.count ? qkv + (long long)(row + own) * heads * d_head : nullptr;
        if (packs) {
            if (changed) {
                change_heads<N, ROWS>(x, sums, changes, part.begin, part.end, n_heads, n_kv_heads,
                                      d_head);
            }
            rope_heads<N, ROWS>(x, own, shared, its, k_cache, v_cache, part.begin, part.end, n_heads,
                                n_kv_heads, d_head);
        } else {
            if (changed) {
                change_heads<1, ROWS>(x, sums, changes, part.begin, part.end, n_heads, n_kv_heads,
                                      d_head);
            }
            rope_heads<1, ROWS>(x, own, shared, its, k_cache, v_cache, part.begin, part.end, n_heads,
                                n_kv_heads, d_head);
        }
    }
}

extern "C" __global__ void rope_append_f32(float* qkv, const float* bias, const float* q_norm,
                                           const float* k_norm, float eps,
                                           const float* inverse_frequencies, const int* positions,
                                           const int* sequence, const int* page_table,
                                           int pages_per_sequence, float* k_cache, float* v_cache,
                                           int n_heads, int n_kv_heads, int d_head) {
    rope_append<1>(qkv, {bias, q_norm, k_norm, eps}, inverse_frequencies, positions,
                sequence, page_table, pages_per_sequence, k_cache, v_cache, n_heads, n_kv_heads, d_head,
                (int)gridDim.x);
}

extern "C" __global__ void rope_append_bf16(bf16* qkv, const float* bias, const float* q_norm,
                                            const float* k_norm, float eps,
                                            const float* inverse_frequencies, const int* positions,
                                            const int* sequence, const int* page_table,
                                            int pages_per_sequence, bf16* k_cache, bf16* v_cache,
                                            int n_heads, int n_kv_heads, int d_head) {
    rope_append<1>(qkv, {bias, q_norm, k_norm, eps}, inverse_frequencies, positions,
                sequence, page_table, pages_per_sequence, k_cache, v_cache, n_heads, n_kv_heads, d_head,
                (int)gridDim.x);
}

extern "C" __global__ void __launch_bounds__(512)
    rope_append_rows_f32(float* qkv, const float* bias, const float* q_norm, const float* k_norm,
                         float eps, const float* inverse_frequencies, const int* positions,
                         const int* sequence, const int* page_table, int pages_per_sequence,
                         float* k_cache, float* v_cache, int n_heads, int n_kv_heads, int d_head,
                         int rows) {
    rope_append<ROPE_ROWS>(qkv, {bias, q_norm, k_norm, eps}, inverse_frequencies, positions,
                sequence, page_table, pages_per_sequence, k_cache, v_cache, n_heads, n_kv_heads, d_head,
                rows);
}

extern "C" __global__ void __launch_bounds__(512, 2)
    rope_append_rows_bf16(bf16* qkv, const float* bias, const float* q_norm, const float* k_norm,
                          float eps, const float* inverse_frequencies, const int* positions,
                          const int* sequence, const int* page_table, int pages_per_sequence,
                          bf16* k_cache, bf16* v_cache, int n_heads, int n_kv_heads, int d_head,
                          int rows) {
    rope_append<ROPE_ROWS>(qkv, {bias, q_norm, k_norm, eps}, inverse_frequencies, positions,
                sequence, page_table, pages_per_sequence, k_cache, v_cache, n_heads, n_kv_heads, d_head,
                rows);
}
