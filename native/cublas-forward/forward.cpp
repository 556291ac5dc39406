// cuBLAS 13 for a caller that was linked against cuBLAS 12.
//
// JCublas2 12.6 needs a library of soname libcublas.so.12 with symbol version libcublas.so.12. The
// functions below are those that dev.halter.device.cuda.Cublas calls; their ABI is the same in
// both. The others that JCublas2 imports are bound lazily, thus never. libcublas.so.13 is normally
// loaded by then, and found by its soname; if not, it is looked for as any library.

#include <dlfcn.h>

#include <cstddef>

#define EXPORT extern "C" __attribute__((visibility("default")))

constexpr int CUBLAS_STATUS_NOT_INITIALIZED = 1;

template <class F>
static F* target(const char* name) {
    static void* library = dlopen("libcublas.so.13", RTLD_LAZY);
    return library == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(library, name));
}

#define FORWARD(NAME, PARAMETERS, ARGUMENTS)                                         \
    EXPORT int NAME PARAMETERS {                                                     \
        static auto* function = target<int PARAMETERS>(#NAME);                       \
        return function == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : function ARGUMENTS; \
    }

FORWARD(cublasCreate_v2, (void** handle), (handle))
FORWARD(cublasDestroy_v2, (void* handle), (handle))
FORWARD(cublasGetVersion_v2, (void* handle, int* version), (handle, version))
FORWARD(cublasSetStream_v2, (void* handle, void* stream), (handle, stream))
FORWARD(cublasSetWorkspace_v2, (void* handle, void* workspace, size_t bytes),
        (handle, workspace, bytes))
FORWARD(cublasSetMathMode, (void* handle, int mode), (handle, mode))
FORWARD(cublasGemmEx,
        (void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha,
         const void* a, int a_type, int lda, const void* b, int b_type, int ldb, const void* beta,
         void* c, int c_type, int ldc, int compute, int algorithm),
        (handle, transpose_a, transpose_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c,
         c_type, ldc, compute, algorithm))
