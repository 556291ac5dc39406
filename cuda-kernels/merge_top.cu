// Makes one list and one log-sum-exp of those that multiply_top_sm80 and multiply_top_sm90 leave of
// the parts of a row.
#include "fast_math.cuh"
#include "reduce.cuh"

// ids, values [rows, kept], best first, from part_ids, part_values [splits, rows, kept], each best
// first with ids that are lower the lower the split, id -1 where a list ends; log_sums [rows, 2] =
// {maximum, sum of exp(value - maximum)} from part_sums [segments, rows, 2], or both null. With
// `absolute` not 0 lists are ordered by magnitude. `rows` counts each sign of a row.
// PRECOND: grid.x = rows, any block size.
// Moves splits * kept * 8 + segments * 8 bytes a row. An entry's place is the number of entries
// before it, counted by one thread each, in each list up to the first that is not before it, and
// until there are `kept`; no order between the threads.
extern "C" __global__ void merge_top(int* ids, float* values, float* log_sums,
                                     const int* __restrict__ part_ids,
                                     const float* __restrict__ part_values,
                                     const float* __restrict__ part_sums, int splits,
                                     int segments, int kept, int absolute) {
    const long long rows = gridDim.x, row = blockIdx.x;
    const int entries = splits * kept;
    for (int i = threadIdx.x; i < entries; i += blockDim.x) {
        const long long from = (i / kept * rows + row) * kept + i % kept;
        const int id = part_ids[from];
        const float value = part_values[from];
        const float order = id < 0 ? -INFINITY : absolute != 0 ? fabsf(value) : value;
        int place = 0;
        for (int split = 0; split < splits && place < kept; split++) {
            for (int j = 0; j < kept; j++) {
                const long long at = (split * rows + row) * kept + j;
                const float v = part_values[at];
                const float other = part_ids[at] < 0 ? -INFINITY : absolute != 0 ? fabsf(v) : v;
                const bool before = other > order || (other == order && split * kept + j < i);
                if (!before) break;
                place++;
            }
        }
        if (place < kept) {
            ids[row * kept + place] = id;
            values[row * kept + place] = value;
        }
    }
    if (log_sums == nullptr) return;
    float maximum = -INFINITY;
    for (int i = threadIdx.x; i < segments; i += blockDim.x) {
        const float here = part_sums[2 * (i * rows + row)];
        maximum = here > maximum ? here : maximum;
    }
    maximum = block_max(maximum);
    float sum = 0;
    for (int i = threadIdx.x; i < segments; i += blockDim.x) {
        const float here = part_sums[2 * (i * rows + row)];
        const float part = part_sums[2 * (i * rows + row) + 1];
        sum += here < maximum ? part * fast_exp(here - maximum) : part;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        log_sums[2 * row] = maximum;
        log_sums[2 * row + 1] = sum;
    }
}
