// The matrix product for x86-64-v4: 16 lanes over k; two-byte types become f32 in registers.
#include "gemm_tile.h"

namespace halter {
namespace {

inline __mmask16 lanes(int count) { return __mmask16((1u << count) - 1); }

struct F32 {
    using Type = float;
    static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
    static __m512 load(const float* p, int count) { return _mm512_maskz_loadu_ps(lanes(count), p); }
};

struct Bf16 {
    using Type = uint16_t;
    static __m512 widen(__m256i v) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
    }
    static __m512 load(const uint16_t* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }
    static __m512 load(const uint16_t* p, int count) {
        return widen(_mm256_maskz_loadu_epi16(lanes(count), p));
    }
};

struct F16 {
    using Type = uint16_t;
    static __m512 load(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
    }
    static __m512 load(const uint16_t* p, int count) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(count), p));
    }
};

template <class A, class B>
struct Lanes {
    using X = typename A::Type;
    using W = typename B::Type;
    using Sum = __m512;
    using Xs = __m512;
    using Ws = __m512;
    static constexpr int STEP = 16;
    static constexpr int DEPTH = 768;
    static constexpr int WIDTH = 8;
    static constexpr int GROUP = LINE<W, STEP>;
    using Direct = InHalves<Lanes>;
    static Sum zero() { return _mm512_setzero_ps(); }
    static Xs load_x(const X* p) { return A::load(p); }
    static Xs load_x(const X* p, int count) { return A::load(p, count); }
    static Ws load_w(const W* p) { return B::load(p); }
    static Ws load_w(const W* p, int count) { return B::load(p, count); }
    static Sum add(Sum s, Xs x, Ws w) { return _mm512_fmadd_ps(x, w, s); }
    static __m256 add(__m256 s, __m256 x, __m256 w) { return _mm256_fmadd_ps(x, w, s); }
    static __m256 total(const Sum* s) { return total16(s); }
};

}  // namespace

Block avx512_block(int x_type, int w_type) { return block_for<Lanes, F32, F16, Bf16>(x_type, w_type); }

}  // namespace halter
