// The dot form of the matrix product, for any instruction set: included by one file for each, which
// is compiled with its flags and brings a `Lanes` type (below). Everything here has internal linkage,
// so that no set's code can stand in for another's at link time.
//
// Rows of x and of w both run along k, so a tile of 3 x 8 results (3 x 4 with AVX2's 16 registers) keeps one vector of partial sums
// for each and reads both factors where they lie: weights stay the mapped file. From four rows on,
// the tile's rows of w and the block's rows of x are copied into panels of a few hundred KB for a
// thread on the way. Every result is computed the same way whatever tile it falls into:
//   - k is cut into blocks whose length depends on k and the types alone;
//   - within a block, lane i of a vector of L lanes sums the elements i, i + L, i + 2L, ... in order
//     (a short last step is filled with zeros in both factors);
//   - the lanes are added in one fixed tree, the blocks in order.
// So a row's bits depend on its own elements and on w, and not on m, tiling or threads.
//
// Lanes provides: types X, W, Sum, Xs, Ws; STEP, elements of k in a step; DEPTH, those of a
// block of k; WIDTH, columns of a tile;
// zero(); load_x(p), load_w(p) and the same with a count below STEP, which read exactly that many
// elements and fill with zeros; add(Sum, Xs, Ws); total(Sum[WIDTH], float[WIDTH]), the lane sums.
#pragma once

// g++ 12 takes the "undefined" operands inside its own intrinsics for uninitialised variables.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "gemm.h"
#include "halter.h"

namespace halter {
namespace {

constexpr int TILE_M = 3;

// Round to nearest even; a NaN stays a (quiet) NaN.
inline uint16_t float_to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return value != value ? uint16_t((bits >> 16) | 0x40) : uint16_t(rounded);
}

// The length of the blocks of k: at most Lanes::DEPTH, as equal as STEP allows.
template <class Lanes>
int block_of_k(int k) {
    int steps = (k + Lanes::STEP - 1) / Lanes::STEP;
    int blocks = steps / (Lanes::DEPTH / Lanes::STEP + 1) + 1;
    return (steps / blocks + (steps % blocks != 0)) * Lanes::STEP;
}

// Where a tile finds its factors. DIRECT reads x and w where they lie. The other two read x from a
// panel, [step][row] of Xs; PACKING reads w where it lies and writes such a panel of it, [step][row]
// of Ws, which PACKED then reads: aligned, already converted, and free of the cache conflicts of rows
// that are a power of two apart.
enum class From { DIRECT, PACKING, PACKED };

// One step of a tile: `count` elements of k at p, the step's full length unless PART.
template <class Lanes, int MR, int NR, From FROM, bool PART>
inline void step(typename Lanes::Sum (&sum)[MR][Lanes::WIDTH], const typename Lanes::X* x,
                 long x_stride, const typename Lanes::Xs* x_panel, const typename Lanes::W* w,
                 long w_stride, typename Lanes::Ws* w_panel, int count) {
    typename Lanes::Xs xs[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        if constexpr (FROM != From::DIRECT) {
            xs[i] = x_panel[i];
        } else {
            xs[i] = PART ? Lanes::load_x(x + i * x_stride, count) : Lanes::load_x(x + i * x_stride);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < NR; j++) {
        typename Lanes::Ws ws;
        if constexpr (FROM == From::PACKED) {
            ws = w_panel[j];
        } else {
            const typename Lanes::W* row = w + j * w_stride;
            // The rows of the tile that follows: the hardware's own prefetch ends at every page.
            if (NR > 1 && !PART) _mm_prefetch((const char*)(row + NR * w_stride), _MM_HINT_T1);
            ws = PART ? Lanes::load_w(row, count) : Lanes::load_w(row);
            if (FROM == From::PACKING) w_panel[j] = ws;
        }
        asm("" : "+v"(ws));  // one load for MR products; g++ would rather load for each
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++) sum[i][j] = Lanes::add(sum[i][j], xs[i], ws);
    }
}

// c[MR][NR] (+)= x[MR][k] · w[NR][k]ᵀ over one block of k.
template <class Lanes, int MR, int NR, From FROM>
inline void tile(int k, const typename Lanes::X* x, long x_stride,
                 const typename Lanes::Xs* x_panel, const typename Lanes::W* w, long w_stride,
                 typename Lanes::Ws (*w_panel)[Lanes::WIDTH], float* c, bool first) {
    typename Lanes::Sum sum[MR][Lanes::WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < Lanes::WIDTH; j++) sum[i][j] = Lanes::zero();
    }
    const int whole = k / Lanes::STEP;
    for (int s = 0; s < whole; s++) {
        step<Lanes, MR, NR, FROM, false>(sum, x + s * Lanes::STEP, x_stride, x_panel + s * MR,
                                         w + s * Lanes::STEP, w_stride, w_panel[s], 0);
    }
    if (int rest = k % Lanes::STEP) {
        step<Lanes, MR, NR, FROM, true>(sum, x + whole * Lanes::STEP, x_stride, x_panel + whole * MR,
                                        w + whole * Lanes::STEP, w_stride, w_panel[whole], rest);
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        alignas(32) float total[Lanes::WIDTH];
        Lanes::total(sum[i], total);
        float* to = c + i * BLOCK_N;
#pragma GCC unroll 8
        for (int j = 0; j < NR; j++) to[j] = first ? total[j] : to[j] + total[j];
    }
}

template <class Lanes, int NR, From FROM>
inline void tile(int rows, int k, const typename Lanes::X* x, long x_stride,
                 const typename Lanes::Xs* x_panel, const typename Lanes::W* w, long w_stride,
                 typename Lanes::Ws (*w_panel)[Lanes::WIDTH], float* c, bool first) {
    switch (rows) {
        case 1:
            return tile<Lanes, 1, NR, FROM>(k, x, x_stride, x_panel, w, w_stride, w_panel, c, first);
        case 2:
            return tile<Lanes, 2, NR, FROM>(k, x, x_stride, x_panel, w, w_stride, w_panel, c, first);
        default:
            return tile<Lanes, 3, NR, FROM>(k, x, x_stride, x_panel, w, w_stride, w_panel, c, first);
    }
}

// The panel of `rows` rows of x.
template <class Lanes>
inline void pack(int rows, int k, const typename Lanes::X* x, long x_stride,
                 typename Lanes::Xs* panel) {
    for (int i = 0; i < rows; i++) {
        const typename Lanes::X* row = x + i * x_stride;
        int s = 0;
        for (; s < k / Lanes::STEP; s++) panel[s * rows + i] = Lanes::load_x(row + s * Lanes::STEP);
        if (int rest = k % Lanes::STEP) {
            panel[s * rows + i] = Lanes::load_x(row + s * Lanes::STEP, rest);
        }
    }
}

template <class Lanes>
void block(const Product& p, int m0, int m1, int n0, int n1, Scratch& scratch) {
    using X = typename Lanes::X;
    using W = typename Lanes::W;
    constexpr int WIDTH = Lanes::WIDTH;
    static_assert(WIDTH * Lanes::DEPTH / Lanes::STEP * sizeof(typename Lanes::Ws) <= sizeof scratch.w);
    static_assert(BLOCK_M * Lanes::DEPTH / Lanes::STEP * sizeof(typename Lanes::Xs) <= sizeof scratch.x);
    auto* x_panels = reinterpret_cast<typename Lanes::Xs*>(scratch.x);
    auto* w_panel = reinterpret_cast<typename Lanes::Ws(*)[WIDTH]>(scratch.w);
    auto& sums = scratch.sums;
    const int m = m1 - m0;
    const int n = n1 - n0;
    const int wide = n / WIDTH * WIDTH;
    const int depth = block_of_k<Lanes>(p.k);
    const X* x = (const X*)p.x + m0 * p.x_stride;
    const W* w = (const W*)p.w + n0 * p.w_stride;
    const auto block_of = [&](int k0) { return k0 + depth < p.k ? depth : p.k - k0; };

    if (m <= TILE_M) {  // decoding: w passes once, row by row
        for (int j = 0; j < n; j += j < wide ? WIDTH : 1) {
            int k0 = 0;
            do {  // once even for k = 0, whose sums are zero
                const W* wj = w + j * p.w_stride + k0;
                int k = block_of(k0);
                if (j < wide) {
                    tile<Lanes, WIDTH, From::DIRECT>(m, k, x + k0, p.x_stride, nullptr, wj,
                                                     p.w_stride, nullptr, &sums[0][j], k0 == 0);
                } else {
                    tile<Lanes, 1, From::DIRECT>(m, k, x + k0, p.x_stride, nullptr, wj, p.w_stride,
                                                 nullptr, &sums[0][j], k0 == 0);
                }
                k0 += depth;
            } while (k0 < p.k);
        }
    } else {
        const int tiles = (m + TILE_M - 1) / TILE_M;
        int k0 = 0;
        do {
            int k = block_of(k0);
            const int steps = (k + Lanes::STEP - 1) / Lanes::STEP;
            for (int t = 0; t < tiles; t++) {
                int i = m * t / tiles;
                pack<Lanes>(m * (t + 1) / tiles - i, k, x + i * p.x_stride + k0, p.x_stride,
                            x_panels + i * steps);
            }
            for (int j = 0; j < n; j += j < wide ? WIDTH : 1) {
                const W* wj = w + j * p.w_stride + k0;
                for (int t = 0; t < tiles; t++) {
                    int i = m * t / tiles;
                    int rows = m * (t + 1) / tiles - i;
                    const auto* panel = x_panels + i * steps;
                    float* c = &sums[i][j];
                    if (j >= wide) {
                        tile<Lanes, 1, From::PACKING>(rows, k, nullptr, 0, panel, wj, p.w_stride,
                                                      w_panel, c, k0 == 0);
                    } else if (t == 0) {
                        tile<Lanes, WIDTH, From::PACKING>(rows, k, nullptr, 0, panel, wj,
                                                          p.w_stride, w_panel, c, k0 == 0);
                    } else {
                        tile<Lanes, WIDTH, From::PACKED>(rows, k, nullptr, 0, panel, nullptr, 0,
                                                         w_panel, c, k0 == 0);
                    }
                }
            }
            k0 += depth;
        } while (k0 < p.k);
    }
    for (int i = 0; i < m; i++) {
        if (p.out_type == HALTER_F32) {
            std::memcpy((float*)p.out + (m0 + i) * p.out_stride + n0, sums[i], n * sizeof(float));
        } else {
            uint16_t* out = (uint16_t*)p.out + (m0 + i) * p.out_stride + n0;
            for (int j = 0; j < n; j++) out[j] = float_to_bf16(sums[i][j]);
        }
    }
}

// The kernel for the types' codes, from an instruction set's lanes and its three element types.
template <template <class, class> class Lanes, class F32, class F16, class Bf16>
Block block_for(int x_type, int w_type) {
    if (x_type == HALTER_F32) {
        switch (w_type) {
            case HALTER_F32: return block<Lanes<F32, F32>>;
            case HALTER_F16: return block<Lanes<F32, F16>>;
            default: return block<Lanes<F32, Bf16>>;
        }
    }
    switch (w_type) {
        case HALTER_F32: return block<Lanes<Bf16, F32>>;
        case HALTER_F16: return block<Lanes<Bf16, F16>>;
        default: return block<Lanes<Bf16, Bf16>>;
    }
}

#ifdef __AVX512F__
// Adds lane i and i + 8, then i + 4, i + 2, i + 1, for eight vectors at once.
inline void total16(const __m512* s, float* to) {
    __m256 half[8];
    for (int j = 0; j < 8; j++) {
        half[j] = _mm256_add_ps(_mm512_castps512_ps256(s[j]), _mm512_extractf32x8_ps(s[j], 1));
    }
    __m256 quarter[4];  // sums j and j + 4, four lanes each
    for (int j = 0; j < 4; j++) {
        quarter[j] = _mm256_add_ps(_mm256_permute2f128_ps(half[j], half[j + 4], 0x20),
                                   _mm256_permute2f128_ps(half[j], half[j + 4], 0x31));
    }
    __m256 eighth[2];
    for (int j = 0; j < 2; j++) {
        __m256 a = quarter[2 * j], b = quarter[2 * j + 1];
        eighth[j] = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
    }
    __m256 total = _mm256_add_ps(_mm256_shuffle_ps(eighth[0], eighth[1], 0x88),
                                 _mm256_shuffle_ps(eighth[0], eighth[1], 0xdd));
    _mm256_store_ps(to, total);
}
#endif

}  // namespace
}  // namespace halter
