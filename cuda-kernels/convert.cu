// Conversion between element types.

#include "types.cuh"

/// out[n] = in[n], rounded to nearest even where the type narrows.
///
/// PRECOND: a grid of any size in x; out and in do not overlap.
/// Moves n * (sizeof(From) + sizeof(To)) bytes. Threads stride over the whole grid by its width, so
/// that neighbours touch neighbours and any grid will do.
template <typename From, typename To>
__device__ __forceinline__ void convert(To* out, const From* __restrict__ in,
                                        long long n) {
    // Each block has one contiguous part, which is also one plain loop for the CPU.
    long long part = (n + gridDim.x - 1) / gridDim.x;
    long long first = part * blockIdx.x;
    long long end = first + part < n ? first + part : n;
    for (long long i = first + threadIdx.x; i < end; i += blockDim.x) {
        out[i] = from_float<To>(to_float(in[i]));
    }
}

#define CONVERT(From, To)                                                                   \
    extern "C" __global__ void convert_##From##_##To(To* out,                               \
                                                     const From* __restrict__ in,           \
                                                     long long n) {                         \
        convert(out, in, n);                                                                \
    }

CONVERT(f32, f16)
CONVERT(f32, bf16)
CONVERT(f16, f32)
CONVERT(f16, bf16)
CONVERT(bf16, f32)
CONVERT(bf16, f16)
