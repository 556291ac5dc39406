// multiply_few.cu for sm_90a and bf16: W streams through shared memory without a stop, the sums
// are made by tensor cores, so that eight rows take what one takes.
//
// A tile is 8 pairs of W's rows, the 16 rows of mma's first factor: the firsts above the
// seconds, so that a pair's two sums meet in one lane. The rows of x are the second factor's 8
// columns. A block goes through its items of TILES tiles, and through each item's k in chunks; a
// chunk of an item is a stage of a ring. The copy engine brings it row by row, 1 KB each; the
// block's warps share its k, 32 elements each at a time, and leave it at `empty`. A step later,
// when all have left it as a rule, each warp starts its share of the copies that go there next.
// At an item's end the warps' sums are added in their order by one of them, while the others go
// on.
//
// A lane takes 8 neighbouring elements of a row of W and of x, for two products: the order of k
// within a product is free as long as both factors have the same. Rows of shared memory lie
// PITCH bytes apart, so that the 8 lanes that read 16 bytes each at a time read all banks.
//
// A sum depends on its own rows alone: mma's order within 32 elements, the warp's chunks, then
// the warps. So no bit of a result depends on the grid, on TILES, on where x lies, or on how
// many other rows of x there are.
//
// x lies in shared memory as a whole ("staged": its norm, or x as it is), or each stage brings
// its chunk along ("streamed": 28 KB a row where k is 14,336). Streamed rows come anew for each
// item, from L2: of 8 rows half as many bytes as of W's with one tile, a quarter with two.
//
// PRECOND of all: rows 1 to 8; blocks of at most 512 threads, a multiple of the warp size; any
// grid of one dimension; k a multiple of 8; x, W, and the gain at multiples of 16, contiguous; x
// and out do not overlap; two tiles only in two warps or more; 2 to 15 stages; dynamic shared
// memory as FewRows counts it. W and the gain are written by no kernel that may still run: their
// copies start before the launches before have ended.
//
// Moves what multiply_few.cu moves: 52.7 us for gate and up of Llama-3.1-8B at 4.46 TB/s. In
// flight: 5 stages of 16 KB less the one that is left, 64 KB for each SM where Little's law asks
// for 27. So that two launches share an SM, and the second fills its ring while the first ends
// (launch_order.cuh), a block has half of its shared memory and registers, as far as x leaves
// room (4 rows). Instructions: about 60 for a warp and a stage, 30 % of the issue slots.
// Predicted for a step at batch 1: 3.9 ms (tools/decode), of which weights take 3.4. Not
// measured yet. (Counted against: pieces of 128 bytes by tensor maps, which would need one for
// each matrix; rings of each warp's own, whose pieces would be 256 bytes.)
#include "few_rows.cuh"
#include "launch_order.cuh"
#include "mma_sm80.cuh"
#include "wgmma_sm90.cuh"

constexpr int PAIRS = 8;        // of a tile
constexpr int CHUNK = 512;      // elements of k in a stage
constexpr int PITCH = 2 * CHUNK + 64;
constexpr int BARRIERS = 256;   // bytes

// 8 elements, two to a register; zeros where `there` is false.
__device__ __forceinline__ uint4 eight(const void* from, bool there) {
    return there ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
}

// From a staged row of x to the next, in elements: rows then begin half the banks apart.
__device__ __forceinline__ int staged_pitch(int k) {
    return (k + 63) / 64 * 64 + 32;
}

template <int TILES, bool STAGED, typename Epilogue>
__device__ __forceinline__ void stream_weights(const Factors<bf16>& f, int stages,
                                               const Epilogue& epilogue) {
    SHARED_DYNAMIC(unsigned char, shared);
    const int lane = threadIdx.x % warpSize;
    const int warp = threadIdx.x / warpSize;
    const int warps = blockDim.x / warpSize;
    constexpr int ROWS = 2 * PAIRS * TILES;  // of W in a stage
    const int stage_bytes = (ROWS + (STAGED ? 0 : f.rows)) * PITCH;
    unsigned char* ring_memory = shared + BARRIERS;
    float4* partials = reinterpret_cast<float4*>(ring_memory + stages * stage_bytes);
    bf16* staged = reinterpret_cast<bf16*>(partials + TILES * warps * warpSize);
    const unsigned full = shared_address(shared);
    const unsigned empty = full + 8 * stages;
    const unsigned taken = empty + 8 * stages;  // an item's partial sums

    const int pairs = epilogue.pairs();
    const int items = (pairs + TILES * PAIRS - 1) / (TILES * PAIRS);
    const int chunks = (f.k + CHUNK - 1) / CHUNK;
    const int own_items = (items - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
    const int steps = max(own_items, 0) * chunks;
    const bf16* x = static_cast<const bf16*>(f.x);

    // A stage is made of copies, one of a row each. They are shared out over the warps, whose lanes
    // start theirs one after another.
    const int copies = ROWS + (STAGED ? 0 : f.rows);
    const int own = warp + warps * lane;
    const auto start = [&](int step, int stage) {
        const int item = blockIdx.x + step / chunks * gridDim.x;
        const int begin = step % chunks * CHUNK;
        const int bytes = 2 * min(CHUNK, f.k - begin);
        const unsigned here = full + 8 * stage;
        long long row = own - ROWS;
        if (own < ROWS) {
            const int pair = (item * TILES + own / (2 * PAIRS)) * PAIRS + own % PAIRS;
            if (pair >= pairs) {
                mbarrier_arrive(here);
                return;
            }
            const int2 both = epilogue.rows(pair);
            row = own % (2 * PAIRS) < PAIRS ? both.x : both.y;
        }
        mbarrier_expect(here, bytes);
        start_bytes(shared_address(ring_memory) + stage * stage_bytes + own * PITCH,
                    (own < ROWS ? f.w : x) + row * f.k + begin, bytes, here);
    };

    if (threadIdx.x == 0) {
        for (int stage = 0; stage < stages; stage++) {
            mbarrier_init(full + 8 * stage, copies);
            mbarrier_init(empty + 8 * stage, warps);
        }
        mbarrier_init(taken, TILES);
        mbarrier_init_done();
    }
    __syncthreads();
    if (own < ROWS) {
        UNROLL_NONE
        for (int step = 0; step < min(stages, steps); step++) start(step, step);
    }
    let_next_launch_begin();
    wait_for_launches_before();
    if (own >= ROWS && own < copies) {
        UNROLL_NONE
        for (int step = 0; step < min(stages, steps); step++) start(step, step);
    }
    using Place = decltype(epilogue.place(0));
    __shared__ Place places[8];
    if ((int)threadIdx.x < f.rows) places[threadIdx.x] = epilogue.place(threadIdx.x);
    const int pitch = staged_pitch(f.k);
    if constexpr (STAGED) {
        constexpr int N = PACK<bf16>;
        if (f.rows == 1) {
            stage_rows<N, 1>(staged, pitch, f);
        } else {
            stage_rows<N, 4>(staged, pitch, f);
        }
    } else {
        __syncthreads();  // the places are there
    }

    // mma's columns that a lane gives, and that it gets; rows that are not there are row 0.
    const int row = lane / 4 < f.rows ? lane / 4 : 0;
    const int column = mma_c(lane, 0).column;
    float sums[TILES][4] = {};
    int item = blockIdx.x, chunk = 0, done = 0;
    Ring ring = {stages}, before = ring;
    for (int step = 0; step < steps; step++) {
        __syncwarp();
        mbarrier_wait(full + 8 * ring.stage, ring.parity);
        __syncwarp();  // mma wants the lanes together
        const unsigned char* stage = ring_memory + ring.stage * stage_bytes;
        const int begin = chunk * CHUNK;
        for (int i = warp * 32 + lane % 4 * 8; i < CHUNK; i += warps * 32) {
            const bool there = begin + i < f.k;
            const void* from = STAGED ? static_cast<const void*>(staged + row * pitch + begin + i)
                                      : stage + (ROWS + row) * PITCH + 2 * i;
            const uint4 b = eight(from, there);
            UNROLL_ALL
            for (int t = 0; t < TILES; t++) {
                const unsigned char* w = stage + (2 * PAIRS * t + lane / 4) * PITCH + 2 * i;
                const uint4 a = eight(w, there);
                const uint4 below = eight(w + PAIRS * PITCH, there);
                mma(sums[t], {a.x, below.x, a.y, below.y}, b.x, b.y);
                mma(sums[t], {a.z, below.z, a.w, below.w}, b.z, b.w);
            }
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(empty + 8 * ring.stage);
        if (step > 0 && step - 1 + stages < steps) {
            mbarrier_wait(empty + 8 * before.stage, before.parity);
            if (own < copies) start(step - 1 + stages, before.stage);
        }
        before = ring;
        if (++chunk == chunks) {
            if (done > 0) mbarrier_wait(taken, (done - 1) & 1);
            UNROLL_ALL
            for (int t = 0; t < TILES; t++) {
                partials[(t * warps + warp) * warpSize + lane] =
                    make_float4(sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
                UNROLL_ALL
                for (int i = 0; i < 4; i++) sums[t][i] = 0;
            }
            __syncthreads();
            for (int t = 0; t < TILES; t++) {
                if ((done * TILES + t) % warps != warp) continue;
                const float4* of_warps = partials + t * warps * warpSize + lane;
                float4 sum = of_warps[0];
                for (int i = 1; i < warps; i++) {
                    const float4 more = of_warps[i * warpSize];
                    sum.x += more.x;
                    sum.y += more.y;
                    sum.z += more.z;
                    sum.w += more.w;
                }
                __syncwarp();
                if (lane == 0) mbarrier_arrive(taken);
                const int pair = (item * TILES + t) * PAIRS + lane / 4;
                if (pair >= pairs) continue;
                UNROLL_NONE
                for (int m = column; m < min(column + 2, f.rows); m++) {
                    const bool second = m > column;
                    epilogue.put(pair, m, places[m], from_float<bf16>(second ? sum.y : sum.x),
                                 from_float<bf16>(second ? sum.w : sum.z));
                }
            }
            done++;
            chunk = 0;
            item += gridDim.x;
        }
        ring.advance();
    }
}

// The kernels of multiply_few.cu with their arguments, and the stages of the ring at the end. x is
// streamed where it comes without a norm to multiply_few, and to multiply_few_add, which takes one or
// two tiles at a time; else it is staged.

extern "C" __global__ void __launch_bounds__(512, 2)
    multiply_few_sm90(bf16* out, const void* x, const float* gain, float eps, const bf16* w,
                      int rows, int n, int k, int stages) {
    const Factors<bf16> factors{x, gain, eps, w, rows, k};
    const StoreFew<bf16> store(out, n);
    if (gain != nullptr) {
        stream_weights<1, true>(factors, stages, store);
    } else {
        stream_weights<1, false>(factors, stages, store);
    }
}

extern "C" __global__ void __launch_bounds__(512, 2)
    multiply_few_add_sm90(float* y, const bf16* x, const bf16* w, const float* bias, int rows,
                          int n, int k, int tiles, int stages) {
    const Factors<bf16> factors{x, nullptr, 0, w, rows, k};
    const AddFew<bf16> add(y, bias, n);
    if (tiles == 1) {
        stream_weights<1, false>(factors, stages, add);
    } else {
        stream_weights<2, false>(factors, stages, add);
    }
}

extern "C" __global__ void __launch_bounds__(512, 2)
    multiply_few_gate_sm90(bf16* out, const void* x, const float* gain, float eps, const bf16* w,
                           const float* gate_bias, const float* up_bias, int rows, int d_mlp,
                           int k, int stages) {
    stream_weights<1, true>(Factors<bf16>{x, gain, eps, w, rows, k}, stages,
                               GateFew<bf16>{out, gate_bias, up_bias, d_mlp});
}

extern "C" __global__ void __launch_bounds__(512, 2)
    multiply_few_rope_sm90(bf16* qkv, const void* x, const float* gain, float eps, const bf16* w,
                           const float* bias, const float* inverse_frequencies,
                           const int* positions, const int* sequences, const int* page_table,
                           int pages_per_sequence, bf16* k_cache, bf16* v_cache, int rows,
                           int n_heads, int n_kv_heads, int d_head, int k, int stages) {
    stream_weights<1, true>(
        Factors<bf16>{x, gain, eps, w, rows, k}, stages,
        RopeFew<bf16>{qkv, bias, inverse_frequencies, positions, sequences, page_table,
                      pages_per_sequence, k_cache, v_cache, n_heads, n_kv_heads, d_head});
}
