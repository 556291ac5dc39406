// Gradients through causal attention: dq row by row, then dk and dv key by key, and through the
// rotation before it. A batch's sequences are whole, so keys and values are rows of the batch itself,
// and no cache is read. T is the activations' type; sums, probabilities and the gradient of qkv, which is
// added to from one tile of keys or queries to the next, are f32.
#include "attention.cuh"

// A block's own rows: packed query rows (dq), or keys (dk and dv). They lie transposed in shared memory,
// one beside another, and a product with another row runs over d with one element of that row at a time.
constexpr int OWN = 32;

// The rows of the other side that are worked on at once.
constexpr int OTHERS = 16;

constexpr int OWN_COLUMNS = COLUMNS < OWN ? COLUMNS : OWN;

// out[j][OWN] = other(j) . own for j < n <= OTHERS, where own is [d_head][OWN]. Sums run over d in order.
template <int N, typename Other>
__device__ __forceinline__ void multiply_rows(float* out, const float* __restrict__ own, int first,
                                              int column, const Other& other, int d_head) {
    decltype(other(0)) from[N];
    float sums[N][OWN_COLUMNS];
    UNROLL
    for (int r = 0; r < N; r++) {
        from[r] = other(first + r);
        for (int c = 0; c < OWN_COLUMNS; c++) sums[r][c] = 0;
    }
    for (int d = 0; d < d_head; d++) {
        const float* __restrict__ at = own + d * OWN + column;
        UNROLL
        for (int r = 0; r < N; r++) {
            const float factor = to_float(from[r][d]);
            for (int c = 0; c < OWN_COLUMNS; c++) sums[r][c] = fmaf(factor, at[c], sums[r][c]);
        }
    }
    UNROLL
    for (int r = 0; r < N; r++) {
        for (int c = 0; c < OWN_COLUMNS; c++) out[(first + r) * OWN + column + c] = sums[r][c];
    }
}

template <typename Other>
__device__ void multiply_tile(float* out, const float* own, int n, const Other& other, int d_head) {
    constexpr int columns = OWN / OWN_COLUMNS;
    for (int i = threadIdx.x; i < OTHERS / ROWS * columns; i += blockDim.x) {
        const int first = i / columns * ROWS;
        const int column = i % columns * OWN_COLUMNS;
        if (first + ROWS <= n) {
            multiply_rows<ROWS>(out, own, first, column, other, d_head);
        } else {
            for (int j = first; j < n; j++) {
                multiply_rows<1>(out, own, j, column, other, d_head);
            }
        }
    }
}

// to(i)[d] = (fresh ? 0 : to(i)[d]) + sum over j < n of weights[j][i] * other(j)[d], for N own rows from
// `first` on and WIDTH elements from d on. Sums run over j in order, from one call to the next.
template <int N, int WIDTH, typename To, typename Other>
__device__ __forceinline__ void add_rows(const To& to, bool fresh,
                                         const float* __restrict__ weights, int first, int n,
                                         const Other& other, int d) {
    float sums[N][WIDTH];
    UNROLL
    for (int r = 0; r < N; r++) {
        const float* before = to(first + r) + d;
        for (int c = 0; c < WIDTH; c++) sums[r][c] = fresh ? 0 : before[c];
    }
    for (int j = 0; j < n; j++) {
        const auto* __restrict__ values = other(j) + d;
        UNROLL
        for (int r = 0; r < N; r++) {
            const float weight = weights[j * OWN + first + r];
            for (int c = 0; c < WIDTH; c++) sums[r][c] = fmaf(weight, to_float(values[c]), sums[r][c]);
        }
    }
    UNROLL
    for (int r = 0; r < N; r++) {
        float* after = to(first + r) + d;
        for (int c = 0; c < WIDTH; c++) after[c] = sums[r][c];
    }
}

template <int WIDTH, typename To, typename Other>
__device__ void add_tile_by(const To& to, int own, bool fresh, const float* weights, int n,
                            const Other& other, int d_head) {
    const int spans = d_head / WIDTH;
    for (int i = threadIdx.x; i < (own + ROWS - 1) / ROWS * spans; i += blockDim.x) {
        const int first = i / spans * ROWS;
        const int d = i % spans * WIDTH;
        if (first + ROWS <= own) {
            add_rows<ROWS, WIDTH>(to, fresh, weights, first, n, other, d);
        } else {
            for (int r = first; r < own; r++) {
                add_rows<1, WIDTH>(to, fresh, weights, r, n, other, d);
            }
        }
    }
}

template <typename To, typename Other>
__device__ void add_tile(const To& to, int own, bool fresh, const float* weights, int n,
                         const Other& other, int d_head) {
    if (d_head % COLUMNS == 0) {
        add_tile_by<COLUMNS>(to, own, fresh, weights, n, other, d_head);
    } else if (d_head % 16 == 0 && COLUMNS > 16) {
        add_tile_by<16>(to, own, fresh, weights, n, other, d_head);
    } else {
        add_tile_by<1>(to, own, fresh, weights, n, other, d_head);
    }
}

// own(i)[d] to [d][OWN]; places without a row become zero.
template <typename Own>
__device__ void turn_rows(float* to, int n, const Own& own, int d_head) {
    for (int i = threadIdx.x; i < OWN * d_head; i += blockDim.x) {
        const int r = i / d_head, d = i % d_head;
        to[d * OWN + r] = r < n ? to_float(own(r)[d]) : 0;
    }
}

// The rows of one sequence and KV head. Packed row i is row i / group from `base` on, under query head
// i % group of the KV head.
struct Heads {
    int base, kv_head, n_heads, n_kv_heads, d_head;

    __device__ __forceinline__ int group() const { return n_heads / n_kv_heads; }
    __device__ __forceinline__ int row(int i) const { return base + i / group(); }
    __device__ __forceinline__ int head(int i) const { return kv_head * group() + i % group(); }
    __device__ __forceinline__ long long width() const {
        return (long long)(n_heads + 2 * n_kv_heads) * d_head;
    }
    __device__ __forceinline__ long long q(int i) const {
        return row(i) * width() + (long long)head(i) * d_head;
    }
    __device__ __forceinline__ long long z_at(int i) const {
        return ((long long)row(i) * n_heads + head(i)) * d_head;
    }
    __device__ __forceinline__ long long statistic(int i) const {
        return (long long)row(i) * n_heads + head(i);
    }
    __device__ __forceinline__ long long k(int key) const {
        return key * width() + (long long)(n_heads + kv_head) * d_head;
    }
    __device__ __forceinline__ long long v(int key) const {
        return k(key) + (long long)n_kv_heads * d_head;
    }
};

__device__ __forceinline__ bool sees(int query, int key, int window) {
    return key <= query && (window == 0 || query - key < window);
}

// dq = scale * sum over keys of P * (dz . v - delta) * k, with P = exp(scale * q . k - log_sum), the
// softmax again, and delta = dz . z (FlashAttention-2, Dao 2307.08691, algorithm 2).
// dqkv [rows, (H + 2 * KV) * d_head] f32, of which q's part is written; qkv likewise in T, rotated as the
// forward left it; z, dz [rows, H * d_head] T; log_sum [rows, H] f32, which the forward left as well; delta
// [rows, H] f32, written: what attention_backward_kv needs. tiles [grid.x] = {first row, number of rows, first row of its
// sequence, unused}: rows of one sequence that follow one another. window as in attention.cu.
// PRECOND: grid (tiles, KV), any block size; d_head even and at most 256, H a multiple of KV; dynamic
// shared memory 256 * d_head + 4480 bytes; dqkv overlaps nothing.
// A row's bits depend on its own sequence alone: sums run over d, and over keys, in order.
// Moves, per tile and KV head, q, z, dz and dq of its rows, and its visible keys twice and values once for
// every OWN packed rows, 8 bytes a row and head besides.
template <typename T>
__device__ void attention_backward_q(float* dqkv, const T* qkv, const T* z, const T* dz,
                                     const float* log_sum, float* delta, const int4* __restrict__ tiles,
                                     int n_heads, int n_kv_heads, int d_head, float scale,
                                     int window) {
    SHARED_DYNAMIC(float, shared);
    float* q_own = shared;                      // [d_head][OWN]
    float* dz_own = q_own + OWN * d_head;       // [d_head][OWN]
    float* scores = dz_own + OWN * d_head;      // [OTHERS][OWN]
    float* gradients = scores + OTHERS * OWN;   // [OTHERS][OWN]
    float* log_sums = gradients + OTHERS * OWN;  // [OWN]
    float* deltas = log_sums + OWN;              // [OWN]
    int* rows = reinterpret_cast<int*>(deltas + OWN);  // [OWN], before all keys where there is none
    const int4 tile = tiles[blockIdx.x];
    const int group = n_heads / n_kv_heads;
    for (int packed = 0; packed < tile.y * group; packed += OWN) {
        const Heads at{tile.x, (int)blockIdx.y, n_heads, n_kv_heads, d_head};
        const int n = tile.y * group - packed < OWN ? tile.y * group - packed : OWN;
        const auto q_row = [&](int i) { return qkv + at.q(packed + i); };
        const auto dz_row = [&](int i) { return dz + at.z_at(packed + i); };
        const auto dq_row = [&](int i) { return dqkv + at.q(packed + i); };
        turn_rows(q_own, n, q_row, d_head);
        turn_rows(dz_own, n, dz_row, d_head);
        for (int i = threadIdx.x; i < OWN; i += blockDim.x) {
            log_sums[i] = i < n ? log_sum[at.statistic(packed + i)] : 0;
            rows[i] = i < n ? at.row(packed + i) : -1;
            float sum = 0;
            if (i < n) {
                const T* a = z + at.z_at(packed + i);
                const T* b = dz_row(i);
                for (int d = 0; d < d_head; d++) sum += to_float(a[d]) * to_float(b[d]);
                delta[at.statistic(packed + i)] = sum;
            }
            deltas[i] = sum;
        }
        __syncthreads();
        const int first_row = at.row(packed);
        const int end = at.row(packed + n - 1) + 1;
        int begin = window == 0 ? tile.z : first_row - window + 1;
        begin = begin < tile.z ? tile.z : begin;

        for (int key = begin; key < end; key += OTHERS) {
            const int keys = end - key < OTHERS ? end - key : OTHERS;
            const auto k_row = [&](int j) { return qkv + at.k(key + j); };
            multiply_tile(scores, q_own, keys, k_row, d_head);
            multiply_tile(gradients, dz_own, keys, [&](int j) { return qkv + at.v(key + j); },
                          d_head);
            __syncthreads();
            for (int i = threadIdx.x * OWN_COLUMNS; i < keys * OWN; i += blockDim.x * OWN_COLUMNS) {
                const int own = i % OWN;
                const int other = key + i / OWN;
                for (int c = 0; c < OWN_COLUMNS; c++) {
                    const float weight = fast_exp(scores[i + c] * scale - log_sums[own + c]);
                    const float change = gradients[i + c] - deltas[own + c];
                    const bool seen = sees(rows[own + c], other, window);
                    scores[i + c] = seen ? weight * change * scale : 0;
                }
            }
            __syncthreads();
            add_tile(dq_row, n, key == begin, scores, keys, k_row, d_head);
            __syncthreads();
        }
    }
}

// dv = sum over queries of P * dz, dk = scale * sum over queries of P * (dz . v - delta) * q; the queries
// are all rows that see the key, under every query head of the key's group.
// Buffers as for attention_backward_q, which has written delta; k's and v's part of
// dqkv are written. tiles [grid.x] = {first key, number of keys, end of its sequence, unused}, at most
// OWN keys each.
// PRECOND: as there.
// A key's bits depend on its own sequence alone: sums run over queries, and over the heads of each, in
// order, and nothing is added by two blocks.
// Moves, per tile and KV head, its keys and values, their gradients once for every OTHERS packed rows,
// and q and dz of all rows after it, twice.
template <typename T>
__device__ void attention_backward_kv(float* dqkv, const T* qkv, const T* dz, const float* log_sum,
                                      const float* delta, const int4* __restrict__ tiles,
                                      int n_heads, int n_kv_heads, int d_head, float scale,
                                      int window) {
    SHARED_DYNAMIC(float, shared);
    float* k_own = shared;                     // [d_head][OWN]
    float* v_own = k_own + OWN * d_head;       // [d_head][OWN]
    float* scores = v_own + OWN * d_head;      // [OTHERS][OWN]
    float* weights = scores + OTHERS * OWN;    // [OTHERS][OWN]
    const int4 tile = tiles[blockIdx.x];
    const Heads at{tile.x, (int)blockIdx.y, n_heads, n_kv_heads, d_head};
    const auto k_row = [&](int i) { return qkv + at.k(tile.x + i); };
    const auto v_row = [&](int i) { return qkv + at.v(tile.x + i); };
    const auto dk_row = [&](int i) { return dqkv + at.k(tile.x + i); };
    const auto dv_row = [&](int i) { return dqkv + at.v(tile.x + i); };
    turn_rows(k_own, tile.y, k_row, d_head);
    turn_rows(v_own, tile.y, v_row, d_head);
    __syncthreads();
    int end = tile.z;
    if (window > 0 && tile.x + tile.y - 1 + window < end) end = tile.x + tile.y - 1 + window;
    const int packed_end = (end - tile.x) * at.group();
    for (int packed = 0; packed < packed_end; packed += OTHERS) {
        const int n = packed_end - packed < OTHERS ? packed_end - packed : OTHERS;
        const auto q_row = [&](int j) { return qkv + at.q(packed + j); };
        const auto dz_row = [&](int j) { return dz + at.z_at(packed + j); };
        multiply_tile(scores, k_own, n, q_row, d_head);
        multiply_tile(weights, v_own, n, dz_row, d_head);  // first what they multiply
        __syncthreads();
        for (int i = threadIdx.x * OWN_COLUMNS; i < n * OWN; i += blockDim.x * OWN_COLUMNS) {
            const int own = i % OWN;
            const int query = packed + i / OWN;
            const float log_total = log_sum[at.statistic(query)];
            const float mean = delta[at.statistic(query)];
            for (int c = 0; c < OWN_COLUMNS; c++) {
                const bool seen = sees(at.row(query), tile.x + own + c, window);
                const float exponential = fast_exp(scores[i + c] * scale - log_total);
                const float weight = seen ? exponential : 0;
                scores[i + c] = seen ? weight * (weights[i + c] - mean) * scale : 0;
                weights[i + c] = weight;
            }
        }
        __syncthreads();
        add_tile(dk_row, tile.y, packed == 0, scores, n, q_row, d_head);
        add_tile(dv_row, tile.y, packed == 0, weights, n, dz_row, d_head);
        __syncthreads();
    }
}

#define ATTENTION_BACKWARD(T)                                                                    \
    extern "C" __global__ void attention_backward_q_##T(                                         \
        float* dqkv, const T* qkv, const T* z, const T* dz, const float* log_sum, float* delta,  \
        const int4* tiles, int n_heads, int n_kv_heads, int d_head, float scale, int window) {   \
        attention_backward_q(dqkv, qkv, z, dz, log_sum, delta, tiles, n_heads, n_kv_heads,       \
                             d_head, scale, window);                                             \
    }                                                                                            \
    extern "C" __global__ void attention_backward_kv_##T(                                        \
        float* dqkv, const T* qkv, const T* dz, const float* log_sum, const float* delta,        \
        const int4* tiles, int n_heads, int n_kv_heads, int d_head, float scale, int window) {   \
        attention_backward_kv(dqkv, qkv, dz, log_sum, delta, tiles, n_heads, n_kv_heads, d_head, \
                              scale, window);                                                    \
    }

ATTENTION_BACKWARD(f32)
ATTENTION_BACKWARD(bf16)

// In place: the gradient of rotated q and k becomes that of q and k before the rotation (rope_append in
// qkv.cu), which is the rotation by the opposite angle; v's stays.
// dqkv [rows, (H + 2 * KV) * d_head] f32; inverse_frequencies [d_head / 2]; positions [rows].
// PRECOND: one block per row (grid.x = rows), any block size; d_head even; dynamic shared memory
// 4 * d_head bytes.
// Moves rows * (H + KV) * d_head * 8 bytes.
__device__ void rope_backward(float* dqkv, const float* __restrict__ inverse_frequencies,
                              const int* __restrict__ positions, int n_heads, int n_kv_heads,
                              int d_head) {
    SHARED_DYNAMIC(float, shared);
    const int pairs = d_head / 2;
    float* cosines = shared;
    float* sines = shared + pairs;
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float angle = (float)positions[blockIdx.x] * inverse_frequencies[i];
        cosines[i] = cosf(angle);
        sines[i] = sinf(angle);
    }
    __syncthreads();
    float* row = dqkv + (long long)blockIdx.x * (n_heads + 2 * n_kv_heads) * d_head;
    for (int i = threadIdx.x; i < (n_heads + n_kv_heads) * pairs; i += blockDim.x) {
        float* pair = row + i / pairs * d_head + i % pairs;
        const float cosine = cosines[i % pairs], sine = sines[i % pairs];
        const float a = pair[0], b = pair[pairs];
        pair[0] = a * cosine + b * sine;
        pair[pairs] = b * cosine - a * sine;
    }
}

extern "C" __global__ void rope_backward_f32(float* dqkv, const float* inverse_frequencies,
                                             const int* positions, int n_heads, int n_kv_heads,
                                             int d_head) {
    rope_backward(dqkv, inverse_frequencies, positions, n_heads, n_kv_heads, d_head);
}
