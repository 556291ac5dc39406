// Orthogonal matching pursuit of a row from its first atom to its last, by the threads of a team: a
// block (sparse_pursue.cu), or the blocks of a cluster (sparse_pursue_sm90.cu). A team has rank(),
// size() and sync(), at which all its threads meet and see what the others have written to memory.
//
// Everything that threads tell one another goes through device memory, which the L2 cache holds, so
// that one text serves both teams; and no sum depends on how many threads there are, so that both
// have the same bits.

#pragma once

#include "sparse.cuh"

/// Pieces that a dot product is cut into, so that a few of them fill a team's warps.
constexpr int PIECES = 4;

// Whether threads load neighbouring numbers as one and keep what they make of them in registers. The
// only thread of the CPU's solo build goes over tiles instead, which vectorises.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr bool LOADS_PACKS = true;
#else
constexpr bool LOADS_PACKS = false;
#endif

/// W neighbouring numbers. A pack of four is aligned to 16 bytes.
template <int W>
struct alignas(4 * W) Numbers {
    float of[W];
};

/// What pursuits keep beside SparseRows, by row.
struct SparsePursuit {
    float* start;         // [rows, n] correlations of the atoms with z
    float* correlations;  // [rows, n] those with the residual
    double* inverse;      // [rows, capacity, capacity] L^-1, lower; L L^T is the Gram matrix of the row's atoms
    double* right;        // [rows, capacity] L^-1 <atoms, z>
    double* dots;         // [rows, capacity + 2, PIECES] scratch
    double* along;        // [rows, capacity] scratch
    double* exact;        // [rows, warps] scratch
    long long* keys;      // [rows, warps] scratch
    float* seconds;       // [rows, warps] scratch
    int* chosen;          // [rows, warps] scratch
    int warps;            // most of a team
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

template <typename Team>
struct Pursuit {
    const Team team;
    const SparseRows& rows;
    const SparsePursuit& all;
    const float* __restrict__ atoms;
    const float* __restrict__ gram;
    const int row, n, d, capacity;
    const int lane, warp, warps, thread, threads;  // of the team
    const float* __restrict__ z;
    float* residual;
    int* ids;
    double* c;
    double* inverse;
    double* right;
    double* dots;
    double* along;
    float* correlations;

    __device__ __forceinline__ Pursuit(const Team& team, const SparseRows& rows,
                                       const SparsePursuit& all, const float* atoms,
                                       const float* gram, int row, int n)
        : team(team),
          rows(rows),
          all(all),
          atoms(atoms),
          gram(gram),
          row(row),
          n(n),
          d(rows.d),
          capacity(rows.capacity),
          lane(threadIdx.x % warpSize),
          warp((team.rank() * blockDim.x + threadIdx.x) / warpSize),
          warps(team.size() * blockDim.x / warpSize),
          thread(team.rank() * blockDim.x + threadIdx.x),
          threads(team.size() * blockDim.x),
          z(rows.z + (long long)row * d),
          residual(rows.residual + (long long)row * d),
          ids(rows.ids + (long long)row * capacity),
          c(rows.coefficients + (long long)row * capacity),
          inverse(all.inverse + (long long)row * capacity * capacity),
          right(all.right + (long long)row * capacity),
          dots(all.dots + (long long)row * (capacity + 2) * PIECES),
          along(all.along + (long long)row * capacity),
          correlations(all.correlations + (long long)row * n) {}

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

    /// dots[item] = <of(item), with> for items [0, count), a warp for each piece. The team must meet
    /// after it.
    template <typename Of>
    __device__ __forceinline__ void make_dots(int count, const float* with, const Of& of) const {
        for (int i = warp; i < count * PIECES; i += warps) {
            const double sum = piece_of(i % PIECES, of(i / PIECES), with);
            if (lane == 0) dots[i] = sum;
        }
    }

    __device__ __forceinline__ double dot(int item) const {
        const double* pieces = dots + item * PIECES;
        return (pieces[0] + pieces[1]) + (pieces[2] + pieces[3]);
    }

    /// residual = z - sum of c * atom, summed in f64. The team must meet after it.
    __device__ __forceinline__ void make_residual(int count) const {
        if (LOADS_PACKS) {
            for (int i = thread; i < d; i += threads) {
                double left = z[i];
#pragma unroll 8
                for (int j = 0; j < count; j++) left -= c[j] * atom(ids[j])[i];
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
                const float* __restrict__ a = atom(ids[j]) + first;
                const double weight = c[j];
                for (int i = 0; i < width; i++) left[i] -= weight * a[i];
            }
            for (int i = 0; i < width; i++) residual[first + i] = (float)left[i];
        }
    }

    /// Makes the correlations with the residual from those with z and the rows of the Gram matrix of
    /// the row's atoms; returns the largest of those that the thread made. PRECOND: n % W == 0.
    template <int W>
    __device__ __forceinline__ Largest correlate(int count) const {
        const float* __restrict__ start = all.start + (long long)row * n;
        Largest largest = {0, 0};
        for (int first = thread * W; first < n; first += threads * W) {
            Numbers<W> left = *(const Numbers<W>*)(start + first);
#pragma unroll 8
            for (int j = 0; j < count; j++) {
                const Numbers<W> g = *(const Numbers<W>*)(gram + (long long)ids[j] * n + first);
                const float weight = (float)c[j];
                for (int i = 0; i < W; i++) left.of[i] -= weight * g.of[i];
            }
            *(Numbers<W>*)(correlations + first) = left;
            for (int i = 0; i < W; i++) largest.take(left.of[i], first + i);
        }
        return largest;
    }

    /// The same by tiles: four rows of the matrix at a time, so that a tile is written a quarter as
    /// often.
    __device__ __forceinline__ Largest correlate_tiles(int count) const {
        constexpr int TILE = 1024;
        const float* __restrict__ start = all.start + (long long)row * n;
        Largest largest = {0, 0};
        for (int first = 0; first < n; first += TILE) {
            const int width = n - first < TILE ? n - first : TILE;
            float left[TILE];
            for (int i = 0; i < width; i++) left[i] = start[first + i];
            int j = 0;
            for (; j + 4 <= count; j += 4) {
                const float* __restrict__ g0 = gram + (long long)ids[j] * n + first;
                const float* __restrict__ g1 = gram + (long long)ids[j + 1] * n + first;
                const float* __restrict__ g2 = gram + (long long)ids[j + 2] * n + first;
                const float* __restrict__ g3 = gram + (long long)ids[j + 3] * n + first;
                const float c0 = (float)c[j], c1 = (float)c[j + 1];
                const float c2 = (float)c[j + 2], c3 = (float)c[j + 3];
                for (int i = 0; i < width; i++) {
                    left[i] -= (c0 * g0[i] + c1 * g1[i]) + (c2 * g2[i] + c3 * g3[i]);
                }
            }
            for (; j < count; j++) {
                const float* __restrict__ g = gram + (long long)ids[j] * n + first;
                const float weight = (float)c[j];
                for (int i = 0; i < width; i++) left[i] -= weight * g[i];
            }
            float most = 0;
            for (int i = 0; i < width; i++) {
                correlations[first + i] = left[i];
                most = fabsf(left[i]) > most ? fabsf(left[i]) : most;
            }
            // Few tiles have one of the two largest.
            for (int i = 0; i < width && most > largest.second; i++) largest.take(left[i], first + i);
        }
        return largest;
    }

    /// The largest correlation of all, in each thread.
    __device__ __forceinline__ Largest largest_correlation(int count) const {
        Largest largest = !LOADS_PACKS  ? correlate_tiles(count)
                          : n % 4 == 0 ? correlate<4>(count)
                                       : correlate<1>(count);
        largest.take_warp();
        long long* keys = all.keys + (long long)row * all.warps;
        float* seconds = all.seconds + (long long)row * all.warps;
        if (lane == 0) {
            keys[warp] = largest.key;
            seconds[warp] = largest.second;
        }
        team.sync();
        largest = {0, 0};
        for (int i = lane; i < warps; i += warpSize) largest.take({keys[i], seconds[i]});
        largest.take_warp();
        return largest;
    }

    /// The atom whose |<atom, residual>| is largest, lowest one on ties, among those whose
    /// correlation is at least `floor`, by exact dots.
    __device__ __forceinline__ int exact_largest(int count, float floor) const {
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
    __device__ __forceinline__ int next(int count) const {
        const Largest largest = largest_correlation(count);
        float magnitude = 0;
        for (int j = 0; j < count; j++) magnitude += fabsf((float)c[j]);
        // f32's unit of rounding is 6e-8; every entry of the matrix is at most 1.
        const float floor = largest.magnitude() - 2e-6f * (1 + magnitude);
        const int best = largest.second >= floor ? exact_largest(count, floor) : largest.atom();
        bool known = false;
        for (int j = 0; j < count; j++) known |= ids[j] == best;
        return known ? -1 : best;
    }

    /// Takes in an atom and brings the coefficients to those of least squares; takes what it explains
    /// from `squares`, those of the residual. Returns whether that could be done: not if the atom
    /// depends on those that are there, or has a correlation within f32's rounding.
    __device__ __forceinline__ bool extend(int id, int count, double& squares) const {
        const float* added = atom(id);
        make_dots(count + 2, added, [&](int item) {
            return item < count ? atom(ids[item]) : item == count ? added : z;
        });
        team.sync();
        for (int i = warp; i < count; i += warps) {
            const double* of = inverse + (long long)i * capacity;
            double sum = 0;
            for (int j = lane; j <= i; j += warpSize) sum += of[j] * dot(j);
            sum = warp_reduce(sum, Sum());
            if (lane == 0) along[i] = sum;
        }
        team.sync();
        double inside = 0, explained = 0;
        for (int i = lane; i < count; i += warpSize) {
            inside += along[i] * along[i];
            explained += along[i] * right[i];
        }
        const double pivot = dot(count) - warp_reduce(inside, Sum());
        const double with_residual = dot(count + 1) - warp_reduce(explained, Sum());
        if (pivot <= 1e-12 || fabs(with_residual) <= 2e-7) return false;
        const double root = sqrt(pivot), share = with_residual / root;
        double* last = inverse + (long long)count * capacity;
        for (int j = thread; j < count; j += threads) {
            double sum = 0;
#pragma unroll 8
            for (int i = j; i < count; i++) sum += along[i] * inverse[(long long)i * capacity + j];
            last[j] = -sum / root;
            c[j] += share * last[j];
        }
        if (thread == 0) {
            last[count] = 1 / root;
            right[count] = share;
            c[count] = share / root;
            ids[count] = id;
        }
        squares -= share * share;
        team.sync();
        return true;
    }
};

/// Goes on with a row from the atoms that it has until it is done, or until it takes an atom that
/// has no row of the Gram matrix yet.
template <typename Team>
__device__ __forceinline__ void pursue(const Team& team, const SparseRows& rows,
                                       const SparsePursuit& all, const float* atoms,
                                       const float* gram, const int* made, int row, int n, int most,
                                       float tolerance) {
    if (rows.states[row] != RUNNING) return;
    const Pursuit<Team> pursuit(team, rows, all, atoms, gram, row, n);
    int count = rows.counts[row];
    pursuit.make_dots(1, pursuit.z, [&](int) { return pursuit.z; });
    team.sync();
    double squares = pursuit.dot(0);
    for (int i = 0; i < count; i++) squares -= pursuit.right[i] * pursuit.right[i];
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
        team.sync();
        pursuit.make_dots(count, pursuit.residual,
                          [&](int item) { return pursuit.atom(pursuit.ids[item]); });
        team.sync();
        for (int i = 0; i < count; i++) worst = fmax(worst, fabs(pursuit.dot(i)));
    }
    if (pursuit.thread == 0) {
        rows.counts[row] = count;
        rows.iterations[row] = count;
        rows.violations[row] = worst;
        if (done) rows.states[row] = DONE;
    }
}
