// The best entries and the log-sum-exp of each row of a product (multiply_top_tile.h): what a neuron
// map is made of. On one core of an EPYC (Zen 4, AVX512-BF16), w[32000,1024], 2,048 rows, 10 entries
// kept, in GFLOP/s and as a share of what fused multiply-adds on registers reach there, 117 and 235:
//          largest entries    both signs    magnitudes, no sums
//   f32    111  95%           107  91%      111  95%
//   bf16   218  93%           209  89%      224  95%
// The tiles alone, without packing and selection, make 99%.

#include "multiply_top.h"

#include <new>

#include "cpu.h"
#include "gemm.h"
#include "halter.h"
#include "runtime.h"

namespace halter {
namespace {

TopKernel kernel_for(int x_type, int w_type) {
    const Isa isa = cpu().isa;
    TopKernel kernel = isa == Isa::AVX512_BF16 ? avx512_bf16_top(x_type, w_type) : nullptr;
    if (kernel) return kernel;
    return isa == Isa::AVX2 ? avx2_top(x_type, w_type) : avx512_top(x_type, w_type);
}

bool check(const TopProduct& p) {
    if (p.m < 1 || p.n < 1 || p.k < 1) {
        fail("no product of %d x %d x %d", p.m, p.n, p.k);
    } else if ((p.m > 1 && p.x_stride < p.k) || (p.n > 1 && p.w_stride < p.k)) {
        fail("product with rows that overlap: m %d, n %d, k %d, strides %ld, %ld", p.m, p.n, p.k,
             p.x_stride, p.w_stride);
    } else if ((p.x_type != HALTER_F32 && p.x_type != HALTER_BF16) || p.w_type < HALTER_F32 ||
               p.w_type > HALTER_BF16) {
        fail("no product of types %d and %d", p.x_type, p.w_type);
    } else if (p.sign < HALTER_TOP_PLUS || p.sign > HALTER_TOP_ABSOLUTE || p.kept < 1 ||
               (p.sign == HALTER_TOP_ABSOLUTE && p.log_sum)) {
        fail("no lists of sign %d, %d kept%s", p.sign, p.kept, p.log_sum ? ", with sums" : "");
    } else {
        return true;
    }
    return false;
}

}  // namespace
}  // namespace halter

using namespace halter;

int halter_multiply_top(int m, int n, int k, const void* x, int x_type, long x_stride,
                        const void* w, int w_type, long w_stride, int sign, int kept, int* ids,
                        float* values, float* log_sum) {
    TopProduct p{m, n, k, x, x_stride, w, w_stride, x_type, w_type, sign, kept, ids, values, log_sum};
    if (!check(p)) return -1;
    try {
        kernel_for(x_type, w_type)(p, thread_count(), onednn_multiply);
    } catch (const std::bad_alloc&) {
        fail("no memory for the panels of a product of %d x %d x %d", m, n, k);
        return -1;
    }
    return 0;
}
