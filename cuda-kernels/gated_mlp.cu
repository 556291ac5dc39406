// out = silu(gate) * up: the gated MLP between its two products, with the neuron edits.
#include "fast_math.cuh"
#include "steer.cuh"

// The neurons [begin, end) of a row; addresses are those of neuron 0: values += bias.
template <int N, typename T>
__device__ __forceinline__ void add_bias(T* __restrict__ values, const float* __restrict__ bias,
                                         int begin, int end) {
    for (int i = begin + threadIdx.x * N; i < end; i += blockDim.x * N) {
        Pack<T, N> value;
        Pack<float, N> more;
        value.load(values + i);
        more.load(bias + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) {
            value.at[j] = from_float<T>(to_float(value.at[j]) + more.at[j]);
        }
        value.store(values + i);
    }
}

// Likewise, out = silu(gate) * up, after the biases: of neurons that the same thread gave theirs.
template <int N, typename T>
__device__ __forceinline__ void gate_neurons(T* __restrict__ out, T* __restrict__ gate,
                                             T* __restrict__ up,
                                             const float* __restrict__ gate_bias,
                                             const float* __restrict__ up_bias, int begin,
                                             int end) {
    if (gate_bias != nullptr) add_bias<N>(gate, gate_bias, begin, end);
    if (up_bias != nullptr) add_bias<N>(up, up_bias, begin, end);
    for (int i = begin + threadIdx.x * N; i < end; i += blockDim.x * N) {
        Pack<T, N> g, u, to;
        g.load(gate + i);
        u.load(up + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) {
            to.at[j] = from_float<T>(silu(to_float(g.at[j])) * to_float(u.at[j]));
        }
        to.store(out + i);
    }
}

// out [rows, d_mlp] T, contiguous; gate, up [rows, d_mlp] T with row stride `stride`; biases
// [d_mlp] f32 or null. Sites: hook_pre = gate, hook_pre_linear = up (both with bias, rewritten
// where there is one), hook_post = out.
// PRECOND: grid (rows, chunks) with any number of chunks and any block size: the chunks of a row
// share its neurons. Packs of 16 bytes where d_mlp and stride are multiples of a pack and all
// addresses of 16, else element by element.
// Moves rows * d_mlp * 3 * sizeof(T) bytes, and another sizeof(T) for each of gate and up that a bias
// rewrites. Each neuron stands alone, so no result depends on the
// grid; with chunks * blockDim.x packs in a row a thread has one of each input, both under way
// before the first is used. One block per row, which this was before, has 56 such rounds of 2 bytes
// one after another at d_mlp 14,336.
template <typename T>
__device__ void gated_mlp(T* out, T* gate, T* up, const float* __restrict__ gate_bias,
                          const float* __restrict__ up_bias, int d_mlp, long long stride) {
    constexpr int N = PACK<T>;
    const int packs = (d_mlp + N - 1) / N;
    const int chunk = (packs + gridDim.y - 1) / gridDim.y * N;
    const int begin = blockIdx.y * chunk;
    const int end = begin + chunk < d_mlp ? begin + chunk : d_mlp;
    T* g = gate + blockIdx.x * stride;
    T* u = up + blockIdx.x * stride;
    T* to = out + (long long)blockIdx.x * d_mlp;
    const bool in_packs = d_mlp % N == 0 && stride % N == 0 && aligned(out, gate, up) &&
                          aligned(gate_bias, up_bias);
    if (in_packs) {
        gate_neurons<N>(to, g, u, gate_bias, up_bias, begin, end);
    } else {
        gate_neurons<1>(to, g, u, gate_bias, up_bias, begin, end);
    }
}

extern "C" __global__ void gated_mlp_f32(float* out, float* gate, float* up,
                                         const float* gate_bias, const float* up_bias, int d_mlp,
                                         long long stride) {
    gated_mlp(out, gate, up, gate_bias, up_bias, d_mlp, stride);
}

extern "C" __global__ void gated_mlp_bf16(bf16* out, bf16* gate, bf16* up, const float* gate_bias,
                                          const float* up_bias, int d_mlp, long long stride) {
    gated_mlp(out, gate, up, gate_bias, up_bias, d_mlp, stride);
}

// The neuron edits of rows that gated_mlp has made, whose arguments these are: of the values as
// they stand there, rounded to T. The edits of a slot come sorted by site (pre, pre_linear, post),
// so that each acts on what the ones before it left; hook_post follows an edit of its inputs.
// PRECOND: one block per row (grid.x = rows), any block size; after gated_mlp.
// Touches only the neurons that edits name. A kernel of its own, launched where a layer is steered:
// an edit's report is a sum over neurons of all chunks, which one block makes in a fixed order.
template <typename T>
__device__ void gated_mlp_edit(T* out, T* gate, T* up, int d_mlp, long long stride,
                               const int2* __restrict__ ranges, const Steering& steering) {
    const int row = blockIdx.x;
    const int2 range = steering.range(ranges, row);
    T* g = gate + row * stride;
    T* u = up + row * stride;
    T* to = out + (long long)row * d_mlp;
    for (int i = range.x; i < range.y; i++) {
        const SteerOp& op = steering.ops[i];
        const int* neurons = static_cast<const int*>(op.payload);
        T* site = op.kind == STEER_GATE ? g : op.kind == STEER_UP ? u : to;
        float changed = 0;
        for (int j = threadIdx.x; j < op.count; j += blockDim.x) {
            const int n = neurons[j];
            const float before = to_float(site[n]);
            const float after = steer_neuron(op, before);
            site[n] = from_float<T>(after);
            changed += (after - before) * (after - before);
            if (op.kind != STEER_POST) {
                to[n] = from_float<T>(silu(to_float(g[n])) * to_float(u[n]));
            }
        }
        changed = block_sum(changed);  // its barriers also keep one edit before the next
        if (threadIdx.x == 0) steering.report(row)[op.report] = changed;
    }
}

extern "C" __global__ void gated_mlp_edit_f32(float* out, float* gate, float* up, int d_mlp,
                                              long long stride, const int2* ranges,
                                              const __grid_constant__ Steering steering) {
    gated_mlp_edit(out, gate, up, d_mlp, stride, ranges, steering);
}

extern "C" __global__ void gated_mlp_edit_bf16(bf16* out, bf16* gate, bf16* up, int d_mlp,
                                               long long stride, const int2* ranges,
                                               const __grid_constant__ Steering steering) {
    gated_mlp_edit(out, gate, up, d_mlp, stride, ranges, steering);
}
