// What multiply_top_sm80.cu and multiply_top_sm90.cu do with a tile of x wᵀ while it lies in the
// accumulators of tensor cores: the log-sum-exp of each row and its largest entries, so that the
// product itself never goes to memory.
//
// A row of the tile belongs to four neighbouring lanes, a quad, for as long as the block walks over
// the columns: both mma.m16n8k16 and wgmma.m64nNk16 give a lane the columns 8 j + 2 (lane % 4) +
// {0, 1} of the rows lane / 4 and lane / 4 + 8 of its 16 rows. So each lane adds up its own columns
// in registers, and the list of a row, in shared memory, is changed by its quad alone: no atomics,
// no barrier of the block, and the same list whatever the order of threads.
#pragma once
#include "fast_math.cuh"
#include "types.cuh"

/// Which entries of a row are kept: the largest or the smallest, both, or the largest in magnitude.
enum class Tops { SIGNED, BOTH, ABSOLUTE };

template <Tops KIND>
constexpr int SIGNS = KIND == Tops::BOTH ? 2 : 1;

/// Columns whose exponentials are summed by themselves, then merged in their order (merge_top.cu),
/// so that a row's bits do not depend on how many blocks share it. Device.multiplyTop knows it too.
constexpr int SEGMENT = 2048;

constexpr float LOG2_E = 1.44269504f;

struct alignas(8) TopEntry {
    float value;
    int id;
};

/// What a lane keeps of its two rows, for each sign.
template <Tops KIND>
struct LaneRows {
    float maximum[SIGNS<KIND>][2];    // of this lane's columns of the segment
    float sum[SIGNS<KIND>][2];        // of exp(value - maximum)
    float threshold[SIGNS<KIND>][2];  // of the row: only what is above it enters its list
};

/// Where the results of a launch go, and what there is of them.
struct TopResults {
    int* ids;          // [splits, m, S, kept]
    float* values;     // [splits, m, S, kept]
    float2* log_sums;  // [segments, m, S] {maximum, sum}; null if not wanted
    int m, n, kept;
    bool negative;     // Tops::SIGNED: the largest of -entry
    // Lists [m, S, kept] of columns before those of this launch, or null: what is not above their
    // last entries is no result of all columns, so no list takes it. (Of equal ones the lower id
    // comes first.)
    const int* seed_ids;
    const float* seed_values;
};

/// What a list's value is ordered by.
template <Tops KIND>
__device__ __forceinline__ float top_order(float value) {
    return KIND == Tops::ABSOLUTE ? fabsf(value) : value;
}

/// A place of a list that is still empty, or no candidate for one.
__device__ __forceinline__ TopEntry no_entry() { return {-INFINITY, -1}; }

template <Tops KIND>
__device__ __forceinline__ float top_order(const TopEntry& entry) {
    return entry.id < 0 ? -INFINITY : top_order<KIND>(entry.value);
}

/// The lists of a row: [S][kept], best first.
template <Tops KIND>
__device__ __forceinline__ TopEntry* row_lists(TopEntry* lists, int row, int kept) {
    return lists + row * SIGNS<KIND> * kept;
}

/// Empties the lists of the warp's 16 rows, and what the lane knows of them: `row` is the first of
/// them in the block's tile, `at` in the matrix.
/// PRECOND for this and all below: all lanes of the warp call it.
template <Tops KIND>
__device__ __forceinline__ void begin_rows(LaneRows<KIND>& rows, TopEntry* lists, int row, int at,
                                           const TopResults& results) {
    const int lane = threadIdx.x % 32;
    TopEntry* list = row_lists<KIND>(lists, row, results.kept);
    for (int i = lane; i < 16 * SIGNS<KIND> * results.kept; i += 32) list[i] = no_entry();
    for (int h = 0; h < 2; h++) {
        const int of_lane = at + lane / 4 + 8 * h;
        for (int s = 0; s < SIGNS<KIND>; s++) {
            rows.maximum[s][h] = -INFINITY;
            rows.sum[s][h] = 0;
            float threshold = -INFINITY;
            if (of_lane >= results.m) {
                threshold = INFINITY;  // there is no such row
            } else if (results.seed_ids != nullptr) {
                const long long lists_before = (long long)of_lane * SIGNS<KIND> + s;
                const long long last = (lists_before + 1) * results.kept - 1;
                const TopEntry seed = {results.seed_values[last], results.seed_ids[last]};
                threshold = top_order<KIND>(seed);
            }
            rows.threshold[s][h] = threshold;
        }
    }
    __syncwarp();
}

/// Puts an entry into the quad's list where `enters` holds for the quad; if all of the list's
/// places go to others, nothing changes. Of equal ones the one that came first stays in front.
/// A lane decides alone what becomes of its places: they keep their entries, or take the new one
/// or that of the place before.
template <Tops KIND>
__device__ __forceinline__ void insert(TopEntry* list, int kept, bool enters,
                                       const TopEntry& entry) {
    constexpr int AT_ONCE = 3;  // places of a lane
    const float order = top_order<KIND>(entry);
    // From the end, so that what is overwritten has been read.
    for (int end = (kept - 1) / 4 * 4 + threadIdx.x % 4; end >= 0; end -= 4 * AT_ONCE) {
        TopEntry next[AT_ONCE];
        bool moves[AT_ONCE];
#pragma unroll
        for (int a = 0; a < AT_ONCE; a++) {
            const int i = end - 4 * a;
            const bool exists = i >= 0 && i < kept;
            const TopEntry here = exists ? list[i] : no_entry();
            const TopEntry ahead = exists && i > 0 ? list[i - 1] : no_entry();
            moves[a] = exists && enters && top_order<KIND>(here) < order;
            next[a] = i > 0 && top_order<KIND>(ahead) < order ? ahead : entry;
        }
        __syncwarp();
#pragma unroll
        for (int a = 0; a < AT_ONCE; a++) {
            if (moves[a]) list[end - 4 * a] = next[a];
        }
    }
    __syncwarp();
}

/// Takes in a tile of N columns of the warp's 16 rows from `row` on. `first` is the column that
/// c[0][0] of lane 0 belongs to; columns from results.n on do not exist. Changes c. NaN enters no
/// list and makes the sum NaN; -inf counts as absent.
///
/// Costs, for each entry and sign: a maximum, a multiply-add, an ex2 and an addition. Of T tiles
/// the t-th holds about kept / t of a row's best so far, so that a row sees kept (1 + ln T)
/// insertions; where it sees none, a comparison for each sign says so. Where there are some, lanes
/// look for them in the GROUPs of columns that have any and mark the eights of columns where they
/// are; then the eight quads of the warp go through the marks of their rows side by side. That is
/// some 250 clocks to find, 100 to fetch an eight from the registers and 200 for each entry.
/// (Lost: each lane's best first, found again among 64 after each insertion: 1,000 clocks for each;
/// 0.018 of 0.165 s where a row saw 450.)
template <Tops KIND, int N>
__device__ __forceinline__ void take_tile(LaneRows<KIND>& rows, float (&c)[N / 8][4], int first,
                                          TopEntry* lists, int row, const TopResults& results) {
    constexpr int GROUP = 32;
    const int lane = threadIdx.x % 32;
    const int column = first + lane % 4 * 2;
    const int kept = results.kept;
    if (KIND == Tops::SIGNED && results.negative) {
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) c[j][i] = -c[j][i];
        }
    }
    const bool whole = first + N <= results.n;
    if (!whole) {
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (column + 8 * j + i % 2 >= results.n) c[j][i] = NAN;  // skipped by selections
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int s = 0; s < SIGNS<KIND>; s++) {
            auto value = [&](int j, int i) {
                return s == 0 ? c[j][2 * h + i] : -c[j][2 * h + i];
            };
            float largest[N / GROUP];
            float top = -INFINITY;
#pragma unroll
            for (int g = 0; g < N / GROUP; g++) {
                largest[g] = -INFINITY;
#pragma unroll
                for (int j = g * (GROUP / 8); j < (g + 1) * (GROUP / 8); j++) {
                    largest[g] = fmaxf(largest[g], fmaxf(top_order<KIND>(value(j, 0)),
                                                         top_order<KIND>(value(j, 1))));
                }
                top = fmaxf(top, largest[g]);
            }

            if (KIND != Tops::ABSOLUTE) {
                float& maximum = rows.maximum[s][h];
                if (top > maximum) {
                    rows.sum[s][h] *= fast_exp2((maximum - top) * LOG2_E);
                    maximum = top;
                }
                // -inf less -inf would be NaN
                const float shift = maximum > -INFINITY ? maximum * LOG2_E : 0.0f;
                float part[2] = {0, 0};
                if (whole) {
#pragma unroll
                    for (int j = 0; j < N / 8; j++) {
                        part[0] += fast_exp2(fmaf(value(j, 0), LOG2_E, -shift));
                        part[1] += fast_exp2(fmaf(value(j, 1), LOG2_E, -shift));
                    }
                } else {
#pragma unroll
                    for (int j = 0; j < N / 8; j++) {
#pragma unroll
                        for (int i = 0; i < 2; i++) {
                            const bool exists = column + 8 * j + i < results.n;
                            const float e = fast_exp2(fmaf(value(j, i), LOG2_E, -shift));
                            part[i] += exists ? e : 0.0f;
                        }
                    }
                }
                rows.sum[s][h] += part[0] + part[1];
            }

            float& threshold = rows.threshold[s][h];
            if (!__any_sync(0xffffffffu, top > threshold)) continue;
            // Bit j: of columns 8 j to 8 j + 7, which lie in the quad's lanes, the row may take some.
            unsigned eights = 0;
#pragma unroll
            for (int g = 0; g < N / GROUP; g++) {
                if (!__any_sync(0xffffffffu, largest[g] > threshold)) continue;
#pragma unroll
                for (int j = g * (GROUP / 8); j < (g + 1) * (GROUP / 8); j++) {
                    const bool some = top_order<KIND>(value(j, 0)) > threshold ||
                                      top_order<KIND>(value(j, 1)) > threshold;
                    eights |= some ? 1u << j : 0u;
                }
            }
            eights |= __shfl_xor_sync(0xffffffffu, eights, 1);
            eights |= __shfl_xor_sync(0xffffffffu, eights, 2);
            TopEntry* list = row_lists<KIND>(lists, row + lane / 4 + 8 * h, kept) + s * kept;
            const int quad = lane & ~3;
            for (; __any_sync(0xffffffffu, eights != 0); eights &= eights - 1) {
                const int eight = __ffs(eights) - 1;  // -1: none
                float left = value(0, 0), right = value(0, 1);
#pragma unroll
                for (int j = 1; j < N / 8; j++) {
                    if (j == eight) {
                        left = value(j, 0);
                        right = value(j, 1);
                    }
                }
                bool left_waits = eights != 0 && top_order<KIND>(left) > threshold;
                bool right_waits = eights != 0 && top_order<KIND>(right) > threshold;
                for (;;) {
                    const unsigned lefts = __ballot_sync(0xffffffffu, left_waits);
                    const unsigned rights = __ballot_sync(0xffffffffu, right_waits);
                    if ((lefts | rights) == 0) break;
                    const unsigned waiting = (lefts | rights) >> quad & 15;
                    const int from = quad + (waiting != 0 ? __ffs(waiting) - 1 : 0);
                    const int right_comes = lefts >> from & 1 ? 0 : 1;
                    const TopEntry entry = {
                        __shfl_sync(0xffffffffu, left_waits ? left : right, from),
                        first + 8 * eight + 2 * (from - quad) + right_comes};
                    insert<KIND>(list, kept, waiting != 0, entry);
                    if (lane == from) (left_waits ? left_waits : right_waits) = false;
                }
                threshold = fmaxf(threshold, top_order<KIND>(list[kept - 1]));
            }
        }
    }
}

/// Writes the log-sum-exp of the segment's columns and begins the next segment.
template <Tops KIND>
__device__ __forceinline__ void end_segment(LaneRows<KIND>& rows, int row, int segment,
                                            const TopResults& results) {
    if (KIND == Tops::ABSOLUTE || results.log_sums == nullptr) return;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int at = row + lane / 4 + 8 * h;
#pragma unroll
        for (int s = 0; s < SIGNS<KIND>; s++) {
            float maximum = rows.maximum[s][h];
            maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
            maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
            const float own = rows.maximum[s][h];
            float sum = rows.sum[s][h];
            if (own < maximum) sum *= fast_exp2((own - maximum) * LOG2_E);
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if (lane % 4 == 0 && at < results.m) {
                const long long to = ((long long)segment * results.m + at) * SIGNS<KIND> + s;
                results.log_sums[to] = make_float2(maximum, sum);
            }
            rows.maximum[s][h] = -INFINITY;
            rows.sum[s][h] = 0;
        }
    }
}

/// Writes the lists of the warp's 16 rows: `row` is the first of them in the block's tile, `at` in
/// the matrix.
template <Tops KIND>
__device__ __forceinline__ void write_lists(TopEntry* lists, int row, int at, int split,
                                            const TopResults& results) {
    __syncwarp();
    const int length = SIGNS<KIND> * results.kept;
    const TopEntry* list = row_lists<KIND>(lists, row, results.kept);
    for (int i = threadIdx.x % 32; i < 16 * length; i += 32) {
        if (at + i / length >= results.m) break;
        const long long to = ((long long)split * results.m + at) * length + i;
        results.ids[to] = list[i].id;
        results.values[to] = list[i].value;
    }
    __syncwarp();
}
