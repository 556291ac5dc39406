// The dot form of the matrix product, for any instruction set: included by one file for each, which
// is compiled with its flags and brings a `Lanes` type (below). Everything here has internal linkage,
// so that no set's code can stand in for another's at link time.
//
// Rows of x and of w both run along k, so a tile of 3 x 8 results (3 x 4 with AVX2's 16 registers) keeps
// one vector of partial sums for each and reads both factors where they lie: weights stay the mapped
// file. There are three ways, by the rows of x:
//   1 to 3   tiles of 3 x 2, both factors where they lie
//   to 12    tiles of 8 x 3 (4 x 3): x from a panel, w where it lies, read once for a tile's rows
//   more     tiles of 3 x 8: the tile's rows of w and the block's rows of x are copied on the way into
//            panels of a few hundred KB for a thread
// Every result is computed the same way whatever tile it falls into:
//   - k is cut into blocks whose length depends on k and the types alone;
//   - within a block, lane i of a vector of L lanes sums the elements i, i + L, i + 2L, ... in order
//     (a short last step is filled with zeros in both factors);
//   - the lanes are added in one fixed tree, the blocks in order.
// So a row's bits depend on its own elements and on w, and not on m, tiling or threads.
// A factor that lies transposed in memory is turned a block at a time and then goes the same way, to
// the same bits. It costs most where few rows of x share it: with w[768,768] in f32 on one core of a Zen 5
// 136 GFLOP/s instead of 180 for 128 rows, 22 instead of 107 for 8 (gemm-bench 1).
//
// Lanes provides: types X, W, Sum, Xs, Ws; STEP, elements of k in a step; DEPTH, those of a
// block of k; WIDTH, the columns of a tile, in the second way its rows; GROUP, the steps of a tile of the
// third way that follow each other without a branch; zero(); load_x(p), load_w(p) and the same with a count
// below STEP, which read exactly that many elements and fill with zeros; add(Sum, Xs, Ws);
// total(Sum[WIDTH]), the lane sums in a vector; Direct, the lanes of the first way.
#pragma once

// g++ 12 takes the "undefined" operands inside its own intrinsics for uninitialised variables.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "gemm.h"
#include "halter.h"

namespace halter {
namespace {

constexpr int TILE_M = 3;
constexpr int MOST_TILES = (BLOCK_M + TILE_M - 1) / TILE_M;

// Up to so many rows of x, tiles have few rows of w, FEW_N, and up to WIDTH of x. Then reading w from
// memory takes the time, and who reads each row of it once for up to eight of x, and few of them at a
// time, keeps reading while it multiplies. By turns on one core of a Zen 5, tiles of 3 x 8 where both
// factors lie took 1.1 to 1.4 times as long for 4 rows, 1.4 to 1.8 for 8 of f32, 1.25 to 1.5 for 7 to
// 12 of bf16 by w with a row of 4 or 8 KiB; kept to AVX2, whose tiles have four rows of x, 0.9 to 1.3. That
// was before their first step stood apart (sum_steps), which made 8 rows of bf16 by w[768,768] 1.5 times as
// fast. For 1 to 3 rows those tiles were 2 to 20 % faster; from 16 on panels are, by up to a third. On two
// threads of an EPYC that has no more than AVX2 panels took 1.05 to 1.25 times as long for 4 to 8 rows, as
// long for 10 and 12.
constexpr int FEW = 12;
constexpr int FEW_N = 3;

// The columns of a tile whose factors both lie in memory, and how many bytes ahead of what it reads of w it
// asks. By turns on two threads of an EPYC that has no more than AVX2, beside bare reading from beginning to
// end, one row of x reads w at 1.0 to 1.1 times that rate, f32 and bf16 alike. Of bf16 four columns that ask
// for those of the next tile read at 0.75 to 0.8, four that ask AHEAD at 0.95 to 1.0, two that do not ask at
// 0.64. On a Zen 5 that was kept to AVX2 two that ask AHEAD were 1.1 to 1.4 times as fast in f32 as four that
// ask for the next tile, but 0.8 to 0.9 times in bf16, which is converted on the way.
constexpr int DIRECT_N = 2;
constexpr int AHEAD = 8192;

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
    constexpr int most = Lanes::DEPTH / Lanes::STEP;
    int steps = std::max(1, (k + Lanes::STEP - 1) / Lanes::STEP);
    int blocks = (steps + most - 1) / most;
    return (steps + blocks - 1) / blocks * Lanes::STEP;
}

// The steps that read one line of a row of w.
template <class W, int STEP>
constexpr int LINE = 64 / (STEP * sizeof(W));

// One load for all products of a vector; g++ would rather load for each.
template <class Vector>
inline void load_once(Vector& v) {
    asm("" : "+v"(v));
}

// Adds lane i and i + 4, then i + 2, i + 1, for four vectors at once.
inline __m128 total8(const __m256* s) {
    __m128 half[4];
    for (int j = 0; j < 4; j++) {
        half[j] = _mm_add_ps(_mm256_castps256_ps128(s[j]), _mm256_extractf128_ps(s[j], 1));
    }
    __m128 ab = _mm_add_ps(_mm_movelh_ps(half[0], half[1]), _mm_movehl_ps(half[1], half[0]));
    __m128 cd = _mm_add_ps(_mm_movelh_ps(half[2], half[3]), _mm_movehl_ps(half[3], half[2]));
    return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
}

#ifdef __AVX512F__
// Adds lane i and i + 8, then i + 4, i + 2, i + 1, for eight vectors at once: the halves of two vectors
// side by side in one, and so on, 24 instructions in all.
inline __m256 total16(const __m512* s) {
    __m512 half[4];  // of sums 2 j and 2 j + 1, eight lanes each
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m512 a = s[2 * j], b = s[2 * j + 1];
        half[j] = _mm512_add_ps(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
    }
    __m512 quarter[2];  // of sums 4 j to 4 j + 3, four lanes each
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
        const __m512 a = half[2 * j], b = half[2 * j + 1];
        quarter[j] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    }
    const __m512d a = _mm512_castps_pd(quarter[0]), b = _mm512_castps_pd(quarter[1]);
    // Of sums 0, 4, 1, 5, 2, 6, 3, 7, two lanes each.
    const __m512 eighth = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                                        _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    const __m512 total = _mm512_add_ps(eighth, _mm512_permute_ps(eighth, 0xb1));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, total));
}

// 16 lanes in two vectors.
struct Halves {
    __m256 low, high;
};

inline void load_once(Halves& v) { asm("" : "+v"(v.low), "+v"(v.high)); }

inline Halves load_halves(const void* p) {
    const float* half = static_cast<const float*>(p);
    return {_mm256_loadu_ps(half), _mm256_loadu_ps(half + 8)};
}

inline Halves halves(__m512 v) {
    return {_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)};
}

// The lanes of AVX-512 in halves, to the same bits. Weights of a mapped file lie at any multiple of 8 bytes,
// where most loads of 64 touch two lines. By turns on two threads of a Zen 5, beside bare reading from
// beginning to end, one row of x read w in halves, two rows at once, at 0.9 to 1.2 times that rate,
// wherever w lies; in whole vectors eight rows at once at 0.9 to 1.1 times where it lies at a multiple of
// 64, at 0.7 to 0.9 elsewhere, and two rows at 0.7 to 1.1. For two and three rows of x halves read at
// 0.8 to 1.25, whole vectors at 0.3 to 1.0.
template <class Lanes>
struct InHalves {
    using X = typename Lanes::X;
    using W = typename Lanes::W;
    using Sum = Halves;
    using Xs = Halves;
    using Ws = Halves;
    static constexpr int STEP = Lanes::STEP;
    static constexpr int DEPTH = Lanes::DEPTH;
    static constexpr int WIDTH = 4;
    static Sum zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static Xs load_x(const X* p) {
        if constexpr (STEP * sizeof(X) == 64) return load_halves(p);
        else return halves(Lanes::load_x(p));
    }
    static Xs load_x(const X* p, int count) { return halves((__m512)Lanes::load_x(p, count)); }
    static Ws load_w(const W* p) {
        if constexpr (STEP * sizeof(W) == 64) return load_halves(p);
        else return halves(Lanes::load_w(p));
    }
    static Ws load_w(const W* p, int count) { return halves((__m512)Lanes::load_w(p, count)); }
    static Sum add(Sum s, Xs x, Ws w) {
        return {Lanes::add(s.low, x.low, w.low), Lanes::add(s.high, x.high, w.high)};
    }
    static __m128 total(const Sum* s) {
        __m256 eight[WIDTH];
        for (int j = 0; j < WIDTH; j++) eight[j] = _mm256_add_ps(s[j].low, s[j].high);
        return total8(eight);
    }
};
#endif

// A tile's work over one block of k: c (+)= x · wᵀ.
template <class Lanes>
struct Tile {
    int k;
    const typename Lanes::X* x;
    long x_stride;
    const typename Lanes::Xs* x_panel;
    const typename Lanes::W* w;
    long w_stride;
    const char* ask;  // what comes later of w
    int ask_rows;     // of it, where another tile reads w
    typename Lanes::Ws (*w_panel)[Lanes::WIDTH];
    float* c;  // rows of BLOCK_N
    bool first;
};

// Asks for what `steps` steps from s on read in each of the rows of w that another tile reads.
template <class Lanes>
inline void ask_for_rows(const Tile<Lanes>& t, int s, int steps) {
    constexpr int bytes = Lanes::STEP * sizeof(typename Lanes::W);
    const long stride = t.w_stride * long(sizeof(typename Lanes::W));
    const char* lines = t.ask + s * bytes;
    for (int j = 0; j < t.ask_rows; j++) {
#pragma GCC unroll 8
        for (int at = 0; at < steps * bytes; at += 64) _mm_prefetch(lines + at, _MM_HINT_T0);
        lines += stride;
    }
}

// The sums of a tile over its block of k: from zero, step by step, `ask` before each GROUP of steps that
// follow each other without a branch. The last step is told that it is short, if it is.
//
// APART, the first group is code of its own, so that an instruction there reads the beginnings of rows and
// nothing else. Bare reading of rows on a Zen 5, in the order and with the instructions of a tile, became 1.1
// to 1.4 times as fast by that alone; why is a guess (its prefetchers go by the distance at which an
// instruction reads, and that of one which reads whole rows breaks at the end of each). One row of x gained
// 5 to 30 %. Tiles that multiply longer than they read have no use for it: 32 rows by w[768,768] became
// a fifth slower with it. (A lambda for both places that run a group cost 5 % of 128 rows: g++ 12 then copies
// the tile to the stack.)
template <class Lanes, int GROUP, bool APART, int ROWS, class Ask, class Step>
inline void sum_steps(int k, typename Lanes::Sum (&sum)[ROWS][Lanes::WIDTH], const Ask& ask,
                      const Step& step) {
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < Lanes::WIDTH; j++) sum[i][j] = Lanes::zero();
    }
    const int whole = k / Lanes::STEP;
    int s = 0;
    if (APART && whole >= GROUP) {
        ask(0);
#pragma GCC unroll 8
        for (; s < GROUP; s++) step(s, std::false_type());
    }
    for (; s + GROUP <= whole; s += GROUP) {
        ask(s);
#pragma GCC unroll 8
        for (int i = 0; i < GROUP; i++) step(s + i, std::false_type());
    }
    for (; s < whole; s++) step(s, std::false_type());
    if (k % Lanes::STEP) step(whole, std::true_type());
}

// Step s of a tile; its last one, with elements short of a step, when PART.
template <class Lanes, int MR, int NR, bool PACKING, bool PART>
inline void step(const Tile<Lanes>& t, int s, typename Lanes::Sum (&sum)[MR][Lanes::WIDTH]) {
    const int at = s * Lanes::STEP;
    const int count = t.k - at;
    typename Lanes::Xs xs[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) xs[i] = t.x_panel[s * MR + i];
#pragma GCC unroll 8
    for (int j = 0; j < NR; j++) {
        typename Lanes::Ws ws;
        if constexpr (PACKING) {
            const typename Lanes::W* row = t.w + j * t.w_stride + at;
            ws = PART ? Lanes::load_w(row, count) : Lanes::load_w(row);
            t.w_panel[s][j] = ws;
        } else {
            ws = t.w_panel[s][j];
        }
        load_once(ws);
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++) sum[i][j] = Lanes::add(sum[i][j], xs[i], ws);
    }
}

// Adds the lanes of a tile's sums, row by row, to those of the blocks of k before.
template <class Lanes, int MR, int NR>
inline void store(const Tile<Lanes>& t, const typename Lanes::Sum (&sum)[MR][Lanes::WIDTH]) {
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        auto total = Lanes::total(sum[i]);
        float* to = t.c + i * BLOCK_N;
        if constexpr (NR == Lanes::WIDTH) {  // in one piece: of a loop over it g++ 12 makes five
            if (!t.first) {
                decltype(total) before;
                std::memcpy(&before, to, sizeof before);
                total += before;
            }
            std::memcpy(to, &total, sizeof total);
        } else {
#pragma GCC unroll 2
            for (int j = 0; j < NR; j++) to[j] = t.first ? total[j] : to[j] + total[j];
        }
    }
}

// Not inlined: with all of them in one function g++ 12 lost a tenth of the speed.
template <class Lanes, int MR, int NR, bool PACKING>
__attribute__((noinline)) void compute(const Tile<Lanes>& shared) {
    const Tile<Lanes> t = shared;  // which no store through a pointer can change
    typename Lanes::Sum sum[MR][Lanes::WIDTH];
    constexpr int group = Lanes::GROUP;
    const auto ask = [&](int s) {
        if (NR > 1) ask_for_rows(t, s, group);
    };
    sum_steps<Lanes, group, false>(t.k, sum, ask, [&](int s, auto part) {
        step<Lanes, MR, NR, PACKING, decltype(part)::value>(t, s, sum);
    });
    store<Lanes, MR, NR>(t, sum);
}

template <class Lanes, int NR, bool PACKING>
inline void compute(const Tile<Lanes>& t, int rows) {
    switch (rows) {
        case 1: return compute<Lanes, 1, NR, PACKING>(t);
        case 2: return compute<Lanes, 2, NR, PACKING>(t);
        default: return compute<Lanes, 3, NR, PACKING>(t);
    }
}

// `rows` rows of x, 1 to 3, by `columns` rows of w: WIDTH, or 1 at the right edge.
template <class Lanes, bool PACKING>
inline void compute(const Tile<Lanes>& t, int rows, int columns) {
    if (columns == 1) return compute<Lanes, 1, PACKING>(t, rows);
    compute<Lanes, Lanes::WIDTH, PACKING>(t, rows);
}

// Step s of a tile whose factors both lie in memory; its last one when PART.
template <class Lanes, int MR, int NR, bool PART>
inline void step_direct(const Tile<Lanes>& t, int s, typename Lanes::Sum (&sum)[MR][Lanes::WIDTH]) {
    const int at = s * Lanes::STEP;
    const int count = t.k - at;
    typename Lanes::Xs xs[MR];
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        const typename Lanes::X* row = t.x + i * t.x_stride + at;
        xs[i] = PART ? Lanes::load_x(row, count) : Lanes::load_x(row);
    }
#pragma GCC unroll 8
    for (int j = 0; j < NR; j++) {
        const typename Lanes::W* row = t.w + j * t.w_stride + at;
        typename Lanes::Ws ws = PART ? Lanes::load_w(row, count) : Lanes::load_w(row);
        load_once(ws);
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++) sum[i][j] = Lanes::add(sum[i][j], xs[i], ws);
    }
}

template <class Lanes, int MR, int NR>
__attribute__((noinline)) void compute_direct(const Tile<Lanes>& shared) {
    const Tile<Lanes> t = shared;
    typename Lanes::Sum sum[MR][Lanes::WIDTH];
    const auto ask = [&](int s) {
        constexpr int bytes = NR * Lanes::STEP * sizeof(typename Lanes::W);
#pragma GCC unroll 8
        for (int at = 0; NR > 1 && at < bytes; at += 64) {
            _mm_prefetch(t.ask + s * bytes + at, _MM_HINT_T1);
        }
    };
    sum_steps<Lanes, 1, true>(t.k, sum, ask, [&](int s, auto part) {
        step_direct<Lanes, MR, NR, decltype(part)::value>(t, s, sum);
    });
    store<Lanes, MR, NR>(t, sum);
}

// Step s of a tile of few rows; its last one when PART.
template <class Lanes, int MR, int NR, bool PART>
inline void step_few(const Tile<Lanes>& t, int s, typename Lanes::Sum (&sum)[NR][Lanes::WIDTH]) {
    const int at = s * Lanes::STEP;
    const int count = t.k - at;
    typename Lanes::Ws ws[NR];
#pragma GCC unroll 8
    for (int j = 0; j < NR; j++) {
        const typename Lanes::W* row = t.w + j * t.w_stride + at;
        ws[j] = PART ? Lanes::load_w(row, count) : Lanes::load_w(row);
    }
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++) {
        typename Lanes::Xs xs = t.x_panel[s * MR + i];
        load_once(xs);
#pragma GCC unroll 8
        for (int j = 0; j < NR; j++) sum[j][i] = Lanes::add(sum[j][i], xs, ws[j]);
    }
}

// A tile of few rows: MR rows of x, in a panel, by NR rows of w where they lie, each read once for all of
// them. Its sums are those of any tile.
template <class Lanes, int MR, int NR>
__attribute__((noinline)) void compute_few(const Tile<Lanes>& shared) {
    const Tile<Lanes> t = shared;
    typename Lanes::Sum sum[NR][Lanes::WIDTH];
    constexpr int group = LINE<typename Lanes::W, Lanes::STEP>;
    const auto ask = [&](int s) {
        if (NR == FEW_N) ask_for_rows(t, s, group);
    };
    sum_steps<Lanes, group, true>(t.k, sum, ask, [&](int s, auto part) {
        step_few<Lanes, MR, NR, decltype(part)::value>(t, s, sum);
    });
#pragma GCC unroll 8
    for (int j = 0; j < NR; j++) {
        const auto total = Lanes::total(sum[j]);
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++) {
            float* to = t.c + i * BLOCK_N + j;
            *to = t.first ? total[i] : *to + total[i];
        }
    }
}

// `rows` rows of x, 2 to WIDTH, by `columns` rows of w: FEW_N, or less at the right edge.
template <class Lanes, int MR = Lanes::WIDTH>
inline void compute_few(const Tile<Lanes>& t, int rows, int columns) {
    if constexpr (MR > 2) {
        if (rows < MR) return compute_few<Lanes, MR - 1>(t, rows, columns);
    }
    switch (columns) {
        case 1: return compute_few<Lanes, MR, 1>(t);
        case 2: return compute_few<Lanes, MR, 2>(t);
        default: return compute_few<Lanes, MR, FEW_N>(t);
    }
}

// to[j][i] = from[i][j], 8 by 8.
inline void turn8(const float* from, long stride, float* to, long to_stride) {
    __m256 row[8], pair[8], four[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) row[i] = _mm256_loadu_ps(from + i * stride);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        four[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);
        four[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
        four[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
        four[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        _mm256_storeu_ps(to + j * to_stride, _mm256_permute2f128_ps(four[j], four[j + 4], 0x20));
        _mm256_storeu_ps(to + (j + 4) * to_stride,
                         _mm256_permute2f128_ps(four[j], four[j + 4], 0x31));
    }
}

inline void turn8(const uint16_t* from, long stride, uint16_t* to, long to_stride) {
    __m128i row[8], pair[8], four[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) row[i] = _mm_loadu_si128((const __m128i*)(from + i * stride));
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm_unpacklo_epi16(row[i], row[i + 1]);
        pair[i + 1] = _mm_unpackhi_epi16(row[i], row[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        four[i] = _mm_unpacklo_epi32(pair[i], pair[i + 2]);
        four[i + 1] = _mm_unpackhi_epi32(pair[i], pair[i + 2]);
        four[i + 2] = _mm_unpacklo_epi32(pair[i + 1], pair[i + 3]);
        four[i + 3] = _mm_unpackhi_epi32(pair[i + 1], pair[i + 3]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        _mm_storeu_si128((__m128i*)(to + 2 * j * to_stride),
                         _mm_unpacklo_epi64(four[j], four[j + 4]));
        _mm_storeu_si128((__m128i*)(to + (2 * j + 1) * to_stride),
                         _mm_unpackhi_epi64(four[j], four[j + 4]));
    }
}

// to[columns][rows] = transpose(from[rows][columns]); no element beside those is read or written.
template <class T>
inline void turn(int rows, int columns, const T* from, long stride, T* to, long to_stride) {
    const int whole_rows = rows / 8 * 8;
    const int whole_columns = columns / 8 * 8;
    const auto one = [&](int i, int j) { to[j * to_stride + i] = from[i * stride + j]; };
    for (int i = 0; i < whole_rows; i += 8) {
        for (int j = 0; j < whole_columns; j += 8) {
            turn8(from + i * stride + j, stride, to + j * to_stride + i, to_stride);
        }
        for (int j = whole_columns; j < columns; j++) {
            for (int r = i; r < i + 8; r++) one(r, j);
        }
    }
    for (int i = whole_rows; i < rows; i++) {
        for (int j = 0; j < columns; j++) one(i, j);
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

// The sums of MR rows of x by rows of w, NR at a time from row j on as long as there are so many: each passes
// once from beginning to end. Returns the first row that is left.
//
// In loops of its own, since what stands between two such tiles counts: reached through the loops and choices
// of multiply_panels, one row of bf16 by w[768,768] took a seventh longer.
template <class Lanes, int MR, int NR>
int multiply_direct(const Product& p, float* sums, int j) {
    const auto* x = static_cast<const typename Lanes::X*>(p.x);
    const auto* w = static_cast<const typename Lanes::W*>(p.w);
    const int depth = block_of_k<Lanes>(p.k);
    Tile<Lanes> t = {};
    t.x_stride = p.x_stride;
    t.w_stride = p.w_stride;
    for (; j + NR <= p.n; j += NR) {
        int k0 = 0;
        do {
            t.k = std::min(depth, p.k - k0);
            t.first = k0 == 0;
            t.x = x + k0;
            t.w = w + j * t.w_stride + k0;
            t.ask = reinterpret_cast<const char*>(w + j * t.w_stride + NR * k0) + AHEAD;
            t.c = sums + j;
            compute_direct<Lanes, MR, NR>(t);
            k0 += depth;
        } while (k0 < p.k);
    }
    return j;
}

template <class Lanes, int MR>
void multiply_direct(const Product& p, float* sums) {
    const int left = multiply_direct<Lanes, MR, DIRECT_N>(p, sums, 0);
    multiply_direct<Lanes, MR, 1>(p, sums, left);
}

// The sums of 1 to TILE_M rows of x, both factors where they lie.
template <class Lanes>
void multiply_direct(const Product& p, Scratch& scratch) {
    switch (p.m) {
        case 1: return multiply_direct<Lanes, 1>(p, scratch.sums[0]);
        case 2: return multiply_direct<Lanes, 2>(p, scratch.sums[0]);
        default: return multiply_direct<Lanes, 3>(p, scratch.sums[0]);
    }
}

// The sums of any rows of x, from panels.
template <class Lanes>
void multiply_panels(const Product& p, Scratch& scratch) {
    using X = typename Lanes::X;
    using W = typename Lanes::W;
    using Xs = typename Lanes::Xs;
    using Ws = typename Lanes::Ws;
    constexpr int WIDTH = Lanes::WIDTH;
    constexpr int STEPS = Lanes::DEPTH / Lanes::STEP;
    static_assert(BLOCK_M * STEPS * sizeof(Xs) <= sizeof scratch.x, "panels of x");
    static_assert(WIDTH * STEPS * sizeof(Ws) <= sizeof scratch.w, "panel of w");
    static_assert(BLOCK_M * Lanes::DEPTH * sizeof(X) <= sizeof scratch.x_rows, "turned x");
    static_assert(STRIP * Lanes::DEPTH * sizeof(W) <= sizeof scratch.w_rows, "turned w");
    static_assert(STRIP % WIDTH == 0, "strips of whole tiles");

    const int m = p.m;
    const int n = p.n;
    const bool few = m > TILE_M && m <= FEW && !p.w_transposed;
    const int height = few ? WIDTH : TILE_M;
    const int tiles = (m + height - 1) / height;
    const int width = few ? FEW_N : WIDTH;
    const int depth = block_of_k<Lanes>(p.k);
    Tile<Lanes> t = {};
    t.w_stride = p.w_transposed ? depth : p.w_stride;
    t.w_panel = reinterpret_cast<Ws(*)[WIDTH]>(scratch.w);

    const X* x = static_cast<const X*>(p.x);
    const W* w = static_cast<const W*>(p.w);
    X* x_rows = reinterpret_cast<X*>(scratch.x_rows);  // [m][depth]
    W* w_rows = reinterpret_cast<W*>(scratch.w_rows);  // [STRIP][depth]
    Xs* x_panels = reinterpret_cast<Xs*>(scratch.x);
    // The first row of each tile, and the first of the next columns' rows of w that it asks for.
    int first_row[MOST_TILES + 1], first_ask[MOST_TILES + 1];
    for (int i = 0; i <= tiles; i++) {
        first_row[i] = m * i / tiles;
        first_ask[i] = width * i / tiles;
    }
    // The panel of a tile begins where those of the rows above end.
    const auto panel = [&](int row) {
        return x_panels + row * ((t.k + Lanes::STEP - 1) / Lanes::STEP);
    };
    const auto w_at = [&](int j, int k0) {
        return p.w_transposed ? w_rows + j % STRIP * t.w_stride : w + j * t.w_stride + k0;
    };
    // Once even for k = 0, whose sums are zero.
    for (int k0 = 0; k0 < std::max(p.k, 1); k0 += depth) {
        t.k = std::min(depth, p.k - k0);
        t.first = k0 == 0;
        if (p.x_transposed) turn(t.k, m, x + k0 * p.x_stride, p.x_stride, x_rows, depth);
        for (int i = 0; i < tiles; i++) {
            const int row = first_row[i];
            const X* from = p.x_transposed ? x_rows + row * depth : x + row * p.x_stride + k0;
            const long stride = p.x_transposed ? depth : p.x_stride;
            pack<Lanes>(first_row[i + 1] - row, t.k, from, stride, panel(row));
        }
        for (int j = 0, columns; j < n; j += columns) {
            columns = j + width <= n ? width : few ? n - j : 1;
            if (p.w_transposed && j % STRIP == 0) {
                turn(t.k, std::min(STRIP, n - j), w + k0 * p.w_stride + j, p.w_stride, w_rows, depth);
            }
            t.w = w_at(j, k0);
            // All rows of x by the tile of columns at j.
            for (int i = 0; i < tiles; i++) {
                const int row = first_row[i];
                const int rows = first_row[i + 1] - row;
                t.x_panel = panel(row);
                t.c = &scratch.sums[row][j];
                // Each asks for a part of the next columns' rows of w, so that reading them and arithmetic
                // take the same time.
                if (!p.w_transposed) {
                    t.ask = reinterpret_cast<const char*>(w_at(j + width + first_ask[i], k0));
                    t.ask_rows = first_ask[i + 1] - first_ask[i];
                }
                if (few) {
                    compute_few<Lanes>(t, rows, columns);
                } else {
                    i == 0 ? compute<Lanes, true>(t, rows, columns)
                           : compute<Lanes, false>(t, rows, columns);
                }
            }
        }
    }
}

template <class Lanes>
void block(const Product& whole, int m0, int m1, int n0, int n1, Scratch& scratch) {
    Product p = whole;
    p.m = m1 - m0;
    p.n = n1 - n0;
    p.x = static_cast<const typename Lanes::X*>(p.x) + m0 * (p.x_transposed ? 1 : p.x_stride);
    p.w = static_cast<const typename Lanes::W*>(p.w) + n0 * (p.w_transposed ? 1 : p.w_stride);
    if (p.m <= TILE_M && !p.x_transposed && !p.w_transposed) {
        multiply_direct<typename Lanes::Direct>(p, scratch);
    } else {
        multiply_panels<Lanes>(p, scratch);
    }
    for (int i = 0; i < p.m; i++) {
        const float* from = scratch.sums[i];
        if (p.out_type == HALTER_F32) {
            float* out = static_cast<float*>(p.out) + (m0 + i) * p.out_stride + n0;
            std::memcpy(out, from, p.n * sizeof(float));
        } else {
            uint16_t* out = static_cast<uint16_t*>(p.out) + (m0 + i) * p.out_stride + n0;
            for (int j = 0; j < p.n; j++) out[j] = float_to_bf16(from[j]);
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

}  // namespace
}  // namespace halter
