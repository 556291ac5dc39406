// The correlations with z that a pursuit starts from, of few rows on a CPU: roughly, from atoms of half
// the bytes.
//
// An atom is kept as 16-bit steps of its largest number. That moves one of 4,096 normal numbers by
// 3e-5, and the pursuit makes exact what could matter (made_sure in sparse_pursue.cuh), about one of each
// round. Tried: bf16, by which an atom moves by 1e-3. Correlations with the residual are soon as small
// as that, so that nearly all had to be made exact, and a row took longer than from f32.
#include "sparse_pursue.cuh"

/// Atoms of a block of sparse_start.
constexpr int ATOMS = 64;

// steps [n, d] and scales [n] for atoms [n, d] f32: steps[i] * scales[i] is atom i, moved by moved[i]
// in L2 norm.
// PRECOND: one block per atom, any block size. Moves n * d * 6 bytes.
extern "C" __global__ void sparse_quantise(short* steps, float* scales, float* moved,
                                           const float* __restrict__ atoms, int d) {
    const float* __restrict__ atom = atoms + (long long)blockIdx.x * d;
    short* to = steps + (long long)blockIdx.x * d;
    float most = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        most = fabsf(atom[i]) > most ? fabsf(atom[i]) : most;
    }
    const float scale = block_reduce(most, Larger()) / 32767;
    double squares = 0;
    for (int i = threadIdx.x; i < d; i += blockDim.x) {
        const float step = rintf(atom[i] / scale);
        const double off = atom[i] - (double)step * scale;
        to[i] = (short)step;
        squares += off * off;
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        scales[blockIdx.x] = scale;
        moved[blockIdx.x] = (float)sqrt(squares);
    }
}

/// <steps, z>, in all lanes of a warp. Tried: four sums over quarters of an atom, so that none waits for
/// itself. Reading from four places took the CPU twice as long, and a processor sees the next atom's
/// sum before this one's is done.
__device__ __forceinline__ float warp_along(const short* __restrict__ steps,
                                            const float* __restrict__ z, int d) {
    float sum = 0;
    for (int i = threadIdx.x % warpSize; i < d; i += warpSize) sum += steps[i] * z[i];
    return warp_reduce(sum, Sum());
}

// all.start [rows, n] = correlations of quantised atoms (steps [n, d], scales [n]) with z, of which none
// is sure; rows.slack [rows] = how far they may be off: moved, the most that an atom has moved, and a
// little for the sums, since z are unit vectors.
// PRECOND: grid.x covers the atoms, ATOMS to a block; a block size that is a multiple of the warp size.
// Moves n * d * 2 bytes: the rows' dots with an atom follow one another while it is in the L1 cache.
extern "C" __global__ void sparse_start(const __grid_constant__ SparseRows rows,
                                        const __grid_constant__ SparsePursuit all,
                                        const short* __restrict__ steps,
                                        const float* __restrict__ scales, int count, int n,
                                        float moved) {
    const int d = rows.d, first = blockIdx.x * ATOMS, end = first + ATOMS < n ? first + ATOMS : n;
    const int warp = threadIdx.x / warpSize, warps = blockDim.x / warpSize;
    for (int atom = first + warp; atom < end; atom += warps) {
        for (int row = 0; row < count; row++) {
            const float along =
                warp_along(steps + (long long)atom * d, rows.z + (long long)row * d, d);
            if (threadIdx.x % warpSize == 0) {
                all.start[(long long)row * n + atom] = scales[atom] * along;
                all.sure[(long long)row * n + atom] = false;
            }
        }
    }
    for (int row = threadIdx.x; blockIdx.x == 0 && row < count; row += blockDim.x) {
        rows.slack[row] = moved + SUMS_SLACK;
    }
}
