// What the products of few rows share (multiply_few.cu, multiply_few_sm90.cu): what is multiplied, the norm
// before it, and what becomes of the sums.
#pragma once
#include "fast_math.cuh"
#include "kv_cache.cuh"
#include "norm.cuh"
#include "reduce.cuh"
#include "rope.cuh"
#include "types.cuh"

// What is multiplied. T x [rows, k]; or, with a gain [k], f32 x of which the rows' norm is taken:
// rounded to T, with the bits of rmsnorm (rmsnorm.cu) in blocks of the same size.
template <typename T>
struct Factors {
    const void* x;
    const float* gain;  // null: no norm
    float eps;
    const T* w;
    int rows, k;
};

// h [rows, d] T = norm of x [rows, d] f32, for up to M rows. Their loads are under way together, and
// their sums take one barrier. Every thread calls it.
template <int N, int M, typename T>
__device__ __forceinline__ void norm_rows(T* h, const float* x, const float* gain, float eps,
                                          int rows, int d) {
    const int begin = threadIdx.x * N;
    const int step = blockDim.x * N;
    Pack<float, N> held[M] = {};
    Pack<float, N> gains = {};
    float sums[M] = {};
    if (HOLDS_PACKS && begin < d) {
        gains.load(gain + begin);
        UNROLL_ALL
        for (int m = 0; m < M; m++) {
            if (m < rows) held[m].load(x + m * d + begin);
        }
        UNROLL_ALL
        for (int m = 0; m < M; m++) {
            UNROLL_ALL
            for (int j = 0; j < N; j++) sums[m] += held[m].at[j] * held[m].at[j];
        }
    }
    UNROLL_NONE
    for (int i = HOLDS_PACKS ? begin + step : begin; i < d; i += step) {
        UNROLL_ALL
        for (int m = 0; m < M; m++) {
            if (m >= rows) continue;
            Pack<float, N> in;
            in.load(x + m * d + i);
            UNROLL_ALL
            for (int j = 0; j < N; j++) sums[m] += in.at[j] * in.at[j];
        }
    }
    block_sums(sums);
    UNROLL_ALL
    for (int m = 0; m < M; m++) sums[m] = inverse_of(root_mean_square(sums[m], d, eps));
    UNROLL_NONE
    for (int i = begin; i < d; i += step) {
        const bool held_here = HOLDS_PACKS && i == begin;
        if (!held_here) gains.load(gain + i);
        UNROLL_ALL
        for (int m = 0; m < M; m++) {
            if (m >= rows) continue;
            if (!held_here) held[m].load(x + m * d + i);
            Pack<T, N> to;
            UNROLL_ALL
            for (int j = 0; j < N; j++) {
                to.at[j] = from_float<T>(held[m].at[j] * sums[m] * gains.at[j]);
            }
            to.store(h + m * d + i);
        }
    }
}

// h [rows, k] T = x, or its norm; h in shared memory. Every thread calls it.
template <int N, int M, typename T>
__device__ __forceinline__ void stage_rows(T* h, const Factors<T>& f) {
    constexpr int AT_ONCE = M == 1 || !HOLDS_PACKS ? 1 : 2;  // four beside W's packs spill
    if (f.gain == nullptr) {
        for (int i = threadIdx.x * N; i < f.rows * f.k; i += blockDim.x * N) {
            Pack<T, N> in;
            in.load(static_cast<const T*>(f.x) + i);
            in.store(h + i);
        }
    } else {
        UNROLL_NONE
        for (int m = 0; m < f.rows; m += AT_ONCE) {
            norm_rows<N, AT_ONCE>(h + m * f.k, static_cast<const float*>(f.x) + m * f.k, f.gain,
                                  f.eps, f.rows - m, f.k);
        }
    }
    __syncthreads();
}

// ------------------------------------------------------------------------------------ epilogues
//
// How many pairs there are, which rows of W are a pair, what of a row of x is the same for all pairs,
// and what becomes of a pair's two sums, rounded to T as a product's result is.

struct Anywhere {};

template <typename T>
__device__ __forceinline__ T with_bias(T value, const float* bias, int i) {
    return bias == nullptr ? value : from_float<T>(to_float(value) + bias[i]);
}

// Neighbouring rows of W; the last stands alone where n is odd.
struct Neighbours {
    int n;

    __device__ __forceinline__ int pairs() const { return (n + 1) / 2; }

    __device__ __forceinline__ int2 rows(int pair) const {
        return make_int2(2 * pair, 2 * pair + 1 < n ? 2 * pair + 1 : 2 * pair);
    }

    __device__ __forceinline__ Anywhere place(int) const { return {}; }
};

template <typename T>
struct StoreFew : Neighbours {
    T* out;

    __device__ __forceinline__ StoreFew(T* out, int n) : Neighbours{n}, out(out) {}

    __device__ __forceinline__ void put(int pair, int m, Anywhere, T a, T b) const {
        T* to = out + (long long)m * n + 2 * pair;
        to[0] = a;
        if (2 * pair + 1 < n) to[1] = b;
    }
};

template <typename T>
struct AddFew : Neighbours {
    float* x;
    const float* bias;

    __device__ __forceinline__ AddFew(float* x, const float* bias, int n)
        : Neighbours{n}, x(x), bias(bias) {}

    __device__ __forceinline__ void put(int pair, int m, Anywhere, T a, T b) const {
        float* to = x + (long long)m * n + 2 * pair;
        to[0] += to_float(with_bias(a, bias, 2 * pair));
        if (2 * pair + 1 < n) to[1] += to_float(with_bias(b, bias, 2 * pair + 1));
    }
};

// Row i of the gate above row i of up.
template <typename T>
struct GateFew {
    T* out;
    const float* gate_bias;
    const float* up_bias;
    int d_mlp;

    __device__ __forceinline__ int pairs() const { return d_mlp; }

    __device__ __forceinline__ int2 rows(int pair) const {
        return make_int2(pair, pair + d_mlp);
    }

    __device__ __forceinline__ Anywhere place(int) const { return {}; }

    __device__ __forceinline__ void put(int pair, int m, Anywhere, T gate, T up) const {
        const float g = to_float(with_bias(gate, gate_bias, pair));
        const float u = to_float(with_bias(up, up_bias, pair));
        out[(long long)m * d_mlp + pair] = from_float<T>(silu(g) * u);
    }
};

// Elements i and i + d_head / 2 of a head, which rotate together.
template <typename T>
struct RopeFew {
    T* qkv;
    const float* bias;
    const float* inverse_frequencies;
    const int* positions;
    const int* sequences;
    const int* page_table;
    int pages_per_sequence;
    T* k_cache;
    T* v_cache;
    int n_heads, n_kv_heads, d_head;

    struct Place {  // of a row's token
        int position, page;
    };

    __device__ __forceinline__ int heads() const { return n_heads + 2 * n_kv_heads; }

    __device__ __forceinline__ int pairs() const { return heads() * (d_head / 2); }

    __device__ __forceinline__ int2 rows(int pair) const {
        const int half = d_head / 2;
        const int first = pair / half * d_head + pair % half;
        return make_int2(first, first + half);
    }

    __device__ __forceinline__ Place place(int m) const {
        const int position = positions[m];
        const long long begin = (long long)sequences[m] * pages_per_sequence;
        return {position, page_table[begin + position / PAGE]};
    }

    __device__ __forceinline__ void put(int pair, int m, const Place& place, T a, T b) const {
        const int half = d_head / 2;
        const int head = pair / half;
        const int i = pair % half;
        const int2 row = rows(pair);
        a = with_bias(a, bias, row.x);
        b = with_bias(b, bias, row.y);
        if (head < n_heads + n_kv_heads) {
            const float angle = (float)place.position * inverse_frequencies[i];
            float sine, cosine;
            sincosf(angle, &sine, &cosine);
            const Rotated to(to_float(a), to_float(b), cosine, sine);
            a = from_float<T>(to.first);
            b = from_float<T>(to.second);
        }
        T* to = qkv + (long long)m * heads() * d_head;
        to[row.x] = a;
        to[row.y] = b;
        if (head < n_heads) return;
        const int slot = place.position % PAGE;
        const bool is_key = head < n_heads + n_kv_heads;
        const int kv_head = head - n_heads - (is_key ? 0 : n_kv_heads);
        const long long page = page_offset(place.page, kv_head, n_kv_heads, d_head);
        if (is_key) {
            T* k = k_cache + page + slot;
            k[i * PAGE] = a;
            k[(i + half) * PAGE] = b;
        } else {
            T* v = v_cache + page + (long long)slot * d_head;
            v[i] = a;
            v[i + half] = b;
        }
    }
};

// A pair's sums over a warp's lanes, of all rows of x, which are at most M; each row goes to a lane, which
// has its `place` already where it is the row's own.
template <int M, typename T, typename Epilogue, typename Place>
__device__ __forceinline__ void put_sums(const Factors<T>& f, const Epilogue& epilogue, int pair,
                                         const Place& place, float (&first)[M], float (&second)[M]) {
    const int lane = threadIdx.x % warpSize;
    UNROLL_ALL
    for (int m = 0; m < M; m++) {
        first[m] = warp_reduce(first[m], Sum());
        second[m] = warp_reduce(second[m], Sum());
    }
    for (int m = lane; m < f.rows; m += warpSize) {
        float a = 0, b = 0;
        UNROLL_ALL
        for (int j = 0; j < M; j++) {
            a = j == m ? first[j] : a;
            b = j == m ? second[j] : b;
        }
        // A GPU's warp has a lane for every row, which has the row's place already.
        epilogue.put(pair, m, m == lane ? place : epilogue.place(m), from_float<T>(a),
                     from_float<T>(b));
    }
}
