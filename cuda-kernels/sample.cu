// The next token of each row: greedy, or drawn after temperature, top-k and top-p.
#include "fast_math.cuh"
#include "reduce.cuh"
#include "types.cuh"

// Maps floats to unsigned ints in the same order (no NaN), so that a value can be found digit by
// digit.
__device__ __forceinline__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float from_ordered(unsigned order) {
    return __uint_as_float(order >> 31 != 0 ? order & 0x7fffffffu : ~order);
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

// The most that noise of such a number adds to a logit is 16.64.
constexpr float MOST_NOISE = 16.7f;

__device__ __forceinline__ float noise(unsigned long long key, int id) {
    return -logf(-logf(uniform(key, id)));
}

// Elements of a row that a thread loads before it uses the first. The only thread of the CPU's solo
// build takes as many as its first-level cache holds with ease, so that all that is done to a
// stretch reads memory once.
#if defined(__CUDACC__) || defined(HALTER_FAITHFUL)
constexpr int STRETCH = 8;
#else
constexpr int STRETCH = 256;
#endif

// visit(values, base, step) for each of a thread's stretches of x [n], in order: values[k * N + j]
// is x[base + k * step + j], or -inf beyond the end.
template <int N, typename Visit>
__device__ __forceinline__ void each_stretch(const float* __restrict__ x, int n, Visit visit) {
    const int step = blockDim.x * N;
    for (int base = threadIdx.x * N; base < n; base += step * (STRETCH / N)) {
        float values[STRETCH];
        UNROLL_ALL
        for (int k = 0; k < STRETCH / N; k++) {
            Pack<float, N> pack;
            UNROLL_ALL
            for (int j = 0; j < N; j++) pack.at[j] = -INFINITY;
            if (base + k * step < n) pack.load(x + base + k * step);
            UNROLL_ALL
            for (int j = 0; j < N; j++) values[k * N + j] = pack.at[j];
        }
        visit(values, base, step);
    }
}

// ------------------------------------------------------------------------------ weights by digits

// A histogram over a digit of ordered(value): what lies in each bin, as 64-bit integers, whose sums
// no order changes, in two words with the carry between them. Lane l of a warp later sums the bins
// [l * BINS / 32, ...); the gap after each such part keeps the lanes on banks of their own.
constexpr int BINS = 2048;
constexpr int PART = BINS / 32;

struct Histogram {
    unsigned low[BINS + 32], high[BINS + 32];

    static __device__ __forceinline__ int place(int bin) {
        return warpSize == 1 ? bin : bin + bin / PART;
    }

    // Ends with a barrier.
    __device__ __forceinline__ void clear() {
        for (int i = threadIdx.x; i < BINS + 32; i += blockDim.x) low[i] = high[i] = 0;
        __syncthreads();
    }

    __device__ __forceinline__ void add(int bin, unsigned long long weight) {
        const unsigned word = (unsigned)weight;
        const unsigned before = atomicAdd_block(&low[place(bin)], word);
        const unsigned carried = (unsigned)(weight >> 32) + (before + word < word ? 1u : 0u);
        if (carried != 0) atomicAdd_block(&high[place(bin)], carried);
    }

    __device__ __forceinline__ unsigned long long at(int bin) const {
        return (unsigned long long)high[place(bin)] << 32 | low[place(bin)];
    }
};

// The bin in which a sum from the highest bin down reaches `wanted`, and the sum above it.
struct Reached {
    int bin;  // -1: nowhere
    unsigned long long wanted, above;
};

// For all threads. Where `share` < 1, wanted becomes that share of everything, rounded up.
__device__ __forceinline__ Reached reach(const Histogram& histogram, unsigned long long wanted,
                                         float share) {
    __shared__ Reached result;
    if (threadIdx.x == 0) result = {-1, wanted, 0};
    __syncthreads();  // all have added to the histogram as well
    const int lane = threadIdx.x;
    if (lane < warpSize) {
        const int bins = BINS / warpSize;
        unsigned long long own = 0;
        for (int i = 0; i < bins; i++) own += histogram.at(lane * bins + i);
        unsigned long long from = own;  // this lane's and all higher ones
        for (int lanes = 1; lanes < warpSize; lanes *= 2) {
            const unsigned long long next = __shfl_down_sync(0xffffffffu, from, lanes);
            if (lane + lanes < warpSize) from += next;
        }
        if (share < 1) {
            const unsigned long long all = __shfl_sync(0xffffffffu, from, 0);
            wanted = (unsigned long long)ceil((double)share * (double)all);
        }
        unsigned long long above = from - own;
        if (above < wanted && wanted <= from) {
            int bin = lane * bins + bins - 1;
            while (above + histogram.at(bin) < wanted) above += histogram.at(bin--);
            result = {bin, wanted, above};
        }
    }
    __syncthreads();
    return result;
}

// The largest value of x [n] from which on values weigh at least `wanted`, or `share` of all
// weights (1: wanted counts); -inf if there is none. weight(value) is 0 for what is left out and
// NaN. Three passes, a digit each: 11, 11 and 10 bits of ordered(value).
template <int N, typename Weight>
__device__ __forceinline__ float weighty(Histogram& histogram, const float* __restrict__ x, int n,
                                         unsigned long long wanted, float share, Weight weight) {
    unsigned found = 0;  // the digits so far
    int shift = 32;
    while (shift > 0) {
        const int bits = shift == 10 ? 10 : 11;
        const int above = shift;
        shift -= bits;
        histogram.clear();
        each_stretch<N>(x, n, [&](const float* values, int, int) {
            if (STRETCH > 8 && above < 32) {  // most are passed over by a loop that vectorises
                int matches = 0;
                for (int j = 0; j < STRETCH; j++) matches += ordered(values[j]) >> above == found;
                if (matches == 0) return;
            }
            UNROLL_ALL
            for (int j = 0; j < STRETCH; j++) {
                const unsigned order = ordered(values[j]);
                if (above < 32 && order >> above != found) continue;
                const unsigned long long w = weight(values[j]);
                if (w == 0) continue;
                histogram.add((int)(order >> shift & ((1u << bits) - 1)), w);
            }
        });
        const Reached reached = reach(histogram, wanted, share);
        if (reached.bin < 0) return -INFINITY;
        found = found << bits | (unsigned)reached.bin;
        wanted = reached.wanted - reached.above;
        share = 1;
        __syncthreads();  // the histogram and the result have been read
    }
    return from_ordered(found);
}

// A probability as an integer, so that sums are exact: what is below 2^-41 of the likeliest token's
// is nothing.
__device__ __forceinline__ unsigned long long fixed(float probability) {
    return (unsigned long long)rintf(probability * 1099511627776.0f);
}

// ------------------------------------------------------------------------------------- one row

// What sample does to one row.
template <int N>
__device__ __forceinline__ void sample_row(Histogram& histogram, int* token,
                                           float* log_probability,
                                           const float* __restrict__ x, int vocabulary,
                                           float temperature, int top_k, float top_p,
                                           unsigned long long key) {
    // Of the thread: the largest logit, its lowest place, and the sum of exp(logit - largest).
    float own_top = -INFINITY, sum = 0;
    int place = 0x7fffffff;
    each_stretch<N>(x, vocabulary, [&](const float* values, int base, int step) {
        float largest = -INFINITY;
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) largest = values[j] > largest ? values[j] : largest;
        if (largest > own_top) {
            if (own_top > -INFINITY) sum *= fast_exp(own_top - largest);
            own_top = largest;
            place = 0x7fffffff;
            UNROLL_ALL
            for (int j = 0; j < STRETCH; j++) {
                const int i = base + j / N * step + j % N;
                place = values[j] == largest && i < place ? i : place;
            }
        }
        const float from = own_top > -INFINITY ? own_top : 0.0f;
        float more = 0;
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) more += fast_exp(values[j] - from);
        sum += more;
    });
    const float top = block_max(own_top);
    sum = block_sum(own_top > -INFINITY ? sum * fast_exp(own_top - top) : sum);
    int choice = block_min(own_top == top ? place : 0x7fffffff);

    if (temperature != 0) {
        float cut = -INFINITY;  // tokens below it are out
        const bool numbers = top > -INFINITY && top < INFINITY;
        if (numbers && top_k > 0 && top_k < vocabulary) {
            // Each thread has a token at or above the least of their largest, so that so many
            // tokens are; what is below need not be counted.
            const float least = block_min(own_top);
            const float bound = top_k <= (int)blockDim.x ? least : -INFINITY;
            cut = weighty<N>(histogram, x, vocabulary, top_k, 1.0f,
                             [=](float value) { return value >= bound ? 1ull : 0ull; });
        }
        if (numbers && top_p < 1) {
            const float lowest = cut;
            cut = weighty<N>(histogram, x, vocabulary, 0, top_p, [=](float value) {
                return value >= lowest ? fixed(fast_exp((value - top) / temperature)) : 0ull;
            });
        }
        // No draw wins against that of the likeliest token whose logit is so far below it that the
        // most noise would not lift it there.
        const float likely = choice == 0x7fffffff ? NAN : 0.0f / temperature + noise(key, choice);
        float best = -INFINITY;
        choice = 0x7fffffff;
        each_stretch<N>(x, vocabulary, [&](const float* values, int base, int step) {
            UNROLL_ALL
            for (int j = 0; j < STRETCH; j++) {
                const int i = base + j / N * step + j % N;
                const float logit = (values[j] - top) / temperature;
                if (values[j] < cut || logit + MOST_NOISE < likely) continue;
                const float draw = logit + noise(key, i);
                if (draw > best) {
                    best = draw;
                    choice = i;
                }
            }
        });
        const float winner = block_max(best);
        choice = block_min(best < winner ? 0x7fffffff : choice);
    }
    if (threadIdx.x == 0) {
        const bool found = choice != 0x7fffffff && top > -INFINITY;
        *token = found ? choice : -1;
        *log_probability = found ? x[choice] - top - logf(sum) : NAN;
    }
}

// tokens [rows]: the chosen ids; log_probabilities [rows]: their natural log probability under the
// model (temperature 1, nothing cut). logits [rows, vocabulary] f32. Per row: temperature (0 =
// greedy, lowest id on ties), top_k (0 = all), top_p (1 = all), key (from seed and step).
// As transformers does: logits / temperature, then the k largest (ties with the k-th stay), then
// the smallest set of most likely tokens whose probability reaches top_p (ties stay). Both cuts
// are thresholds on the logit, found digit by digit: no sort. The draw is argmax(logit + Gumbel
// noise) over what is left.
// A row whose logits are all NaN or -inf gets token -1.
// PRECOND: one block per row (grid.x = rows), any block size. Packs of 16 bytes where vocabulary is
// a multiple of 4 and logits of 16, else element by element.
// Moves rows * vocabulary * 4 bytes per pass: 1 pass when greedy (maximum, its place and the sum of
// exponentials together, which rescales when a stretch brings a new maximum), 1 more drawing, 3 more
// for each cut (from L2 on a GPU), with STRETCH logits of a thread under way at once. Cuts by
// bisection over the bits of the logit, which these were before, took 32 passes each. Sums of
// probabilities are integers: in f32 atomics would add them in any order.
extern "C" __global__ void __launch_bounds__(1024)
    sample(int* tokens, float* log_probabilities, const float* __restrict__ logits,
           int vocabulary, const float* __restrict__ temperatures, const int* __restrict__ top_ks,
           const float* __restrict__ top_ps, const unsigned long long* __restrict__ keys) {
    __shared__ Histogram histogram;
    constexpr int N = PACK<float>;
    const int row = blockIdx.x;
    const float* x = logits + (long long)row * vocabulary;
    if (vocabulary % N == 0 && aligned(logits)) {
        sample_row<N>(histogram, tokens + row, log_probabilities + row, x, vocabulary,
                      temperatures[row], top_ks[row], top_ps[row], keys[row]);
    } else {
        sample_row<1>(histogram, tokens + row, log_probabilities + row, x, vocabulary,
                      temperatures[row], top_ks[row], top_ps[row], keys[row]);
    }
}
