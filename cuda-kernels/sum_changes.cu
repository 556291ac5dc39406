// What edits changed, summed by page of the KV cache: what a request's report is made of when it
// ends. Each edit leaves squared norms in its row of `changes` (steer.cuh).
#include "kv_cache.cuh"

// Adds a step's rows to the sums of the pages that their tokens lie in: for each row and column
// sums[page][column] += sqrt(sum of changes[row][at .. at + count)) with {at, count} =
// parts[slots[row]][column]; slot 0 and columns of which a slot does nothing have count 0. A page
// whose first token is in the step begins at 0. Where no row of a page has a slot, its sums are
// left as they are.
// sums [pages, columns] f64; changes [rows, stride] f32; slots, sequences, positions [rows];
// page_table as in kv_cache.cuh; parts [slots, columns]. Rows of one sequence lie one after another
// and follow one another in position.
// A page's sum runs over its tokens in their order and over a token's squares in theirs, all in f64:
// it depends on the request alone, and neither on how its prompt was cut into steps nor on the block.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves 16 bytes per row, and where it is steered 4 per square, 8 per column, and 16 per page and
// column: hundreds of bytes beside the megabytes of a step. The block of a page's first row has all
// its rows, a warp a column and a lane a row, so that the squares are read side by side and only the
// additions, which must stay in order, wait for each other; the blocks of the other rows end at once.
// (Copying `changes` to the host and adding there, which this was before, cost a copy of rows *
// stride floats and a wait in every step.)
extern "C" __global__ void sum_changes(double* sums, const float* __restrict__ changes, int stride,
                                       const int* __restrict__ slots,
                                       const int* __restrict__ sequences,
                                       const int* __restrict__ positions,
                                       const int* __restrict__ page_table, int pages_per_sequence,
                                       const int2* __restrict__ parts, int columns, int rows) {
    const int row = blockIdx.x;
    const int sequence = sequences[row];
    const int position = positions[row];
    const int place = position % PAGE;
    if (place > 0 && row > 0 && sequences[row - 1] == sequence) return;
    int end = row;
    bool steered = false;
    while (end < rows && end - row < PAGE - place && sequences[end] == sequence) {
        steered = steered || slots[end] != 0;
        end++;
    }
    if (!steered) return;

    double* page = sums + (long long)columns * page_table[(long long)sequence * pages_per_sequence +
                                                          position / PAGE];
    const int lane = threadIdx.x % warpSize;
    const int warps = blockDim.x / warpSize;
    for (int column = threadIdx.x / warpSize; column < columns; column += warps) {
        double sum = place == 0 ? 0 : page[column];
        for (int first = row; first < end; first += warpSize) {
            double norm = 0;
            if (first + lane < end) {
                const int2 part = parts[(long long)slots[first + lane] * columns + column];
                const float* squares = changes + (long long)(first + lane) * stride + part.x;
                double square = 0;
                for (int i = 0; i < part.y; i++) square += squares[i];
                norm = sqrt(square);
            }
            const int lanes = end - first < warpSize ? end - first : warpSize;
            for (int from = 0; from < lanes; from++) {
                sum += __shfl_sync(0xffffffffu, norm, from);
            }
        }
        if (lane == 0) page[column] = sum;
    }
}
