// Orthogonal matching pursuit of a row from its first atom to its last, by the threads of a team: a
// block (sparse_pursue.cu), or the blocks of a cluster (sparse_pursue_sm90.cu).
//
// A team has rank() and size(), sync() and sync_block(), at which its threads or the block's meet
// and see what the others have written, and a post: put() leaves a number in the shared memory of
// each of its blocks, and wait() holds until all that was expected has come. Each block has the
// whole of what is small, the inverse factor and the coefficients, and makes it by itself, so that a
// round has two posts (the largest correlations, and the dots of the new atom) and no barrier of
// the team. No sum depends on how many threads there are, so that both teams have the same bits.

#pragma once

#include "sparse.cuh"
#include "types.cuh"

/// Pieces that a dot product is cut into, so that a few of them fill a team's warps.
constexpr int PIECES = 4;

// Whether threads load neighbouring numbers as one and keep what they make of them in registers. The
// only thread of the CPU's solo build goes over tiles instead, which vectorises.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr bool LOADS_PACKS = true;
#else
constexpr bool LOADS_PACKS = false;
#endif

// Whether correlations with z may be rough (sparse_start.cu): on a CPU, where reading the atoms for
// them is most of a row's time.
#ifdef __CUDACC__
constexpr bool ROUGH_STARTS = false;
#else
constexpr bool ROUGH_STARTS = true;
#endif

/// Lanes that make a row or a column of a product with the inverse factor.
constexpr int SHARE = LOADS_PACKS ? 8 : 1;

/// What is waited for: the largest correlations of rounds by turns, since one block may be a round
/// ahead, and dots.
constexpr int TOLD = 0, DOTS = 2, POSTS = 3;

/// Most bytes of shared memory for a block's working memory.
constexpr int MOST_SHARED = 48 * 1024;

/// W neighbouring numbers. A pack of four is aligned to 16 bytes.
template <int W>
struct alignas(4 * W) Numbers {
    float of[W];
};

/// What pursuits keep beside SparseRows, by row.
struct SparsePursuit {
    float* start;         // [rows, n] correlations of the atoms with z
    bool* sure;           // [rows, n] whether a rough `start` has been made exact; null where none is
    float* correlations;  // [rows, n] scratch
    double* working;      // [rows, PursuitMemory::numbers] what is kept from launch to launch; where
                          // it has no room in shared memory the block's working memory itself
    double* exact;        // [rows, warps] scratch
    int* chosen;          // [rows, warps] scratch
    int warps;            // most of a team
};

/// A block's working memory: in shared memory, or of a block alone in device memory.
struct PursuitMemory {
    double* inverse;     // [capacity (capacity + 1) / 2] L^-1, lower, row by row; L L^T is the Gram
                         // matrix of the row's atoms
    double* right;       // [capacity] L^-1 <atoms, z>
    double* c;           // [capacity] coefficients
    double* along;       // [capacity] L^-1 <atoms, new atom>
    double* dots;        // [capacity + 2, PIECES]
    double* posts;       // [POSTS] room for barriers
    long long* keys;     // [2, warps] of each warp's Largest
    long long* seconds;  // [2, warps]
    float* weights;      // [capacity] coefficients in f32
    int* ids;            // [capacity]

    __device__ __forceinline__ PursuitMemory(double* from, int capacity, int warps)
        : inverse(from),
          right(inverse + capacity * (capacity + 1) / 2),
          c(right + capacity),
          along(c + capacity),
          dots(along + capacity),
          posts(dots + (capacity + 2) * PIECES),
          keys((long long*)(posts + POSTS)),
          seconds(keys + 2 * warps),
          weights((float*)(seconds + 2 * warps)),
          ids((int*)(weights + capacity)) {}

    static __device__ __forceinline__ long long numbers(int capacity, int warps) {
        return capacity * (capacity + 1) / 2 + 3 * capacity + (capacity + 2) * PIECES + POSTS +
               4 * warps + capacity;
    }

    /// Row i of the inverse factor.
    __device__ __forceinline__ double* row(int i) const { return inverse + i * (i + 1) / 2; }
};

/// The largest correlation of those seen, as magnitude and atom in a key, and the next largest
/// magnitude. Floats that are not negative have the order of their bits, and of equal ones the
/// lowest atom is largest.
struct Largest {
    long long key;
    float second;

    __device__ __forceinline__ float magnitude() const { return __int_as_float((int)(key >> 32)); }

    __device__ __forceinline__ int atom() const { return 0x7fffffff - (int)(key & 0x7fffffff); }

    __device__ __forceinline__ void take(const Largest& other) {
        const float loser = other.key > key ? magnitude() : other.magnitude();
        if (other.key > key) *this = other;
        second = loser > second ? loser : second;
    }

    __device__ __forceinline__ void take(float correlation, int atom) {
        const long long bits = __float_as_int(correlation) & 0x7fffffff;
        take({(bits << 32) + (0x7fffffff - atom), 0});
    }

    /// Of all lanes of a warp, in each of them. PRECOND: no atom is in two lanes.
    __device__ __forceinline__ void take_warp() {
        for (int lanes = warpSize / 2; lanes > 0; lanes /= 2) {
            take({__shfl_xor_sync(0xffffffffu, key, lanes),
                  __shfl_xor_sync(0xffffffffu, second, lanes)});
        }
    }
};

/// Starts bringing what is there to the L2 cache.
__device__ __forceinline__ void fetch(const float* at) {
#ifdef __CUDACC__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

template <typename Team>
struct Pursuit {
    const Team team;
    const PursuitMemory own;
    const SparseRows& rows;
    const SparsePursuit& all;
    const float* __restrict__ atoms;
    const float* __restrict__ gram;
    const int row, n, d;
    // Of the team. Warps are counted across its blocks, so that few have work in all of them.
    const int lane, warp, warps, thread, threads;
    const float* __restrict__ z;
    float* residual;
    float* correlations;
    const float rough;  // how far correlations with z may be off that are not sure
    int dots_made = 0, rounds = 0;

    __device__ __forceinline__ Pursuit(double* memory, const SparseRows& rows,
                                       const SparsePursuit& all, const float* atoms,
                                       const float* gram, int row, int n)
        : team(PursuitMemory(memory, rows.capacity, all.warps).posts),
          own(memory, rows.capacity, all.warps),
          rows(rows),
          all(all),
          atoms(atoms),
          gram(gram),
          row(row),
          n(n),
          d(rows.d),
          lane(threadIdx.x % warpSize),
          warp(threadIdx.x / warpSize * team.size() + team.rank()),
          warps(team.size() * blockDim.x / warpSize),
          thread(warp * warpSize + lane),
          threads(team.size() * blockDim.x),
          z(rows.z + (long long)row * d),
          residual(rows.residual + (long long)row * d),
          correlations(all.correlations + (long long)row * n),
          rough(ROUGH_STARTS ? rows.slack[row] : 0) {}

    __device__ __forceinline__ const float* atom(int id) const { return atoms + (long long)id * d; }

    /// A piece of <a, b>, in all lanes of a warp.
    __device__ __forceinline__ double piece_of(int piece, const float* a, const float* b) const {
        const int each = (d + 4 * PIECES - 1) / (4 * PIECES) * 4;
        const int from = piece * each, end = from + each < d ? from + each : d;
        double sum = 0;
        if (LOADS_PACKS && d % 4 == 0) {
            // All loads of 4,096 elements are on their way at once.
#pragma unroll 8
            for (int i = from + 4 * lane; i < end; i += 4 * warpSize) {
                const Numbers<4> x = *(const Numbers<4>*)(a + i), y = *(const Numbers<4>*)(b + i);
                sum += (double)x.of[0] * y.of[0] + (double)x.of[1] * y.of[1];
                sum += (double)x.of[2] * y.of[2] + (double)x.of[3] * y.of[3];
            }
        } else {
            for (int i = from + lane; i < end; i += warpSize) sum += (double)a[i] * b[i];
        }
        return warp_reduce(sum, Sum());
    }

    /// dots[item] = <of(item), with> for items [0, count), a warp for each piece, in each block.
    template <typename Of>
    __device__ __forceinline__ void make_dots(int count, const float* with, const Of& of) {
        team.expect(DOTS, count * PIECES * 8);
        for (int i = warp; i < count * PIECES; i += warps) {
            const double sum = piece_of(i % PIECES, of(i / PIECES), with);
            team.put(own.dots + i, sum, DOTS);
        }
        team.wait(DOTS, dots_made++);
    }

    __device__ __forceinline__ double dot(int item) const {
        const double* pieces = own.dots + item * PIECES;
        return (pieces[0] + pieces[1]) + (pieces[2] + pieces[3]);
    }

    /// residual = z - sum of c * atom, summed in f64. The team must meet after it.
    __device__ __forceinline__ void make_residual(int count) const {
        if (LOADS_PACKS) {
            for (int i = thread; i < d; i += threads) {
                double left = z[i];
#pragma unroll 8
                for (int j = 0; j < count; j++) left -= own.c[j] * atom(own.ids[j])[i];
                residual[i] = (float)left;
            }
            return;
        }
        constexpr int TILE = 512;
        double left[TILE];
        for (int first = 0; first < d; first += TILE) {
            const int width = d - first < TILE ? d - first : TILE;
            for (int i = 0; i < width; i++) left[i] = z[first + i];
            for (int j = 0; j < count; j++) {
                const float* __restrict__ a = atom(own.ids[j]) + first;
                const double weight = own.c[j];
                for (int i = 0; i < width; i++) left[i] -= weight * a[i];
            }
            for (int i = 0; i < width; i++) residual[first + i] = (float)left[i];
        }
    }

    /// Makes the correlations with the residual from those with z and the rows of the Gram matrix of
    /// the row's atoms; returns the largest of those that the thread made, and
    /// stores them where asked to. PRECOND: n % W == 0.
    template <int W>
    __device__ __forceinline__ Largest correlate_packs(int count, bool stored) const {
        const float* __restrict__ start = all.start + (long long)row * n;
        Largest largest = {0, 0};
        for (int first = thread * W; first < n; first += threads * W) {
            Numbers<W> left = *(const Numbers<W>*)(start + first);
#pragma unroll 8
            for (int j = 0; j < count; j++) {
                const Numbers<W> g = *(const Numbers<W>*)(gram + (long long)own.ids[j] * n + first);
                const float weight = own.weights[j];
                for (int i = 0; i < W; i++) left.of[i] -= weight * g.of[i];
            }
            if (stored) *(Numbers<W>*)(correlations + first) = left;
            for (int i = 0; i < W; i++) largest.take(left.of[i], first + i);
        }
        return largest;
    }

    /// The same by tiles: four rows of the matrix at a time, so that a tile is written a quarter as
    /// often.
    __device__ __forceinline__ Largest correlate_tiles(int count, bool stored) const {
        constexpr int TILE = 1024;
        const float* __restrict__ start = all.start + (long long)row * n;
        Largest largest = {0, 0};
        for (int first = 0; first < n; first += TILE) {
            const int width = n - first < TILE ? n - first : TILE;
            float left[TILE];
            for (int i = 0; i < width; i++) left[i] = start[first + i];
            int j = 0;
            for (; j + 4 <= count; j += 4) {
                const float* __restrict__ g0 = gram + (long long)own.ids[j] * n + first;
                const float* __restrict__ g1 = gram + (long long)own.ids[j + 1] * n + first;
                const float* __restrict__ g2 = gram + (long long)own.ids[j + 2] * n + first;
                const float* __restrict__ g3 = gram + (long long)own.ids[j + 3] * n + first;
                const float c0 = own.weights[j], c1 = own.weights[j + 1];
                const float c2 = own.weights[j + 2], c3 = own.weights[j + 3];
                for (int i = 0; i < width; i++) {
                    left[i] -= (c0 * g0[i] + c1 * g1[i]) + (c2 * g2[i] + c3 * g3[i]);
                }
            }
            for (; j < count; j++) {
                const float* __restrict__ g = gram + (long long)own.ids[j] * n + first;
                const float weight = own.weights[j];
                for (int i = 0; i < width; i++) left[i] -= weight * g[i];
            }
            // Few tiles have one of the two largest. (The largest of a tile would not vectorise.)
            int larger = 0;
            for (int i = 0; i < width; i++) {
                if (stored) correlations[first + i] = left[i];
                larger |= fabsf(left[i]) > largest.second;
            }
            for (int i = 0; i < width && larger; i++) largest.take(left[i], first + i);
        }
        return largest;
    }

    __device__ __forceinline__ Largest correlate(int count, bool stored) const {
        return !LOADS_PACKS              ? correlate_tiles(count, stored)
               : n % 4 == 0 && !stored ? correlate_packs<4>(count, stored)
                                       : correlate_packs<1>(count, stored);
    }

    /// The largest of those that the threads of the team make, in each of them.
    template <typename Make>
    __device__ __forceinline__ Largest largest_of(const Make& make) {
        const int turn = rounds % 2;
        long long* keys = own.keys + turn * all.warps;
        long long* seconds = own.seconds + turn * all.warps;
        team.expect(TOLD + turn, warps * 16);
        Largest largest = make();
        largest.take_warp();
        team.put(keys + warp, largest.key, TOLD + turn);
        team.put(seconds + warp, (long long)__float_as_int(largest.second), TOLD + turn);
        team.wait(TOLD + turn, rounds / 2);
        rounds++;
        largest = {0, 0};
        for (int i = lane; i < warps; i += warpSize) {
            largest.take({keys[i], __int_as_float((int)seconds[i])});
        }
        largest.take_warp();
        return largest;
    }

    /// Whether some of the stored correlations of [first, first + width) reach `floor`.
    __device__ __forceinline__ bool reaches(float floor, int first, int width) const {
        int reached = 0;
        for (int i = first; i < first + width; i++) reached |= fabsf(correlations[i]) >= floor;
        return reached;
    }

    /// Makes the stored correlations of at least `floor` sure, by exact dots with z, each atom's once a
    /// row; returns the largest of all stored ones that reach it.
    __device__ __forceinline__ Largest made_sure(float floor) {
        constexpr int TILE = 256;  // few of them reach the floor
        float* start = all.start + (long long)row * n;
        bool* sure = all.sure + (long long)row * n;
        team.sync();
        return largest_of([&] {
            Largest largest = {0, 0};
            for (int first = warp * TILE; first < n; first += warps * TILE) {
                const int width = n - first < TILE ? n - first : TILE;
                if (!reaches(floor, first, width)) continue;
                for (int i = first; i < first + width; i++) {
                    if (fabsf(correlations[i]) < floor) continue;
                    if (!sure[i]) {
                        const float exact = (float)warp_dot(atom(i), z, d);
                        if (lane == 0) {
                            correlations[i] += exact - start[i];
                            start[i] = exact;
                            sure[i] = true;
                        }
                        __syncwarp();
                    }
                    if (lane == 0) largest.take(correlations[i], i);
                }
            }
            return largest;
        });
    }

    /// The atom whose |<atom, residual>| is largest, lowest one on ties, among those whose
    /// correlation is at least `floor`, by exact dots.
    __device__ __forceinline__ int exact_largest(int count, float floor) const {
        correlate(count, true);
        make_residual(count);
        team.sync();
        double best = -1;
        int best_atom = 0x7fffffff;
        for (int first = warp * warpSize; first < n; first += warps * warpSize) {
            const bool near = first + lane < n && fabsf(correlations[first + lane]) >= floor;
            unsigned left = __ballot_sync(0xffffffffu, near);
            for (; left != 0; left &= left - 1) {
                const int id = first + __ffs(left) - 1;
                const double magnitude = fabs(warp_dot(atom(id), residual, d));
                if (magnitude > best) {
                    best = magnitude;
                    best_atom = id;
                }
            }
        }
        double* exact = all.exact + (long long)row * all.warps;
        int* chosen = all.chosen + (long long)row * all.warps;
        if (lane == 0) {
            exact[warp] = best;
            chosen[warp] = best_atom;
        }
        team.sync();
        best = -1;
        for (int i = lane; i < warps; i += warpSize) best = exact[i] > best ? exact[i] : best;
        best = warp_reduce(best, Larger());
        best_atom = 0x7fffffff;
        for (int i = lane; i < warps; i += warpSize) {
            if (exact[i] == best && chosen[i] < best_atom) best_atom = chosen[i];
        }
        return warp_reduce(best_atom, Smaller());
    }

    /// The atom of largest |<atom, residual>|, lowest one on ties; -1 if it is among the row's.
    __device__ __forceinline__ int next(int count) {
        Largest largest = largest_of([&] { return correlate(count, rough > 0); });
        float magnitude = 0;
        for (int j = lane; j < count; j += warpSize) magnitude += fabsf(own.weights[j]);
        magnitude = warp_reduce(magnitude, Sum());
        // f32's unit of rounding is 6e-8; every entry of the matrix is at most 1.
        const float slack = 1e-6f * (1 + magnitude);
        if (rough > 0) largest = made_sure(largest.magnitude() - 2 * (slack + rough));
        const float floor = largest.magnitude() - 2 * slack;
        const int best = largest.second >= floor ? exact_largest(count, floor) : largest.atom();
        bool known = false;
        for (int j = lane; j < count; j += warpSize) known |= own.ids[j] == best;
        return __any_sync(0xffffffffu, known) ? -1 : best;
    }

    /// The sum over the SHARE lanes of a row or column, in each of them.
    __device__ __forceinline__ double share_sum(double value) const {
        for (int lanes = SHARE / 2; lanes > 0; lanes /= 2) {
            value += __shfl_xor_sync(0xffffffffu, value, lanes);
        }
        return value;
    }

    /// Takes in an atom and brings the coefficients to those of least squares; takes what it explains
    /// from `squares`, those of the residual. Returns whether that could be done: not if the atom
    /// depends on those that are there, or has a correlation within f32's rounding.
    __device__ __forceinline__ bool extend(int id, int count, double& squares) {
        const float* added = atom(id);
        // The next round waits for this row of the matrix, and few of them are in the L2 cache yet.
        for (int i = 32 * thread; i < n; i += 32 * threads) fetch(gram + (long long)id * n + i);
        make_dots(count + 2, added, [&](int item) {
            return item < count ? atom(own.ids[item]) : item == count ? added : z;
        });
        const int share = threadIdx.x % SHARE, at_once = blockDim.x / SHARE;
        for (int first = 0; first < count; first += at_once) {
            const int i = first + threadIdx.x / SHARE;
            double sum = 0;
            for (int j = share; i < count && j <= i; j += SHARE) sum += own.row(i)[j] * dot(j);
            sum = share_sum(sum);
            if (share == 0 && i < count) own.along[i] = sum;
        }
        team.sync_block();
        double inside = 0, explained = 0;
        for (int i = lane; i < count; i += warpSize) {
            inside += own.along[i] * own.along[i];
            explained += own.along[i] * own.right[i];
        }
        const double pivot = dot(count) - warp_reduce(inside, Sum());
        const double with_residual = dot(count + 1) - warp_reduce(explained, Sum());
        if (pivot <= 1e-12 || fabs(with_residual) <= 2e-7) return false;
        const double scale = 1 / sqrt(pivot), step = with_residual * scale;
        double* last = own.row(count);
        for (int first = 0; first < count; first += at_once) {
            const int j = first + threadIdx.x / SHARE;
            double sum = 0;
            for (int i = j + share; i < count; i += SHARE) sum += own.along[i] * own.row(i)[j];
            sum = share_sum(sum);
            if (share == 0 && j < count) {
                last[j] = -sum * scale;
                own.c[j] += step * last[j];
                own.weights[j] = (float)own.c[j];
            }
        }
        if (threadIdx.x == 0) {
            last[count] = scale;
            own.c[count] = step * scale;
            own.weights[count] = (float)own.c[count];
            own.right[count] = step;
            own.ids[count] = id;
        }
        squares -= step * step;
        team.sync_block();
        return true;
    }

    /// What an earlier launch has kept, in each block. The row's atoms are in SparseRows.
    __device__ __forceinline__ void load(double* kept, int count) const {
        const PursuitMemory from(kept, rows.capacity, all.warps);
        const int* ids = rows.ids + (long long)row * rows.capacity;
        const double* c = rows.coefficients + (long long)row * rows.capacity;
        for (int i = threadIdx.x; i < count * (count + 1) / 2; i += blockDim.x) {
            own.inverse[i] = from.inverse[i];
        }
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            own.right[i] = from.right[i];
            own.c[i] = c[i];
            own.weights[i] = (float)c[i];
            own.ids[i] = ids[i];
        }
        team.sync_block();
    }

    /// PRECOND: the first block's threads.
    __device__ __forceinline__ void store(double* kept, int count) const {
        const PursuitMemory to(kept, rows.capacity, all.warps);
        for (int i = threadIdx.x; i < count * (count + 1) / 2; i += blockDim.x) {
            to.inverse[i] = own.inverse[i];
        }
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            to.right[i] = own.right[i];
            rows.coefficients[(long long)row * rows.capacity + i] = own.c[i];
            rows.ids[(long long)row * rows.capacity + i] = own.ids[i];
        }
    }
};

/// Goes on with a row from the atoms that it has until it is done, or until it takes an atom that
/// has no row of the Gram matrix yet. shared: the block's dynamic shared memory.
template <typename Team>
__device__ __forceinline__ void pursue(double* shared, const SparseRows& rows,
                                       const SparsePursuit& all, const float* atoms,
                                       const float* gram, const int* made, int row, int n, int most,
                                       float tolerance) {
    if (rows.states[row] != RUNNING) return;
    const long long numbers = PursuitMemory::numbers(rows.capacity, all.warps);
    double* kept = all.working + row * numbers;
    Pursuit<Team> pursuit(8 * numbers <= MOST_SHARED ? shared : kept, rows, all, atoms, gram, row,
                          n);
    int count = rows.counts[row];
    pursuit.load(kept, count);
    pursuit.make_dots(1, pursuit.z, [&](int) { return pursuit.z; });
    double squares = pursuit.dot(0);
    for (int i = 0; i < count; i++) squares -= pursuit.own.right[i] * pursuit.own.right[i];
    bool done = false, missing = false;
    while (!done && !missing) {
        const int atom = pursuit.next(count);
        done = atom < 0 || !pursuit.extend(atom, count, squares);
        if (!done) {
            count++;
            const double norm = squares > 0 ? sqrt(squares) : 0.0;
            done = count >= most || norm <= tolerance || norm <= 1e-6;
            missing = made != nullptr && made[atom] == 0;
        }
    }
    double worst = 0;
    if (done) {
        pursuit.make_residual(count);
        pursuit.team.sync();
        pursuit.make_dots(count, pursuit.residual,
                          [&](int item) { return pursuit.atom(pursuit.own.ids[item]); });
        for (int i = 0; i < count; i++) worst = fmax(worst, fabs(pursuit.dot(i)));
    }
    if (pursuit.team.rank() == 0) pursuit.store(kept, count);
    if (pursuit.thread == 0) {
        rows.counts[row] = count;
        rows.iterations[row] = count;
        rows.violations[row] = worst;
        if (done) rows.states[row] = DONE;
    }
}
