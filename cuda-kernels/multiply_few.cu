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
// for q, k and v. So it is for one row; for more it has to be asked for. On sm_90 bf16 has a form of its own,
// multiply_few_sm90.cu, with the same bits.
//
// Tried: W double-buffered in whole steps, and depth 6 and 8, spill. Tried on an H200: launches that
// overlap (launch_order.cuh) made a layer's four products 117 us instead of 125, and a step slower all the
// same: attention divides an SM's memory between cache and shared memory in another way, and an SM has to
// be empty before it can. With as much shared memory asked for here there is too little cache for x.
#include "few_rows.cuh"

// Packs of either row that a lane has under way: as many as 128 registers hold beside M rows' sums.
constexpr int depth(int m) { return m <= 4 ? 4 : 2; }

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
        put_sums(f, epilogue, pair, place, first, second);
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
