// sparse_pursue.cu for sm_90a: all rounds of a row by the blocks of a cluster.
#include "sparse_pursue.cuh"
#include "wgmma_sm90.cuh"

constexpr int PURSUERS = 8;  // blocks of a cluster, see __cluster_dims__: as many as every card allows

struct ClusterTeam {
    __device__ __forceinline__ int rank() const { return (int)cluster_rank(); }

    __device__ __forceinline__ int size() const { return PURSUERS; }

    __device__ __forceinline__ void sync() const { cluster_sync(); }
};

// What sparse_pursue computes, with the same bits. The blocks of a cluster run at the same time, so
// that they may wait for one another, and their barrier is the hardware's: no other work on the
// card can make them hang.
// PRECOND: grid 8 * places; the rest as sparse_pursue, 32 * all.warps >= 8 * blockDim.x.
// A round has four barriers; for 32 of 10,000 atoms of 4,096 numbers a block reads 5 KB of the
// Gram matrix for each atom in use and 2 KB of each atom.
extern "C" __global__ void __cluster_dims__(8, 1, 1) __launch_bounds__(512, 1)
    sparse_pursue_sm90(const __grid_constant__ SparseRows rows,
                       const __grid_constant__ SparsePursuit all,
                       const float* __restrict__ atoms, const float* __restrict__ gram,
                       const int* __restrict__ made, int n, int most, float tolerance,
                       const int* __restrict__ live) {
    pursue(ClusterTeam(), rows, all, atoms, gram, made, row_of(live, blockIdx.x / PURSUERS), n, most,
           tolerance);
}
