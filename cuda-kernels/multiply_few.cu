// out = x W^T for one to eight rows of x, with what stands before and after it in a decode step: such a
// product only streams W, so that norm, bias, rotation, gate and residual add cost nothing beside it.
//
// A warp takes a pair of W's rows at a time, its lanes along them in packs of 16 bytes, and multiplies
// it by all rows of x. Which pairs belong together is the epilogue's: a gate and its up, two elements
// that rotate together. A sum depends on its own two rows alone: lanes' sums in the order of their
// packs, then a butterfly over the lanes. So no bit of a result depends on the block, on the grid, or
// on how many other rows of x there are.
//
// PRECOND of all: rows 1 to 8; blocks of at most 512 threads, a multiple of the warp size; any grid of
// one dimension. x and out are contiguous and do not overlap; dynamic shared memory rows * k * sizeof(T)
// bytes where the contract says "staged", else none. Packs of 16 bytes where k is a multiple of a pack
// and x, W and the gain lie at multiples of 16, else element by element.
// Launched early, no kernel that may still run writes W.
//
// Moves n * k * sizeof(T) bytes, once, and rows * (k + n) * sizeof(T): at 4.46 TB/s 52.7 us for gate and
// up of Llama-3.1-8B in bf16. In flight (Little's law: 4.46 TB/s * 0.8 us = 3.6 MB, 27 KB for each of 132
// SMs): a lane has depth(M) packs of both rows under way, each replaced when it is used, so that an SM's
// 16 warps have 64 KB (32 KB at 5 to 8 rows), through the sums and across the pairs too. The first of
// them start before the norm. Pairs go round the blocks first, so that all SMs end together but for one
// pair. With a block for each pair instead, x would come from L2 as often as W from DRAM.
// Multiplications take 20 instructions a pack at one row, 58 at four and 108 at eight: 0.65, 1.8 and
// 3.4 ms of all issue slots of an H200 for a step of that model, whose loads take 3.4 ms; so eight rows
// are the most.
//
// Measured on an H200, tokens/s of that model beside cuBLAS: 229 to 220 at one row, 375 to 436 at two,
// 733 to 867 at four, 1,008 to 1,720 at eight; 3,676 GB/s for gate and up, 2,883 for o and down, 2,065
// for q, k and v. So it is for one row; for more it has to be asked for.
//
// W's first packs come before the launch before has ended (launch_order.cuh): no kernel writes W. A
// block leaves no room beside it (512 threads of up to 128 registers), so that the next launch's begin
// on an SM when this one's end there, each SM with one of either.
//
// Tried by registers: W double-buffered in whole steps spills; depth 6 and 8 spill. Tried on an H200,
// and lost: for sm_90, W by the copy engine into a ring in shared memory, a row's 1 KB a copy, and
// mma.m16n8k16 of 8 pairs of rows by up to 8 rows of x. A layer's four launches took 164 us at one row
// where this takes 124; gate and up 82 us (2.87 TB/s), down 45, o 14, q, k and v 21; at eight rows 94,
// 32, 12 and 31, and a step 0.8 of cuBLAS's tokens/s. Rings of 72 to 225 KB took the same, so it was
// not the bytes in flight: most likely the rate of copies of 1 KB. With half an SM's memory a block, so
// that two launches share an SM, overlapping gained 11 us a layer and lost a fifth of a whole step.
#include "fast_math.cuh"
#include "kv_cache.cuh"
#include "launch_order.cuh"
#include "norm.cuh"
#include "reduce.cuh"
#include "rope.cuh"
#include "types.cuh"

// Packs of either row that a lane has under way: as many as 128 registers hold beside M rows' sums.
constexpr int depth(int m) { return m <= 4 ? 4 : 2; }

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

// All rows of x, which are at most M.
template <int N, int M, bool STAGED, typename T, typename Epilogue>
__device__ __forceinline__ void multiply_rows(const Factors<T>& f, T* h, const Epilogue& epilogue) {
    const int lane = threadIdx.x % warpSize;
    const int stride = gridDim.x * (blockDim.x / warpSize);
    const int pairs = epilogue.pairs();
    const int k = f.k;
    constexpr int DEPTH = depth(M);
    const int step = DEPTH * warpSize * N;
    Pack<T, N> firsts[DEPTH] = {}, seconds[DEPTH] = {};  // of the pair, each replaced when it is used
    const auto load = [&](int u, int2 rows, int i) {
        if (i >= k) return;
        firsts[u].load_once(f.w + (long long)rows.x * k + i);
        seconds[u].load_once(f.w + (long long)rows.y * k + i);
    };
    int pair = blockIdx.x + gridDim.x * (threadIdx.x / warpSize);
    if (pair < pairs) {
        UNROLL_ALL
        for (int u = 0; u < DEPTH; u++) load(u, epilogue.rows(pair), (u * warpSize + lane) * N);
    }
    let_next_launch_begin();
    wait_for_launches_before();
    const auto place = epilogue.place(lane < f.rows ? lane : 0);
    const T* x = static_cast<const T*>(f.x);
    if constexpr (STAGED) {
        stage_rows<N, M>(h, f);
        x = h;
    }
    for (; pair < pairs; pair += stride) {
        const int2 own = epilogue.rows(pair);
        const bool last = pair + stride >= pairs;
        const int2 coming = epilogue.rows(last ? pair : pair + stride);
        float first[M] = {}, second[M] = {};
        UNROLL_NONE
        for (int begin = 0; begin < k; begin += step) {
            const bool ends = begin + step >= k;
            const int then = !ends ? begin + step : last ? k : 0;
            UNROLL_ALL
            for (int u = 0; u < DEPTH; u++) {
                const int along = (u * warpSize + lane) * N;
                float a[N], b[N];
                UNROLL_ALL
                for (int j = 0; j < N; j++) {
                    a[j] = to_float(firsts[u].at[j]);
                    b[j] = to_float(seconds[u].at[j]);
                }
                load(u, ends ? coming : own, then + along);
                if (begin + along >= k) continue;
                UNROLL_ALL
                for (int m = 0; m < M; m++) {
                    Pack<T, N> in;
                    in.load(x + (m < f.rows ? m : 0) * k + begin + along);
                    UNROLL_ALL
                    for (int j = 0; j < N; j++) {
                        const float factor = to_float(in.at[j]);
                        first[m] = fmaf(a[j], factor, first[m]);
                        second[m] = fmaf(b[j], factor, second[m]);
                    }
                }
            }
        }
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
}

// Two and three rows are multiplied as four, five to seven as eight: loads and bits are the same. In
// the CPU's solo build, which may sum in another order for another M, all are multiplied as eight.
template <bool STAGED, typename T, typename Epilogue>
__device__ __forceinline__ void multiply_few(const Factors<T>& f, const Epilogue& epilogue) {
    SHARED_DYNAMIC(T, h);
    constexpr int N = PACK<T>;
    if (N == 1 || f.k % N != 0 || !aligned(f.x, f.gain, f.w)) {
        multiply_rows<1, 8, STAGED>(f, h, epilogue);
    } else if (f.rows == 1) {
        multiply_rows<N, 1, STAGED>(f, h, epilogue);
    } else if (f.rows <= 4) {
        multiply_rows<N, 4, STAGED>(f, h, epilogue);
    } else {
        multiply_rows<N, 8, STAGED>(f, h, epilogue);
    }
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

// -------------------------------------------------------------------------------------- kernels

// out [rows, n] T = x W^T; x [rows, k] T, or with a gain the norm of x [rows, k] f32, staged; w [n, k].
#define STORE(T)                                                                              \
    extern "C" __global__ void __launch_bounds__(512)                                         \
        multiply_few_##T(T* out, const void* x, const float* gain, float eps, const T* w,     \
                         int rows, int n, int k) {                                            \
        const Factors<T> factors{x, gain, eps, w, rows, k};                                   \
        if (gain == nullptr) {                                                                \
            multiply_few<false>(factors, StoreFew<T>(out, n));                                \
        } else {                                                                              \
            multiply_few<true>(factors, StoreFew<T>(out, n));                                 \
        }                                                                                     \
    }

// y [rows, n] f32 += x W^T + bias [n] f32 (may be null), which is rounded to T after the product and
// after the bias: bit for bit what residual_add makes of a stored product. x [rows, k] T, w [n, k].
#define ADD(T)                                                                                \
    extern "C" __global__ void __launch_bounds__(512)                                         \
        multiply_few_add_##T(float* y, const T* x, const T* w, const float* bias, int rows,   \
                             int n, int k) {                                                  \
        multiply_few<false>(Factors<T>{x, nullptr, 0, w, rows, k}, AddFew<T>(y, bias, n));    \
    }

// out [rows, d_mlp] T = silu(gate) * up, bit for bit what gated_mlp makes of the stored products; w
// [2 d_mlp, k], the gate's rows above up's; biases [d_mlp] f32 or null. x as multiply_few takes it,
// staged in any case: all of an SM's warps read it.
#define GATE(T)                                                                               \
    extern "C" __global__ void __launch_bounds__(512)                                         \
        multiply_few_gate_##T(T* out, const void* x, const float* gain, float eps,            \
                              const T* w, const float* gate_bias, const float* up_bias,       \
                              int rows, int d_mlp, int k) {                                   \
        multiply_few<true>(Factors<T>{x, gain, eps, w, rows, k},                              \
                           GateFew<T>{out, gate_bias, up_bias, d_mlp});                       \
    }

// qkv [rows, (H + 2 KV) d_head] T with its bias (f32 or null), q and k rotated, k and v appended to the
// cache: bit for bit what qkv_bias_norm without norms and rope_append make of a stored product; their
// arguments. w [(H + 2 KV) d_head, k]. x as multiply_few takes it, staged in any case.
#define ROPE(T)                                                                               \
    extern "C" __global__ void __launch_bounds__(512)                                         \
        multiply_few_rope_##T(T* qkv, const void* x, const float* gain, float eps,            \
                              const T* w, const float* bias,                                  \
                              const float* inverse_frequencies, const int* positions,         \
                              const int* sequences, const int* page_table,                    \
                              int pages_per_sequence, T* k_cache, T* v_cache, int rows,       \
                              int n_heads, int n_kv_heads, int d_head, int k) {               \
        multiply_few<true>(Factors<T>{x, gain, eps, w, rows, k},                              \
                           RopeFew<T>{qkv, bias, inverse_frequencies, positions, sequences,   \
                                      page_table, pages_per_sequence, k_cache, v_cache,       \
                                      n_heads, n_kv_heads, d_head});                          \
    }

STORE(f32)
STORE(bf16)
ADD(f32)
ADD(bf16)
GATE(f32)
GATE(bf16)
ROPE(f32)
ROPE(bf16)
