// multiply_few.cu for sm_90a and bf16, with the same bits: W comes through shared memory, and its first 192 KB
// for each SM while the launches before still run.
//
// Each warp has a ring of its own. The copy engine fills a stage with a chunk of both rows of a pair, 2 KB
// each; when the warp has multiplied it, its first lane starts the copies that go there next, so that no warp
// waits for another, and W's bytes in flight are no registers. x, or its norm, lies in shared memory too. A
// lane takes the packs of a row that it takes in multiply_few.cu, in the same order.
//
// PRECOND of all: that of multiply_few.cu; x, W and the gain at multiples of 16, k a multiple of 8; 1 to 32
// stages of a warp's ring; dynamic shared memory: round128(2 * rows * k) + warps * stages * 4,104 bytes (FewRows
// counts them). Launched early (launch_order.cuh), no kernel that may still run writes W.
//
// Moves what multiply_few.cu moves. In flight: three stages of 4 KB of 16 warps, 192 KB for each SM, where
// Little's law asks for 27 to 40; so a block has an SM to itself, and the next launch's come on each SM when
// this one's ends there. Instructions for 16 bytes of a weight, about 23 at one row, 34 at two, 59 at four, 109 at
// eight.
//
// Measured on an H200 beside multiply_few.cu, us of q, k and v, o, gate and up, down of Llama-3.1-8B at one
// row, each recorded 32 times with 32 weights: 14.4, 10.2, 56.3, 30.6 (18.9, 12.2, 59.9, 31.7), a layer with a
// stand-in for attention 114 (130); without overlap 16.9, 11.8, 58.6, 33.3. Reading W and nothing else takes
// 13.0, 9.4, 53.1, 27.7 a launch. Tried there, a layer: without the hint that W goes first from L2 115; two
// stages 116, six of 1 KB rows 117; half as many warps with 4 KB rows 116, with six stages of 2 KB 123, with
// two blocks on an SM 115; a quarter as many 127; without the multiplications 108. Tried before, and lost: a
// ring for the whole block, rows by 1 KB copies into padded stages, and mma.m16n8k16 of 8 pairs of W's rows by
// up to 8 of x: 164.
// The innermost loop is multiply_few.cu's: as one function for both, nvcc did not unroll it here.
#include "few_rows.cuh"
#include "launch_order.cuh"
#include "wgmma_sm90.cuh"

constexpr int CHUNK = 1024;  // elements of either row in a stage

// All rows of x, which are at most M.
template <int M, typename Epilogue>
__device__ __forceinline__ void stream_pairs(const Factors<bf16>& f, int stages,
                                             const Epilogue& epilogue) {
    SHARED_DYNAMIC(unsigned char, shared);
    constexpr int N = PACK<bf16>;
    const int lane = threadIdx.x % warpSize;
    const int warp = threadIdx.x / warpSize;
    const int warps = blockDim.x / warpSize;
    const int k = f.k;
    bf16* x = reinterpret_cast<bf16*>(shared);
    bf16* rings = x + (f.rows * k + 63) / 64 * 64;
    bf16* stage_memory = rings + warp * stages * 2 * CHUNK;
    const unsigned full = shared_address(rings + warps * stages * 2 * CHUNK) + 8 * warp * stages;

    // A step is a chunk of a pair.
    const int chunks = (k + CHUNK - 1) / CHUNK;
    const int stride = gridDim.x * warps;
    const int pairs = epilogue.pairs();
    const int first = blockIdx.x + gridDim.x * warp;
    const int steps = first < pairs ? ((pairs - 1 - first) / stride + 1) * chunks : 0;
    const auto start = [&](int pair, int chunk, int stage) {
        const int2 rows = epilogue.rows(pair);
        const int begin = chunk * CHUNK;
        const int bytes = 2 * min(CHUNK, k - begin);
        const unsigned to = shared_address(stage_memory + stage * 2 * CHUNK);
        mbarrier_expect(full + 8 * stage, 2 * bytes);
        start_bytes(to, f.w + (long long)rows.x * k + begin, bytes, full + 8 * stage);
        start_bytes(to + 2 * CHUNK, f.w + (long long)rows.y * k + begin, bytes, full + 8 * stage);
    };
    if (lane < stages) {
        mbarrier_init(full + 8 * lane, 1);
        mbarrier_init_done();
        if (lane < steps) start(first + lane / chunks * stride, lane % chunks, lane);
    }
    let_next_launch_begin();
    wait_for_launches_before();
    const auto place = epilogue.place(lane < f.rows ? lane : 0);
    stage_rows<N, M>(x, f);

    int coming = stages;  // the step whose chunk goes where the one at hand lies
    int coming_pair = first + stages / chunks * stride;
    int coming_chunk = stages % chunks;
    Ring ring = {stages};
    for (int pair = first; pair < pairs; pair += stride) {
        float sums[M] = {}, second_sums[M] = {};
        for (int begin = 0; begin < k; begin += CHUNK) {
            mbarrier_wait(full + 8 * ring.stage, ring.parity);
            const bf16* w = stage_memory + ring.stage * 2 * CHUNK;
            const int count = min(CHUNK, k - begin);
#pragma unroll(M <= 2 ? 4 : 1)
            for (int i = lane * N; i < count; i += warpSize * N) {
                Pack<bf16, N> a, b;
                a.load(w + i);
                b.load(w + CHUNK + i);
                UNROLL_ALL
                for (int m = 0; m < M; m++) {
                    Pack<bf16, N> in;
                    in.load(x + (m < f.rows ? m : 0) * k + begin + i);
                    UNROLL_ALL
                    for (int j = 0; j < N; j++) {
                        const float factor = to_float(in.at[j]);
                        sums[m] = fmaf(to_float(a.at[j]), factor, sums[m]);
                        second_sums[m] = fmaf(to_float(b.at[j]), factor, second_sums[m]);
                    }
                }
            }
            __syncwarp();  // all lanes have read the stage
            if (lane == 0 && coming < steps) start(coming_pair, coming_chunk, ring.stage);
            coming++;
            if (++coming_chunk == chunks) {
                coming_chunk = 0;
                coming_pair += stride;
            }
            ring.advance();
        }
        put_sums(f, epilogue, pair, place, sums, second_sums);
    }
}

template <typename Epilogue>
__device__ __forceinline__ void stream_few(const Factors<bf16>& f, int stages,
                                           const Epilogue& epilogue) {
    if (f.rows == 1) {
        stream_pairs<1>(f, stages, epilogue);
    } else if (f.rows == 2) {
        stream_pairs<2>(f, stages, epilogue);
    } else if (f.rows <= 4) {
        stream_pairs<4>(f, stages, epilogue);
    } else {
        stream_pairs<8>(f, stages, epilogue);
    }
}

// The kernels of multiply_few.cu with their arguments, and the stages of a warp's ring at the end.

extern "C" __global__ void __launch_bounds__(512, 1)
    multiply_few_sm90(bf16* out, const void* x, const float* gain, float eps, const bf16* w, int rows,
                      int n, int k, int stages) {
    stream_few(Factors<bf16>{x, gain, eps, w, rows, k}, stages, StoreFew<bf16>(out, n));
}

extern "C" __global__ void __launch_bounds__(512, 1)
    multiply_few_add_sm90(float* y, const bf16* x, const bf16* w, const float* bias, int rows, int n,
                          int k, int stages) {
    stream_few(Factors<bf16>{x, nullptr, 0, w, rows, k}, stages, AddFew<bf16>(y, bias, n));
}

extern "C" __global__ void __launch_bounds__(512, 1)
    multiply_few_gate_sm90(bf16* out, const void* x, const float* gain, float eps, const bf16* w,
                           const float* gate_bias, const float* up_bias, int rows, int d_mlp, int k,
                           int stages) {
    stream_few(Factors<bf16>{x, gain, eps, w, rows, k}, stages,
               GateFew<bf16>{out, gate_bias, up_bias, d_mlp});
}

extern "C" __global__ void __launch_bounds__(512, 1)
    multiply_few_rope_sm90(bf16* qkv, const void* x, const float* gain, float eps, const bf16* w,
                           const float* bias, const float* inverse_frequencies,
                           const int* positions, const int* sequences, const int* page_table,
                           int pages_per_sequence, bf16* k_cache, bf16* v_cache, int rows,
                           int n_heads, int n_kv_heads, int d_head, int k, int stages) {
    stream_few(Factors<bf16>{x, gain, eps, w, rows, k}, stages,
               RopeFew<bf16>{qkv, bias, inverse_frequencies, positions, sequences, page_table,
                             pages_per_sequence, k_cache, v_cache, n_heads, n_kv_heads, d_head});
}
