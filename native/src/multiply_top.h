// What the parts of halter_multiply_top share; the call itself is in halter.h.

#pragma once

#include "gemm.h"

namespace halter {

/// The arguments of halter_multiply_top.
struct TopProduct {
    int m, n, k;
    const void* x;
    long x_stride;
    const void* w;
    long w_stride;
    int x_type, w_type;
    int sign, kept;
    int* ids;
    float* values;
    float* log_sum;
};

/// Makes a product whole, or returns false and writes nothing.
using Multiply = bool (*)(const Product&, int threads);

/// Does all of it on `threads` threads. Tiles of the product are made by `multiply`; null or false: by
/// the kernel itself.
using TopKernel = void (*)(const TopProduct&, int threads, Multiply multiply);

/// An instruction set's kernel for these types; avx512_bf16 has one for bf16 x bf16 only, else null.
TopKernel avx2_top(int x_type, int w_type);
TopKernel avx512_top(int x_type, int w_type);
TopKernel avx512_bf16_top(int x_type, int w_type);

}  // namespace halter
