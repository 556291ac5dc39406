// out = x / sqrt(mean(x^2) + eps) * weight, row by row, alone or with the residual add before it.
#include "norm.cuh"
#include "residual.cuh"

// What is done to x before its norm: nothing, x += y, or that and then vectors that edits add.
enum Before { NOTHING, SUM, SUM_AND_VECTORS };

// Packs of a row that a thread of add_rmsnorm_rows keeps: all of a row up to d = 4096.
template <typename T>
constexpr int HELD_OF_ROWS = HOLDS_PACKS ? 8 / PACK<T> : 0;

// The vectors that are added to a row.
struct Vectors {
    int2 range;
    const SteerOp* ops;
    float* report;
};

// One row of both kernels, in packs of N (y is not read elsewhere), of which a thread holds HELD from the
// sum of squares to the product; what lies beyond is read again, from L1. With vectors it holds all
// (adds_alone). EARLY: gains are under way with the row, so that it waits once; else they are read where
// they are used, and take no registers meanwhile.
template <int N, int HELD, Before BEFORE, bool EARLY, typename T>
__device__ __forceinline__ void norm_row(T* out, float* x, const T* __restrict__ y,
                                         const float* __restrict__ weight, int d, float eps,
                                         float* scale, float* normalized,
                                         const Vectors& vectors = {}) {
    constexpr bool ADD = BEFORE != NOTHING;
    const int first = threadIdx.x * N;
    const int step = blockDim.x * N;
    Pack<float, N> held[HELD + 1] = {}, gains[HELD + 1] = {};  // an array has at least one element
    Pack<T, N> added[HELD + 1] = {};
    UNROLL_ALL
    for (int k = 0; k < HELD; k++) {
        const int i = first + k * step;
        if (i >= d) continue;
        held[k].load(x + i);
        if constexpr (ADD) added[k].load(y + i);
        if constexpr (EARLY && BEFORE != SUM_AND_VECTORS) gains[k].load(weight + i);
    }
    if constexpr (ADD) {
        UNROLL_ALL
        for (int k = 0; k < HELD; k++) {
            const int i = first + k * step;
            if (i >= d) continue;
            UNROLL_ALL
            for (int j = 0; j < N; j++) held[k].at[j] += to_float(added[k].at[j]);
            if constexpr (BEFORE == SUM) held[k].store(x + i);
        }
        if constexpr (BEFORE == SUM_AND_VECTORS) {
            add_vectors<N>(held, d, vectors.range, vectors.ops, vectors.report);
            UNROLL_ALL
            for (int k = 0; k < HELD; k++) {
                const int i = first + k * step;
                if (i >= d) continue;
                held[k].store(x + i);
                gains[k].load(weight + i);  // not before: 64 registers let two blocks have an SM
            }
        }
        UNROLL_NONE
        for (int i = first + HELD * step; i < d; i += step) {
            Pack<float, N> sum;
            Pack<T, N> more;
            sum.load(x + i);
            more.load(y + i);
            UNROLL_ALL
            for (int j = 0; j < N; j++) sum.at[j] += to_float(more.at[j]);
            sum.store(x + i);
        }
    }

    float squares = 0;
    UNROLL_ALL
    for (int k = 0; k < HELD; k++) {
        if (first + k * step >= d) continue;
        UNROLL_ALL
        for (int j = 0; j < N; j++) squares += held[k].at[j] * held[k].at[j];
    }
    UNROLL_NONE
    for (int i = first + HELD * step; i < d; i += step) {
        Pack<float, N> in;
        in.load(x + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) squares += in.at[j] * in.at[j];
    }
    const float rms = root_mean_square(block_sum(squares), d, eps);
    const float inverse = inverse_of(rms);

    UNROLL_ALL
    for (int k = 0; k < HELD; k++) {
        const int i = first + k * step;
        if (i >= d) continue;
        Pack<T, N> to;
        if constexpr (!EARLY) gains[k].load(weight + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) {
            to.at[j] = from_float<T>(held[k].at[j] * inverse * gains[k].at[j]);
        }
        to.store(out + i);
    }
    UNROLL_NONE
    for (int i = first + HELD * step; i < d; i += step) {
        Pack<float, N> in, gain;
        Pack<T, N> to;
        in.load(x + i);
        gain.load(weight + i);
        UNROLL_ALL
        for (int j = 0; j < N; j++) to.at[j] = from_float<T>(in.at[j] * inverse * gain.at[j]);
        to.store(out + i);
    }
    if (scale != nullptr && threadIdx.x == 0) *scale = rms;
    if (normalized != nullptr) {
        UNROLL_NONE
        for (int i = first; i < d; i += step) {
            Pack<float, N> in;
            in.load(x + i);
            UNROLL_ALL
            for (int j = 0; j < N; j++) in.at[j] = in.at[j] * inverse;
            in.store(normalized + i);
        }
    }
}

// out [rows, d] T; x [rows, d] f32, edited in place where the site hook_resid_pre is steered;
// weight [d] f32. For capture, unless null: scale [rows] = sqrt(mean(x^2) + eps) (hook_scale) and
// normalized [rows, d] = x / scale (hook_normalized, before the gain).
// A row whose squares overflow f32 becomes NaN.
// PRECOND: one block per row (grid.x = rows), any block size. Packs of 16 bytes where d
// is a multiple of a pack and all addresses of 16, else element by element.
// Moves rows * d * (4 + sizeof(T)) bytes, each byte once, and 4 * (d + 1) more of a row for capture: a
// thread has all its packs and gains under way before it uses the first. (Two passes of single 4-byte loads, which this was before, left
// each of the 32 rounds of a row of 4096 exposed.)
template <typename T>
__device__ void rmsnorm(T* out, float* x, const float* __restrict__ weight, int d, float eps,
                        float* scale, float* normalized, const int2* __restrict__ ranges,
                        const Steering& steering) {
    constexpr int N = PACK<T>;
    const int row = blockIdx.x;
    const long long at = (long long)row * d;
    const int2 range = steering.range(ranges, row);
    if (range.x < range.y) {
        steer_row(x + at, d, range, steering.ops, steering.report(row));
        __syncthreads();  // packs are of elements that other threads edited
    }
    float* row_scale = scale == nullptr ? nullptr : scale + row;
    float* row_normalized = normalized == nullptr ? nullptr : normalized + at;
    if (d % N == 0 && aligned(out, x, weight, normalized)) {
        norm_row<N, HELD, NOTHING, true>(out + at, x + at, (const T*)nullptr, weight, d, eps,
                                         row_scale, row_normalized);
    } else {
        norm_row<1, HELD, NOTHING, true>(out + at, x + at, (const T*)nullptr, weight, d, eps,
                                         row_scale, row_normalized);
    }
}

extern "C" __global__ void rmsnorm_f32(float* out, float* x, const float* weight, int d, float eps,
                                       float* scale, float* normalized, const int2* ranges,
                                       const __grid_constant__ Steering steering) {
    rmsnorm(out, x, weight, d, eps, scale, normalized, ranges, steering);
}

extern "C" __global__ void rmsnorm_bf16(bf16* out, float* x, const float* weight, int d, float eps,
                                        float* scale, float* normalized, const int2* ranges,
                                        const __grid_constant__ Steering steering) {
    rmsnorm(out, x, weight, d, eps, scale, normalized, ranges, steering);
}

// residual_add (x, y, bias, branch_ranges, ranges), then rmsnorm of x into out (weight, eps, and
// norm_ranges: the edits of the next block's hook_resid_pre), with the bits of both: for what lies
// between, where nobody but these edits acts there.
// PRECOND: as rmsnorm's. Rows with bias or edits go through memory, as the two kernels do, but for
// those of added vectors alone, which stay in registers; each moves 4 * d bytes of a vector more.
// (Through memory, single elements behind one another, 256 rows took 8 us more in a decode step of
// an H200 with a vector added after every block.)
// Moves rows * d * (8 + 2 * sizeof(T)) bytes: the sum is normalised from registers, which saves the
// reading of x, and a launch. With a bias rows * d * (12 + 3 * sizeof(T)): y is rewritten, x read anew.
// add_rmsnorm_rows has the same bits, for as many rows as the card has no room for at once: an SM has
// three blocks of 512 threads and not two, since a thread keeps 8 elements and reads its gains, which
// then lie in L1, when it needs them. With two an H200 took 27 us for 2,000 rows of 4096 where its
// bytes take 15. Few rows would wait for their gains, and rows with vectors take the other.
template <int HELD, bool EARLY, typename T>
__device__ void add_rmsnorm(T* out, float* x, T* y, const float* __restrict__ bias,
                            const float* __restrict__ weight, int d, float eps,
                            const int2* __restrict__ branch_ranges,
                            const int2* __restrict__ norm_ranges, const int2* __restrict__ ranges,
                            const Steering& steering) {
    constexpr int N = PACK<T>;
    const int row = blockIdx.x;
    const long long at = (long long)row * d;
    const ResidualEdits edits = residual_edits(steering, branch_ranges, ranges, row);
    const int2 norm_edits = steering.range(norm_ranges, row);
    const bool in_packs = d % N == 0 && aligned(out, x, y, weight);
    if (bias == nullptr && !edits.any() && norm_edits.x == norm_edits.y) {
        if (in_packs) {
            norm_row<N, HELD, SUM, EARLY>(out + at, x + at, y + at, weight, d, eps, nullptr,
                                          nullptr);
        } else {
            norm_row<1, HELD, SUM, EARLY>(out + at, x + at, y + at, weight, d, eps, nullptr,
                                          nullptr);
        }
        return;
    }
    float* report = steering.report(row);
    if constexpr (HOLDS_PACKS && EARLY) {
        if (bias == nullptr && in_packs && norm_edits.x == norm_edits.y &&
            adds_alone<N>(d, edits, steering.ops)) {
            norm_row<N, HELD, SUM_AND_VECTORS, true>(out + at, x + at, y + at, weight, d, eps,
                                                     nullptr, nullptr,
                                                     {edits.residual, steering.ops, report});
            return;
        }
    }
    add_edited_row(x + at, y + at, bias, d, edits, steering.ops, report);
    if (norm_edits.x < norm_edits.y) steer_row(x + at, d, norm_edits, steering.ops, report);
    __syncthreads();  // packs are of elements that other threads made
    if (in_packs) {
        norm_row<N, HELD, NOTHING, EARLY>(out + at, x + at, (const T*)nullptr, weight, d, eps,
                                          nullptr, nullptr);
    } else {
        norm_row<1, HELD, NOTHING, EARLY>(out + at, x + at, (const T*)nullptr, weight, d, eps,
                                          nullptr, nullptr);
    }
}

extern "C" __global__ void add_rmsnorm_f32(float* out, float* x, float* y, const float* bias,
                                           const float* weight, int d, float eps,
                                           const int2* branch_ranges, const int2* norm_ranges,
                                           const int2* ranges,
                                           const __grid_constant__ Steering steering) {
    add_rmsnorm<HELD, true>(out, x, y, bias, weight, d, eps, branch_ranges, norm_ranges, ranges,
                            steering);
}

extern "C" __global__ void add_rmsnorm_bf16(bf16* out, float* x, bf16* y, const float* bias,
                                            const float* weight, int d, float eps,
                                            const int2* branch_ranges, const int2* norm_ranges,
                                            const int2* ranges,
                                            const __grid_constant__ Steering steering) {
    add_rmsnorm<HELD, true>(out, x, y, bias, weight, d, eps, branch_ranges, norm_ranges, ranges,
                            steering);
}

extern "C" __global__ void __launch_bounds__(512, 3)
    add_rmsnorm_rows_f32(float* out, float* x, float* y, const float* bias, const float* weight,
                         int d, float eps, const int2* branch_ranges, const int2* norm_ranges,
                         const int2* ranges, const __grid_constant__ Steering steering) {
    add_rmsnorm<HELD_OF_ROWS<float>, false>(out, x, y, bias, weight, d, eps, branch_ranges,
                                           norm_ranges, ranges, steering);
}

extern "C" __global__ void __launch_bounds__(512, 3)
    add_rmsnorm_rows_bf16(bf16* out, float* x, bf16* y, const float* bias, const float* weight,
                          int d, float eps, const int2* branch_ranges, const int2* norm_ranges,
                          const int2* ranges, const __grid_constant__ Steering steering) {
    add_rmsnorm<HELD_OF_ROWS<bf16>, false>(out, x, y, bias, weight, d, eps, branch_ranges,
                                           norm_ranges, ranges, steering);
}
