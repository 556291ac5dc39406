// The best entries of a product bf16 x bf16 where the CPU multiplies pairs of bf16 (AVX512-BF16). The
// instruction takes subnormal factors and sums as zero.
#include "multiply_top_avx512.h"

namespace halter {
namespace {

// Four pairs of a row.
struct Pairs {
    using Type = uint16_t;
    static __m128 load(const uint16_t* p) { return _mm_loadu_ps((const float*)p); }
};

struct Lanes : Avx512 {
    using X = Pairs;
    using W = Pairs;
    static constexpr int PER_STEP = 2;
    static Vector add(Vector sum, Vector x, Vector w) {
        return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
    }
};

}  // namespace

TopKernel avx512_bf16_top(int x_type, int w_type) {
    return x_type == HALTER_BF16 && w_type == HALTER_BF16 ? multiply_top<Lanes> : nullptr;
}

}  // namespace halter
