// Matrix products of libhalter.

#include "halter.h"
#include "runtime.h"
#include "cuda_on_cpu.h"
#include "types.cuh"

namespace {

float element(const void* matrix, int type, long i) {
    switch (type) {
        case HALTER_F16: return to_float(static_cast<const f16*>(matrix)[i]);
        case HALTER_BF16: return to_float(static_cast<const bf16*>(matrix)[i]);
        default: return static_cast<const float*>(matrix)[i];
    }
}

}  // namespace

int halter_gemm(int m, int n, int k, const void* x, int x_type, long x_stride, const void* w,
                int w_type, long w_stride, void* out, int out_type, long out_stride) {
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int l = 0; l < k; l++) {
                sum += element(x, x_type, i * x_stride + l) * element(w, w_type, j * w_stride + l);
            }
            long at = i * out_stride + j;
            if (out_type == HALTER_BF16) {
                static_cast<bf16*>(out)[at] = from_float<bf16>(sum);
            } else {
                static_cast<float*>(out)[at] = sum;
            }
        }
    }
    return 0;
}
