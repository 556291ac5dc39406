// What the portable attention kernels share: which keys a query sees, and its scores with a page.
#pragma once
#include "fast_math.cuh"
#include "kv_cache.cuh"
#include "types.cuh"

// What one thread works on at a time: ROWS query rows, so that a key or value is loaded once for
// them, and COLUMNS neighbouring keys of a page or elements of a head. A GPU's threads take one
// column each, so that a warp's loads are contiguous. The only thread of the CPU's solo build takes
// as many as its vector registers hold: g++ keeps an array [ROWS][COLUMNS] in them when both are
// constants (and COLUMNS over 16, below which it unrolls instead). No result depends on either.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr int ROWS = 4;
constexpr int COLUMNS = 1;
#elif defined(__AVX512F__)
constexpr int ROWS = 4;
constexpr int COLUMNS = 64;
#else
constexpr int ROWS = 2;
constexpr int COLUMNS = 32;
#endif

// Before a loop over those rows: unrolled, or g++ vectorises over the rows instead of the columns.
#ifdef __CUDACC__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

// Asks for n elements that are read soon, while others are worked on: the hardware's own prefetch ends at
// every 4 KiB, half of a head's keys in a page, and 32 rows of a hundred tokens in bf16 decoded 5 % slower
// by it alone. A GPU has other warps to run meanwhile.
template <typename T>
__device__ __forceinline__ void ask_for(const T* from, int n) {
#if !defined(__CUDACC__) && !defined(HALTER_FAITHFUL)
    for (int i = 0; i < n; i += 64 / (int)sizeof(T)) __builtin_prefetch(from + i, 0, 2);
#endif
}

// The places [begin, end) of the page at `page_position` whose keys the query at `position` sees:
// keys not after it and, with a window, less than `window` before it.
struct Visible {
    int begin, end;
};

__device__ __forceinline__ Visible visible_places(int position, int page_position, int window) {
    const int first = window == 0 ? 0 : position - window + 1;
    const int begin = first - page_position;
    const int end = position + 1 - page_position;
    return {begin < 0 ? 0 : begin, end > PAGE ? PAGE : end};
}

// sums[r][c] = q[r] . keys[c] for N rows and COLUMNS keys of a page from `keys` on. Every sum runs
// over d in order, so its bits do not depend on N or COLUMNS.
template <int N, typename T>
__device__ __forceinline__ void dot_keys(float (&sums)[N][COLUMNS], const float* __restrict__ q,
                                         const T* __restrict__ keys, int d_head) {
    UNROLL
    for (int r = 0; r < N; r++) {
        for (int c = 0; c < COLUMNS; c++) sums[r][c] = 0;
    }
    for (int d = 0; d < d_head; d++) {
        UNROLL
        for (int r = 0; r < N; r++) {
            const float factor = q[r * d_head + d];
            for (int c = 0; c < COLUMNS; c++) {
                sums[r][c] = fmaf(factor, to_float(keys[d * PAGE + c]), sums[r][c]);
            }
        }
    }
}
