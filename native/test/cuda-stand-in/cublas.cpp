// A libcublas.so.13 for machines without a GPU, on top of the stand-in driver: the product that
// CudaDevice uses, as plain loops. For tests only.

#include <cstdint>
#include <cstring>
#include <vector>

#include "stand_in.h"

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { F32 = 0, BF16 = 14 };
enum Operation { PLAIN = 0, TRANSPOSED = 1 };

constexpr int COMPUTE_32F = 68;
constexpr int DISALLOW_REDUCED_PRECISION = 16;
constexpr int ILLEGAL_ADDRESS = 700;

struct Handle {
    void* stream = nullptr;
    bool workspace = false;
    int mode = 0;
};

/// `count` elements of a matrix, `step` apart, as floats.
void load(float* to, const void* matrix, int type, int64_t first, int64_t step, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = first + i * step;
        if (type == F32) {
            to[i] = static_cast<const float*>(matrix)[at];
            continue;
        }
        uint32_t bits = uint32_t(static_cast<const uint16_t*>(matrix)[at]) << 16;
        memcpy(to + i, &bits, 4);
    }
}

void store(void* matrix, int type, int64_t i, float value) {
    if (type == F32) {
        static_cast<float*>(matrix)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    uint32_t rounded = nan ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1);
    static_cast<uint16_t*>(matrix)[i] = static_cast<uint16_t>(rounded >> 16);
}

size_t span(int64_t rows, int64_t columns, int64_t leading, int type) {  // column-major
    return static_cast<size_t>((columns - 1) * leading + rows) * (type == F32 ? 4 : 2);
}

// The order in which multiply_few.cu sums: 32 lanes take packs in turn, and meet in a butterfly. So a
// row has the same bits by either, which tests may ask for where no real cuBLAS could promise it.
struct Order {
    static constexpr int LANES = 32;
    int64_t k;
    int packed;  // elements of a pack

    size_t length() const {
        const int64_t step = LANES * packed;
        return static_cast<size_t>((k + step - 1) / step * step);
    }

    // to [length()]: step by step, what each lane multiplies first, then what it multiplies second...
    void lay(float* to, const float* from) const {
        const int64_t step = LANES * packed;
        for (int64_t i = 0; i < int64_t(length()); i++) {
            const int64_t within = i % step;
            const int64_t place = i - within + within % packed * LANES + within / packed;
            to[place] = i < k ? from[i] : 0;
        }
    }

    float sum(const float* x, const float* y) const {
        float lanes[LANES] = {};
        for (size_t i = 0; i < length(); i += LANES) {
            for (int lane = 0; lane < LANES; lane++) {
                lanes[lane] = __builtin_fmaf(x[i + size_t(lane)], y[i + size_t(lane)], lanes[lane]);
            }
        }
        for (int apart = LANES / 2; apart > 0; apart /= 2) {
            float next[LANES];
            for (int lane = 0; lane < LANES; lane++) next[lane] = lanes[lane] + lanes[lane ^ apart];
            memcpy(lanes, next, sizeof lanes);
        }
        return lanes[0];
    }
};

bool is_type(int type) { return type == F32 || type == BF16; }

}  // namespace

STAND_IN_API int cublasCreate_v2(Handle** handle) {
    *handle = new Handle();
    return SUCCESS;
}

STAND_IN_API int cublasDestroy_v2(Handle* handle) {
    delete handle;
    return SUCCESS;
}

STAND_IN_API int cublasGetVersion_v2(Handle*, int* version) {
    *version = 130000;
    return SUCCESS;
}

STAND_IN_API int cublasSetStream_v2(Handle* handle, void* stream) {
    handle->stream = stream;
    handle->workspace = false;  // as in cuBLAS: a new stream takes the workspace away
    return SUCCESS;
}

STAND_IN_API int cublasSetWorkspace_v2(Handle* handle, void* workspace, size_t bytes) {
    if (!stand_in::inside(workspace, bytes, "cuBLAS's workspace")) return INVALID_VALUE;
    handle->workspace = true;
    return SUCCESS;
}

STAND_IN_API int cublasSetMathMode(Handle* handle, int mode) {
    handle->mode = mode;
    return SUCCESS;
}

STAND_IN_API int cublasGemmEx(Handle* handle, int transpose_a, int transpose_b, int m, int n,
                              int k, const float* alpha, const void* a, int a_type, int lda,
                              const void* b, int b_type, int ldb, const float* beta, void* c,
                              int c_type, int ldc, int compute, int) {
    bool types = is_type(a_type) && b_type == a_type && (c_type == F32 || c_type == a_type);
    if (!types || compute != COMPUTE_32F) {
        stand_in::complain("product of types %d and %d into %d, computed in %d: cuBLAS has none",
                           a_type, b_type, c_type, compute);
        return NOT_SUPPORTED;
    }
    if (*alpha != 1 || *beta != 0 || (transpose_a != TRANSPOSED && transpose_a != PLAIN) ||
        (transpose_b != TRANSPOSED && transpose_b != PLAIN)) {
        stand_in::complain("a product that the stand-in does not know");
        return NOT_SUPPORTED;
    }
    // a is [k, m] in memory where it is transposed, else [m, k]; b is [k, n], or [n, k] transposed.
    const bool along_a = transpose_a == TRANSPOSED;  // whether the sum runs along its columns
    const bool along_b = transpose_b == PLAIN;
    if (m < 0 || n < 0 || k < 0 || lda < (along_a ? k : m) || ldb < (along_b ? k : n) || ldc < m) {
        stand_in::complain("product of %d x %d x %d with strides %d, %d, %d", m, n, k, lda, ldb,
                           ldc);
        return INVALID_VALUE;
    }
    if (!handle->workspace || handle->mode != DISALLOW_REDUCED_PRECISION) {
        stand_in::complain("a product without a workspace of its own, or in another mode");
        return NOT_INITIALIZED;
    }
    return stand_in::enqueue(handle->stream, [=] {
        const size_t a_bytes = along_a ? span(k, m, lda, a_type) : span(m, k, lda, a_type);
        const size_t b_bytes = along_b ? span(k, n, ldb, b_type) : span(n, k, ldb, b_type);
        if (!stand_in::inside(a, a_bytes, "first factor") ||
            !stand_in::inside(b, b_bytes, "second factor") ||
            !stand_in::inside(c, span(m, n, ldc, c_type), "product")) {
            return ILLEGAL_ADDRESS;
        }
        const int packed = a_type == F32 ? 4 : 8;
        const bool in_packs = k % packed == 0 && reinterpret_cast<uintptr_t>(a) % 16 == 0 &&
                              reinterpret_cast<uintptr_t>(b) % 16 == 0;
        const Order order{k, in_packs ? packed : 1};
        const size_t length = order.length();
        std::vector<float> line(static_cast<size_t>(k)), x(length), ys(length * size_t(n));
        for (int64_t j = 0; j < n; j++) {
            load(line.data(), b, b_type, along_b ? j * ldb : j, along_b ? 1 : ldb, k);
            order.lay(&ys[length * size_t(j)], line.data());
        }
        for (int64_t i = 0; i < m; i++) {
            load(line.data(), a, a_type, along_a ? i * lda : i, along_a ? 1 : lda, k);
            order.lay(x.data(), line.data());
            for (int64_t j = 0; j < n; j++) {
                store(c, c_type, i + j * ldc, order.sum(x.data(), &ys[length * size_t(j)]));
            }
        }
        return int(SUCCESS);
    });
}
