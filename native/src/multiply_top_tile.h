// The best entries and the log-sum-exp of each row of x · wᵀ without the product: for any instruction
// set, included by one file for each, which is compiled with its flags and brings a `Lanes` type
// (below). Everything here has internal linkage, as in gemm_tile.h.
//
// That product's dot form leaves weights where they lie and suits few rows; here both factors have
// many, so this is the outer-product form (as in BLIS): both are copied into panels in which one step
// of k of all their rows lies together, and a tile keeps its sums in registers while k runs. A lane is
// a row of x. Then the row's state (maximum, sum, worst kept entry) is a lane too, and what is done to
// an entry needs no operation across lanes.
//   x   blocks of some thousand rows, packed once for each block, in panels of VECTORS * LANES rows
//   w   tiles of a few hundred rows, packed once for each block of x, shared by all threads
//   one panel of x by one tile of w is the work of one thread at a time: COLUMNS rows of w after
//   another their products with the panel are made (12 KB, which stay in the first-level cache) and
//   taken into the panel's state
// Where another library makes products, and is asked to, its tiles are taken in instead.
//
// An entry is one chain of sums over k in order, and a row's state takes COLUMNS entries at a time in
// order; so its bits depend on the row and w alone, not on m, blocks, tiles or threads.
//
// Lanes provides: LANES; VECTORS of rows of x and TILE rows of w, whose products are a tile; X and W,
// how elements are read (below); PER_STEP, elements of k in a step, which is 4 bytes of either panel;
// add(sum, x, w) of a step; and for f32 Vector, set, load, store, fma(a, b, c) = a * b + c, round,
// scale(a, n) = a * 2^n, max(a, b), which is b where one is NaN, minus, magnitude, and above(a, b), a
// mask of the lanes where a > b.
#pragma once

// g++ 12 takes the "undefined" operands inside its own intrinsics for uninitialised variables.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

#include "halter.h"
#include "multiply_top.h"
#include "pool.h"

namespace halter {
namespace {

constexpr int COLUMNS = 96;              // entries of a row that are taken in at a time
constexpr int STEPS = 512;               // of k that a tile's sums stay in registers for
constexpr long X_BYTES = 4 << 20;        // of a block of x
constexpr long W_BYTES = 2 << 20;        // of a tile of w

struct Free {
    void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
};
using Floats = std::unique_ptr<float[], Free>;

inline Floats allocate(long count) {
    return Floats(static_cast<float*>(::operator new[](count * 4, std::align_val_t(64))));
}

/// Steps of k, a multiple of 4: packing goes 4 by 4, and zeros in both factors add nothing.
template <class Lanes>
int steps_of(int k) {
    return (k + 4 * Lanes::PER_STEP - 1) / (4 * Lanes::PER_STEP) * 4;
}

// Four steps of a row.
struct F32 {
    using Type = float;
    static __m128 load(const float* p) { return _mm_loadu_ps(p); }
};

struct F16 {
    using Type = uint16_t;
    static __m128 load(const uint16_t* p) {
        return _mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p));
    }
};

struct Bf16 {
    using Type = uint16_t;
    static __m128 load(const uint16_t* p) {
        const __m128i wide = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i*)p));
        return _mm_castsi128_ps(_mm_slli_epi32(wide, 16));
    }
};

// Copies rows [first, first + ROWS) of a matrix of `rows` into a panel [steps][ROWS] of 4 bytes each.
// Rows past the end are the last one again: their entries are ignored.
template <int ROWS, class Elements>
void pack(const typename Elements::Type* matrix, long stride, int first, int rows, int k,
          int per_step, float* panel) {
    static_assert(ROWS % 4 == 0);
    using Type = typename Elements::Type;
    const int step = 4 * per_step;
    for (int i = 0; i < ROWS; i += 4) {
        const Type* row[4];
        for (int r = 0; r < 4; r++) row[r] = matrix + std::min(first + i + r, rows - 1) * stride;
        float* to = panel + i;
        for (int at = 0; at < k; at += step, to += 4 * ROWS) {
            Type rest[4][8] = {};
            if (at + step > k) {
                for (int r = 0; r < 4; r++) {
                    std::memcpy(rest[r], row[r] + at, (k - at) * sizeof(Type));
                    row[r] = rest[r] - at;
                }
            }
            __m128 a = Elements::load(row[0] + at), b = Elements::load(row[1] + at);
            __m128 c = Elements::load(row[2] + at), d = Elements::load(row[3] + at);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(to, a);
            _mm_storeu_ps(to + ROWS, b);
            _mm_storeu_ps(to + 2 * ROWS, c);
            _mm_storeu_ps(to + 3 * ROWS, d);
        }
    }
}

// c [TILE][V * LANES] = or += w [steps][TILE] · x [steps][V * LANES].
template <class Lanes, int V>
__attribute__((noinline)) void multiply_tile(const float* x, const float* w, int steps, float* c,
                                             bool first) {
    using Vector = typename Lanes::Vector;
    constexpr int TILE = Lanes::TILE;
    constexpr int LANES = Lanes::LANES;
    Vector sum[TILE][V];
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            sum[i][v] = first ? Lanes::set(0) : Lanes::load(c + (i * V + v) * LANES);
        }
    }
#pragma GCC unroll 2
    for (int s = 0; s < steps; s++) {
        Vector xs[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            xs[v] = Lanes::load(x + (s * V + v) * LANES);
            asm("" : "+v"(xs[v]));  // one load for TILE products; g++ would rather load for each
        }
#pragma GCC unroll 16
        for (int i = 0; i < TILE; i++) {
            Vector ws = Lanes::set(w[s * TILE + i]);
            asm("" : "+v"(ws));
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) sum[i][v] = Lanes::add(sum[i][v], xs[v], ws);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) Lanes::store(c + (i * V + v) * LANES, sum[i][v]);
    }
}

// e^x of x <= 0, as in cuda-kernels/fast_math.cuh but that results may be denormal; NaN stays NaN.
template <class Lanes>
inline typename Lanes::Vector exp(typename Lanes::Vector x) {
    const auto set = Lanes::set;
    x = Lanes::max(set(-150), x);
    const typename Lanes::Vector n = Lanes::round(x * set(1.44269504f));
    typename Lanes::Vector r = Lanes::fma(n, set(-0.693359375f), x);
    r = Lanes::fma(n, set(2.12194440e-4f), r);
    typename Lanes::Vector p = Lanes::fma(set(1.9875691500e-4f), r, set(1.3981999507e-3f));
    p = Lanes::fma(p, r, set(8.3334519073e-3f));
    p = Lanes::fma(p, r, set(4.1665795894e-2f));
    p = Lanes::fma(p, r, set(1.6666665459e-1f));
    p = Lanes::fma(p, r, set(5.0000001201e-1f));
    return Lanes::scale(Lanes::fma(p, r * r, r) + set(1), n);
}

/// What a list prefers.
enum class Order { PLUS, MINUS, ABSOLUTE };

/// A list of each row of a panel, with the entries themselves where the caller wants them.
template <class Lanes, int V>
struct alignas(64) Lists {
    static constexpr int ROWS = V * Lanes::LANES;
    float max[ROWS];
    float sum[ROWS];    // of exp(entry - max)
    float worst[ROWS];  // an entry has to beat this: -inf until the list is full

    void clear(int rows) {
        for (int r = 0; r < ROWS; r++) {
            max[r] = -INFINITY;
            sum[r] = 0;
            worst[r] = r < rows ? -INFINITY : INFINITY;
        }
    }
};

template <Order ORDER>
inline float rank_of(float value) {
    return ORDER == Order::ABSOLUTE ? std::fabs(value) : value;
}

// Puts an entry into a sorted list and returns the rank that the next one has to beat. Entries come
// in the order of their ids, so one that equals another stands behind it.
template <Order ORDER>
float insert(int* ids, float* values, int kept, int id, float value) {
    const auto rank_at = [&](int at) {
        return ids[at] < 0 ? -INFINITY : rank_of<ORDER>(values[at]);
    };
    int at = kept - 1;
    for (; at > 0 && rank_of<ORDER>(value) > rank_at(at - 1); at--) {
        ids[at] = ids[at - 1];
        values[at] = values[at - 1];
    }
    ids[at] = id;
    values[at] = value;
    return rank_at(kept - 1);
}

template <class Lanes, Order ORDER>
inline typename Lanes::Vector rank_of(const float* c) {
    const typename Lanes::Vector x = Lanes::load(c);
    if constexpr (ORDER == Order::MINUS) return Lanes::minus(x);
    if constexpr (ORDER == Order::ABSOLUTE) return Lanes::magnitude(x);
    return x;
}

// Takes entries c [columns][V * LANES], columns `c_stride` apart, into a panel's lists. The first row's
// list is at ids, values; from row to row it is `stride` further.
template <class Lanes, int V, Order ORDER>
void take(const float* c, long c_stride, int columns, int first_id, Lists<Lanes, V>& lists, bool sums, int* ids,
          float* values, int kept, long stride) {
    using Vector = typename Lanes::Vector;
    constexpr int LANES = Lanes::LANES;
    for (int v = 0; v < V; v++) {
        const float* from = c + v * LANES;
        Vector best = Lanes::set(-INFINITY);
        for (int j = 0; j < columns; j++) {
            best = Lanes::max(rank_of<Lanes, ORDER>(from + j * c_stride), best);
        }
        if (sums) {
            float* max = lists.max + v * LANES;
            float* sum = lists.sum + v * LANES;
            const Vector before = Lanes::load(max);
            const Vector now = Lanes::max(best, before);
            // -inf less -inf would be NaN
            const Vector shift = Lanes::max(now, Lanes::set(-3.4e38f));
            Vector part = Lanes::set(0);
            for (int j = 0; j < columns; j++) {
                const Vector x = rank_of<Lanes, ORDER>(from + j * c_stride);
                part = part + exp<Lanes>(x - shift);
            }
            Lanes::store(max, now);
            Lanes::store(sum, Lanes::load(sum) * exp<Lanes>(before - shift) + part);
        }
        float* worst = lists.worst + v * LANES;
        if (!Lanes::above(best, Lanes::load(worst))) continue;
        for (int j = 0; j < columns; j++) {
            unsigned hits =
                Lanes::above(rank_of<Lanes, ORDER>(from + j * c_stride), Lanes::load(worst));
            for (; hits; hits &= hits - 1) {
                const int lane = __builtin_ctz(hits);
                const float entry = from[j * c_stride + lane];
                const long list = (v * LANES + lane) * stride;
                worst[lane] = insert<ORDER>(ids + list, values + list, kept, first_id + j,
                                            ORDER == Order::MINUS ? -entry : entry);
            }
        }
    }
}

template <class Lanes>
struct Job {
    static constexpr int LANES = Lanes::LANES;
    static constexpr int TILE = Lanes::TILE;
    static constexpr int V = Lanes::VECTORS;
    static_assert(COLUMNS % TILE == 0);

    const TopProduct& p;
    const int steps;
    const int lists;

    explicit Job(const TopProduct& p)
        : p(p), steps(steps_of<Lanes>(p.k)), lists(p.sign == HALTER_TOP_BOTH ? 2 : 1) {}

    // One panel of x, its rows from `row` on, by one packed tile of w.
    template <int VECTORS>
    void panel(int row, const float* x, const float* w, int first_id, int columns,
               Lists<Lanes, VECTORS>* state) const {
        constexpr int ROWS = VECTORS * LANES;
        alignas(64) float c[COLUMNS * ROWS];
        for (int j = 0; j < columns; j += COLUMNS) {
            const int count = std::min(COLUMNS, columns - j);
            for (int s = 0; s < steps; s += STEPS) {
                for (int i = 0; i < count; i += TILE) {
                    multiply_tile<Lanes, VECTORS>(x + long(s) * ROWS,
                                                  w + long(j + i) * steps + long(s) * TILE,
                                                  std::min(STEPS, steps - s), c + i * ROWS, s == 0);
                }
            }
            take_all<VECTORS>(c, ROWS, count, first_id + j, row, state);
        }
    }

    // Takes entries of the panel whose rows begin at `row` into its lists.
    template <int VECTORS>
    void take_all(const float* c, long c_stride, int columns, int id, int row,
                  Lists<Lanes, VECTORS>* state) const {
        const long stride = long(lists) * p.kept;
        int* ids = p.ids + row * stride;
        float* values = p.values + row * stride;
        const bool sums = p.log_sum;
        if (p.sign == HALTER_TOP_ABSOLUTE) {
            take<Lanes, VECTORS, Order::ABSOLUTE>(c, c_stride, columns, id, state[0], false, ids,
                                                  values, p.kept, stride);
            return;
        }
        if (p.sign != HALTER_TOP_MINUS) {
            take<Lanes, VECTORS, Order::PLUS>(c, c_stride, columns, id, state[0], sums, ids, values,
                                              p.kept, stride);
        }
        if (p.sign != HALTER_TOP_PLUS) {
            const int s = lists - 1;
            take<Lanes, VECTORS, Order::MINUS>(c, c_stride, columns, id, state[s], sums,
                                               ids + s * p.kept, values + s * p.kept, p.kept,
                                               stride);
        }
    }

    // Empties all lists.
    void begin() const {
        std::fill(p.ids, p.ids + long(p.m) * lists * p.kept, -1);
        std::fill(p.values, p.values + long(p.m) * lists * p.kept, -INFINITY);
    }

    // Writes the sums of `rows` rows from first_row on.
    template <class State>
    void finish(const State* states, int first_row, int rows) const {
        if (!p.log_sum) return;
        for (int row = 0; row < rows; row++) {
            for (int s = 0; s < lists; s++) {
                const State& state = states[row / State::ROWS * lists + s];
                float* to = p.log_sum + (long(first_row + row) * lists + s) * 2;
                to[0] = state.max[row % State::ROWS];
                to[1] = state.sum[row % State::ROWS];
            }
        }
    }

    // By whole products, w · xᵀ so that lanes are rows of x: false, if `multiply` makes none.
    bool run_by(Multiply multiply, int threads) const {
        using State = Lists<Lanes, V>;
        constexpr int ROWS = State::ROWS;
        constexpr int WIDTH = 8 * COLUMNS;
        const int panels = std::min((p.m + ROWS - 1) / ROWS, 1024 / ROWS);
        const Floats c = allocate(long(WIDTH) * panels * ROWS);
        const std::unique_ptr<State[]> states(new State[panels * lists]);
        const long x_row = p.x_stride * long(sizeof(typename Lanes::X::Type));
        const long w_row = p.w_stride * long(sizeof(typename Lanes::W::Type));
        begin();
        for (int first = 0; first < p.m; first += panels * ROWS) {
            const int rows = std::min(panels * ROWS, p.m - first);
            const int count = (rows + ROWS - 1) / ROWS;
            for (int i = 0; i < count * lists; i++) states[i].clear(rows - i / lists * ROWS);
            for (int id = 0; id < p.n; id += WIDTH) {
                const int columns = std::min(WIDTH, p.n - id);
                const Product tile{columns, rows, p.k,
                                   static_cast<const char*>(p.w) + id * w_row, p.w_stride,
                                   static_cast<const char*>(p.x) + first * x_row, p.x_stride,
                                   c.get(), panels * ROWS, p.w_type, p.x_type, HALTER_F32};
                if (!multiply(tile, threads)) return false;
                share_each(threads, count, [&](int i) {
                    for (int j = 0; j < columns; j += COLUMNS) {
                        take_all<V>(&c[long(j) * panels * ROWS + i * ROWS], panels * ROWS,
                                    std::min(COLUMNS, columns - j), id + j, first + i * ROWS,
                                    &states[i * lists]);
                    }
                });
            }
            finish(states.get(), first, rows);
        }
        return true;
    }

    // All rows, in panels of VECTORS vectors.
    template <int VECTORS>
    void run(int threads) const {
        using State = Lists<Lanes, VECTORS>;
        constexpr int ROWS = VECTORS * LANES;
        const auto* x = static_cast<const typename Lanes::X::Type*>(p.x);
        const auto* w = static_cast<const typename Lanes::W::Type*>(p.w);
        const long all = (long(p.m) + ROWS - 1) / ROWS;
        // As many panels for each thread, so that all end at about the same time.
        const long fit = std::max(1L, X_BYTES / (4L * steps * ROWS) / threads) * threads;
        const int panels = int(std::min(all, fit));
        const int width = int(std::min((long(p.n) + COLUMNS - 1) / COLUMNS,
                                       std::max(1L, W_BYTES / (4L * steps * COLUMNS)))) * COLUMNS;
        const Floats packed_x = allocate(long(panels) * steps * ROWS);
        const Floats packed_w = allocate(long(width) * steps);
        const std::unique_ptr<State[]> states(new State[panels * lists]);
        begin();
        for (long block = 0; block < all; block += panels) {
            const int count = int(std::min(long(panels), all - block));
            const int first_row = int(block * ROWS);
            share_each(threads, count, [&](int i) {
                const int row = first_row + i * ROWS;
                pack<ROWS, typename Lanes::X>(x, p.x_stride, row, p.m, p.k, Lanes::PER_STEP,
                           &packed_x[long(i) * steps * ROWS]);
                for (int s = 0; s < lists; s++) states[i * lists + s].clear(p.m - row);
            });
            for (int id = 0; id < p.n; id += width) {
                const int columns = std::min(width, p.n - id);
                share_each(threads, (columns + TILE - 1) / TILE, [&](int tile) {
                    const int j = tile * TILE;
                    pack<TILE, typename Lanes::W>(w, p.w_stride, id + j, p.n, p.k, Lanes::PER_STEP,
                               &packed_w[long(j) * steps]);
                });
                share_each(threads, count, [&](int i) {
                    panel<VECTORS>(first_row + i * ROWS, &packed_x[long(i) * steps * ROWS],
                                   packed_w.get(), id, columns, &states[i * lists]);
                });
            }
            finish(states.get(), first_row, std::min(p.m - first_row, count * ROWS));
        }
    }
};

template <class Lanes>
void multiply_top(const TopProduct& p, int threads, Multiply multiply) {
    const Job<Lanes> job(p);
    if (multiply && job.run_by(multiply, threads)) return;
    if (p.m <= Lanes::LANES) {  // half the work for the lanes that are there
        job.template run<1>(threads);
    } else {
        job.template run<Lanes::VECTORS>(threads);
    }
}

// The kernel for the types' codes, from an instruction set's lanes.
template <template <class, class> class Lanes>
TopKernel kernel_for(int x_type, int w_type) {
    if (x_type == HALTER_F32) {
        switch (w_type) {
            case HALTER_F32: return multiply_top<Lanes<F32, F32>>;
            case HALTER_F16: return multiply_top<Lanes<F32, F16>>;
            default: return multiply_top<Lanes<F32, Bf16>>;
        }
    }
    switch (w_type) {
        case HALTER_F32: return multiply_top<Lanes<Bf16, F32>>;
        case HALTER_F16: return multiply_top<Lanes<Bf16, F16>>;
        default: return multiply_top<Lanes<Bf16, Bf16>>;
    }
}

}  // namespace
}  // namespace halter
