// What the parts of the CPU's matrix product share; halter_gemm itself is in halter.h.

#pragma once

namespace halter {

/// The arguments of halter_gemm.
struct Product {
    int m, n, k;
    const void* x;
    long x_stride;
    const void* w;
    long w_stride;
    void* out;
    long out_stride;
    int x_type, w_type, out_type;
    /// Whether x lies in memory as [k,m], w as [k,n].
    bool x_transposed = false, w_transposed = false;
};

/// The most rows and columns of one block, the work of one thread at a time, and the bytes that a
/// row of x or w may take within a block of k. Panels then fit the second-level cache of 1 MB.
constexpr int BLOCK_M = 128;
constexpr int BLOCK_N = 256;
constexpr int BLOCK_K_BYTES = 3072;

/// Blocks begin at multiples of so many columns, those of a tile.
constexpr int TILE_N = 8;

/// Columns of w that are turned at once where it is transposed: two lines of its memory in f32.
constexpr int STRIP = 32;

/// A thread's working memory. The last two are touched only where a factor is transposed.
struct alignas(64) Scratch {
    char x[BLOCK_M * BLOCK_K_BYTES];
    char w[TILE_N * BLOCK_K_BYTES];
    float sums[BLOCK_M][BLOCK_N];
    char x_rows[BLOCK_M * BLOCK_K_BYTES];
    char w_rows[STRIP * BLOCK_K_BYTES];
};

/// Computes rows [m0, m1) and columns [n0, n1) of the product: at most a block of them.
using Block = void (*)(const Product&, int m0, int m1, int n0, int n1, Scratch&);

/// An instruction set's kernel for these types; avx512_bf16 has one for bf16 x bf16 only, else null.
Block avx2_block(int x_type, int w_type);
Block avx512_block(int x_type, int w_type);
Block avx512_bf16_block(int x_type, int w_type);

/// The whole product on `threads` threads by one kernel.
void multiply(const Product&, Block, int threads);

/// The whole product by oneDNN; false when halter_onednn has not been called or oneDNN has nothing
/// built for these types, and then nothing is written.
bool onednn_multiply(const Product&, int threads);

}  // namespace halter
