// What a portable kernel sees of CUDA when g++ compiles it; included before every .cu file.
//
// Two builds of the same kernels:
//
//  solo      A block is one thread: threadIdx.x is the constant 0, blockDim.x the constant 1 and
//            warpSize 1. Barriers vanish, loops that stride by blockDim.x become plain loops that
//            the compiler vectorises, and shared memory is the stack. This is the CPU device.
//  faithful  (HALTER_FAITHFUL) A block has all its threads, each with its own stack, which really
//            meet at barriers and warp collectives (native/src/faithful.cpp). This is how the
//            kernels' CUDA logic is tested without a GPU.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#ifndef __restrict__
#define __restrict__ __restrict
#endif

/// Dynamic shared memory of the launch, aligned to 128 bytes.
#define SHARED_DYNAMIC(type, name) type* name = static_cast<type*>(halter_dynamic_shared())

#ifdef HALTER_FAITHFUL

#include <functional>

#include "tensor_map.h"

// ---------------------------------------------------------------------------- blocks of threads

struct HalterDim {
    unsigned x, y, z;
};

// Those of the thread that is running; set at every switch.
extern HalterDim threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

// One block runs at a time on one OS thread, so what is local to that is shared by the block. All
// of it is overwritten with 0xFF before each block.
#define __shared__ static thread_local

void* halter_dynamic_shared();

enum class HalterWarp { sync, shuffle, ballot };

void halter_block_barrier(const char* file, int line);

/// Meets the other lanes of `mask`. Shuffle: returns `value` of lane `source`. Ballot: the lanes
/// whose value is not 0.
uint64_t halter_warp(HalterWarp what, unsigned mask, uint64_t value, int source, const char* file,
                     int line);

inline int halter_lane() {
    return threadIdx.x % 32;
}

// Clusters (wgmma_sm90.cuh). The blocks of one run together, each with its dynamic shared memory;
// __shared__ variables, which they would share here, and __syncthreads are not for them.

/// Where shared memory begins in the 32-bit addresses that instructions take: nowhere round.
constexpr unsigned HALTER_SHARED_BASE = 0x480;

unsigned halter_cluster_rank();
void* halter_cluster_shared(unsigned rank);
void halter_cluster_barrier(const char* file, int line);

/// The thread's number in its cluster.
int halter_thread();

/// Waits until `done` holds, which other threads or what comes later bring about.
void halter_wait(std::function<bool()> done, const char* file, int line);

/// Does something at a time of the device's own choice: here when no thread can go on.
void halter_later(std::function<void()> work);

/// Ends the launch with an error.
[[noreturn]] void halter_stop(const char* text);

#define HALTER_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(HALTER_SITE) {
    halter_block_barrier(file, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, HALTER_SITE) {
    halter_warp(HalterWarp::sync, mask, 0, 0, file, line);
}

template <typename T>
T halter_shuffle(unsigned mask, T value, int source, const char* file, int line) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    bits = halter_warp(HalterWarp::shuffle, mask, bits, source, file, line);
    memcpy(&value, &bits, sizeof(T));
    return value;
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, HALTER_SITE) {
    int first = halter_lane() & -width;
    return halter_shuffle(mask, value, first + (source & (width - 1)), file, line);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, HALTER_SITE) {
    int lane = halter_lane(), source = lane - int(delta);
    return halter_shuffle(mask, value, source < (lane & -width) ? lane : source, file, line);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, HALTER_SITE) {
    int lane = halter_lane(), source = lane + int(delta);
    return halter_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, HALTER_SITE) {
    int lane = halter_lane(), source = lane ^ lanes;
    return halter_shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, HALTER_SITE) {
    return unsigned(halter_warp(HalterWarp::ballot, mask, predicate != 0, 0, file, line));
}

inline int __any_sync(unsigned mask, int predicate, HALTER_SITE) {
    return halter_warp(HalterWarp::ballot, mask, predicate != 0, 0, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, HALTER_SITE) {
    return halter_warp(HalterWarp::ballot, mask, predicate == 0, 0, file, line) == 0;
}

#else

// ------------------------------------------------------------------------ blocks of one thread

// Signed here, so that loops over them cannot wrap and vectorise.
struct HalterDim {
    int x, y, z;
};

constexpr HalterDim threadIdx{0, 0, 0};
constexpr HalterDim blockDim{1, 1, 1};
constexpr int warpSize = 1;

// Set by native/src/solo.cpp, per thread.
#define HALTER_THREAD extern __thread __attribute__((visibility("default"), tls_model("initial-exec")))
HALTER_THREAD HalterDim blockIdx;
HALTER_THREAD HalterDim gridDim;
HALTER_THREAD void* halter_shared;

#define __shared__

inline void* halter_dynamic_shared() {
    return __builtin_assume_aligned(halter_shared, 128);
}

inline void __syncthreads() {}
inline void __syncwarp(unsigned = 0xffffffffu) {}

// A warp of one lane. Loops over lanes must be bounded by warpSize, not by 32.
template <typename T>
T __shfl_sync(unsigned, T value, int, int = 1) {
    return value;
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned, int = 1) {
    return value;
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned, int = 1) {
    return value;
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int, int = 1) {
    return value;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    return predicate != 0;
}
inline int __any_sync(unsigned, int predicate) {
    return predicate != 0;
}
inline int __all_sync(unsigned, int predicate) {
    return predicate != 0;
}

#endif

// --------------------------------------------------------------------------------- both builds

inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

inline void __threadfence_block() {}

template <typename T>
T __ldg(const T* p) {
    return *p;
}

template <typename T>
struct HalterSame {
    using type = T;
};

// Blocks run on many threads, so atomics are real ones. `new value = f(old value)`, returns the old.
template <typename T, typename F>
T halter_atomic(T* address, F f) {
    T old, wanted;
    __atomic_load(address, &old, __ATOMIC_RELAXED);
    do {
        wanted = f(old);
    } while (!__atomic_compare_exchange(address, &old, &wanted, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST));
    return old;
}

template <typename T>
T atomicAdd(T* address, typename HalterSame<T>::type value) {
    return halter_atomic(address, [=](T old) { return T(old + value); });
}

template <typename T>
T atomicMax(T* address, typename HalterSame<T>::type value) {
    return halter_atomic(address, [=](T old) { return old < value ? value : old; });
}

template <typename T>
T atomicMin(T* address, typename HalterSame<T>::type value) {
    return halter_atomic(address, [=](T old) { return value < old ? value : old; });
}

template <typename T>
T atomicOr(T* address, typename HalterSame<T>::type value) {
    return halter_atomic(address, [=](T old) { return T(old | value); });
}

template <typename T>
T atomicExch(T* address, typename HalterSame<T>::type value) {
    return halter_atomic(address, [=](T) { return value; });
}

template <typename T>
T atomicCAS(T* address, typename HalterSame<T>::type expected,
            typename HalterSame<T>::type value) {
    return halter_atomic(address, [=](T old) { return old == expected ? value : old; });
}

// Among the threads of a block, which run on one thread here.
template <typename T>
T atomicAdd_block(T* address, typename HalterSame<T>::type value) {
    const T old = *address;
    *address = T(old + value);
    return old;
}

struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

inline int2 make_int2(int x, int y) {
    return {x, y};
}
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}

// min and max take mixed types in CUDA.
template <typename A, typename B>
constexpr auto min(A a, B b) -> decltype(a + b) {
    return b < a ? b : a;
}

template <typename A, typename B>
constexpr auto max(A a, B b) -> decltype(a + b) {
    return a < b ? b : a;
}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline int __float_as_int(float x) {
    return int(__float_as_uint(x));
}

inline float __int_as_float(int bits) {
    return __uint_as_float(unsigned(bits));
}

inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}

inline int __clz(int x) {
    return x == 0 ? 32 : __builtin_clz(unsigned(x));
}

inline int __ffs(int x) {
    return __builtin_ffs(x);
}

// Rounded each by itself: the compiler neither fuses them nor changes their order.
inline float halter_rounded(float x) {
    asm("" : "+x"(x));
    return x;
}

inline float __fadd_rn(float x, float y) {
    return halter_rounded(x + y);
}

inline float __fsub_rn(float x, float y) {
    return halter_rounded(x - y);
}

inline float __fmul_rn(float x, float y) {
    return halter_rounded(x * y);
}

inline float __fdiv_rn(float x, float y) {
    return halter_rounded(x / y);
}

inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}

inline float __fdividef(float x, float y) {
    return x / y;
}

// Macros, since glibc declares these names without defining them.
#define __expf expf
#define __logf logf
#define __sinf sinf
#define __cosf cosf
#define __powf powf
