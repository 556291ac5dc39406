// Who attends to whom: the softmax pattern of chosen heads.
#include "attention.cuh"
#include "reduce.cuh"

// out[0, keys) = scale * q . k of one query row and head with every key of its sequence; -inf where
// the row does not see the key. q [d_head] is in shared memory; `keys` are keys of the cache's
// pages from position 0 on. Ends with a barrier.
template <typename T>
__device__ void score_row(float* out, int keys, const float* q,
                          const T* __restrict__ k_cache, const int* page_table,
                          int pages_per_sequence, int sequence, int position, int kv_head,
                          int n_kv_heads, int d_head, float scale, int window) {
    for (int page = 0; page < keys; page += PAGE) {
        const Visible seen = visible_places(position, page, window);
        const int end = keys - page < PAGE ? keys - page : PAGE;
        if (seen.begin >= seen.end) {
            for (int i = threadIdx.x; i < end; i += blockDim.x) out[page + i] = -INFINITY;
            continue;
        }
        const T* at = k_cache + page_offset(page_table, pages_per_sequence, sequence, page,
                                            kv_head, n_kv_heads, d_head);
        for (int i = threadIdx.x * COLUMNS; i < end; i += blockDim.x * COLUMNS) {
            float sums[1][COLUMNS];
            dot_keys(sums, q, at + i, d_head);
            for (int c = 0; c < COLUMNS && i + c < end; c++) {
                const bool sees = i + c >= seen.begin && i + c < seen.end;
                out[page + i + c] = sees ? sums[0][c] * scale : -INFINITY;
            }
        }
    }
    __syncthreads();
}

// out [listed heads, n_rows, max_keys] f32 of the rows [first_row, first_row + n_rows) of qkv
// [rows, (H + 2 * KV) * d_head] T, rotated, which are the positions from first_position on of one
// sequence whose keys are in the cache (kv_cache.cuh). heads [grid.y] are query heads. 0 where
// the row does not see the key; window as in attention.cu. Site: hook_pattern.
// PRECOND: grid (n_rows, listed heads), any block size; dynamic shared memory 4 * d_head bytes;
// max_keys at least first_position + n_rows.
// Moves, per row and head, its visible keys and 4 * max_keys bytes of `out` up to five times. One
// block per row and head: for reading a model, not on the path of generation. The sum's order
// depends on the block size.
template <typename T>
__device__ void attention_pattern(float* out, const T* __restrict__ qkv,
                                  const T* __restrict__ k_cache,
                                  const int* __restrict__ page_table, int pages_per_sequence,
                                  const int* __restrict__ heads, int first_row, int n_rows,
                                  int sequence, int first_position, int max_keys, int n_heads,
                                  int n_kv_heads, int d_head, float scale, int window) {
    SHARED_DYNAMIC(float, q);
    const int row = blockIdx.x;
    const int head = heads[blockIdx.y];
    const int kv_head = head / (n_heads / n_kv_heads);
    const T* from = qkv + (long long)(first_row + row) * (n_heads + 2 * n_kv_heads) * d_head +
                    (long long)head * d_head;
    for (int d = threadIdx.x; d < d_head; d += blockDim.x) q[d] = to_float(from[d]);
    __syncthreads();
    const int position = first_position + row;
    float* to = out + ((long long)blockIdx.y * n_rows + row) * max_keys;
    score_row(to, position + 1, q, k_cache, page_table, pages_per_sequence, sequence, position,
              kv_head, n_kv_heads, d_head, scale, window);
    for (int i = position + 1 + threadIdx.x; i < max_keys; i += blockDim.x) to[i] = 0;
    float top = -INFINITY;
    for (int i = threadIdx.x; i <= position; i += blockDim.x) top = to[i] > top ? to[i] : top;
    top = block_max(top);
    float sum = 0;
    for (int i = threadIdx.x; i <= position; i += blockDim.x) {
        to[i] = fast_exp(to[i] - top);
        sum += to[i];
    }
    sum = block_sum(sum);
    for (int i = threadIdx.x; i <= position; i += blockDim.x) to[i] /= sum;
}

extern "C" __global__ void attention_pattern_f32(float* out, const float* qkv,
                                                 const float* k_cache, const int* page_table,
                                                 int pages_per_sequence, const int* heads,
                                                 int first_row, int n_rows, int sequence,
                                                 int first_position, int max_keys, int n_heads,
                                                 int n_kv_heads, int d_head, float scale,
                                                 int window) {
    attention_pattern(out, qkv, k_cache, page_table, pages_per_sequence, heads, first_row, n_rows,
                      sequence, first_position, max_keys, n_heads, n_kv_heads, d_head, scale,
                      window);
}

extern "C" __global__ void attention_pattern_bf16(float* out, const bf16* qkv, const bf16* k_cache,
                                                  const int* page_table, int pages_per_sequence,
                                                  const int* heads, int first_row, int n_rows,
                                                  int sequence, int first_position, int max_keys,
                                                  int n_heads, int n_kv_heads, int d_head,
                                                  float scale, int window) {
    attention_pattern(out, qkv, k_cache, page_table, pages_per_sequence, heads, first_row, n_rows,
                      sequence, first_position, max_keys, n_heads, n_kv_heads, d_head, scale,
                      window);
}
