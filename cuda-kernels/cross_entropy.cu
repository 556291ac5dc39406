// The loss of next tokens and its gradient, in the place of the logits.
#include "fast_math.cuh"
#include "reduce.cuh"

// losses[row] = log sum exp(logits) - logits[target], in nats, and hits[row] = whether no logit is above
// the target's; then logits = scale * (softmax(logits) -
// onehot(target)): the gradient of scale * the sum of all losses.
// logits [rows, vocabulary] f32, in place; losses [rows] f32; hits, targets [rows].
// PRECOND: one block per row (grid.x = rows), any block size; 0 <= targets[row] < vocabulary.
// Moves rows * vocabulary * 16 bytes: three reads and a write. The logits are those of a chunk of
// rows, so that those of a whole batch never exist, and they need no second matrix for the gradient
// (Karpathy's llm.c, fused_classifier; Liger Kernel, Hsu et al. 2410.10989). A row of NaN stays that.
extern "C" __global__ void cross_entropy_f32(float* losses, int* hits, float* logits,
                                             const int* __restrict__ targets, int vocabulary,
                                             float scale) {
    float* row = logits + (long long)blockIdx.x * vocabulary;
    float top = -INFINITY;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) top = row[i] > top ? row[i] : top;
    top = block_max(top);
    float sum = 0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) sum += fast_exp(row[i] - top);
    sum = block_sum(sum);
    const int target = targets[blockIdx.x];
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = logf(sum) + (top - row[target]);
        hits[blockIdx.x] = row[target] == top;
    }
    __syncthreads();  // the target's logit has been read
    const float factor = scale / sum;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
        const float share = fast_exp(row[i] - top) * factor;
        row[i] = i == target ? share - scale : share;
    }
}
