// The C interface of libhalter.so and libhalter-faithful.so, and at its end that of libhalter-pages.so, called
// from Java through FFM.
//
// A call returns 0 (or the number asked for) when all is well and a negative number when not;
// halter_error() then says what happened on the calling thread.

#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#define HALTER_ABI 3
#define HALTER_API __attribute__((visibility("default")))

/// HALTER_ABI of the built library; the caller refuses any other than its own.
HALTER_API int halter_abi(void);

/// What the last failing call of this thread complained about; valid until its next failing call.
HALTER_API const char* halter_error(void);

/// What kernels and products use of the CPU: "avx2", "avx512" or "avx512_bf16", at most what environment
/// variable HALTER_MAX_ISA names; "faithful" in the test build. Null when they cannot run
/// (halter_error() says why).
HALTER_API const char* halter_isa(void);

/// The best of these that the CPU has, or "none".
HALTER_API const char* halter_cpu_isa(void);

/// Sets how many threads run launches and products from now on, 0 for one on each core, and
/// returns that number. Results do not depend on it.
HALTER_API int halter_threads(int count);

/// The number by which a kernel is launched, or -1 if there is none of this name.
HALTER_API int halter_kernel(const char* name);

/// The name of kernel `id`, or null past the last: kernels are numbered from 0.
HALTER_API const char* halter_kernel_name(int id);

/// The kernel's number of parameters, and the bytes of the first `max` of them in `sizes`.
HALTER_API int halter_kernel_parameters(int id, int* sizes, int max);

/// Runs a kernel on a grid of blocks and returns when it is done.
///
/// `arguments` is cuLaunchKernel's kernelParams: for each parameter the address of its value.
/// `block` is a multiple of 32, at most 1024; `shared` bytes of dynamic shared memory, at most
/// HALTER_SHARED_MAX, or HALTER_SHARED_SM90 for a kernel that is for sm_90 alone.
HALTER_API int halter_launch(int id, int grid_x, int grid_y, int grid_z, int block, int shared,
                             void** arguments);

/// Dynamic shared memory that a block has on every GPU served (sm_86 and sm_120 have the least).
#define HALTER_SHARED_MAX 101376

/// The same on sm_90.
#define HALTER_SHARED_SM90 232448

/// out[m,n] = x[m,k] * transpose(w[n,k]), summed in f32. Row-major, row strides in elements.
///
/// Where x_transposed is not 0, x lies in memory as [k,m], likewise w as [k,n]; the bits are those of the
/// same factor laid out the other way.
///
/// Types are the ordinals of dev.halter.device.DType: x f32 or bf16, w f32, f16 or bf16, out f32 or
/// x's type. Pointers are aligned to their elements only, and nothing beside the rows is read or
/// written, so w may end with its mapped file. out overlaps neither factor. k = 0 gives zeros.
/// A row of the result has the same bits whatever m, the other rows and the number of threads are,
/// unless halter_onednn() has been called. Negative and nothing written for other sizes or types.
HALTER_API int halter_gemm(int m, int n, int k,
                           const void* x, int x_type, long x_stride, int x_transposed,
                           const void* w, int w_type, long w_stride, int w_transposed,
                           void* out, int out_type, long out_stride);

/// From now on oneDNN, libdnnl.so.3 in `directory`, multiplies f32 by f32 and bf16 by bf16. A row's
/// bits then depend on how many rows there are. Null: back to our own kernels. Negative when the
/// library is not there or does not fit; then our own kernels go on.
HALTER_API int halter_onednn(const char* directory);

/// The best entries and log-sum-exp of each row of x[m,k] * transpose(w[n,k]), which never exists as
/// a whole. Factors as for halter_gemm.
///
/// `sign` is the ordinal of dev.halter.device.Top.Sign; with S lists of a row, 2 for BOTH and else 1,
/// ids and values are [m][S][kept] and log_sum is [m][S][2] or null (always for ABSOLUTE), with the
/// meaning they have in Top. A row's result has the same bits whatever m, the other rows and the
/// number of threads are, unless halter_onednn() has been called. Takes 6 MB, more where many threads
/// need it.
/// Negative and nothing written for other sizes or types.
HALTER_API int halter_multiply_top(int m, int n, int k,
                                   const void* x, int x_type, long x_stride,
                                   const void* w, int w_type, long w_stride,
                                   int sign, int kept, int* ids, float* values, float* log_sum);

/// Makes `count` calls one after another, as a recorded step has them, and returns 0, or stops at the
/// first that fails and returns what it does.
///
/// Each has HALTER_CALL_WORDS words: a HalterCall, then the function's arguments in their order.
HALTER_API int halter_run(const long* calls, long count);

#define HALTER_CALL_WORDS 16

enum HalterCall {
    HALTER_LAUNCH = 0,        // halter_launch; what `arguments` points to is read then
    HALTER_GEMM = 1,          // halter_gemm
    HALTER_MULTIPLY_TOP = 2,  // halter_multiply_top
    HALTER_COPY = 3,          // memcpy
    HALTER_FILL = 4           // memset
};

enum HalterTop { HALTER_TOP_PLUS = 0, HALTER_TOP_MINUS = 1, HALTER_TOP_BOTH = 2, HALTER_TOP_ABSOLUTE = 3 };

enum HalterType { HALTER_F32 = 1, HALTER_F16 = 2, HALTER_BF16 = 3 };

/// The order in which the faithful build runs the threads of a block and the blocks of a grid.
/// A kernel whose results depend on it lacks a barrier. Each launch adds one to the seed. The other
/// build takes no schedule.
HALTER_API int halter_schedule(int kind, long seed);

enum HalterSchedule { HALTER_FORWARD = 0, HALTER_REVERSE = 1, HALTER_RANDOM = 2 };

// libhalter-pages.so, for files that are mapped read-only and may get shorter.

/// From now on reading a page of this mapping that its file has no more, or that the disk does not give, yields
/// zeros instead of ending the process. Returns the mapping's number, or -1 if it cannot be watched. It is
/// forgotten before it is unmapped.
HALTER_API int halter_pages_watch(const void* address, long bytes);

/// 1 if pages of a mapping were lost: from there on what has been read of it may be zeros.
HALTER_API int halter_pages_lost(int number);

HALTER_API void halter_pages_forget(int number);

#ifdef __cplusplus
}
#endif
