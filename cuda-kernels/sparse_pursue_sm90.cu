// sparse_pursue.cu for sm_90a: all rounds of a row by the blocks of a cluster.
#include "sparse_pursue.cuh"
#include "wgmma_sm90.cuh"

constexpr int PURSUERS = 8;  // blocks of a cluster, see __cluster_dims__: as many as every card allows

struct ClusterTeam {
    unsigned barriers;  // of POSTS mbarriers

    __device__ __forceinline__ explicit ClusterTeam(double* posts) : barriers(shared_address(posts)) {
        if (threadIdx.x == 0) {
            for (int post = 0; post < POSTS; post++) mbarrier_init(barriers + 8 * post, 1);
            mbarrier_init_done();
        }
        cluster_sync();
    }

    __device__ __forceinline__ int rank() const { return (int)cluster_rank(); }

    __device__ __forceinline__ int size() const { return PURSUERS; }

    __device__ __forceinline__ void sync() const { cluster_sync(); }

    __device__ __forceinline__ void sync_block() const { barrier_wait(1, blockDim.x); }

    /// How many bytes end the next wait.
    __device__ __forceinline__ void expect(int post, int bytes) const {
        if (threadIdx.x == 0) mbarrier_expect(barriers + 8 * post, bytes);
    }

    /// A warp's value, the same in all lanes, to the same place of each block.
    template <typename T>
    __device__ __forceinline__ void put(T* place, T value, int post) const {
        static_assert(sizeof(T) == 8, "an 8-byte number");
        const unsigned rank = threadIdx.x % warpSize;
        if (rank < PURSUERS) {
            mbarrier_put(shared_address(place), value, barriers + 8 * post, rank);
        }
    }

    /// turn: how often this has been waited for.
    __device__ __forceinline__ void wait(int post, int turn) const {
        mbarrier_wait(barriers + 8 * post, turn & 1);
    }
};

// What sparse_pursue computes, with the same bits. The blocks of a cluster run at the same time, so
// that they may wait for one another: no other work on the card can make them hang.
// PRECOND: grid 8 * places; 8 * PursuitMemory::numbers <= MOST_SHARED; the rest as sparse_pursue,
// 32 * all.warps >= 8 * blockDim.x.
// A round has two posts; for 32 of 10,000 atoms of 4,096 numbers a block reads 5 KB of the Gram
// matrix for each atom in use and 2 KB of each atom.
// Tried: what blocks tell one another through device memory, with four barriers of the cluster a
// round, which flush and clear the L1 cache: 13 us a round on an H200.
extern "C" __global__ void __cluster_dims__(8, 1, 1) __launch_bounds__(512, 1)
    sparse_pursue_sm90(const __grid_constant__ SparseRows rows,
                       const __grid_constant__ SparsePursuit all,
                       const float* __restrict__ atoms, const float* __restrict__ gram,
                       const int* __restrict__ made, int n, int most, float tolerance,
                       const int* __restrict__ live) {
    SHARED_DYNAMIC(double, shared);
    pursue<ClusterTeam>(shared, rows, all, atoms, gram, made, row_of(live, blockIdx.x / PURSUERS), n,
                        most, tolerance);
}
