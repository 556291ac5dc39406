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

// The largest of a stretch, NaN passed over: by columns first, since g++ does not vectorise one maximum.
__device__ __forceinline__ float largest_of(const float* values) {
    constexpr int COLUMNS = STRETCH < 64 ? 1 : 64;
    float columns[COLUMNS];
    UNROLL_ALL
    for (int c = 0; c < COLUMNS; c++) columns[c] = -INFINITY;
    UNROLL_ALL
    for (int j = 0; j < STRETCH; j += COLUMNS) {
        UNROLL_ALL
        for (int c = 0; c < COLUMNS; c++) {
            columns[c] = values[j + c] > columns[c] ? values[j + c] : columns[c];
        }
    }
    UNROLL_ALL
    for (int half = COLUMNS / 2; half > 0; half /= 2) {
        UNROLL_ALL
        for (int c = 0; c < half; c++) {
            columns[c] = columns[c + half] > columns[c] ? columns[c + half] : columns[c];
        }
    }
    return columns[0];
}

// ------------------------------------------------------------------------------ weights in bins

// What lies in each bin, as 64-bit integers, whose sums no order changes, in two words with the carry
// between them.
constexpr int BINS = 2048;

struct Histogram {
    unsigned low[BINS], high[BINS];

    // Ends with a barrier.
    __device__ __forceinline__ void clear() {
        for (int i = threadIdx.x; i < BINS; i += blockDim.x) low[i] = high[i] = 0;
        __syncthreads();
    }

    __device__ __forceinline__ void add(int bin, unsigned long long weight) {
        const unsigned word = (unsigned)weight;
        const unsigned before = atomicAdd_block(&low[bin], word);
        const unsigned carried = (unsigned)(weight >> 32) + (before + word < word ? 1u : 0u);
        if (carried != 0) atomicAdd_block(&high[bin], carried);
    }

    __device__ __forceinline__ unsigned long long at(int bin) const {
        return (unsigned long long)high[bin] << 32 | low[bin];
    }
};

// The bin in which a sum from bin 0 up reaches `wanted`, the sum before it, and that of all bins.
struct Reached {
    int bin;  // -1: nowhere
    unsigned long long wanted, before, all;
};

__device__ __forceinline__ unsigned long long share_of(float share, unsigned long long all) {
    return (unsigned long long)ceil((double)share * (double)all);
}

// For all threads; at(bin) is what lies in one of BINS. Where `share` < 1, wanted becomes that share of
// everything, rounded up.
template <typename At>
__device__ __forceinline__ Reached reach(unsigned long long wanted, float share, At at) {
    __shared__ Reached result;
    __shared__ unsigned long long of_warp[32];
    __syncthreads();  // all have added, and have read an earlier result
    const int each = (BINS + blockDim.x - 1) / blockDim.x;
    const int first = threadIdx.x * each;
    const int end = first + each < BINS ? first + each : BINS;
    unsigned long long own = 0;
    for (int i = first; i < end; i++) own += at(i);
    unsigned long long to = own;  // this thread's and all lower ones of its warp
    const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
    for (int lanes = 1; lanes < warpSize; lanes *= 2) {
        const unsigned long long more = __shfl_up_sync(0xffffffffu, to, lanes);
        if (lane >= lanes) to += more;
    }
    if (lane == warpSize - 1) of_warp[warp] = to;
    if (threadIdx.x == 0) result.bin = -1;
    __syncthreads();
    unsigned long long all = 0;
    for (int i = 0; i < (int)blockDim.x / warpSize; i++) {
        if (i == warp) to += all;
        all += of_warp[i];
    }
    if (share < 1) wanted = share_of(share, all);
    unsigned long long before = to - own;
    if (before < wanted && wanted <= to) {
        int bin = first;
        while (before + at(bin) < wanted) before += at(bin++);
        result = {bin, wanted, before, all};
    }
    __syncthreads();
    return result.bin < 0 ? Reached{-1, wanted, all, all} : result;
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
        // From the highest digit down.
        const Reached reached =
            reach(wanted, share, [&](int bin) { return histogram.at(BINS - 1 - bin); });
        if (reached.bin < 0) return -INFINITY;
        found = found << bits | (unsigned)(BINS - 1 - reached.bin);
        wanted = reached.wanted - reached.before;
        share = 1;
        __syncthreads();  // the histogram has been read
    }
    return from_ordered(found);
}

// A probability as an integer, so that sums are exact: what is below 2^-41 of the likeliest token's
// is nothing.
__device__ __forceinline__ unsigned long long fixed(float probability) {
    return (unsigned long long)rintf(probability * 1099511627776.0f);
}

// ---------------------------------------------------------------------------------- a row in parts

// A row is cut in segments of so many logits, whatever the launch and the batch, and each block of a
// row works on some: sums of floats are made within segments and then over them, so how many blocks
// share a row changes no bit.
constexpr int SEGMENT = 4096;

__device__ __forceinline__ int segments_of(int vocabulary) {
    return (vocabulary + SEGMENT - 1) / SEGMENT;
}

// The segments and the logits of a row that a block of a grid (rows, parts) works on.
struct Share {
    int segment, segments, begin, end;

    __device__ __forceinline__ explicit Share(int vocabulary) {
        const int all = segments_of(vocabulary);
        const int each = (all + gridDim.y - 1) / gridDim.y;
        segment = blockIdx.y * each;
        segments = segment + each < all ? each : all - segment;
        begin = segment * SEGMENT;
        end = begin + segments * SEGMENT < vocabulary ? begin + segments * SEGMENT : vocabulary;
    }
};

// Of a segment: the largest value, the sum of exp(value - top), and the lowest place of the largest
// in the row (0x7fffffff: nowhere). For sample_draw: of a block, the best draw and its token.
struct SegmentView {
    float top, sum;
    int place;
};

// Of a row: the largest value, its lowest place, and the natural log of the sum of exp(value - top).
struct Overview {
    float top, log_sum;
    int place;

    // Rounded twice and in this order wherever it is used, so that equal logits get equal bits.
    __device__ __forceinline__ float log_probability(float logit) const {
        return __fsub_rn(__fsub_rn(logit, top), log_sum);
    }

    __device__ __forceinline__ bool is_finite() const {
        return top > -INFINITY && top < INFINITY;
    }
};

// For all threads: of the n logits at x, of which the first has place `begin` in its row.
template <int N>
__device__ __forceinline__ SegmentView view(const float* x, int begin, int n) {
    // Of the thread: the largest logit, its lowest place, and the sum of exp(logit - largest).
    float own_top = -INFINITY, sum = 0;
    int place = 0x7fffffff;
    each_stretch<N>(x, n, [&](const float* values, int base, int step) {
        const float largest = largest_of(values);
        if (largest > own_top) {
            if (own_top > -INFINITY) sum *= fast_exp(own_top - largest);
            own_top = largest;
            place = 0x7fffffff;
            UNROLL_ALL
            for (int j = 0; j < STRETCH; j++) {
                const int i = begin + base + j / N * step + j % N;
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
    return {top, sum, block_min(own_top == top ? place : 0x7fffffff)};
}

template <int N>
__device__ __forceinline__ void view_segments(SegmentView* views, const float* x,
                                              const Share& share) {
    for (int i = 0; i < share.segments; i++) {
        const int begin = share.begin + i * SEGMENT;
        const int n = share.end - begin < SEGMENT ? share.end - begin : SEGMENT;
        const SegmentView of = view<N>(x + begin, begin, n);
        if (threadIdx.x == 0) views[share.segment + i] = of;
    }
}

// For all threads: of the row whose segments have these views.
__device__ __forceinline__ Overview overview(const SegmentView* views, int segments) {
    float own_top = -INFINITY;
    for (int i = threadIdx.x; i < segments; i += blockDim.x) {
        own_top = views[i].top > own_top ? views[i].top : own_top;
    }
    const float top = block_max(own_top);
    float sum = 0;
    int place = 0x7fffffff;
    for (int i = threadIdx.x; i < segments; i += blockDim.x) {
        const SegmentView of = views[i];
        sum += of.top > -INFINITY ? of.sum * fast_exp(of.top - top) : of.sum;
        place = of.top == top && of.place < place ? of.place : place;
    }
    sum = block_sum(sum);
    return {top, logf(sum), block_min(place)};
}

// Whether this block is the last of its row to come here; it sees what the others wrote before. The
// count is 0 again when it returns: for the next launch, of a replayed graph too.
__device__ __forceinline__ bool is_last(int* arrived) {
    __shared__ bool last;
    __threadfence();  // before the count, what it stands for
    __syncthreads();
    if (gridDim.y == 1) return true;
    if (threadIdx.x == 0) {
        last = atomicAdd(arrived, 1) == (int)gridDim.y - 1;
        if (last) *arrived = 0;
    }
    __syncthreads();
    if (last) __threadfence();
    return last;
}

// ----------------------------------------------------------------------------------- the likeliest

// Logits of a part of a row, whose largest is kept for likeliest, and the lanes that read it.
constexpr int PART = 64;

__device__ __forceinline__ int lanes_of_part() {
    return warpSize < 8 ? warpSize : 8;
}

// tops [(vocabulary + PART - 1) / PART] gets the largest logit of each part of a share.
__device__ __forceinline__ void view_parts(float* tops, const float* x, const Share& share) {
    const int lanes = lanes_of_part();
    const int at_once = blockDim.x / lanes;
    const int lane = threadIdx.x % lanes;
    // All lanes make as many rounds.
    for (int begin = share.begin; begin < share.end; begin += at_once * PART) {
        const int from = begin + (int)threadIdx.x / lanes * PART;
        float largest = -INFINITY;
        for (int i = lane; i < PART; i += lanes) {
            if (from + i < share.end && x[from + i] > largest) largest = x[from + i];
        }
        for (int other = lanes / 2; other > 0; other /= 2) {
            const float theirs = __shfl_xor_sync(0xffffffffu, largest, other);
            largest = theirs > largest ? theirs : largest;
        }
        if (lane == 0 && from < share.end) tops[from / PART] = largest;
    }
}

// Values and ids in shared memory: those that may be among the likeliest.
constexpr int MOST_LIKELY = 2048;

struct Likely {
    float values[MOST_LIKELY];
    int ids[MOST_LIKELY];
    int count;
};

// Adds to `likely` what of x [n] is at least `from`, or above it; `count` counts what finds no room
// as well. Reads the parts alone whose tops say that there is any. For all threads.
__device__ __forceinline__ void collect(Likely& likely, const float* tops, const float* x, int n,
                                        float from, bool above) {
    __syncthreads();
    if (threadIdx.x == 0) likely.count = 0;
    __syncthreads();
    const int lanes = lanes_of_part();
    for (int at = threadIdx.x / lanes * PART; at < n; at += (int)blockDim.x / lanes * PART) {
        if (!(tops[at / PART] >= from)) continue;
        for (int i = at + threadIdx.x % lanes; i < at + PART && i < n; i += lanes) {
            const float value = x[i];
            if (!(above ? value > from : value >= from)) continue;
            const int place = atomicAdd_block(&likely.count, 1);
            if (place >= MOST_LIKELY) continue;
            likely.values[place] = value;
            likely.ids[place] = i;
        }
    }
    __syncthreads();
}

// The `count` largest of x [n], largest first, the lowest id first among equals: ids and
// log-probabilities. NaN is never among them; ids are -1 where there are not so many. tops: what
// view_parts made. As many parts as are asked for have a logit at or above the count-th of their
// largest, so what is below is none of them, and about as many parts are read again. Where more is at
// or above it than finds room, four passes over the row, and one for each of the equals at the end.
// PRECOND: count <= MOST_LIKELY.
template <int N>
__device__ __forceinline__ void likeliest(Histogram& histogram, Likely& likely, int* ids,
                                          float* log_probabilities, const float* tops,
                                          const float* x, int n, int count, const Overview& row) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        ids[i] = -1;
        log_probabilities[i] = -INFINITY;
    }
    __syncthreads();
    const float bound = weighty<1>(histogram, tops, (n + PART - 1) / PART, count, 1.0f,
                                   [](float value) { return value > -INFINITY ? 1ull : 0ull; });
    collect(likely, tops, x, n, bound, false);
    if (likely.count > MOST_LIKELY) {
        const float least = weighty<N>(histogram, x, n, count, 1.0f, [=](float value) {
            return value >= bound ? 1ull : 0ull;
        });
        collect(likely, tops, x, n, least, true);
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
    int cuts;   // which Cuts are its own, where it has any
    int parts;  // which tops of parts are its own, where it tells the likeliest
    int top;    // how many of the likeliest tokens to tell
    int named;  // how many tokens are named
    int names;  // where their ids begin
    int how;    // STOPS_ARE_EARLY, ONLY_ALLOWED, COUNTS
    int top_k;
    float temperature, top_p, min_p;
    float repetition, presence, frequency;

    __device__ __forceinline__ bool chooses() const { return given < 0; }

    __device__ __forceinline__ bool draws() const { return chooses() && temperature > 0; }

    __device__ __forceinline__ bool cuts_by_rank(int vocabulary) const {
        return top_k > 0 && top_k < vocabulary;
    }

    // Whether it has a cut whose place is to be found.
    __device__ __forceinline__ bool searches(int vocabulary) const {
        return draws() && (cuts_by_rank(vocabulary) || top_p < 1);
    }
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

// What the launches of a step hand on for a draw.
struct Progress {
    int arrived;          // blocks that are through with a launch that is under way
    Overview model, row;  // of the model's logits, and of what a request made of them
};

constexpr int PROGRESS_BYTES = 28, VIEW_BYTES = 12;
static_assert(sizeof(Progress) == PROGRESS_BYTES && sizeof(SegmentView) == VIEW_BYTES,
              "dev.halter.generation.Sampler allocates them");

// Changes a share of the row in place; the model's logits go to the table. Ends with a barrier.
__device__ __forceinline__ void change(float* x, const Share& share, TokenTable* table,
                                       const Draw& draw) {
    const int used = table->used;
    TokenEntry* entries = table->entries();
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
        const int id = entries[i].id;
        if (share.begin <= id && id < share.end) entries[i].logit = x[id];
    }
    __syncthreads();
    if ((draw.how & ONLY_ALLOWED) != 0) {
        for (int i = share.begin + threadIdx.x; i < share.end; i += blockDim.x) x[i] = -INFINITY;
        __syncthreads();
    }
    for (int i = threadIdx.x; i < used; i += blockDim.x) {
        const int id = entries[i].id;
        if (share.begin <= id && id < share.end) x[id] = changed(entries[i], draw);
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

// Tells of a token of the row, 0x7fffffff if there is none.
__device__ __forceinline__ void tell(int* out, const float* x, const Overview& model,
                                     const Overview& row, int choice, const Draw& draw) {
    const bool found = choice != 0x7fffffff && row.top > -INFINITY;
    const bool is_changed = draw.chooses() && draw.table != nullptr;
    float logit = NAN;
    if (found) logit = is_changed ? take(draw.table, x, choice, draw) : x[choice];
    if (threadIdx.x == 0) {
        const bool is_forbidden = row.top == -INFINITY && model.top > -INFINITY;
        out[0] = found ? choice : is_forbidden ? -2 : -1;
        reinterpret_cast<float*>(out)[1] = model.log_probability(logit);
    }
}

// -------------------------------------------------------------------------------------------- cuts

// Candidates of a draw: values in the bins in which its cuts are.
constexpr int CANDIDATES = 4096;

// Of a draw that has cuts to be found. Bins are of what a logit is below the largest, from 2^-7 to
// 2^9 in steps of 2^(1/128) or less: its exponent and 7 bits. Which bin a logit is in never rises
// with it, so all in lower bins are larger.
struct Cuts {
    unsigned long long weights[BINS];  // of tokens at or above min_p, where there is a top_p
    unsigned counts[BINS];             // of tokens, where there is a top_k
    // The bins in which the cut by top_k lies (-1: none), and of those [first, last] that by top_p;
    // all in bins before `first` are kept, as far as min_p lets them.
    int kth, first, last;
    int candidates;                     // how many, if there were room
    unsigned long long wanted_count;    // tokens that top_k keeps of bin kth
    unsigned long long above_kth;       // what is before bin kth weighs; all of it if that is -1
    unsigned long long above_first;     // what is before bin first weighs
    float values[CANDIDATES];
    int ids[CANDIDATES];
};

constexpr int CUTS_BYTES = 57384;
static_assert(sizeof(Cuts) == CUTS_BYTES, "dev.halter.generation.Sampler allocates them");

__device__ __forceinline__ int bin_of(float value, float top) {
    constexpr int FIRST = (127 - 7) << 7;
    const float below = fabsf(top - value);  // of zeros the difference may be -0
    const int place = (int)(__float_as_uint(below) >> 16) - FIRST;
    return place < 0 ? 0 : place < BINS ? place : BINS - 1;
}

// Tokens below it are out by min_p.
__device__ __forceinline__ float lowest(const Overview& row, const Draw& draw) {
    return row.is_finite() && draw.min_p > 0 ? row.top + draw.temperature * logf(draw.min_p)
                                             : -INFINITY;
}

__device__ __forceinline__ unsigned long long weight_of(float value, float top,
                                                        float temperature) {
    return fixed(fast_exp((value - top) / temperature));
}

// For sample_cuts, by all blocks of a row together.
__device__ __forceinline__ void clear_bins(Cuts& cuts) {
    const int first = blockIdx.y * blockDim.x + threadIdx.x;
    for (int i = first; i < BINS; i += blockDim.x * gridDim.y) {
        cuts.weights[i] = 0;
        cuts.counts[i] = 0;
    }
}

// Adds the n values at x to the bins of a block.
template <int N>
__device__ __forceinline__ void count_values(Histogram& weights, unsigned* counts, const float* x,
                                             int n, const Overview& row, float least,
                                             const Draw& draw, bool by_rank) {
    each_stretch<N>(x, n, [&](const float* values, int, int) {
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) {
            const float value = values[j];
            if (!(value > -INFINITY && value <= row.top)) continue;
            const int bin = bin_of(value, row.top);
            if (by_rank) atomicAdd_block(&counts[bin], 1u);
            if (draw.top_p < 1 && value >= least) {
                const unsigned long long w = weight_of(value, row.top, draw.temperature);
                if (w != 0) weights.add(bin, w);
            }
        }
    });
}

// Where the cuts lie, by a row's bins. For all threads of a row's last block.
__device__ __forceinline__ void find_bins(Cuts& cuts, const Draw& draw, bool by_rank) {
    const auto weight = [&](int bin) { return cuts.weights[bin]; };
    Reached kth{-1, 0, 0, 0};
    if (by_rank) {
        kth = reach(draw.top_k, 1.0f, [&](int bin) { return (unsigned long long)cuts.counts[bin]; });
    }
    int first = kth.bin, last = kth.bin;
    unsigned long long above_kth = 0, above_first = 0;
    if (draw.top_p < 1) {
        // What top_k leaves weighs no less than what is before its bin, and no more than that and it.
        unsigned long long own = 0;
        for (int i = threadIdx.x; i < (kth.bin < 0 ? BINS : kth.bin); i += blockDim.x) {
            own += cuts.weights[i];
        }
        above_kth = block_reduce(own, Sum());
        const unsigned long long to = above_kth + (kth.bin < 0 ? 0 : cuts.weights[kth.bin]);
        const Reached from = reach(share_of(draw.top_p, above_kth), 1.0f, weight);
        first = from.bin < 0 ? 0 : from.bin;
        above_first = from.bin < 0 ? 0 : from.before;
        last = reach(share_of(draw.top_p, to), 1.0f, weight).bin;
    }
    if (threadIdx.x == 0) {
        cuts.kth = kth.bin;
        cuts.first = first < 0 ? BINS : first;
        cuts.last = last;
        cuts.wanted_count = draw.top_k - kth.before;
        cuts.above_kth = above_kth;
        cuts.above_first = above_first;
        cuts.candidates = 0;
    }
}

// Values of which a block's threads compare each with all others.
constexpr int RANKED = STRETCH > 8 ? 32 : 512;

// As weighty, of values in shared memory.
template <typename Weight>
__device__ __forceinline__ float largest_reaching(Histogram& histogram, unsigned long long* weights,
                                                  const float* values, int n,
                                                  unsigned long long wanted, Weight weight) {
    if (n > RANKED) return weighty<1>(histogram, values, n, wanted, 1.0f, weight);
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) weights[i] = weight(values[i]);
    __syncthreads();
    float best = -INFINITY;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        if (weights[i] == 0) continue;
        const float value = values[i];
        unsigned long long sum = 0;
        for (int j = 0; j < n; j++) sum += values[j] >= value ? weights[j] : 0;
        if (sum >= wanted && value > best) best = value;
    }
    return block_max(best);
}

// What the search among a draw's candidates needs of shared memory.
struct Search {
    Histogram histogram;
    unsigned long long weights[RANKED];
    float values[CANDIDATES];
};

// The exact cut of a draw, by its candidates, which all have room.
__device__ __forceinline__ float cut_among(Search& search, const Cuts& cuts, const Overview& row,
                                           float least, const Draw& draw) {
    const int n = cuts.candidates;
    for (int i = threadIdx.x; i < n; i += blockDim.x) search.values[i] = cuts.values[i];
    __syncthreads();
    const float top = row.top, temperature = draw.temperature;
    const int kth_bin = cuts.kth, first = cuts.first, last = cuts.last;
    float cut = least;
    unsigned long long all = cuts.above_kth;
    if (kth_bin >= 0) {
        const float kth = largest_reaching(
            search.histogram, search.weights, search.values, n, cuts.wanted_count,
            [=](float value) { return bin_of(value, top) == kth_bin ? 1ull : 0ull; });
        cut = kth > cut ? kth : cut;
    }
    if (draw.top_p < 1) {
        const float from = cut;
        if (kth_bin >= 0) {
            unsigned long long own = 0;
            for (int i = threadIdx.x; i < n; i += blockDim.x) {
                const float value = search.values[i];
                if (value >= from && bin_of(value, top) == kth_bin) {
                    own += weight_of(value, top, temperature);
                }
            }
            all += block_reduce(own, Sum());
        }
        cut = largest_reaching(
            search.histogram, search.weights, search.values, n,
            share_of(draw.top_p, all) - cuts.above_first, [=](float value) {
                const int bin = bin_of(value, top);
                return value >= from && first <= bin && bin <= last
                           ? weight_of(value, top, temperature)
                           : 0ull;
            });
    }
    return cut;
}

// The same by passes over the whole row, three for each cut.
template <int N>
__device__ __forceinline__ float cut_of_row(Histogram& histogram, const float* x, int vocabulary,
                                            const Overview& row, float least, const Draw& draw) {
    float cut = least;
    if (draw.cuts_by_rank(vocabulary)) {
        const float kth = weighty<N>(histogram, x, vocabulary, draw.top_k, 1.0f, [](float value) {
            return value > -INFINITY ? 1ull : 0ull;
        });
        cut = kth > cut ? kth : cut;
    }
    if (draw.top_p < 1) {
        const float from = cut, top = row.top, temperature = draw.temperature;
        cut = weighty<N>(histogram, x, vocabulary, 0, draw.top_p, [=](float value) {
            return value >= from ? weight_of(value, top, temperature) : 0ull;
        });
    }
    return cut;
}

// ------------------------------------------------------------------------------------------- draws

// A thread's best draw so far, and whose it is; of equal ones the lowest id.
struct Best {
    float value = -INFINITY;
    int id = 0x7fffffff;

    __device__ __forceinline__ void offer(float other, int other_id) {
        if (other > value || (other == value && other_id < id)) {
            value = other;
            id = other_id;
        }
    }

    // Over all threads, for all threads.
    __device__ __forceinline__ void meet() {
        const float winner = block_max(value);
        id = block_min(value < winner ? 0x7fffffff : id);
        value = winner;
    }
};

// Draws of a row's tokens. No draw wins against that of the likeliest token whose logit is so far below
// it that the most noise would not lift it there.
struct Lot {
    float top, temperature, likely;
    unsigned long long key;

    __device__ __forceinline__ Lot(const Overview& row, const Draw& draw)
        : top(row.top), temperature(draw.temperature), key(draw.key) {
        likely = row.place == 0x7fffffff ? NAN : 0.0f / temperature + noise(key, row.place);
    }

    __device__ __forceinline__ void offer(Best& best, float value, int id) const {
        const float logit = (value - top) / temperature;
        if (logit + MOST_NOISE < likely) return;
        const float attempt = logit + noise(key, id);
        if (attempt > -INFINITY) best.offer(attempt, id);
    }
};

// The best draw of what of x [n] is at least `least`, lies in bins before `first` or is in none; what
// is in bin kth or in [first, last] goes to the candidates.
template <int N>
__device__ __forceinline__ Best draw_share(const float* x, int begin, int n, const Lot& lot,
                                           float least, Cuts* cuts, int kth, int first, int last) {
    Best best;
    each_stretch<N>(x, n, [&](const float* values, int base, int step) {
        UNROLL_ALL
        for (int j = 0; j < STRETCH; j++) {
            const float value = values[j];
            const int i = base + j / N * step + j % N;
            if (cuts != nullptr) {
                if (!(value > -INFINITY && value <= lot.top)) continue;
                const int bin = bin_of(value, lot.top);
                if (bin == kth || (first <= bin && bin <= last)) {
                    const int place = atomicAdd(&cuts->candidates, 1);
                    if (place < CANDIDATES) {
                        cuts->values[place] = value;
                        cuts->ids[place] = begin + i;
                    }
                    continue;
                }
                if (bin >= first) continue;
            }
            if (value < least) continue;
            lot.offer(best, value, begin + i);
        }
    });
    return best;
}

// ----------------------------------------------------------------------------------------- kernels

// Whether logits go in packs of 16 bytes.
__device__ __forceinline__ bool logits_in_packs(const float* logits, int vocabulary) {
    return vocabulary % PACK<float> == 0 && aligned(logits);
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
// logit: no sort. The draw is argmax(logit + Gumbel noise) over what is left.
//
// Up to four launches, each of which reads a row once, on as many blocks as the rows leave room for,
// and ends in the last of them:
//   sample (is_changed 0)  the model's logits: their overview, what is told of them; a greedy choice
//   sample (is_changed 1)  where a draw has a table: its changes, then as above
//   sample_cuts            where a draw has a top_k or top_p: tokens and probabilities in 2048 bins
//   sample_draw            where a draw has a temperature: the draws of what is in bins that stay;
//                          what shares a bin with a cut (1 / 128 of its distance from the largest) goes
//                          to the last block, which finds the exact cut among it and draws of it
// More in the cut's bins than CANDIDATES, as of a row of equal logits, takes three passes for each cut
// by the last block alone.
//
// For all three kernels:
// progress [gridDim.x], whose `arrived` is 0 before the first launch of all and after each; views
// [gridDim.x, segments_of(vocabulary)]; tops [draws that tell the likeliest, ceil(vocabulary / PART)];
// cuts [draws that search one]. All but `arrived` is written before it is read.
// PRECOND: grid (draws, parts) with any number of parts up to segments_of(vocabulary), any block size;
// no two draws of one row. A table has room for a token more where they count. Packs of 16 bytes where
// vocabulary is a multiple of 4 and logits of 16, else element by element.
//
// Moves, for each draw, vocabulary * 4 bytes a launch (all but the first from L2 on a GPU), with STRETCH
// logits of a thread under way at once; for the likeliest as much again, from L1; 2 * 20 bytes and a
// logit's read and write for each entry of a table, which has the distinct tokens of prompt and
// generation at most: a table [vocabulary] of counts would be a pass more, a mask of what is allowed
// another; its writing where tokens are allowed. What costs on a GPU is not bytes (0.5 MB of a row of
// 128,256 are 0.1 us) but rounds through one SM: on one block a row, which this was before, with three
// passes for each cut, an H200 took 34 us greedy and 152 us with top_k and top_p at batch 1. Sums of
// probabilities are integers: in f32 atomics would add them in any order.
extern "C" __global__ void __launch_bounds__(512)
    sample(int* out, const Draw* __restrict__ draws, float* logits, int vocabulary,
           Progress* progress, SegmentView* views, float* tops, Cuts* cuts, int is_changed) {
    constexpr int N = PACK<float>;
    const Draw draw = draws[blockIdx.x];
    const bool changes = draw.chooses() && draw.table != nullptr;
    if (is_changed != 0 && !changes) return;
    const Share share(vocabulary);
    const int segments = segments_of(vocabulary);
    float* x = logits + (long long)draw.row * vocabulary;
    Progress& its = progress[blockIdx.x];
    SegmentView* its_views = views + (long long)blockIdx.x * segments;
    float* its_tops = tops + (long long)draw.parts * ((vocabulary + PART - 1) / PART);
    const bool packs = logits_in_packs(logits, vocabulary);
    if (is_changed != 0) {
        change(x, share, draw.table, draw);
    } else if (draw.searches(vocabulary)) {
        clear_bins(cuts[draw.cuts]);
    }
    if (packs) {
        view_segments<N>(its_views, x, share);
    } else {
        view_segments<1>(its_views, x, share);
    }
    if (is_changed == 0 && draw.top > 0) view_parts(its_tops, x, share);
    if (!is_last(&its.arrived)) return;

    const Overview row = overview(its_views, segments);
    if (threadIdx.x == 0) {
        its.row = row;
        if (is_changed == 0) its.model = row;
    }
    out += draw.out;
    if (is_changed != 0) {
        if (draw.temperature == 0) tell(out, x, its.model, row, row.place, draw);
        return;
    }
    float* told = reinterpret_cast<float*>(out) + 1;  // log-probabilities [1 + top + named]
    if (draw.top > 0) {
        __shared__ Histogram histogram;
        __shared__ Likely likely;
        likeliest<1>(histogram, likely, out + 2 + draw.top + draw.named, told + 1, its_tops, x,
                     vocabulary, draw.top, row);
    }
    const int* names = reinterpret_cast<const int*>(draws + gridDim.x) + draw.names;
    for (int i = threadIdx.x; i < draw.named; i += blockDim.x) {
        told[1 + draw.top + i] = row.log_probability(x[names[i]]);
    }
    if (!draw.chooses()) {
        tell(out, x, row, row, draw.given, draw);
    } else if (!changes && draw.temperature == 0) {
        tell(out, x, row, row, row.place, draw);
    }
}

// See sample.
extern "C" __global__ void __launch_bounds__(512)
    sample_cuts(const Draw* __restrict__ draws, const float* __restrict__ logits, int vocabulary,
                Progress* progress, Cuts* cuts) {
    __shared__ Histogram weights;
    __shared__ unsigned counts[BINS];
    constexpr int N = PACK<float>;
    const Draw draw = draws[blockIdx.x];
    if (!draw.searches(vocabulary)) return;
    Progress& its = progress[blockIdx.x];
    const Overview row = its.row;
    if (!row.is_finite()) return;
    const Share share(vocabulary);
    const float* x = logits + (long long)draw.row * vocabulary + share.begin;
    const float least = lowest(row, draw);
    const bool by_rank = draw.cuts_by_rank(vocabulary);
    Cuts& its_cuts = cuts[draw.cuts];
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) counts[i] = 0;
    weights.clear();
    if (logits_in_packs(logits, vocabulary)) {
        count_values<N>(weights, counts, x, share.end - share.begin, row, least, draw, by_rank);
    } else {
        count_values<1>(weights, counts, x, share.end - share.begin, row, least, draw, by_rank);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) {
        const unsigned long long weight = weights.at(i);
        if (weight != 0) atomicAdd(&its_cuts.weights[i], weight);
        if (counts[i] != 0) atomicAdd(&its_cuts.counts[i], counts[i]);
    }
    if (is_last(&its.arrived)) find_bins(its_cuts, draw, by_rank);
}

// See sample.
extern "C" __global__ void __launch_bounds__(512)
    sample_draw(int* out, const Draw* __restrict__ draws, const float* __restrict__ logits,
                int vocabulary, Progress* progress, SegmentView* views, Cuts* cuts) {
    __shared__ Search search;
    constexpr int N = PACK<float>;
    const Draw draw = draws[blockIdx.x];
    if (!draw.draws()) return;
    Progress& its = progress[blockIdx.x];
    const Overview row = its.row;
    const Share share(vocabulary);
    const float* x = logits + (long long)draw.row * vocabulary;
    SegmentView* bests = views + (long long)blockIdx.x * segments_of(vocabulary);
    const float least = lowest(row, draw);
    const bool searches = draw.searches(vocabulary) && row.is_finite();
    Cuts* its_cuts = searches ? cuts + draw.cuts : nullptr;
    const int kth = searches ? its_cuts->kth : -1;
    const int first = searches ? its_cuts->first : 0, last = searches ? its_cuts->last : -1;
    const Lot lot(row, draw);
    const bool packs = logits_in_packs(logits, vocabulary);
    const int n = share.end - share.begin;
    Best best = packs ? draw_share<N>(x + share.begin, share.begin, n, lot, least, its_cuts, kth,
                                      first, last)
                      : draw_share<1>(x + share.begin, share.begin, n, lot, least, its_cuts, kth,
                                      first, last);
    best.meet();
    if (threadIdx.x == 0) bests[blockIdx.y] = {best.value, 0, best.id};
    if (!is_last(&its.arrived)) return;

    best = Best();
    for (int i = threadIdx.x; i < (int)gridDim.y; i += blockDim.x) {
        best.offer(bests[i].top, bests[i].place);
    }
    if (searches && its_cuts->candidates <= CANDIDATES) {
        const float cut = cut_among(search, *its_cuts, row, least, draw);
        for (int i = threadIdx.x; i < its_cuts->candidates; i += blockDim.x) {
            if (its_cuts->values[i] >= cut) {
                lot.offer(best, its_cuts->values[i], its_cuts->ids[i]);
            }
        }
    } else if (searches) {
        const float cut = cut_of_row<1>(search.histogram, x, vocabulary, row, least, draw);
        for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
            if (x[i] >= cut) lot.offer(best, x[i], i);
        }
    }
    best.meet();
    tell(out + draw.out, x, its.model, row, best.id, draw);
}
