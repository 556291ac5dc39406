// The next token of each row: greedy, or drawn after temperature, top-k and top-p.
#include "fast_math.cuh"
#include "reduce.cuh"

// Maps floats to ints in the same order (no NaN), so that a threshold can be bisected exactly.
__device__ __forceinline__ int ordered(float value) {
    const int bits = __float_as_int(value);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

__device__ __forceinline__ float from_ordered(int order) {
    return __int_as_float(order ^ ((order >> 31) & 0x7fffffff));
}

// A uniform number in (0, 1) that depends on the row's key and the token id alone, so a draw is
// the same whatever the batch, the block size and the device (the finaliser of splitmix64). 23
// bits and a half are exact in f32; with one bit more the largest would round to 1, whose noise is
// infinite, and one token in 2^24 would win whatever its logit.
__device__ __forceinline__ float uniform(unsigned long long key, int id) {
    unsigned long long z = key + 0x9e3779b97f4a7c15ull * (unsigned long long)(id + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return ((float)(unsigned int)(z >> 41) + 0.5f) * (1.0f / 8388608.0f);
}

// tokens [rows]: the chosen ids; log_probabilities [rows]: their natural log probability under the
// model (temperature 1, nothing cut). logits [rows, vocabulary] f32. Per row: temperature (0 =
// greedy, lowest id on ties), top_k (0 = all), top_p (1 = all), key (from seed and step).
// As transformers does: logits / temperature, then the k largest (ties with the k-th stay), then
// the smallest set of most likely tokens whose probability reaches top_p (ties stay). Both cuts
// are thresholds on the logit, found by bisection over its bits: no sort. The draw is
// argmax(logit + Gumbel noise) over what is left.
// A row whose logits are all NaN or -inf gets token -1.
// PRECOND: one block per row (grid.x = rows), any block size.
// Moves rows * vocabulary * 4 bytes per pass: 2 passes when greedy, 3 more drawing, 32 more for
// each cut (from L2 on a GPU).
extern "C" __global__ void sample(int* __restrict__ tokens, float* __restrict__ log_probabilities,
                                  const float* __restrict__ logits, int vocabulary,
                                  const float* __restrict__ temperatures,
                                  const int* __restrict__ top_ks, const float* __restrict__ top_ps,
                                  const unsigned long long* __restrict__ keys) {
    const int row = blockIdx.x;
    const float* x = logits + (long long)row * vocabulary;
    float top = -INFINITY;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) top = x[i] > top ? x[i] : top;
    top = block_max(top);
    float sum = 0;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) sum += fast_exp(x[i] - top);
    sum = block_sum(sum);

    const float temperature = temperatures[row];
    int choice = 0x7fffffff;
    if (temperature == 0) {
        for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
            choice = x[i] == top && i < choice ? i : choice;
        }
    } else {
        float cut = -INFINITY;  // tokens below it are out
        const int top_k = top_ks[row];
        if (top_k > 0 && top_k < vocabulary) {
            // The largest threshold that still lets top_k tokens through.
            int low = ordered(-INFINITY), high = ordered(top);
            while (low < high) {
                const int middle = (int)(((long long)low + high + 1) >> 1);
                const float threshold = from_ordered(middle);
                float count = 0;  // exact: vocabularies are far below 2^24
                for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
                    count += x[i] >= threshold ? 1.0f : 0.0f;
                }
                if (block_sum(count) >= top_k) low = middle;
                else high = middle - 1;
            }
            cut = from_ordered(low);
        }
        const float top_p = top_ps[row];
        if (top_p < 1) {
            float mass = 0;
            for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
                mass += x[i] >= cut ? fast_exp((x[i] - top) / temperature) : 0.0f;
            }
            mass = block_sum(mass);
            int low = ordered(cut), high = ordered(top);
            while (low < high) {
                const int middle = (int)(((long long)low + high + 1) >> 1);
                const float threshold = from_ordered(middle);
                float kept = 0;
                for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
                    kept += x[i] >= threshold ? fast_exp((x[i] - top) / temperature) : 0.0f;
                }
                if (block_sum(kept) >= top_p * mass) low = middle;
                else high = middle - 1;
            }
            cut = from_ordered(low);
        }
        float best = -INFINITY;
        for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
            if (x[i] < cut) continue;
            const float draw =
                (x[i] - top) / temperature - logf(-logf(uniform(keys[row], i)));
            if (draw > best) {
                best = draw;
                choice = i;
            }
        }
        const float winner = block_max(best);
        if (best < winner) choice = 0x7fffffff;
    }
    choice = block_min(choice);
    if (threadIdx.x == 0) {
        const bool found = choice != 0x7fffffff && top > -INFINITY;
        tokens[row] = found ? choice : -1;
        log_probabilities[row] = found ? x[choice] - top - logf(sum) : NAN;
    }
}
