// The best entries of a product for x86-64-v3: 8 lanes; two-byte types become f32 in panels.
#include "multiply_top_tile.h"

namespace halter {
namespace {

template <class A, class B>
struct Lanes {
    using X = A;
    using W = B;
    using Vector = __m256;
    static constexpr int PER_STEP = 1;
    static constexpr int LANES = 8;
    static constexpr int VECTORS = 3;
    static constexpr int TILE = 4;  // 12 sums, 3 vectors of x and one of w in 16 registers
    static Vector add(Vector sum, Vector x, Vector w) { return _mm256_fmadd_ps(x, w, sum); }
    static Vector set(float a) { return _mm256_set1_ps(a); }
    static Vector load(const float* p) { return _mm256_load_ps(p); }
    static void store(float* p, Vector a) { _mm256_store_ps(p, a); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
    static Vector round(Vector a) { return _mm256_round_ps(a, 0x08); }
    static Vector scale(Vector a, Vector n) {  // n <= 0; from 2^-127 on the result is 0
        const __m256i power = _mm256_cvtps_epi32(_mm256_max_ps(n, set(-127)));
        const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(power, _mm256_set1_epi32(127)), 23);
        return a * _mm256_castsi256_ps(bits);
    }
    static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
    static Vector minus(Vector a) { return _mm256_xor_ps(a, set(-0.0f)); }
    static Vector magnitude(Vector a) { return _mm256_andnot_ps(set(-0.0f), a); }
    static unsigned above(Vector a, Vector b) {
        return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
    }
};

}  // namespace

TopKernel avx2_top(int x_type, int w_type) { return kernel_for<Lanes>(x_type, w_type); }

}  // namespace halter
