// Orthogonal matching pursuits from a Gram matrix: all rounds of a row by one block.
#include "sparse_pursue.cuh"

struct BlockTeam {
    __device__ __forceinline__ explicit BlockTeam(double*) {}

    __device__ __forceinline__ int rank() const { return 0; }

    __device__ __forceinline__ int size() const { return 1; }

    __device__ __forceinline__ void sync() const { __syncthreads(); }

    __device__ __forceinline__ void sync_block() const { __syncthreads(); }

    __device__ __forceinline__ void expect(int, int) const {}

    template <typename T>
    __device__ __forceinline__ void put(T* place, T value, int) const {
        if (threadIdx.x % warpSize == 0) *place = value;
    }

    __device__ __forceinline__ void wait(int, int) const { __syncthreads(); }
};

// Codes of orthogonal matching pursuit, from `all.start` and the Gram matrix of the atoms, gram
// [n, n] f32. What each round does is what screen_gram and orthogonal_matching_pursuit do together,
// but that the factor is kept as its inverse (two products where a GPU would solve two triangles,
// an unknown at a time) and the residual is made where atoms must be told apart, and at the end.
// Ends and results are those of orthogonal_matching_pursuit. Where a row's correlations with z are rough
// (rows.slack), those that could matter are made exact. made [n]: not 0 for atoms whose row of the
// matrix is there; null: all are. A row that takes another one is left running, and goes on with the
// next launch, once the row of the matrix has been made.
// PRECOND: one block per place, a multiple of the warp size of at most 32 * all.warps threads;
// most <= rows.capacity; gram and all's [rows, n] aligned to 16 bytes; dynamic shared memory of
// 8 * PursuitMemory::numbers bytes, or none where these are more than MOST_SHARED.
// Moves count * n * 4 bytes of the Gram matrix in each round, and (count + 2) * d * 4 of atoms: for
// 32 of 10,000 atoms of 4,096 numbers 20 and 9 MB in all, nearly all from the L2 cache, since the
// rows of the atoms in use are 1.3 and 0.5 MB.
// Tried: all rounds of all rows in step, two launches a round (screen_gram and
// orthogonal_matching_pursuit): 7 ms for one row on an H200, of which half is the second kernel,
// that reads 2 * count atoms with 128 threads and solves two triangles with one warp.
extern "C" __global__ void __launch_bounds__(512, 1)
    sparse_pursue(const __grid_constant__ SparseRows rows, const __grid_constant__ SparsePursuit all,
                  const float* __restrict__ atoms, const float* __restrict__ gram,
                  const int* __restrict__ made, int n, int most, float tolerance,
                  const int* __restrict__ live) {
    SHARED_DYNAMIC(double, shared);
    pursue<BlockTeam>(shared, rows, all, atoms, gram, made, row_of(live, blockIdx.x), n, most,
                      tolerance);
}
