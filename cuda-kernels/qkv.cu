// Between the q, k, v product and attention: biases and per-head norms, then rotary embedding and
// the append to the cache.
#include "kv_cache.cuh"
#include "reduce.cuh"
#include "types.cuh"

// qkv [rows, (H + 2 * KV) * d_head] T in place, heads in the order q, k, v: plus bias (null: none),
// then, where q_norm and k_norm [d_head] are not null, RMSNorm over each q and k head by itself
// (Qwen3). The rounding is transformers': to T after the bias, after the division, and after the
// product with the weight.
// PRECOND: grid (rows, H + 2 * KV), any block size.
// Moves rows * (H + 2 * KV) * d_head * 2 * sizeof(T) bytes; without a bias KV for 2 * KV, as v has no
// norm. One block per head, whose d_head elements are its unit of reduction; launched only for models that have biases or norms.
template <typename T>
__device__ void qkv_bias_norm(T* qkv, const float* __restrict__ bias,
                              const float* __restrict__ q_norm, const float* __restrict__ k_norm,
                              float eps, int n_heads, int n_kv_heads, int d_head) {
    const int head = blockIdx.y;
    T* x = qkv + ((long long)blockIdx.x * (n_heads + 2 * n_kv_heads) + head) * d_head;
    if (bias != nullptr) {
        const float* b = bias + head * d_head;
        for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
            x[d] = from_float<T>(to_float(x[d]) + b[d]);
        }
    }
    if (head >= n_heads + n_kv_heads) return;  // v has no norm
    const float* weight = head < n_heads ? q_norm : k_norm;
    if (weight == nullptr) return;
    float squares = 0;
    for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
        squares += to_float(x[d]) * to_float(x[d]);
    }
    const float inverse = 1.0f / sqrtf(block_sum(squares) / d_head + eps);
    for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
        x[d] = from_float<T>(weight[d] * to_float(from_float<T>(to_float(x[d]) * inverse)));
    }
}

extern "C" __global__ void qkv_bias_norm_f32(float* qkv, const float* bias, const float* q_norm,
                                             const float* k_norm, float eps, int n_heads,
                                             int n_kv_heads, int d_head) {
    qkv_bias_norm(qkv, bias, q_norm, k_norm, eps, n_heads, n_kv_heads, d_head);
}

extern "C" __global__ void qkv_bias_norm_bf16(bf16* qkv, const float* bias, const float* q_norm,
                                              const float* k_norm, float eps, int n_heads,
                                              int n_kv_heads, int d_head) {
    qkv_bias_norm(qkv, bias, q_norm, k_norm, eps, n_heads, n_kv_heads, d_head);
}

// Whether a thread loads its first packs before it computes angles. Not in the CPU's solo build,
// whose one thread runs plain loops.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr bool LOADS_AHEAD = true;
#else
constexpr bool LOADS_AHEAD = false;
#endif

// Where a row's token goes in the cache, and by which angles its heads turn.
struct RopeRow {
    const int* position;
    const int* sequence;
    const int* page_table;
    int pages_per_sequence;
    const float* inverse_frequencies;
};

// The heads [begin, end) of one row, x [(H + 2 * KV) * d_head], in packs of N pairs. `shared` has
// room for the cosines and sines of the row, [2][d_head / 2].
template <int N, typename T>
__device__ __forceinline__ void rope_heads(T* x, float* shared, const RopeRow row, T* k_cache,
                                           T* v_cache, int begin, int end, int n_heads,
                                           int n_kv_heads, int d_head) {
    const int pairs = d_head / 2;
    const int packs = pairs / N;
    // Each head is worked on by as many threads as it has packs of pairs, if the block has so many.
    const int lanes = (int)blockDim.x < packs ? (int)blockDim.x : packs;
    const int heads_at_once = blockDim.x / lanes;
    const int first = threadIdx.x % lanes * N;
    const int of_block = threadIdx.x / lanes;
    const bool works = of_block < heads_at_once && begin + of_block < end;
    // In this order, since a thread waits where it uses what it loads: the packs, which need
    // nothing, then what the page's number needs, whose own load is under way while angles are made.
    Pack<T, N> a, b;
    if (LOADS_AHEAD && works) {
        const T* pair = x + (long long)(begin + of_block) * d_head + first;
        a.load(pair);
        b.load(pair + pairs);
    }
    const int position = *row.position;
    const long long token =
        page_offset(row.page_table, row.pages_per_sequence, *row.sequence, position, 0, n_kv_heads,
                    d_head);
    float* cosines = shared;
    float* sines = shared + pairs;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float angle = (float)position * row.inverse_frequencies[i];
        cosines[i] = cosf(angle);
        sines[i] = sinf(angle);
    }
    __syncthreads();
    if (!works) return;
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
                    const float from = to_float(a.at[j]), to = to_float(b.at[j]);
                    const float cosine = cosines[i + j], sine = sines[i + j];
                    a.at[j] = from_float<T>(from * cosine - to * sine);
                    b.at[j] = from_float<T>(to * cosine + from * sine);
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

// Rotates q and k of qkv [rows, (H + 2 * KV) * d_head] T in place and appends k and v to the cache
// (kv_cache.cuh) at positions[row] of sequence[row]. Rotary embedding (Su et al. 2021) as
// transformers does it: elements i and i + d_head / 2 of a head turn by the angle
// position * inverse_frequencies[i], an f32 product; its cosine and sine are f32 and the result is
// rounded to T once (transformers in bf16 rounds cosine, sine and both products as well).
// PRECOND: grid (rows, parts) with any number of parts and any block size: the parts of a row share
// its heads; d_head even; dynamic shared memory 4 * d_head bytes; no two rows with the same position
// of the same sequence. Packs of 16 bytes where d_head / 2 is a multiple of a pack and qkv and
// v_cache of 16, else pair by pair.
// Moves rows * (2 * H + 5 * KV) * d_head * sizeof(T) bytes: k is written twice, turned in qkv as well
// as to its page. Each block computes its row's angles
// once for its heads; a thread has both its packs under way meanwhile. With one block per row,
// which this was before, batch 1 took 20 rounds of 2-byte loads. The keys' stores are scattered
// (d-major pages), which is paid once per token and gained back at every read.
template <typename T>
__device__ void rope_append(T* qkv, const float* __restrict__ inverse_frequencies,
                            const int* __restrict__ positions, const int* __restrict__ sequence,
                            const int* __restrict__ page_table, int pages_per_sequence,
                            T* k_cache, T* v_cache, int n_heads, int n_kv_heads, int d_head) {
    SHARED_DYNAMIC(float, shared);
    constexpr int N = PACK<T>;
    const int row = blockIdx.x;
    const int heads = n_heads + 2 * n_kv_heads;
    const int part = (heads + gridDim.y - 1) / gridDim.y;
    const int begin = blockIdx.y * part;
    const int end = begin + part < heads ? begin + part : heads;
    const RopeRow its{positions + row, sequence + row, page_table, pages_per_sequence,
                      inverse_frequencies};
    T* x = qkv + (long long)row * heads * d_head;
    if (d_head / 2 % N == 0 && aligned(qkv, v_cache)) {
        rope_heads<N>(x, shared, its, k_cache, v_cache, begin, end, n_heads, n_kv_heads, d_head);
    } else {
        rope_heads<1>(x, shared, its, k_cache, v_cache, begin, end, n_heads, n_kv_heads, d_head);
    }
}

extern "C" __global__ void rope_append_f32(float* qkv, const float* inverse_frequencies,
                                           const int* positions, const int* sequence,
                                           const int* page_table, int pages_per_sequence,
                                           float* k_cache, float* v_cache, int n_heads,
                                           int n_kv_heads, int d_head) {
    rope_append(qkv, inverse_frequencies, positions, sequence, page_table, pages_per_sequence,
                k_cache, v_cache, n_heads, n_kv_heads, d_head);
}

extern "C" __global__ void rope_append_bf16(bf16* qkv, const float* inverse_frequencies,
                                            const int* positions, const int* sequence,
                                            const int* page_table, int pages_per_sequence,
                                            bf16* k_cache, bf16* v_cache, int n_heads,
                                            int n_kv_heads, int d_head) {
    rope_append(qkv, inverse_frequencies, positions, sequence, page_table, pages_per_sequence,
                k_cache, v_cache, n_heads, n_kv_heads, d_head);
}
