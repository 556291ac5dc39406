// The k largest logits of each row and the log-sum-exp of all of them, in one pass.
#include "fast_math.cuh"
#include "reduce.cuh"

// Whether (value, id) comes before (other, other_id): larger value first, then lower id.
__device__ __forceinline__ bool comes_before(float value, int id, float other, int other_id) {
    return value > other || (value == other && id < other_id);
}

// ids, values [rows, k] sorted (largest first, lowest id on ties; id -1 and -inf where a row has
// fewer than k), log_z [rows, 2] = {maximum m, sum of exp(logit - m)} of sign * logits. A
// vocabulary may come in tiles: `first_id` is the id of column 0, and with fresh = 0 the call goes
// on from what ids, values and log_z hold. logits [rows, n] f32 with row stride `stride`.
// PRECOND: one block per row (grid.x = rows), any block size; 1 <= k <= 64. NaN logits are skipped
// by the selection and make the sum NaN; logits of -inf count as absent.
// Moves rows * n * 4 bytes. The row is walked in pieces of 1,024 logits; a piece whose maximum does
// not beat the k-th best so far costs one reduction, which is nearly all of them.
extern "C" __global__ void top_tokens(int* __restrict__ ids, float* __restrict__ values,
                                      float* __restrict__ log_z, const float* __restrict__ logits,
                                      long long stride, int n, int first_id, int k, float sign,
                                      int fresh) {
    const int piece = 1024;
    const int row = blockIdx.x;
    const float* x = logits + row * stride;
    int* best_ids = ids + (long long)row * k;
    float* best = values + (long long)row * k;
    if (fresh) {
        for (int i = threadIdx.x; i < k; i += blockDim.x) {
            best_ids[i] = -1;
            best[i] = -INFINITY;
        }
    }
    __syncthreads();
    float m = fresh ? -INFINITY : log_z[2 * row];
    float sum = fresh ? 0.0f : log_z[2 * row + 1];
    for (int begin = 0; begin < n; begin += piece) {
        const int end = begin + piece < n ? begin + piece : n;
        float top = -INFINITY;
        for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
            const float value = sign * x[i];
            top = value > top ? value : top;
        }
        top = block_max(top);
        if (top > m) {
            sum *= fast_exp(m - top);
            m = top;
        }
        const float shift = m > -INFINITY ? m : 0.0f;  // -inf less -inf would be NaN
        float part = 0;
        for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
            part += fast_exp(sign * x[i] - shift);
        }
        sum += block_sum(part);

        // Take the piece's logits in order for as long as they enter the list.
        float last = INFINITY;
        int last_id = -1;
        while (top > -INFINITY) {
            int id = 0x7fffffff;
            for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
                const bool fits = sign * x[i] == top && (top < last || first_id + i > last_id);
                id = fits && first_id + i < id ? first_id + i : id;
            }
            id = block_min(id);
            if (id == 0x7fffffff || !comes_before(top, id, best[k - 1], best_ids[k - 1])) break;
            __syncthreads();  // all have read the last place
            if (threadIdx.x == 0) {
                int at = k - 1;
                for (; at > 0 && comes_before(top, id, best[at - 1], best_ids[at - 1]); at--) {
                    best[at] = best[at - 1];
                    best_ids[at] = best_ids[at - 1];
                }
                best[at] = top;
                best_ids[at] = id;
            }
            __syncthreads();
            last = top;
            last_id = id;
            float next = -INFINITY;
            for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
                const float value = sign * x[i];
                const bool left = comes_before(last, last_id, value, first_id + i);
                next = left && value > next ? value : next;
            }
            top = block_max(next);
        }
    }
    if (threadIdx.x == 0) {
        log_z[2 * row] = m;
        log_z[2 * row + 1] = sum;
    }
}
