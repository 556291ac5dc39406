// z = softmax(scale * q k^T) v: causal attention over the paged cache, prefill and decode alike.
#include "attention.cuh"
#include "steer.cuh"

// Rows of work held at once: a tile's rows times the query heads that share its KV head.
constexpr int PACKED = 16;

// Partial maxima and sums of a row of scores: lane l has the keys at places l, l + LANES, ...
constexpr int LANES = 16;
constexpr int LANE_COLUMNS = COLUMNS < LANES ? COLUMNS : LANES;

__device__ __forceinline__ float larger(float a, float b) { return b > a ? b : a; }

// The maximum and the sum of LANES numbers, always in the same order.
__device__ __forceinline__ float fold_max(const float* lanes) {
    float part[LANES / 2];
    for (int i = 0; i < LANES / 2; i++) part[i] = larger(lanes[i], lanes[i + LANES / 2]);
    for (int i = 0; i < LANES / 4; i++) part[i] = larger(part[i], part[i + LANES / 4]);
    return larger(larger(part[0], part[2]), larger(part[1], part[3]));
}

__device__ __forceinline__ float fold_sum(const float* lanes) {
    float part[LANES / 2];
    for (int i = 0; i < LANES / 2; i++) part[i] = lanes[i] + lanes[i + LANES / 2];
    for (int i = 0; i < LANES / 4; i++) part[i] = part[i] + part[i + LANES / 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
}

// scores[n][PAGE] of the first n <= N rows at COLUMNS keys from `place` on; -inf where a row does
// not see the key.
template <int N, typename T>
__device__ void score_keys(int n, float* scores, const float* __restrict__ q,
                           const T* __restrict__ keys, int d_head, float scale,
                           const int* positions, int page_position, int window, int place) {
    if constexpr (N > 1) {
        if (n < N) {
            score_keys<N - 1>(n, scores, q, keys, d_head, scale, positions, page_position, window,
                              place);
            return;
        }
    }
    float sums[N][COLUMNS];
    dot_keys(sums, q, keys + place, d_head);
    UNROLL
    for (int r = 0; r < N; r++) {
        const Visible seen = visible_places(positions[r], page_position, window);
        for (int c = 0; c < COLUMNS; c++) {
            const bool sees = place + c >= seen.begin && place + c < seen.end;
            scores[r * PAGE + place + c] = sees ? sums[r][c] * scale : -INFINITY;
        }
    }
}

// sums[n][d_head] = sums * corrections + weights[n][PAGE] . values for the first n <= N rows at
// WIDTH elements of the head, over the visible places and no others: what lies elsewhere may be
// NaN.
template <int N, int WIDTH, typename T>
__device__ void add_values(int n, float* sums, const float* __restrict__ corrections,
                           const float* __restrict__ weights, const T* __restrict__ values,
                           int d_head, const Visible visible) {
    if constexpr (N > 1) {
        if (n < N) {
            add_values<N - 1, WIDTH>(n, sums, corrections, weights, values, d_head, visible);
            return;
        }
    }
    float sum[N][WIDTH];
    UNROLL
    for (int r = 0; r < N; r++) {
        for (int c = 0; c < WIDTH; c++) sum[r][c] = sums[r * d_head + c] * corrections[r];
    }
    for (int place = visible.begin; place < visible.end; place++) {
        UNROLL
        for (int r = 0; r < N; r++) {
            const float weight = weights[r * PAGE + place];
            for (int c = 0; c < WIDTH; c++) {
                sum[r][c] = fmaf(weight, to_float(values[place * d_head + c]), sum[r][c]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < N; r++) {
        for (int c = 0; c < WIDTH; c++) sums[r * d_head + c] = sum[r][c];
    }
}

// The attention of up to PACKED rows of one tile and KV head: packed row i is row i / group of the
// tile under query head i % group of the KV head. Online softmax (Milakov and Gimelshein 2018) page
// by page: sums are those for the maximum so far and shrink by exp(old - new) when it grows.
template <typename T>
struct PackedAttention {
    const T* qkv;
    const T* k_cache;
    const T* v_cache;
    const int* page_table;
    int pages_per_sequence;
    int4 tile;
    int kv_head, n_heads, n_kv_heads, d_head;
    float scale;
    int window;
    int first, rows;  // packed rows [first, first + rows)

    // Shared memory.
    float* q;            // [PACKED][d_head]
    float* sums;         // [PACKED][d_head] unnormalised z
    float* scores;       // [PACKED][PAGE], then the weights exp(score - maximum)
    float* lanes;        // [PACKED][LANES] maxima of a page
    float* totals;       // [PACKED][LANES] sums of weights over all pages so far
    float* maxima;       // [2][PACKED] over all pages: before the page and after it, by turns
    float* corrections;  // [PACKED]
    int* positions;      // [PACKED]

    __device__ int group() const { return n_heads / n_kv_heads; }
    __device__ int row(int i) const { return tile.x + (first + i) / group(); }
    __device__ int head(int i) const { return kv_head * group() + (first + i) % group(); }

    __device__ void load_queries() {
        const long long width = (long long)(n_heads + 2 * n_kv_heads) * d_head;
        for (int i = 0; i < rows; i++) {
            const T* from = qkv + row(i) * width + (long long)head(i) * d_head;
            for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
                q[i * d_head + d] = to_float(from[d]);
                sums[i * d_head + d] = 0;
            }
        }
        for (int i = threadIdx.x; i < rows * LANES; i += blockDim.x) totals[i] = 0;
        for (int i = threadIdx.x; i < rows; i += blockDim.x) {
            maxima[i] = -INFINITY;
            positions[i] = tile.w + (first + i) / group();
        }
    }

    __device__ void score_page(const T* keys, int page_position) {
        const int blocks = (rows + ROWS - 1) / ROWS;
        for (int i = threadIdx.x; i < blocks * (PAGE / COLUMNS); i += blockDim.x) {
            const int r = i / (PAGE / COLUMNS) * ROWS;
            const int place = i % (PAGE / COLUMNS) * COLUMNS;
            score_keys<ROWS>(rows - r, scores + r * PAGE, q + r * d_head, keys, d_head, scale,
                             positions + r, page_position, window, place);
        }
    }

    __device__ void find_maxima() {
        for (int i = threadIdx.x; i < rows * (LANES / LANE_COLUMNS); i += blockDim.x) {
            const int r = i / (LANES / LANE_COLUMNS);
            const int lane = i % (LANES / LANE_COLUMNS) * LANE_COLUMNS;
            const float* __restrict__ s = scores + r * PAGE + lane;
            float* __restrict__ to = lanes + r * LANES + lane;
            for (int c = 0; c < LANE_COLUMNS; c++) {
                to[c] = larger(larger(s[c], s[c + LANES]),
                               larger(s[c + 2 * LANES], s[c + 3 * LANES]));
            }
        }
    }

    __device__ void weigh_page(const float* before, float* after, int page_position) {
        for (int i = threadIdx.x; i < rows * (LANES / LANE_COLUMNS); i += blockDim.x) {
            const int r = i / (LANES / LANE_COLUMNS);
            const int lane = i % (LANES / LANE_COLUMNS) * LANE_COLUMNS;
            const Visible seen = visible_places(positions[r], page_position, window);
            if (seen.begin >= seen.end) {
                if (lane == 0) {
                    after[r] = before[r];
                    corrections[r] = 1;
                }
                continue;
            }
            const float maximum = larger(before[r], fold_max(lanes + r * LANES));
            const float correction = fast_exp(before[r] - maximum);
            float* __restrict__ s = scores + r * PAGE + lane;
            float* __restrict__ total = totals + r * LANES + lane;
            for (int c = 0; c < LANE_COLUMNS; c++) {
                const float w0 = fast_exp(s[c] - maximum);
                const float w1 = fast_exp(s[c + LANES] - maximum);
                const float w2 = fast_exp(s[c + 2 * LANES] - maximum);
                const float w3 = fast_exp(s[c + 3 * LANES] - maximum);
                s[c] = w0;
                s[c + LANES] = w1;
                s[c + 2 * LANES] = w2;
                s[c + 3 * LANES] = w3;
                total[c] = fmaf(total[c], correction, (w0 + w1) + (w2 + w3));
            }
            if (lane == 0) {
                after[r] = maximum;
                corrections[r] = correction;
            }
        }
    }

    template <int WIDTH>
    __device__ void add_page(const T* values, int page_position) {
        const int spans = d_head / WIDTH;
        const int blocks = (rows + ROWS - 1) / ROWS;
        for (int i = threadIdx.x; i < blocks * spans; i += blockDim.x) {
            const int r = i / spans * ROWS;
            const int d = i % spans * WIDTH;
            const int n = rows - r < ROWS ? rows - r : ROWS;
            // Together where all see the same places, as a decode step's heads do; else one by one.
            const Visible seen = visible_places(positions[r], page_position, window);
            const Visible last = visible_places(positions[r + n - 1], page_position, window);
            if (seen.begin == last.begin && seen.end == last.end) {
                add_values<ROWS, WIDTH>(n, sums + r * d_head + d, corrections + r,
                                        scores + r * PAGE, values + d, d_head, seen);
                continue;
            }
            for (int j = r; j < r + n; j++) {
                add_values<1, WIDTH>(1, sums + j * d_head + d, corrections + j, scores + j * PAGE,
                                     values + d, d_head,
                                     visible_places(positions[j], page_position, window));
            }
        }
    }

    // Returns the maxima over all pages.
    __device__ const float* attend() {
        const int last_position = tile.w + (first + rows - 1) / group();
        const int first_position = tile.w + first / group();
        const int first_key = window == 0 || first_position < window
                                  ? 0 : first_position - window + 1;
        float* before = maxima;
        float* after = maxima + PACKED;
        const auto offset = [&](int page) {
            return page_offset(page_table, pages_per_sequence, tile.z, page, kv_head, n_kv_heads,
                               d_head);
        };
        const int first_page = first_key / PAGE * PAGE;
        ask_for(k_cache + offset(first_page), PAGE * d_head);
        for (int page = first_page; page <= last_position; page += PAGE) {
            const long long at = offset(page);
            ask_for(v_cache + at, visible_places(last_position, page, window).end * d_head);
            if (page + PAGE <= last_position) {
                ask_for(k_cache + offset(page + PAGE), PAGE * d_head);
            }
            score_page(k_cache + at, page);
            __syncthreads();
            find_maxima();
            __syncthreads();
            weigh_page(before, after, page);
            __syncthreads();
            if (d_head % COLUMNS == 0) {
                add_page<COLUMNS>(v_cache + at, page);
            } else if (d_head % LANE_COLUMNS == 0) {
                add_page<LANE_COLUMNS>(v_cache + at, page);
            } else {
                add_page<1>(v_cache + at, page);
            }
            __syncthreads();
            float* swap = before;
            before = after;
            after = swap;
        }
        return before;
    }

    // to = A from + b of one head (steer_map), a thread's own columns of it. Sums run over from in
    // order; the map is read once.
    __device__ void apply_map(float* to, const float* __restrict__ from,
                              const float* __restrict__ map) {
        const float* b = map + (long long)d_head * d_head;
        for (int d = threadIdx.x * COLUMNS; d < d_head; d += blockDim.x * COLUMNS) {
            float sums[COLUMNS];
            const int columns = d_head - d < COLUMNS ? d_head - d : COLUMNS;
            for (int c = 0; c < COLUMNS; c++) sums[c] = c < columns ? b[d + c] : 0;
            for (int e = 0; e < d_head; e++) {
                const float factor = from[e];
                const float* column = map + (long long)e * d_head + d;
                for (int c = 0; c < columns; c++) sums[c] = fmaf(factor, column[c], sums[c]);
            }
            for (int c = 0; c < columns; c++) to[d + c] = sums[c];
        }
    }

    // Stores the log-sum-exps, then divides by the sum of weights, steers and stores. A head edit changes the f32 value before it
    // is rounded to T, and writes the squared norm of its change to the report of op and head.
    __device__ void store(T* z, float* log_sum, const float* all_maxima,
                          const int2* __restrict__ ranges, const Steering& steering) {
        if (log_sum != nullptr) {
            for (int i = threadIdx.x; i < rows; i += blockDim.x) {
                log_sum[(long long)row(i) * n_heads + head(i)] =
                    all_maxima[i] + logf(fold_sum(totals + i * LANES));
            }
        }
        for (int i = 0; i < rows; i++) {
            float* value = sums + i * d_head;
            const float total = fold_sum(totals + i * LANES);
            for (int d = threadIdx.x; d < d_head; d += blockDim.x) value[d] /= total;
            const int2 range = steering.range(ranges, row(i));
            for (int k = range.x; k < range.y; k++) {
                const SteerOp& op = steering.ops[k];
                const int place = steer_head(op, head(i));
                if (place < 0) continue;
                float* edited = q + i * d_head;  // the query has done its work
                if (op.kind == STEER_AFFINE) {
                    __syncthreads();  // the whole value is there
                    apply_map(edited, value, steer_map(op, place, d_head));
                    __syncthreads();  // all have read it
                } else {
                    for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
                        edited[d] = op.a * value[d];
                    }
                }
                float changed = 0;
                for (int d = threadIdx.x; d < d_head; d += blockDim.x) {
                    changed += (edited[d] - value[d]) * (edited[d] - value[d]);
                    value[d] = edited[d];
                }
                changed = block_sum(changed);
                if (threadIdx.x == 0) {
                    steering.report(row(i))[op.report + head(i)] = changed;
                }
            }
            T* to = z + ((long long)row(i) * n_heads + head(i)) * d_head;
            for (int d = threadIdx.x; d < d_head; d += blockDim.x) to[d] = from_float<T>(value[d]);
        }
    }
};

// z [rows, H * d_head] T; qkv [rows, (H + 2 * KV) * d_head] T, rotated; k_cache, v_cache and
// page_table as in kv_cache.cuh, holding the keys and values of every position up to the queries'
// own. tiles [grid.x] = {first row, number of rows, sequence, position of the first row}: rows of
// one sequence that follow one another; a decode step is a tile of one row. With window > 0 a query
// sees a key iff query - key < window, and pages outside are not read. Site: hook_z; STEER_HEADS
// scales the listed heads, STEER_AFFINE maps them (4 * d_head * (d_head + 1) bytes more for each
// edited row and head). Scores, softmax and sums are f32. log_sum [rows, H] f32, or null where nobody
// wants it: the logarithm of the sum of exp(score) over the keys that the row sees, from which a backward
// pass makes the softmax again; an edit of the head does not change it.
// A row's bits do not depend on the other rows of its tile, on the tile's size or on the block:
// each sum runs over keys in order, one partial sum per lane of the page. Only what is written to
// The report is summed in an order that depends on the block size.
// PRECOND: grid (tiles, KV), any block size; d_head even and at most 256, H a multiple of KV;
// dynamic shared memory 64 * (2 * d_head + 100) bytes.
// Moves, per tile and KV head, its pages of visible keys and the visible values once for every PACKED
// rows, and each row's queries, z and log-sum-exps: query heads that share a KV head are worked on together, so decoding reads the cache once. One
// block per tile and KV head: a GPU is full from a few hundred of them on.
template <typename T>
__device__ void attention(T* z, float* log_sum, const T* __restrict__ qkv,
                          const T* __restrict__ k_cache,
                          const T* __restrict__ v_cache, const int* __restrict__ page_table,
                          int pages_per_sequence, const int4* __restrict__ tiles, int n_heads,
                          int n_kv_heads, int d_head, float scale, int window,
                          const int2* __restrict__ ranges, const Steering& steering) {
    SHARED_DYNAMIC(float, shared);
    PackedAttention<T> work;
    work.qkv = qkv;
    work.k_cache = k_cache;
    work.v_cache = v_cache;
    work.page_table = page_table;
    work.pages_per_sequence = pages_per_sequence;
    work.tile = tiles[blockIdx.x];
    work.kv_head = blockIdx.y;
    work.n_heads = n_heads;
    work.n_kv_heads = n_kv_heads;
    work.d_head = d_head;
    work.scale = scale;
    work.window = window;
    work.q = shared;
    work.sums = work.q + PACKED * d_head;
    work.scores = work.sums + PACKED * d_head;
    work.lanes = work.scores + PACKED * PAGE;
    work.totals = work.lanes + PACKED * LANES;
    work.maxima = work.totals + PACKED * LANES;
    work.corrections = work.maxima + 2 * PACKED;
    work.positions = reinterpret_cast<int*>(work.corrections + PACKED);
    const int packed_rows = work.tile.y * (n_heads / n_kv_heads);
    for (int first = 0; first < packed_rows; first += PACKED) {
        work.first = first;
        work.rows = packed_rows - first < PACKED ? packed_rows - first : PACKED;
        work.load_queries();
        __syncthreads();
        const float* maxima = work.attend();
        work.store(z, log_sum, maxima, ranges, steering);
        __syncthreads();  // all have read the totals
    }
}

extern "C" __global__ void attention_f32(float* z, float* log_sum, const float* qkv,
                                         const float* k_cache,
                                         const float* v_cache, const int* page_table,
                                         int pages_per_sequence, const int4* tiles, int n_heads,
                                         int n_kv_heads, int d_head, float scale, int window,
                                         const int2* ranges,
                                         const __grid_constant__ Steering steering) {
    attention(z, log_sum, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles, n_heads,
              n_kv_heads, d_head, scale, window, ranges, steering);
}

extern "C" __global__ void attention_bf16(bf16* z, float* log_sum, const bf16* qkv,
                                          const bf16* k_cache,
                                          const bf16* v_cache, const int* page_table,
                                          int pages_per_sequence, const int4* tiles, int n_heads,
                                          int n_kv_heads, int d_head, float scale, int window,
                                          const int2* ranges,
                                          const __grid_constant__ Steering steering) {
    attention(z, log_sum, qkv, k_cache, v_cache, page_table, pages_per_sequence, tiles, n_heads,
              n_kv_heads, d_head, scale, window, ranges, steering);
}
