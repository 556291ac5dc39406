// What both AVX-512 kernels do alike.
#pragma once

#include "multiply_top_tile.h"

namespace halter {
namespace {

struct Avx512 {
    using Vector = __m512;
    static constexpr int LANES = 16;
    static constexpr int VECTORS = 2;
    static constexpr int TILE = 12;  // 24 sums, 2 vectors of x and one of w in 32 registers
    static Vector set(float a) { return _mm512_set1_ps(a); }
    static Vector load(const float* p) { return _mm512_load_ps(p); }
    static void store(float* p, Vector a) { _mm512_store_ps(p, a); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
    static Vector round(Vector a) { return _mm512_roundscale_ps(a, 0x08); }
    static Vector scale(Vector a, Vector n) { return _mm512_scalef_ps(a, n); }
    static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
    static Vector minus(Vector a) { return _mm512_xor_ps(a, set(-0.0f)); }
    static Vector magnitude(Vector a) { return _mm512_andnot_ps(set(-0.0f), a); }
    static unsigned above(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
};

}  // namespace
}  // namespace halter
