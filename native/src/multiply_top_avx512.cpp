// The best entries of a product for x86-64-v4: 16 lanes; two-byte types become f32 in panels.
#include "multiply_top_avx512.h"

namespace halter {
namespace {

template <class A, class B>
struct Lanes : Avx512 {
    using X = A;
    using W = B;
    static constexpr int PER_STEP = 1;
    static Vector add(Vector sum, Vector x, Vector w) { return _mm512_fmadd_ps(x, w, sum); }
};

}  // namespace

TopKernel avx512_top(int x_type, int w_type) { return kernel_for<Lanes>(x_type, w_type); }

}  // namespace halter
