// Reductions over the threads of a block. Every thread calls them with its own value and gets the
// result; they hold their own barriers, so they can be called one after another, and whatever was
// written to memory before is seen by the whole block after.
//
// The order of the reduction depends on the block size alone: a butterfly over the lanes of each
// warp (a + b is b + a, so all lanes end with the same bits), then the warps' results one after
// another. In the solo build of the CPU a block is one thread and its value is the result.

#pragma once

/// What a reduction over lanes keeps: the sum, the larger, the smaller.
struct Sum {
    template <typename T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a + b;
    }
};

struct Larger {
    template <typename T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a > b ? a : b;
    }
};

struct Smaller {
    template <typename T>
    __device__ __forceinline__ T operator()(T a, T b) const {
        return a < b ? a : b;
    }
};

/// The reduction over the 32 lanes of a warp, in each of them. PRECOND: all lanes call it.
template <typename T, typename Operation>
__device__ __forceinline__ T warp_reduce(T value, Operation operation) {
    for (int lanes = warpSize / 2; lanes > 0; lanes /= 2) {
        value = operation(value, __shfl_xor_sync(0xffffffffu, value, lanes));
    }
    return value;
}

/// The reduction over all threads of a block, in each of them.
/// PRECOND: all threads call it; blockDim.x is a multiple of the warp size.
template <typename T, typename Operation>
__device__ __forceinline__ T block_reduce(T value, Operation operation) {
    value = warp_reduce(value, operation);
    const int warps = blockDim.x / warpSize;
    if (warps == 1) {
        __syncthreads();
        return value;
    }
    __shared__ T of_warp[32];
    __syncthreads();  // the threads of an earlier call have read of_warp
    if (threadIdx.x % warpSize == 0) of_warp[threadIdx.x / warpSize] = value;
    __syncthreads();
    // At most 32 reads of what all lanes read alike, and no further barrier.
    value = of_warp[0];
    for (int i = 1; i < warps; i++) value = operation(value, of_warp[i]);
    return value;
}

__device__ __forceinline__ float block_sum(float value) {
    return block_reduce(value, Sum());
}

/// As block_sum, of M values at once, each with the bits that it has alone.
template <int M>
__device__ __forceinline__ void block_sums(float (&values)[M]) {
    for (int m = 0; m < M; m++) values[m] = warp_reduce(values[m], Sum());
    const int warps = blockDim.x / warpSize;
    if (warps == 1) {
        __syncthreads();
        return;
    }
    __shared__ float of_warp[M][32];
    __syncthreads();  // the threads of an earlier call have read of_warp
    if (threadIdx.x % warpSize == 0) {
        for (int m = 0; m < M; m++) of_warp[m][threadIdx.x / warpSize] = values[m];
    }
    __syncthreads();
    for (int m = 0; m < M; m++) {
        values[m] = of_warp[m][0];
        for (int i = 1; i < warps; i++) values[m] += of_warp[m][i];
    }
}

__device__ __forceinline__ int block_sum(int value) {
    return block_reduce(value, Sum());
}

/// A NaN may get lost: comparisons with it are false.
__device__ __forceinline__ float block_max(float value) {
    return block_reduce(value, Larger());
}

__device__ __forceinline__ int block_max(int value) {
    return block_reduce(value, Larger());
}

__device__ __forceinline__ float block_min(float value) {
    return block_reduce(value, Smaller());
}

__device__ __forceinline__ int block_min(int value) {
    return block_reduce(value, Smaller());
}

/// A value and where it was found; the reduction keeps the larger value, of equal ones the one
/// with the lower index, and NaN only where there is nothing else.
struct Argmax {
    float value;
    int index;
};

__device__ __forceinline__ Argmax block_argmax(float value, int index) {
    // NaN goes below all numbers, and the reductions never see it.
    const float number = value == value ? value : -INFINITY;
    const float largest = block_max(number);
    return {largest, block_min(number == largest ? index : 0x7fffffff)};
}
