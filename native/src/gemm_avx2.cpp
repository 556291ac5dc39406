// The matrix product for x86-64-v3: 8 lanes over k; two-byte types become f32 in registers.
#include "gemm_tile.h"

namespace halter {
namespace {

// Two-byte elements of a short last step, without reading past them.
inline __m128i load_short(const uint16_t* p, int count) {
    alignas(16) uint16_t copy[8] = {};
    std::memcpy(copy, p, count * sizeof(uint16_t));
    return _mm_load_si128((const __m128i*)copy);
}

struct F32 {
    using Type = float;
    static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
    static __m256 load(const float* p, int count) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
    }
};

struct Bf16 {
    using Type = uint16_t;
    static __m256 widen(__m128i v) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
    }
    static __m256 load(const uint16_t* p) { return widen(_mm_loadu_si128((const __m128i*)p)); }
    static __m256 load(const uint16_t* p, int count) { return widen(load_short(p, count)); }
};

struct F16 {
    using Type = uint16_t;
    static __m256 load(const uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
    }
    static __m256 load(const uint16_t* p, int count) {
        return _mm256_cvtph_ps(load_short(p, count));
    }
};

template <class A, class B>
struct Lanes {
    using X = typename A::Type;
    using W = typename B::Type;
    using Sum = __m256;
    using Xs = __m256;
    using Ws = __m256;
    static constexpr int STEP = 8;
    static constexpr int DEPTH = 768;
    static constexpr int WIDTH = 4;
    // By turns on one core of an EPYC that has no more than AVX2, 32 and 128 rows were 1.15 to 1.4 times as fast
    // as with a branch at each step and the question whether it begins a line of w, whenever the core gave half
    // its peak (it seems, to another machine's thread); else as fast. Groups of two were 5 % slower than these,
    // of eight as fast.
    static constexpr int GROUP = 4;
    using Direct = Lanes;
    static Sum zero() { return _mm256_setzero_ps(); }
    static Xs load_x(const X* p) { return A::load(p); }
    static Xs load_x(const X* p, int count) { return A::load(p, count); }
    static Ws load_w(const W* p) { return B::load(p); }
    static Ws load_w(const W* p, int count) { return B::load(p, count); }
    // Of the intrinsic g++ 12 makes forms that overwrite a factor, where steps follow each other, and then
    // has not enough registers for a tile: sums go to the stack, or x is read from memory for each product.
    static Sum add(Sum s, Xs x, Ws w) {
        asm("vfmadd231ps %2, %1, %0" : "+x"(s) : "x"(x), "x"(w));
        return s;
    }
    static __m128 total(const Sum* s) { return total8(s); }
};

}  // namespace

Block avx2_block(int x_type, int w_type) { return block_for<Lanes, F32, F16, Bf16>(x_type, w_type); }

}  // namespace halter
