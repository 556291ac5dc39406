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
// Moves rows * (H + 2 * KV) * d_head * 2 * sizeof(T) bytes. One block per head, whose d_head
// elements are its unit of reduction; launched only for models that have biases or norms.
template <typename T>
__device__ void qkv_bias_norm(T* __restrict__ qkv, const float* __restrict__ bias,
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

// Rotates q and k of qkv [rows, (H + 2 * KV) * d_head] T in place and appends k and v to the cache
// (kv_cache.cuh) at positions[row] of sequence[row]. Rotary embedding (Su et al. 2021) as
// transformers does it: elements i and i + d_head / 2 of a head turn by the angle
// position * inverse_frequencies[i], an f32 product; its cosine and sine are f32 and the result is
// rounded to T once (transformers in bf16 rounds cosine, sine and both products as well).
// PRECOND: one block per row (grid.x = rows), any block size; d_head even; dynamic shared memory
// 4 * d_head bytes; no two rows with the same position of the same sequence.
// Moves rows * (2 * H + 5 * KV) * d_head * sizeof(T) bytes. One block per row, so that its angles
// are computed once for all heads; the keys' stores are scattered (d-major pages), which is paid
// once per token and gained back at every read.
template <typename T>
__device__ void rope_append(T* __restrict__ qkv, const float* __restrict__ inverse_frequencies,
                            const int* __restrict__ positions, const int* __restrict__ sequence,
                            const int* __restrict__ page_table, int pages_per_sequence,
                            T* __restrict__ k_cache, T* __restrict__ v_cache, int n_heads,
                            int n_kv_heads, int d_head) {
    SHARED_DYNAMIC(float, shared);
    const int row = blockIdx.x;
    const int position = positions[row];
    const int pairs = d_head / 2;
    float* cosines = shared;
    float* sines = shared + pairs;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float angle = (float)position * inverse_frequencies[i];
        cosines[i] = cosf(angle);
        sines[i] = sinf(angle);
    }
    __syncthreads();
    T* x = qkv + (long long)row * (n_heads + 2 * n_kv_heads) * d_head;
    for (int j = threadIdx.x; j < (n_heads + n_kv_heads) * pairs; j += blockDim.x) {
        const int i = j % pairs;
        T* pair = x + j / pairs * d_head + i;
        const float a = to_float(pair[0]), b = to_float(pair[pairs]);
        pair[0] = from_float<T>(a * cosines[i] - b * sines[i]);
        pair[pairs] = from_float<T>(b * cosines[i] + a * sines[i]);
    }
    __syncthreads();
    const int place = position % PAGE;
    const long long page = page_offset(page_table, pages_per_sequence, sequence[row], position, 0,
                                       n_kv_heads, d_head);
    const T* k = x + n_heads * d_head;
    const T* v = k + n_kv_heads * d_head;
    for (int j = threadIdx.x; j < n_kv_heads * d_head; j += blockDim.x) {
        k_cache[page + (long long)j * PAGE + place] = k[j];
        const int head = j / d_head;
        v_cache[page + ((long long)head * PAGE + place) * d_head + j % d_head] = v[j];
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
