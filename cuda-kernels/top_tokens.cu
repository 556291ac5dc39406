// The best entries of each row of a product and the log-sum-exp of all of them, in one pass.
#include "fast_math.cuh"
#include "reduce.cuh"

// dev.halter.device.Top.Sign: which entries are good. BOTH keeps two lists, of x and of -x.
enum TopSign { TOP_PLUS = 0, TOP_MINUS = 1, TOP_BOTH = 2, TOP_ABSOLUTE = 3 };

// Values are ordered by this, larger first.
template <bool ABSOLUTE>
__device__ __forceinline__ float rank_of(float value) {
    return ABSOLUTE ? fabsf(value) : value;
}

// Whether (rank, id) comes before (other, other_id): larger rank first, then lower id.
__device__ __forceinline__ bool comes_before(float rank, int id, float other, int other_id) {
    return rank > other || (rank == other && id < other_id);
}

// The rank of a list's entry `at`; below all others where there is none yet.
template <bool ABSOLUTE>
__device__ __forceinline__ float rank_at(const int* ids, const float* values, int at) {
    return ids[at] < 0 ? -INFINITY : rank_of<ABSOLUTE>(values[at]);
}

// Takes entries x[begin, end) times `factor`, which have ids from first_id on, into a row's list of
// the k best and, if log_sum is not null, into {m, sum}.
template <bool ABSOLUTE>
__device__ void take_piece(int* ids, float* values, float& m, float& sum, bool sums,
                           const float* __restrict__ x, int begin, int end, int first_id, int k,
                           float factor) {
    float top = -INFINITY;
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const float rank = rank_of<ABSOLUTE>(factor * x[i]);
        top = rank > top ? rank : top;
    }
    top = block_max(top);
    if (sums) {
        if (top > m) {
            sum *= fast_exp(m - top);
            m = top;
        }
        const float shift = m > -INFINITY ? m : 0.0f;  // -inf less -inf would be NaN
        float part = 0;
        for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
            part += fast_exp(factor * x[i] - shift);
        }
        sum += block_sum(part);
    }

    // Take the piece's entries in order for as long as they enter the list.
    float last = INFINITY;
    int last_id = -1;
    while (top > -INFINITY) {
        int id = 0x7fffffff;
        for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
            const float rank = rank_of<ABSOLUTE>(factor * x[i]);
            const bool fits = rank == top && (top < last || first_id + i > last_id);
            id = fits && first_id + i < id ? first_id + i : id;
        }
        id = block_min(id);
        if (id == 0x7fffffff) break;
        if (!comes_before(top, id, rank_at<ABSOLUTE>(ids, values, k - 1), ids[k - 1])) break;
        __syncthreads();  // all have read the last place
        if (threadIdx.x == 0) {
            int at = k - 1;
            for (; at > 0; at--) {
                const float other = rank_at<ABSOLUTE>(ids, values, at - 1);
                if (!comes_before(top, id, other, ids[at - 1])) break;
                values[at] = values[at - 1];
                ids[at] = ids[at - 1];
            }
            values[at] = factor * x[id - first_id];
            ids[at] = id;
        }
        __syncthreads();
        last = top;
        last_id = id;
        float next = -INFINITY;
        for (int i = begin + threadIdx.x; i < end; i += blockDim.x) {
            const float rank = rank_of<ABSOLUTE>(factor * x[i]);
            const bool left = comes_before(last, last_id, rank, first_id + i);
            next = left && rank > next ? rank : next;
        }
        top = block_max(next);
    }
}

// ids, values [rows, S, k], S = 2 for TOP_BOTH and else 1, sorted (best first, lowest id on ties; id
// -1 and -inf where a row has fewer than k), log_sum [rows, S, 2] = {maximum m, sum of
// exp(entry - m)}, or null. A row may come in tiles: `first_id` is the id of column 0, and with
// fresh = 0 the call goes on from what ids, values and log_sum hold. x [rows, n] f32 with row stride
// `stride`.
// PRECOND: one block per row (grid.x = rows), any block size; 1 <= k <= 64; log_sum is null for
// TOP_ABSOLUTE. NaN entries are skipped by the selection and make the sum NaN; entries of -inf
// (times the list's sign) count as absent.
// Moves rows * n * 4 bytes. The row is walked in pieces of 1,024 entries; a piece whose best does not
// beat the k-th best so far costs one reduction, which is nearly all of them; the second list of
// TOP_BOTH finds the piece in the first-level cache. Tiles of whole pieces leave the sums' bits alone.
extern "C" __global__ void top_tokens(int* ids, float* values, float* log_sum,
                                      const float* __restrict__ x, long long stride, int n,
                                      int first_id, int k, int sign, int fresh) {
    const int piece = 1024;
    const int lists = sign == TOP_BOTH ? 2 : 1;
    const long long list = (long long)blockIdx.x * lists;
    ids += list * k;
    values += list * k;
    if (fresh) {
        for (int i = threadIdx.x; i < lists * k; i += blockDim.x) {
            ids[i] = -1;
            values[i] = -INFINITY;
        }
    }
    __syncthreads();
    const bool sums = log_sum != nullptr;
    float m[2] = {-INFINITY, -INFINITY};
    float sum[2] = {};
    if (sums && !fresh) {
        for (int s = 0; s < lists; s++) {
            m[s] = log_sum[2 * (list + s)];
            sum[s] = log_sum[2 * (list + s) + 1];
        }
    }
    x += blockIdx.x * stride;
    for (int begin = 0; begin < n; begin += piece) {
        const int end = begin + piece < n ? begin + piece : n;
        if (sign == TOP_ABSOLUTE) {
            take_piece<true>(ids, values, m[0], sum[0], false, x, begin, end, first_id, k, 1.0f);
            continue;
        }
        for (int s = 0; s < lists; s++) {
            const float factor = sign == TOP_MINUS || s == 1 ? -1.0f : 1.0f;
            take_piece<false>(ids + s * k, values + s * k, m[s], sum[s], sums, x, begin, end,
                              first_id, k, factor);
        }
    }
    if (sums && threadIdx.x == 0) {
        for (int s = 0; s < lists; s++) {
            log_sum[2 * (list + s)] = m[s];
            log_sum[2 * (list + s) + 1] = sum[s];
        }
    }
}
