// bf16 x bf16 where the CPU multiplies pairs of bf16 (AVX512-BF16): 16 lanes, each of two adjacent
// elements of k. The instruction takes subnormal factors and sums as zero.
#include "gemm_tile.h"

namespace halter {
namespace {

struct Bf16Pairs {
    using X = uint16_t;
    using W = uint16_t;
    using Sum = __m512;
    using Xs = __m512bh;
    using Ws = __m512bh;
    static constexpr int STEP = 32;
    static constexpr int DEPTH = 1536;
    static constexpr int WIDTH = 8;
    static constexpr int GROUP = LINE<W, STEP>;
    using Direct = InHalves<Bf16Pairs>;
    static Sum zero() { return _mm512_setzero_ps(); }
    static Xs load_x(const X* p) { return (__m512bh)_mm512_loadu_si512(p); }
    static Xs load_x(const X* p, int count) {
        return (__m512bh)_mm512_maskz_loadu_epi16(__mmask32((1u << count) - 1), p);
    }
    static Ws load_w(const W* p) { return load_x(p); }
    static Ws load_w(const W* p, int count) { return load_x(p, count); }
    static Sum add(Sum s, Xs x, Ws w) { return _mm512_dpbf16_ps(s, x, w); }
    static __m256 add(__m256 s, __m256 x, __m256 w) {
        return _mm256_dpbf16_ps(s, (__m256bh)x, (__m256bh)w);
    }
    static __m256 total(const Sum* s) { return total16(s); }
};

}  // namespace

Block avx512_bf16_block(int x_type, int w_type) {
    return x_type == HALTER_BF16 && w_type == HALTER_BF16 ? block<Bf16Pairs> : nullptr;
}

}  // namespace halter
