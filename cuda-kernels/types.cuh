// Element types of kernels: f32, f16 and bf16, and their conversions.
//
//   float x = to_float(p[i]);          exact
//   p[i] = from_float<bf16>(x);        rounds to nearest, ties to even
//
// All builds give the same bits; every NaN becomes the one that the GPU's conversions give. On the
// CPU the conversions are integer arithmetic without branches, so that loops over them vectorise.

#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>

/// Dynamic shared memory of the launch; a kernel has one of these.
#define SHARED_DYNAMIC(type, name)                                   \
    extern __shared__ __align__(128) unsigned char shared_dynamic[]; \
    type* name = reinterpret_cast<type*>(shared_dynamic)
#endif

/// Before a loop whose array should stay in registers, and before one that is rarely run. g++ is
/// left to itself.
#ifdef __CUDACC__
#define UNROLL_ALL _Pragma("unroll")
#define UNROLL_NONE _Pragma("unroll 1")
#else
#define UNROLL_ALL
#define UNROLL_NONE
#endif

typedef float f32;

/// The upper half of an f32.
struct bf16 {
    unsigned short bits;
};

/// IEEE 754 binary16.
struct f16 {
    unsigned short bits;
};

__device__ __forceinline__ float to_float(f32 x) {
    return x;
}

__device__ __forceinline__ float to_float(bf16 x) {
    return __uint_as_float(unsigned(x.bits) << 16);
}

__device__ __forceinline__ float to_float(f16 x) {
#ifdef __CUDACC__
    return __half2float(__ushort_as_half(x.bits));
#else
    // Shifted to f32's places the exponent is short by 127 - 15; a product repairs that exactly,
    // for subnormal numbers too. Infinity and NaN need f32's own exponent.
    unsigned magnitude = (x.bits & 0x7fffu) << 13;
    unsigned finite = __float_as_uint(__uint_as_float(magnitude) * 0x1p112f);
    unsigned special = magnitude == 0x0f800000u ? 0x7f800000u : 0x7fffffffu;
    unsigned sign = (x.bits & 0x8000u) << 16;
    sign = magnitude > 0x0f800000u ? 0u : sign;
    return __uint_as_float((magnitude < 0x0f800000u ? finite : special) | sign);
#endif
}

/// float to T; see the specialisations.
template <typename T>
__device__ T from_float(float x);

template <>
__device__ __forceinline__ f32 from_float<f32>(float x) {
    return x;
}

template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
#ifdef __CUDACC__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    unsigned bits = __float_as_uint(x);
    // Half a unit of the kept part, less one where that is even: the carry rounds.
    unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return {(unsigned short)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded)};
#endif
}

template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
#ifdef __CUDACC__
    return {__half_as_ushort(__float2half_rn(x))};
#else
    unsigned bits = __float_as_uint(x);
    unsigned magnitude = bits & 0x7fffffffu;
    // From 2^-14 up: rebase the exponent, and round as for bf16. From 65520 up the carry runs into
    // the exponent of infinity.
    unsigned normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Below: adding 0.5, whose last place is f16's smallest number, lets the FPU round.
    unsigned subnormal = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    unsigned result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x47800000u ? 0x7c00u : result;
    unsigned sign = (bits >> 16) & 0x8000u;
    return {(unsigned short)(magnitude > 0x7f800000u ? 0x7fffu : result | sign)};
#endif
}

// ------------------------------------------------------------------------------------------- packs

/// Elements of T in a pack of 16 bytes, the widest load and store of a GPU's thread. In the CPU's
/// solo build it is one element, so that loops over packs are plain loops, which vectorise.
template <typename T>
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr int PACK = 16 / sizeof(T);
#else
constexpr int PACK = 1;
#endif

/// Whether all addresses are multiples of 16, as packs of more than one element must be.
template <typename... P>
__device__ __forceinline__ bool aligned(const P*... addresses) {
    return ((reinterpret_cast<unsigned long long>(addresses) | ...) % 16) == 0;
}

/// N neighbouring elements, in registers. They move 16 bytes at a time where they fill them (the
/// address must then be a multiple of 16), else one by one.
template <typename T, int N>
struct Pack {
    T at[N];

    static constexpr int WIDE = N * sizeof(T) % 16 == 0 ? N * sizeof(T) / 16 : 0;
    static constexpr int EACH = 16 / sizeof(T);

    __device__ __forceinline__ void load(const T* from) {
        check(from);
#ifdef __CUDACC__
        if constexpr (WIDE > 0) {
            UNROLL_ALL
            for (int i = 0; i < WIDE; i++) {
                const uint4 bytes = reinterpret_cast<const uint4*>(from)[i];
                memcpy(at + i * EACH, &bytes, 16);
            }
        } else
#endif
        {
            for (int i = 0; i < N; i++) at[i] = from[i];
        }
    }

    /// As load, of what nobody reads again: it goes first where a cache needs room.
    __device__ __forceinline__ void load_once(const T* from) {
#ifdef __CUDACC__
        if constexpr (WIDE > 0) {
            UNROLL_ALL
            for (int i = 0; i < WIDE; i++) {
                const uint4 bytes = __ldcs(reinterpret_cast<const uint4*>(from) + i);
                memcpy(at + i * EACH, &bytes, 16);
            }
            return;
        }
#endif
        load(from);
    }

    __device__ __forceinline__ void store(T* to) const {
        check(to);
#ifdef __CUDACC__
        if constexpr (WIDE > 0) {
            UNROLL_ALL
            for (int i = 0; i < WIDE; i++) {
                uint4 bytes;
                memcpy(&bytes, at + i * EACH, 16);
                reinterpret_cast<uint4*>(to)[i] = bytes;
            }
        } else
#endif
        {
            for (int i = 0; i < N; i++) to[i] = at[i];
        }
    }

private:
    /// What a GPU would refuse.
    static __device__ __forceinline__ void check(const void* address) {
#ifdef HALTER_FAITHFUL
        if (WIDE > 0 && !aligned(address)) halter_stop("16 bytes that are not aligned to 16");
#endif
    }
};
