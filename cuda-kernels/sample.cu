// The next token of each row (greedy or drawn, after penalties and cuts), and the log-probabilities
// of tokens.
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

// ---------------------------------------------------------------------------------- a row as it is

// Of a row: the largest value, its lowest place (0x7fffffff: nowhere), and the natural log of the
// sum of exp(value - top). Of the thread alone: its own largest value.
struct Overview {
    float top, log_sum, own_top;
    int place;

    // Rounded twice and in this order wherever it is used, so that equal logits get equal bits.
    __device__ __forceinline__ float log_probability(float logit) const {
        return __fsub_rn(__fsub_rn(logit, top), log_sum);
    }
};

// What a part of a row has at most, for likeliest: a part is a thread's share, or, in the solo
// build, a stretch (every BINSth, if there are more).
constexpr bool PARTS_ARE_STRETCHES = STRETCH > 8;

__device__ __forceinline__ int parts_of(int vocabulary) {
    if (!PARTS_ARE_STRETCHES) return blockDim.x;
    const int stretches = (vocabulary + STRETCH - 1) / STRETCH;
    return stretches < BINS ? stretches : BINS;
}

// parts [parts_of(vocabulary)] gets the largest value of each, unless it is null.
template <int N>
__device__ __forceinline__ Overview overview(const float* x, int vocabulary, float* parts) {
    // Of the thread: the largest logit, its lowest place, and the sum of exp(logit - largest).
    float own_top = -INFINITY, sum = 0;
    int place = 0x7fffffff;
    each_stretch<N>(x, vocabulary, [&](const float* values, int base, int step) {
        float largest = -INFINITY;
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) largest = values[j] > largest ? values[j] : largest;
        if (PARTS_ARE_STRETCHES && parts != nullptr) {
            float& part = parts[base / STRETCH % BINS];
            part = base < BINS * STRETCH || largest > part ? largest : part;
        }
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
    if (!PARTS_ARE_STRETCHES && parts != nullptr) parts[threadIdx.x] = own_top;
    const float top = block_max(own_top);
    sum = block_sum(own_top > -INFINITY ? sum * fast_exp(own_top - top) : sum);
    return {top, logf(sum), own_top, block_min(own_top == top ? place : 0x7fffffff)};
}

// Values and ids in shared memory: those that may be among the likeliest. Before, the parts' largest
// values.
constexpr int MOST_LIKELY = BINS;

struct Likely {
    float values[MOST_LIKELY];
    int ids[MOST_LIKELY];
    int count;
};

// Adds to `likely` what of x [n] is at least `from`, or above it; `count` counts what finds no room
// too. Ends with a barrier.
template <int N>
__device__ __forceinline__ void collect(Likely& likely, const float* x, int n, float from,
                                        bool above) {
    if (threadIdx.x == 0) likely.count = 0;
    __syncthreads();
    each_stretch<N>(x, n, [&](const float* values, int base, int step) {
        if (PARTS_ARE_STRETCHES) {  // most are passed over by a loop that vectorises
            int found = 0;
            for (int j = 0; j < STRETCH; j++) found += values[j] >= from;
            if (found == 0) return;
        }
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) {
            const int i = base + j / N * step + j % N;
            if (!(above ? values[j] > from : values[j] >= from) || i >= n) continue;
            const int at = atomicAdd_block(&likely.count, 1);
            if (at >= MOST_LIKELY) continue;
            likely.values[at] = values[j];
            likely.ids[at] = i;
        }
    });
    __syncthreads();
}

// The `count` largest of x [n], largest first, the lowest id first among equals: ids and
// log-probabilities. NaN is never among them; ids are -1 where there are not so many. likely.values
// holds what overview says of the parts. One pass: as many parts as are asked for have a value at or
// above the count-th of their largest, so what is below is none of them. Where more is at or above
// it than finds room, five passes, and one for each of the equals at the end.
// PRECOND: count <= MOST_LIKELY.
template <int N>
__device__ __forceinline__ void likeliest(Histogram& histogram, Likely& likely, int* ids,
                                          float* log_probabilities, const float* x, int n,
                                          int count, const Overview& row) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        ids[i] = -1;
        log_probabilities[i] = -INFINITY;
    }
    __syncthreads();
    const int all = parts_of(n);
    float own = -INFINITY;
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
        const float part = likely.values[i];
        int reaching = 0;
        for (int j = 0; j < all; j++) reaching += likely.values[j] >= part;
        if (reaching >= count && part > own) own = part;
    }
    const float bound = block_max(own);
    collect<N>(likely, x, n, bound, false);
    if (likely.count > MOST_LIKELY) {
        const float least = weighty<N>(histogram, x, n, count, 1.0f, [=](float value) {
            return value >= bound ? 1ull : 0ull;
        });
        collect<N>(likely, x, n, least, true);
        int last = -1;
        for (int at = likely.count; at < count; at++) {
            int next = 0x7fffffff;
            for (int i = threadIdx.x; i < n; i += blockDim.x) {
                next = x[i] == least && i > last && i < next ? i : next;
            }
            last = block_min(next);
            if (last == 0x7fffffff) break;
            if (threadIdx.x == 0) {
                likely.values[at] = least;
                likely.ids[at] = last;
                likely.count = at + 1;
            }
        }
        __syncthreads();
    }
    const int kept = likely.count;
    for (int i = threadIdx.x; i < kept; i += blockDim.x) {
        const float value = likely.values[i];
        const int id = likely.ids[i];
        int rank = 0;
        for (int j = 0; j < kept; j++) {
            const float other = likely.values[j];
            rank += other > value || (other == value && likely.ids[j] < id);
        }
        if (rank < count) {
            ids[rank] = id;
            log_probabilities[rank] = row.log_probability(value);
        }
    }
}

// --------------------------------------------------------------------------- a row as it is wanted

// A token whose logit a request changes.
constexpr int IN_PROMPT = 1, IS_STOP = 2, IS_ALLOWED = 4;

struct TokenEntry {
    int id;
    int is;     // IN_PROMPT, IS_STOP, IS_ALLOWED
    int count;  // times generated
    float bias;
    float logit;  // the model's, while the row has another
};

// The tokens of a request, each once; the kernel adds those that it chooses where they count.
struct TokenTable {
    int used;
    int pad[3];

    __device__ __forceinline__ TokenEntry* entries() {
        return reinterpret_cast<TokenEntry*>(this + 1);
    }
};

// What is done for one row, in the layout in which dev.halter.generation.Sampler writes it.
constexpr int STOPS_ARE_EARLY = 1, ONLY_ALLOWED = 2, COUNTS = 4;

struct Draw {
    TokenTable* table;  // null: logits are taken as they are
    unsigned long long key;
    int row;    // of logits
    int given;  // the token to tell of; -1: choose one
    int out;    // where its results begin
    int top;    // how many of the likeliest tokens to tell
    int named;  // how many tokens are named
    int names;  // where their ids begin
    int how;    // STOPS_ARE_EARLY, ONLY_ALLOWED, COUNTS
    int top_k;
    float temperature, top_p, min_p;
    float repetition, presence, frequency;
};

// Bias, then penalties: RepetitionPenaltyLogitsProcessor of transformers, and OpenAI's two.
__device__ __forceinline__ float changed(const TokenEntry& entry, const Draw& draw) {
    if (((draw.how & ONLY_ALLOWED) != 0 && (entry.is & IS_ALLOWED) == 0) ||
        ((draw.how & STOPS_ARE_EARLY) != 0 && (entry.is & IS_STOP) != 0)) {
        return -INFINITY;
    }
    // Each step rounds, as it does there: no fused multiply-add.
    float logit = __fadd_rn(entry.logit, entry.bias);
    if ((entry.is & IN_PROMPT) != 0 || entry.count > 0) {
        logit = logit < 0 ? __fmul_rn(logit, draw.repetition) : __fdiv_rn(logit, draw.repetition);
    }
    logit = __fsub_rn(logit, __fmul_rn(draw.frequency, (float)entry.count));
    return entry.count > 0 ? __fsub_rn(logit, draw.presence) : logit;
}

// Changes the row in place; the model's logits go to the table. Ends with a barrier.
__device__ __forceinline__ void change(float* x, int vocabulary, TokenTable* table,
                                       const Draw& draw) {
    const int used = table->used;
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
        table->entries()[i].logit = x[table->entries()[i].id];
    }
    __syncthreads();
    if ((draw.how & ONLY_ALLOWED) != 0) {
        for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) x[i] = -INFINITY;
        __syncthreads();
    }
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
        x[table->entries()[i].id] = changed(table->entries()[i], draw);
    }
    __syncthreads();
}

// The model's logit of the chosen token of a changed row; counts it.
__device__ __forceinline__ float take(TokenTable* table, const float* x, int choice,
                                      const Draw& draw) {
    const int used = table->used;
    int at = -1;
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
        if (table->entries()[i].id == choice) at = i;
    }
    at = block_max(at);
    const float logit = at < 0 ? x[choice] : table->entries()[at].logit;
    if (threadIdx.x == 0 && (draw.how & COUNTS) != 0) {
        if (at < 0) {
            table->entries()[used] = {choice, 0, 1, 0, 0};
            table->used = used + 1;
        } else {
            table->entries()[at].count++;
        }
    }
    return logit;
}

// A draw from the row; 0x7fffffff if there is none.
template <int N>
__device__ __forceinline__ int drawn(Histogram& histogram, const float* x, int vocabulary,
                                     const Overview& row, const Draw& draw) {
    const float top = row.top, temperature = draw.temperature;
    float cut = -INFINITY;  // tokens below it are out
    const bool numbers = top > -INFINITY && top < INFINITY;
    if (numbers && draw.min_p > 0) cut = top + temperature * logf(draw.min_p);
    if (numbers && draw.top_k > 0 && draw.top_k < vocabulary) {
        // Each thread has a token at or above the least of their largest, so that so many
        // tokens are; what is below need not be counted.
        const float least = block_min(row.own_top);
        const float bound = draw.top_k <= (int)blockDim.x ? least : -INFINITY;
        const float kth = weighty<N>(histogram, x, vocabulary, draw.top_k, 1.0f, [=](float value) {
            return value >= bound ? 1ull : 0ull;
        });
        cut = kth > cut ? kth : cut;
    }
    if (numbers && draw.top_p < 1) {
        const float lowest = cut;
        cut = weighty<N>(histogram, x, vocabulary, 0, draw.top_p, [=](float value) {
            return value >= lowest ? fixed(fast_exp((value - top) / temperature)) : 0ull;
        });
    }
    // No draw wins against that of the likeliest token whose logit is so far below it that the
    // most noise would not lift it there.
    const unsigned long long key = draw.key;
    const float likely =
        row.place == 0x7fffffff ? NAN : 0.0f / temperature + noise(key, row.place);
    float best = -INFINITY;
    int choice = 0x7fffffff;
    each_stretch<N>(x, vocabulary, [&](const float* values, int base, int step) {
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) {
            const int i = base + j / N * step + j % N;
            const float logit = (values[j] - top) / temperature;
            if (values[j] < cut || logit + MOST_NOISE < likely) continue;
            const float attempt = logit + noise(key, i);
            if (attempt > best) {
                best = attempt;
                choice = i;
            }
        }
    });
    const float winner = block_max(best);
    return block_min(best < winner ? 0x7fffffff : choice);
}

// What sample does for one row.
template <int N>
__device__ __forceinline__ void sample_row(Histogram& histogram, Likely& likely, int* out,
                                           const int* names, float* x, int vocabulary,
                                           const Draw& draw) {
    float* told = reinterpret_cast<float*>(out) + 1;  // log-probabilities [1 + top + named]
    const Overview model = overview<N>(x, vocabulary, draw.top > 0 ? likely.values : nullptr);
    if (draw.top > 0) {
        likeliest<N>(histogram, likely, out + 2 + draw.top + draw.named, told + 1, x, vocabulary,
                     draw.top, model);
    }
    for (int i = threadIdx.x; i < draw.named; i += blockDim.x) {
        told[1 + draw.top + i] = model.log_probability(x[names[i]]);
    }

    Overview row = model;
    int choice = draw.given;
    if (choice < 0) {
        if (draw.table != nullptr) {
            __syncthreads();  // logits have been read
            change(x, vocabulary, draw.table, draw);
            row = overview<N>(x, vocabulary, nullptr);
        }
        choice = draw.temperature == 0 ? row.place : drawn<N>(histogram, x, vocabulary, row, draw);
    }
    const bool found = choice != 0x7fffffff && row.top > -INFINITY;
    const bool isChanged = draw.given < 0 && draw.table != nullptr;
    float logit = NAN;
    if (found) logit = isChanged ? take(draw.table, x, choice, draw) : x[choice];
    if (threadIdx.x == 0) {
        const bool isForbidden = row.top == -INFINITY && model.top > -INFINITY;
        out[0] = found ? choice : isForbidden ? -2 : -1;
        told[0] = model.log_probability(logit);
    }
}

// For each draw (see Draw), from draw.out on:
//   out[0]: the token that is chosen or given; -1 if the row's logits are all NaN or -inf, -2 if
//     they are not, but its request forbids all tokens
//   out[1] f32: its natural log-probability under the model (temperature 1, nothing changed or
//     cut), then those of the draw.top likeliest tokens, then those of the draw.named named ones
//   the ids [draw.top] of the likeliest, largest first, of equals the lower id first; -1 where
//     there are not so many numbers
// draws [gridDim.x], then the ids that they name. logits [rows, vocabulary] f32, of which rows with a
// table are changed: to be read no more.
//
// As vLLM does, which for each of them is as transformers does: tokens that are not allowed and
// stop tokens that are too early become -inf; bias is added; penalties (see changed); temperature
// (0 = greedy, lowest id on ties); then what is below min_p of the likeliest goes (0 = nothing), then
// all but the top_k largest (0 = all; ties with the k-th stay), then all but the smallest set of most
// likely tokens whose probability reaches top_p (1 = all; ties stay). Cuts are thresholds on the
// logit, found digit by digit: no sort. The draw is argmax(logit + Gumbel noise) over what is left.
// PRECOND: one block per draw (grid.x), any block size; no two of one row. A table has room for a
// token more where they count. Packs of 16 bytes where vocabulary is a multiple of 4 and logits of
// 16, else element by element.
//
// Moves, for each draw, vocabulary * 4 bytes per pass: 1 pass when greedy (maximum, its place and
// the sum of exponentials together, which rescales when a stretch brings a new maximum), 1 more
// drawing, 3 more for each of top_k and top_p; 1 more for the likeliest, 1 more for a changed row, and
// its writing where tokens are allowed (all but the first from L2 on a GPU), with STRETCH logits of
// a thread under way at once; 2 * 20 bytes and a logit's read and write for each entry of a table,
// which has the distinct tokens of prompt and generation at most: a table [vocabulary] of counts
// would be a pass more, a mask of what is allowed another. Cuts by bisection over the bits of the
// logit, which these were before, took 32 passes each. Sums of probabilities are integers: in f32
// atomics would add them in any order.
extern "C" __global__ void __launch_bounds__(1024)
    sample(int* out, const Draw* __restrict__ draws, float* logits, int vocabulary) {
    __shared__ Histogram histogram;
    __shared__ Likely likely;
    constexpr int N = PACK<float>;
    const Draw draw = draws[blockIdx.x];
    float* x = logits + (long long)draw.row * vocabulary;
    const int* names = reinterpret_cast<const int*>(draws + gridDim.x) + draw.names;
    if (vocabulary % N == 0 && aligned(logits)) {
        sample_row<N>(histogram, likely, out + draw.out, names, x, vocabulary, draw);
    } else {
        sample_row<1>(histogram, likely, out + draw.out, names, x, vocabulary, draw);
    }
}
