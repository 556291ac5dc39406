// Matrix products of the CPU: our own kernels (gemm_tile.h), or oneDNN when it has been asked for.
//
// Our own are the default because a row's bits then do not depend on the batch; oneDNN 3.11's do
// (one row differs from many). It costs little: on one core of an EPYC (Zen 4, AVX512-BF16), best of
// interleaved runs, w[768,768] from memory, GFLOP/s of own | oneDNN | torch 2.13:
//          m = 1         8              32               128              512
//   f32    12 | 9 | 7    55 | 39 | 34    80 | 78 | 69     98 | 104 | 95    102 | 109 | 100
//   bf16   21 | 10 | 8   101 | 61 | 55   165 | 138 | 129  191 | 198 | 191  198 | 217 | 208
// with 117 (f32) and twice that (bf16) the most that the core can do. On a CPU with AMX, which these
// kernels do not use, oneDNN should be far ahead for bf16 prompts; that was not measured.

#include "gemm.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "cpu.h"
#include "halter.h"
#include "pool.h"
#include "runtime.h"

namespace halter {
namespace {

Block block_for(int x_type, int w_type) {
    const Isa isa = cpu().isa;
    Block block = isa == Isa::AVX512_BF16 ? avx512_bf16_block(x_type, w_type) : nullptr;
    if (block) return block;
    return isa == Isa::AVX2 ? avx2_block(x_type, w_type) : avx512_block(x_type, w_type);
}

bool overlaps(int rows, int columns, long stride, bool transposed) {
    return transposed ? columns > 1 && stride < rows : rows > 1 && stride < columns;
}

bool check(const Product& p) {
    if (p.m < 0 || p.n < 0 || p.k < 0) {
        fail("product of a negative size: m %d, n %d, k %d", p.m, p.n, p.k);
    } else if (overlaps(p.m, p.k, p.x_stride, p.x_transposed) ||
               overlaps(p.n, p.k, p.w_stride, p.w_transposed) ||
               overlaps(p.m, p.n, p.out_stride, false)) {
        fail("product with rows that overlap: m %d, n %d, k %d, strides %ld, %ld, %ld", p.m, p.n,
             p.k, p.x_stride, p.w_stride, p.out_stride);
    } else if ((p.x_type != HALTER_F32 && p.x_type != HALTER_BF16) || p.w_type < HALTER_F32 ||
               p.w_type > HALTER_BF16 || (p.out_type != HALTER_F32 && p.out_type != p.x_type)) {
        fail("no product of types %d and %d into %d", p.x_type, p.w_type, p.out_type);
    } else {
        return true;
    }
    return false;
}

}  // namespace

void multiply(const Product& p, Block block, int threads) {
    // Blocks get narrower until every thread has two, so that all end at about the same time; with
    // four, one row by w[768,768] in bf16 took a tenth longer, since each begins with w cold and ends by
    // asking for another's, and packs x anew.
    const long rows = (p.m + BLOCK_M - 1) / BLOCK_M;
    int width = BLOCK_N;
    while (width > 8 && rows * ((p.n + width - 1) / width) < 2L * threads) width /= 2;
    const long blocks = rows * ((p.n + width - 1) / width);
    // A few microseconds of work are done before other threads are awake.
    const bool alone = threads == 1 || long(p.m) * p.n * p.k < 1 << 16;
    share_each(alone ? 1 : threads, blocks, [&](long b) {
        // On the heap: the system keeps little room for the thread_local data of loaded libraries,
        // and libhalter-faithful.so wipes its own before each block.
        static thread_local const std::unique_ptr<Scratch> scratch(new Scratch);
        int m0 = int(b % rows) * BLOCK_M;
        int n0 = int(b / rows) * width;
        block(p, m0, std::min(m0 + BLOCK_M, p.m), n0, std::min(n0 + width, p.n), *scratch);
    });
}

}  // namespace halter

using namespace halter;

int halter_gemm(int m, int n, int k, const void* x, int x_type, long x_stride, int x_transposed,
                const void* w, int w_type, long w_stride, int w_transposed, void* out, int out_type,
                long out_stride) {
    Product p{m,   n,          k,      x,      x_stride, w,
              w_stride, out, out_stride, x_type, w_type, out_type, x_transposed != 0, w_transposed != 0};
    if (!check(p)) return -1;
    if (!onednn_multiply(p, thread_count())) {
        multiply(p, block_for(x_type, w_type), thread_count());
    }
    return 0;
}
