// Matrix products of the CPU: our own kernels (gemm_tile.h), or oneDNN when it has been asked for.
//
// Our own are the default because a row's bits then do not depend on the batch; oneDNN 3.11's do
// (one row differs from many). It mostly gains by it: on one core of an EPYC (Zen 5, AVX512-BF16), first
// quartile of interleaved runs, w[768,768] from memory, GFLOP/s of own | oneDNN (gemm-bench 1):
//          m = 1       3          8           32           128          512
//   f32    17 | 11    50 | 20    107 | 46    145 | 112    180 | 172    177 | 188
//   bf16   32 | 11   107 | 32    217 | 77    300 | 198    341 | 333    335 | 368
// with 235 (f32) and 470 (bf16) the most that the core can do, and 30 GB/s by one stream, of w 15 and
// 30 GFLOP/s for each row. On a CPU with AMX, which these kernels do not use, oneDNN should be far ahead for
// bf16 prompts; that was not measured.

#include "gemm.h"

#include <algorithm>
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
    if (p.m == 0) return;
    // As many blocks for each thread, two at least, so that all end at about the same time. They are
    // dealt, by turns, from as many stretches of w: where blocks are few, and each thread takes one of
    // them whenever it has done another, it walks along a stretch and ends a block by asking for what it
    // reads next. One row of bf16 by w[768,768] to w[32000,768] on two cores of a Zen 5 became 4 to 10 %
    // faster by it, 32 rows 3 to 8 %. One that is ahead or late goes on in another stretch. With four
    // blocks for each, of which every one packs x anew, one row by w[768,768] was 4 % faster still and 32
    // rows up to 4 % slower.
    const long tiles = (p.n + TILE_N - 1) / TILE_N;
    const long rows = (p.m + BLOCK_M - 1) / BLOCK_M;
    const long least = std::max((p.n + BLOCK_N - 1L) / BLOCK_N, (2 * threads + rows - 1) / rows);
    const long columns = (least + threads - 1) / threads * threads;
    const long stretch = rows * columns / threads;
    // A few microseconds of work are done before other threads are awake.
    const bool alone = threads == 1 || long(p.m) * p.n * p.k < 1 << 16;
    share_each(alone ? 1 : threads, rows * columns, [&](long b) {
        // On the heap: the system keeps little room for the thread_local data of loaded libraries,
        // and libhalter-faithful.so wipes its own before each block.
        static thread_local const std::unique_ptr<Scratch> scratch(new Scratch);
        const long at = b % threads * stretch + b / threads;
        const int m0 = int(at % rows) * BLOCK_M;
        const int n0 = int(tiles * (at / rows) / columns) * TILE_N;
        const int n1 = std::min(int(tiles * (at / rows + 1) / columns) * TILE_N, p.n);
        if (n0 < n1) block(p, m0, std::min(m0 + BLOCK_M, p.m), n0, n1, *scratch);
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
