// multiply_top_sm80.cu for sm_90a: wgmma on what the tensor copy engine brings.
#include "top_epilogue.cuh"
#include "wgmma_sm90.cuh"

constexpr int CLUSTER = 2;             // blocks that share the rows of w
constexpr int ROWS = 128;              // of x, for each block: 64 for each of two warpgroups
constexpr int COLUMNS = 256;           // rows of w; each block of the cluster fetches half of them
constexpr int DEPTH = BOX_COLUMNS;     // of the inner dimension at a time
constexpr int THREADS = 384;           // a warpgroup that fetches and two that multiply
constexpr int BOX_ROWS = 128;          // of both tensor maps
constexpr int BOX_BYTES = BOX_ROWS * DEPTH * 2;
constexpr int STAGE_BYTES = (ROWS + COLUMNS) * DEPTH * 2;
static_assert(ROWS == BOX_ROWS && COLUMNS == CLUSTER * BOX_ROWS, "a box is a block's share");

// Rows of x [m, k] against rows of w [n, k], given by tensor maps with boxes of 128 rows: what
// multiply_top_sm80 computes, with the same results but for the order in which products are added
// up. w's rows begin at segment `first_segment`. The clusters go through the work items together:
// item i is split i % splits of w's rows and the pair i / splits of row tiles.
// PRECOND: grid a multiple of 2; block 384; 3 or 4 stages; dynamic shared memory
// 1,024 + stages * (49,152 + 16) + 128 * S * kept * 8 bytes; 1 <= kept <= 32; no split without
// rows.
// A row's bits depend neither on m nor on the splits nor on seeds.
// Work: 2 m n k FLOP; Llama-3.1-8B's neuron map (458,752 x 128,256 x 4,096) is 482 TFLOP, 0.69 s at
// the 694 TFLOP/s of cuBLAS on an H200.
// Moves 32 KB from L2 into the shared memory of each block for 128 x 256 x 64: 16 KB of x, and 16
// of w, which go to both blocks of the cluster. From DRAM comes what clusters do not share: P pairs
// and Q splits under way, P Q = 66 on 132 multiprocessors, read P + Q parts of 512 k bytes for each
// 256 columns. Seven splits leave P = 9 or 10: 0.7 TB/s at 694 TFLOP/s if nothing stays in L2, and
// less as far as the 20 MB of x (k = 4,096) do. Nothing of the product is written.
// The epilogue of a 128 x 256 tile and two signs takes about 4,100 clocks of ex2 and 2,500 of other
// arithmetic where the product takes 65,500, and while one warpgroup is at it the other multiplies
// on, up to the four stages (2,000 clocks) that the first has not released; the rest is what stays
// visible.
// Measured on an H200 with m = 65,536, n = 128,256, k = 4,096, both signs, 10 kept: 0.165 s (torch's
// bare product 0.0992), 1 kept 0.147, k = 1,024 0.0605; 112,000 clocks for a tile. That was with
// barriers that order memory for the whole cluster (wgmma_sm90.cuh), which left about 540 of the
// 1,024 clocks of a step unused whatever k was; with items in the order of their pairs, P = 66 and
// Q = 1, for which half of all requests to L2 went on to DRAM, 2.3 TB/s; and with nine splits that
// all began their lists anew, 450 insertions a row instead of 110. Without those: 0.1144 s, 85 % of
// the bare product (0.0973 in that run).
// One thread fetches: a full[] barrier tells both consumers of its block that a stage has come, an
// empty[] barrier counts the four warpgroups of the cluster that have to leave it before either
// block writes to it. A consumer leaves a stage one step late, when wgmma_wait<1> says that the
// products that read it have ended.
template <Tops KIND>
__device__ void multiply_top_sm90(const TensorMap& x, const TensorMap& w, int k,
                                  int first_segment, int segments_per_split, int splits,
                                  int stages, const TopResults& results) {
    SHARED_DYNAMIC(unsigned char, shared);
    const unsigned first = (shared_address(shared) + 1023) / 1024 * 1024;
    unsigned char* after_ring = shared + (first - shared_address(shared)) + stages * STAGE_BYTES;
    TopEntry* lists = reinterpret_cast<TopEntry*>(after_ring);
    const unsigned full = shared_address(lists + ROWS * SIGNS<KIND> * results.kept);
    const unsigned empty = full + 8 * stages;

    const unsigned rank = cluster_rank();
    const int cluster = blockIdx.x / CLUSTER, clusters = gridDim.x / CLUSTER;
    const int pairs = (results.m + CLUSTER * ROWS - 1) / (CLUSTER * ROWS);
    const int depths = (k + DEPTH - 1) / DEPTH;
    const int first_column = first_segment * SEGMENT;
    const int columns_per_split = segments_per_split * SEGMENT;
    Ring ring = {stages};

    if (threadIdx.x == 0) {
        for (int stage = 0; stage < stages; stage++) {
            mbarrier_init(full + 8 * stage, 1);
            mbarrier_init(empty + 8 * stage, 2 * CLUSTER);
        }
        mbarrier_init_done();
    }
    cluster_sync();

    if (threadIdx.x < 128) {
        give_registers<24>();
        if (threadIdx.x == 0) {
            prefetch_map(x);
            prefetch_map(w);
            for (int item = cluster; item < pairs * splits; item += clusters) {
                const int row = (item / splits * CLUSTER + rank) * ROWS;
                const int begin = first_column + item % splits * columns_per_split;
                const int end = min(results.n, begin + columns_per_split);
                for (int column = begin; column < end; column += COLUMNS) {
                    for (int depth = 0; depth < depths; depth++) {
                        const unsigned a = first + ring.stage * STAGE_BYTES;
                        const unsigned b = a + BOX_BYTES * (1 + rank);
                        const unsigned here = full + 8 * ring.stage;
                        mbarrier_wait(empty + 8 * ring.stage, ring.parity ^ 1);
                        mbarrier_expect(here, STAGE_BYTES);
                        start_box(a, x, depth * DEPTH, row, here);
                        start_box(b, w, depth * DEPTH, column + rank * BOX_ROWS, here,
                                  (1 << CLUSTER) - 1);
                        ring.advance();
                    }
                }
            }
        }
    } else {
        take_registers<240>();
        const int warp_row = (threadIdx.x - 128) / 32 * 16;
        const unsigned a = first + (threadIdx.x / 128 - 1) * (BOX_BYTES / 2);
        const unsigned b = first + BOX_BYTES;
        auto leave = [&](int stage) {
            if (threadIdx.x % 128 < CLUSTER) mbarrier_arrive(empty + 8 * stage, threadIdx.x % 128);
        };
        for (int item = cluster; item < pairs * splits; item += clusters) {
            const int row = (item / splits * CLUSTER + rank) * ROWS + warp_row;
            const int split = item % splits;
            const int begin = first_column + split * columns_per_split;
            const int end = min(results.n, begin + columns_per_split);
            LaneRows<KIND> rows;
            begin_rows<KIND>(rows, lists, warp_row, row, results);
            for (int column = begin; column < end; column += COLUMNS) {
                float c[COLUMNS / 8][4];
                int before = 0;
                for (int depth = 0; depth < depths; depth++) {
                    mbarrier_wait(full + 8 * ring.stage, ring.parity);
                    wgmma_begin();
#pragma unroll
                    for (int d = 0; d < DEPTH / 16; d++) {
                        wgmma(c, wgmma_factor(a + ring.stage * STAGE_BYTES) + 2 * d,
                              wgmma_factor(b + ring.stage * STAGE_BYTES) + 2 * d, depth + d > 0);
                    }
                    wgmma_end();
                    wgmma_wait<1>();
                    if (depth > 0) leave(before);
                    before = ring.stage;
                    ring.advance();
                }
                wgmma_wait<0>();
                wgmma_results(c);
                leave(before);
                take_tile<KIND, COLUMNS>(rows, c, column, lists, warp_row, results);
                const int next = column + COLUMNS;
                if (next % SEGMENT == 0 || next >= end) {
                    end_segment<KIND>(rows, row, column / SEGMENT, results);
                }
            }
            write_lists<KIND>(lists, warp_row, row, split, results);
        }
    }
    cluster_sync();  // a block's shared memory must last while the other writes to it
}

#define MULTIPLY_TOP(name, kind)                                                                  \
    extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(THREADS, 1)            \
        multiply_top_sm90_##name(int* ids, float* values, float2* log_sums,                       \
                                 const int* seed_ids, const float* seed_values,                   \
                                 const __grid_constant__ TensorMap x,                             \
                                 const __grid_constant__ TensorMap w, int m, int n, int k,        \
                                 int kept, int negative, int first_segment,                       \
                                 int segments_per_split, int splits, int stages) {                \
        multiply_top_sm90<kind>(x, w, k, first_segment, segments_per_split, splits, stages,       \
                                {ids, values, log_sums, m, n, kept, negative != 0, seed_ids,      \
                                 seed_values});                                                   \
    }

MULTIPLY_TOP(signed, Tops::SIGNED)
MULTIPLY_TOP(both, Tops::BOTH)
MULTIPLY_TOP(absolute, Tops::ABSOLUTE)
