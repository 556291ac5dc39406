// Gradients through RMSNorm: of its input. Gains stay as they are, so they get none.
#include "reduce.cuh"
#include "types.cuh"

// For y = x / rms(x) * weight, rms(x) = sqrt(mean(x^2) + eps), and dy, the gradient of y:
//   dx_i = (weight_i dy_i - x_i / rms^2 * mean(weight dy x)) / rms
// of one vector of d elements x(i), given to `put(i, dx_i)`.
template <typename X, typename Put>
__device__ __forceinline__ void norm_backward(const X& x, const float* dy,
                                              const float* __restrict__ weight, int d, float eps,
                                              Put put) {
    float squares = 0, products = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        squares += x(i) * x(i);
        products += weight[i] * dy[i] * x(i);
    }
    squares = block_sum(squares);
    products = block_sum(products);
    const float inverse = 1.0f / sqrtf(squares / d + eps);
    const float along = products / d * inverse * inverse;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        put(i, (weight[i] * dy[i] - x(i) * along) * inverse);
    }
}

// dx[at] += the gradient of x[at], for at = rows[i], or i where rows is null.
// dx, x [_, d] f32; dy [n, d] f32; rows [n] or null; weight [d] f32.
// PRECOND: one block for each row of dy (grid.x = n), any block size; no row twice; dx, x and dy do not
// overlap.
// Moves n * d * 20 bytes; x and dy are read twice, the second time from L1 or L2. It adds, since the
// residual stream's own gradient goes past the norm: no row of the branch's is stored.
extern "C" __global__ void rmsnorm_backward_f32(float* dx,
                                                const float* __restrict__ x,
                                                const float* __restrict__ dy,
                                                const int* __restrict__ rows,
                                                const float* __restrict__ weight, int d,
                                                float eps) {
    const long long at = rows == nullptr ? blockIdx.x : rows[blockIdx.x];
    float* to = dx + at * d;
    const float* from = x + at * d;
    norm_backward([from](int i) { return from[i]; }, dy + (long long)blockIdx.x * d, weight, d, eps,
                  [to](int i, float value) { to[i] += value; });
}

// In place: the gradient of q and k after their norms (Qwen3: RMSNorm over each head by itself, as in
// qkv.cu) becomes that of q and k before; v's stays.
// dqkv [rows, (H + 2 * KV) * d_head] f32; qkv likewise in T, as the product left it, to which bias is
// added here where it is not null; q_norm, k_norm [d_head] f32.
// PRECOND: grid (rows, H + KV), any block size.
// Moves rows * (H + KV) * d_head * (8 + sizeof(T)) bytes. One block per head, as the forward's kernel.
template <typename T>
__device__ void qk_norm_backward(float* dqkv, const T* __restrict__ qkv,
                                 const float* __restrict__ bias, const float* __restrict__ q_norm,
                                 const float* __restrict__ k_norm, float eps, int n_heads,
                                 int n_kv_heads, int d_head) {
    const int head = blockIdx.y;
    const long long at =
        ((long long)blockIdx.x * (n_heads + 2 * n_kv_heads) + head) * d_head;
    const T* __restrict__ in = qkv + at;
    float* dx = dqkv + at;
    const float* gain = head < n_heads ? q_norm : k_norm;
    const auto put = [dx](int i, float value) { dx[i] = value; };
    if (bias == nullptr) {
        norm_backward([in](int i) { return to_float(in[i]); }, dx, gain, d_head, eps, put);
    } else {
        const float* __restrict__ add = bias + head * d_head;
        norm_backward([in, add](int i) { return to_float(in[i]) + add[i]; }, dx, gain, d_head, eps,
                      put);
    }
}

#define QK_NORM_BACKWARD(T)                                                                      \
    extern "C" __global__ void qk_norm_backward_##T(float* dqkv, const T* qkv,                   \
                                                    const float* bias, const float* q_norm,      \
                                                    const float* k_norm, float eps, int n_heads, \
                                                    int n_kv_heads, int d_head) {                \
        qk_norm_backward(dqkv, qkv, bias, q_norm, k_norm, eps, n_heads, n_kv_heads, d_head);     \
    }

QK_NORM_BACKWARD(f32)
QK_NORM_BACKWARD(bf16)
