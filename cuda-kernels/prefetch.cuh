// Weights that a later launch reads, asked into the L2 cache while the GPU's memory would stand still: at
// the end of a launch, between two, and until the next one's first loads. Nobody waits for them, and no
// result depends on them.
//
// On sm_90 and later one instruction of one lane asks for all of a range, before that each lane for
// lines of 128 bytes. On the CPU nothing happens; the faithful build checks what a GPU would refuse.
#pragma once

#include "types.cuh"

/// Asks for the `bytes` from `from` on; nothing if they are not more than 0.
/// PRECOND: multiples of 16; all lanes of a warp call it alike.
__device__ __forceinline__ void prefetch(const void* from, int bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (bytes > 0 && threadIdx.x % 32 == 0) {
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(
                         __cvta_generic_to_global(from)),
                     "r"(bytes)
                     : "memory");
    }
#elif defined(__CUDA_ARCH__)
    for (int i = threadIdx.x % 32 * 128; i < bytes; i += 32 * 128) {
        asm volatile("prefetch.global.L2 [%0];" ::"l"(
            __cvta_generic_to_global(static_cast<const char*>(from) + i)));
    }
#elif defined(HALTER_FAITHFUL)
    if (bytes > 0 && (!aligned(from) || bytes % 16 != 0)) {
        halter_stop("a prefetch that is not of whole pieces of 16 bytes");
    }
    if (bytes > 0) {  // of memory that is there
        const volatile char* range = static_cast<const char*>(from);
        (void)range[0];
        (void)range[bytes - 1];
    }
#endif
}

/// Of the `bytes` from `next` on (null and 0: nothing) the share of warp `warp` of `warps`, which together
/// ask for all.
/// PRECOND: as prefetch's.
__device__ __forceinline__ void prefetch_share(const void* next, int bytes, int warp, int warps) {
    const int pieces = bytes / 16;
    const int share = (pieces + warps - 1) / warps;
    const int begin = warp * share;
    const int count = pieces - begin < share ? pieces - begin : share;
    prefetch(static_cast<const char*>(next) + 16ll * begin, 16 * count);
}

/// Bytes that a block asks for at most: an SM's copy engine hands over 64 a clock or so, by estimate, and what
/// the next product copies by it waits behind them. More are for more blocks.
constexpr int MOST_OF_A_BLOCK = 512 << 10;

/// The same, where blocks share: one of each place (x, y) of the grid calls it, with all its threads. One
/// warp asks: with all of them add_rmsnorm took more registers than two blocks on an SM may.
/// Few blocks ask for less: see MOST_OF_A_BLOCK.
__device__ __forceinline__ void prefetch_by_blocks(const void* next, int bytes) {
    if (threadIdx.x >= warpSize) return;
    const int blocks = gridDim.x * gridDim.y;
    const int most = blocks < bytes / MOST_OF_A_BLOCK ? blocks * MOST_OF_A_BLOCK : bytes;
    prefetch_share(next, most, blockIdx.x + gridDim.x * blockIdx.y, blocks);
}
