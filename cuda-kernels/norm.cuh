// What kernels that normalise rows share.
#pragma once

// Whether a thread keeps packs of its row in registers from the sum of squares to the product. The
// only thread of the CPU's solo build keeps none: both passes are plain loops, which vectorise.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr bool HOLDS_PACKS = true;
#else
constexpr bool HOLDS_PACKS = false;
#endif

__device__ __forceinline__ float root_mean_square(float squares, int d, float eps) {
    return sqrtf(squares / d + eps);
}

// Where the squares overflow, 1 / rms would be 0 and a row of zeros go on as if it were one.
__device__ __forceinline__ float inverse_of(float rms) {
    return rms < INFINITY ? 1.0f / rms : NAN;
}
