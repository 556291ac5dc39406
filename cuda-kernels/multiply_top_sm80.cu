// The largest entries and the log-sum-exp of each row of x wᵀ, in bf16 on the tensor cores of sm_80
// and later, by mma.sync. multiply_top_sm90.cu is its twin for sm_90.
#include "mma_sm80.cuh"
#include "top_epilogue.cuh"

constexpr int TILE = 128;    // rows of x and rows of w (columns of the product) in a tile
constexpr int DEPTH = 32;    // of the inner dimension at a time
constexpr int THREADS = 128;
constexpr int WARP_ROWS = 32;

// Element (row, column) of a tile [TILE][DEPTH] in shared memory. The 16-byte pieces of two rows
// change places with the rows, so that the eight rows of an 8 x 8 matrix lie in different banks.
__device__ __forceinline__ int at(int row, int column) {
    return row * DEPTH + (column / 8 ^ row / 2 % 4) * 8 + column % 8;
}

// Starts copying [TILE][DEPTH] from (row, column) on; zeros where the matrix [rows][columns] ends.
__device__ __forceinline__ void start_tile(bf16* shared, const bf16* matrix, long long stride,
                                           int row, int rows, int column, int columns) {
    for (int i = threadIdx.x; i < TILE * DEPTH / 8; i += THREADS) {
        const int r = i / (DEPTH / 8), c = i % (DEPTH / 8) * 8;
        const bool valid = row + r < rows && column + c < columns;
        const bf16* from = valid ? matrix + (row + r) * stride + column + c : matrix;
        start_copy(shared + at(r, c), from, valid);
    }
}

// Rows of x [m, k] against rows of w [n, k]: S lists of `kept` entries for each row and split, the
// log-sum-exp of each row and segment, as TopResults says; merge_top makes one of each. Block b
// takes tile b / splits of x's rows and split b % splits of w's, `segments_per_split` times SEGMENT
// rows, of which the first split's begin at segment `first_segment`. So of all that blocks that run
// together read, a part of w serves many, and a tile of x `splits` of them.
// PRECOND: grid tiles * splits, tiles = ceil(m / 128); block 128; 2 to 4 stages; dynamic shared
// memory stages * 16,384 + 128 * S * kept * 8 bytes; 1 <= kept <= 32; k, x_stride and w_stride
// multiples of 8; x and w at 16-byte boundaries; no split without rows.
// A row's bits depend neither on m nor on the splits nor on seeds.
// Work: 2 m n k FLOP. Llama-3.1-8B's neuron map, m = 458,752, n = 128,256, k = 4,096, is 482 TFLOP:
// 0.61 s at the 790 TFLOP/s of an H200, of which mma.sync reaches about 6 in 10 (wgmma is needed
// for more), so 1.0 s there; on an A100 (about 260 TFLOP/s by cuBLAS) 1.9 s.
// Moves 32 KB into shared memory for each 128 x 128 x 64: 64 FLOP a byte, from L2 as far as blocks
// that run together share it (multiply_top_sm90 has the arithmetic). Nothing of the product is
// written.
// A warp has 32 rows and all 128 columns, so that rows belong to one warp (top_epilogue.cuh) and
// each fragment of w serves two of x: 5 KB of shared memory are read for 65,536 multiply-adds.
template <Tops KIND>
__device__ void multiply_top_sm80(const bf16* __restrict__ x, long long x_stride,
                                  const bf16* __restrict__ w, long long w_stride, int k,
                                  int first_segment, int segments_per_split, int splits,
                                  int stages, const TopResults& results) {
    SHARED_DYNAMIC(bf16, shared);
    constexpr int STAGE = 2 * TILE * DEPTH;
    TopEntry* lists = reinterpret_cast<TopEntry*>(shared + stages * STAGE);
    const int lane = threadIdx.x % 32;
    const int warp_row = threadIdx.x / 32 * WARP_ROWS;
    const int row = blockIdx.x / splits * TILE;
    const int split = blockIdx.x % splits;
    const int begin = (first_segment + split * segments_per_split) * SEGMENT;
    const int end = min(results.n, begin + segments_per_split * SEGMENT);
    const int depths = (k + DEPTH - 1) / DEPTH;
    const int steps = (end - begin + TILE - 1) / TILE * depths;

    LaneRows<KIND> rows[2];
    float c[2][TILE / 8][4] = {};
    for (int f = 0; f < 2; f++) {
        begin_rows<KIND>(rows[f], lists, warp_row + 16 * f, row + warp_row + 16 * f, results);
    }

    int fetched = 0, fetched_depth = 0, fetched_column = begin;
    auto fetch = [&] {  // the next step's tiles; past the end an empty group
        if (fetched < steps) {
            bf16* stage = shared + fetched % stages * STAGE;
            start_tile(stage, x, x_stride, row, results.m, fetched_depth * DEPTH, k);
            start_tile(stage + TILE * DEPTH, w, w_stride, fetched_column, end,
                       fetched_depth * DEPTH, k);
            fetched++;
            if (++fetched_depth == depths) {
                fetched_depth = 0;
                fetched_column += TILE;
            }
        }
        end_copy_group();
    };
    for (int i = 0; i < stages - 1; i++) fetch();

    int depth = 0, column = begin;
    for (int step = 0; step < steps; step++) {
        if (stages == 4) {
            wait_for_copies<2>();
        } else if (stages == 3) {
            wait_for_copies<1>();
        } else {
            wait_for_copies<0>();
        }
        __syncthreads();  // this step's tiles are there, and all are done with those before
        fetch();
        const bf16* stage = shared + step % stages * STAGE;
#pragma unroll
        for (int d = 0; d < DEPTH; d += 16) {
            unsigned a[2][4];
#pragma unroll
            for (int f = 0; f < 2; f++) {
                load_matrices(a[f], stage + at(warp_row + 16 * f + lane % 16, d + lane / 16 * 8));
            }
#pragma unroll
            for (int j = 0; j < TILE / 8; j += 2) {
                unsigned b[4];
                load_matrices(b, stage + TILE * DEPTH +
                                     at(8 * j + lane / 16 * 8 + lane % 8, d + lane / 8 % 2 * 8));
#pragma unroll
                for (int f = 0; f < 2; f++) {
                    mma(c[f][j], a[f], b[0], b[1]);
                    mma(c[f][j + 1], a[f], b[2], b[3]);
                }
            }
        }
        if (++depth < depths) continue;

        depth = 0;
        const int next = column + TILE;
#pragma unroll
        for (int f = 0; f < 2; f++) {
            take_tile<KIND, TILE>(rows[f], c[f], column, lists, warp_row + 16 * f, results);
            if (next % SEGMENT == 0 || next >= end) {
                end_segment<KIND>(rows[f], row + warp_row + 16 * f, column / SEGMENT, results);
            }
#pragma unroll
            for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) c[f][j][i] = 0;
            }
        }
        column = next;
    }
    for (int f = 0; f < 2; f++) {
        write_lists<KIND>(lists, warp_row + 16 * f, row + warp_row + 16 * f, split, results);
    }
}

#define MULTIPLY_TOP(name, kind)                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                         \
        multiply_top_sm80_##name(int* ids, float* values, float2* log_sums,                       \
                                 const int* seed_ids, const float* seed_values, const bf16* x,    \
                                 long long x_stride, const bf16* w, long long w_stride, int m,    \
                                 int n, int k, int kept, int negative, int first_segment,         \
                                 int segments_per_split, int splits, int stages) {                \
        multiply_top_sm80<kind>(x, x_stride, w, w_stride, k, first_segment, segments_per_split,   \
                                splits, stages,                                                   \
                                {ids, values, log_sums, m, n, kept, negative != 0, seed_ids,      \
                                 seed_values});                                                   \
    }

MULTIPLY_TOP(signed, Tops::SIGNED)
MULTIPLY_TOP(both, Tops::BOTH)
MULTIPLY_TOP(absolute, Tops::ABSOLUTE)
