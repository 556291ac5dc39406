// The matrix product, and the best entries of one, against double arithmetic, for every kernel that
// this CPU can run, up to HALTER_MAX_ISA: odd sizes, all types, strides longer than rows, rows that
// end where their page ends, and the promise that a row's bits depend on nothing but the row and w.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu.h"
#include "gemm.h"
#include "halter.h"
#include "multiply_top.h"
#include "runtime.h"

// What the product needs of the runtime.
namespace halter {
int thread_count() { return 2; }
void fail(const char*, ...) {}
}  // namespace halter

using namespace halter;

namespace {

int failures = 0;

void fail(const char* what, const char* kernel, const Product& p, int i, int j, double got,
          double expected) {
    if (++failures > 20) return;
    std::printf("FAIL %s: %s m=%d n=%d k=%d types %d x %d -> %d at [%d,%d]: %.9g, expected %.9g\n",
                what, kernel, p.m, p.n, p.k, p.x_type, p.w_type, p.out_type, i, j, got, expected);
}

int bytes_of(int type) { return type == HALTER_F32 ? 4 : 2; }

float decode(const void* at, int type) {
    if (type == HALTER_F32) return *(const float*)at;
    uint16_t bits = *(const uint16_t*)at;
    if (type == HALTER_F16) return float(*(const _Float16*)at);
    uint32_t wide = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}

void encode(float value, void* at, int type) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (type == HALTER_F32) {
        *(float*)at = value;
    } else if (type == HALTER_F16) {
        *(_Float16*)at = _Float16(value);
    } else {
        *(uint16_t*)at = uint16_t(bits >> 16);
    }
}

// A matrix whose last element is the last of its page; touching the page behind it ends the test.
struct Guarded {
    int type;
    long rows, columns, stride;
    char* map;
    size_t mapped;
    char* data;

    Guarded(long rows, long columns, long stride, int type)
        : type(type), rows(rows), columns(columns), stride(stride) {
        size_t page = sysconf(_SC_PAGESIZE);
        size_t bytes = ((rows - 1) * stride + columns) * bytes_of(type);
        mapped = (bytes + page - 1) / page * page + page;
        map = (char*)mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                          0);
        if (map == MAP_FAILED || mprotect(map + mapped - page, page, PROT_NONE)) std::abort();
        data = map + mapped - page - bytes;
        std::memset(data, 0xff, bytes);  // NaN in every type: what lies between rows must not count
    }
    ~Guarded() { munmap(map, mapped); }
    Guarded(const Guarded&) = delete;

    char* at(long i, long j) const { return data + (i * stride + j) * bytes_of(type); }
    float get(long i, long j) const { return decode(at(i, j), type); }
    void set(long i, long j, float v) { encode(v, at(i, j), type); }

    void fill(std::mt19937& random) {
        std::normal_distribution<float> normal;
        for (long i = 0; i < rows; i++) {
            for (long j = 0; j < columns; j++) set(i, j, normal(random));
        }
    }
};

struct Kernel {
    const char* name;
    Block (*block_for)(int, int);
};

std::vector<Kernel> kernels() {
    std::vector<Kernel> found = {{"avx2", avx2_block}};
    if (cpu().isa >= Isa::AVX512) found.push_back({"avx512", avx512_block});
    if (cpu().isa >= Isa::AVX512_BF16) found.push_back({"avx512_bf16", avx512_bf16_block});
    return found;
}

Product product(int m, const Guarded& x, const Guarded& w, const Guarded& out, long first_row = 0) {
    return {m,        int(w.rows),         int(w.columns), x.at(first_row, 0), x.stride,
            w.data,   w.stride,            out.data,       out.stride,        x.type,
            w.type,   out.type};
}

// m = `most` against double arithmetic; then fewer rows, starting anywhere, on any number of
// threads: the same bits.
void check(const Kernel& kernel, const Guarded& x, const Guarded& w, int out_type,
           const std::vector<int>& sizes) {
    Block block = kernel.block_for(x.type, w.type);
    if (!block) return;
    int n = int(w.rows), k = int(w.columns), most = int(x.rows);
    Guarded all(most, n, n + 3, out_type);
    Product whole = product(most, x, w, all);
    multiply(whole, block, 1);
    for (int i = 0; i < most; i++) {
        if (i >= 12 && i < most - 4) continue;  // their bits are compared below
        for (int j = 0; j < n; j++) {
            double sum = 0, magnitude = 0;
            for (int p = 0; p < k; p++) {
                double term = double(x.get(i, p)) * w.get(j, p);
                sum += term;
                magnitude += std::fabs(term);
            }
            double allowed = 2e-6 * magnitude + (out_type == HALTER_F32 ? 0 : std::fabs(sum) / 256);
            if (!(std::fabs(all.get(i, j) - sum) <= allowed)) {
                fail("value", kernel.name, whole, i, j, all.get(i, j), sum);
            }
        }
        for (int j = n; j < n + 3 && i + 1 < most; j++) {
            if (!std::isnan(all.get(i, j))) fail("gap", kernel.name, whole, i, j, all.get(i, j), NAN);
        }
    }
    for (int m : sizes) {
        Guarded out(m, n, n, out_type);
        int from = (most - m) / 2;
        Product part = product(m, x, w, out, from);
        constexpr int threads[] = {1, 2, 3, 7};
        multiply(part, block, threads[m % 4]);
        for (int i = 0; i < m; i++) {
            if (std::memcmp(out.at(i, 0), all.at(from + i, 0), n * bytes_of(out_type))) {
                fail("bits change with m or threads", kernel.name, part, i, 0, out.get(i, 0),
                     all.get(from + i, 0));
            }
        }
    }
}

template <class Do>
void for_all_types(Do run) {
    for (int x_type : {HALTER_F32, HALTER_BF16}) {
        for (int w_type : {HALTER_F32, HALTER_F16, HALTER_BF16}) {
            run(x_type, w_type, HALTER_F32);
            if (x_type == HALTER_BF16) run(x_type, w_type, HALTER_BF16);
        }
    }
}

void values_and_bits() {
    std::mt19937 random(1);
    const std::vector<int> sizes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 31, 33};
    for (int n : {1, 3, 17, 33, 257}) {
        for (int k : {1, 7, 15, 16, 17, 31, 33, 255, 257, 1023}) {
            for_all_types([&](int x_type, int w_type, int out_type) {
                Guarded x(33, k, k + 5, x_type), w(n, k, k % 2 ? k : k + 9, w_type);
                x.fill(random);
                w.fill(random);
                for (const Kernel& kernel : kernels()) check(kernel, x, w, out_type, sizes);
            });
        }
    }
}

// More rows than a block has, and a k of several blocks in every type: just over two, or a few.
void several_blocks() {
    std::mt19937 random(2);
    for (int k : {48, 1541, 3077, 3203}) {
        for_all_types([&](int x_type, int w_type, int out_type) {
            Guarded x(261, k, k, x_type), w(71, k, k, w_type);
            x.fill(random);
            w.fill(random);
            for (const Kernel& kernel : kernels()) check(kernel, x, w, out_type, {1, 2, 12, 13, 128, 129, 260});
        });
    }
}

/// A matrix laid out the other way, with a stride of its own.
struct Transposed : Guarded {
    explicit Transposed(const Guarded& from)
        : Guarded(from.columns, from.rows, from.rows + 3, from.type) {
        for (long i = 0; i < rows; i++) {
            for (long j = 0; j < columns; j++) set(i, j, from.get(j, i));
        }
    }
};

/// The product of x and w, of which `form` says by bit 0 that x lies transposed and by bit 1 that w does.
Product turned_product(int form, const Guarded& x, const Transposed& xt, const Guarded& w,
                       const Transposed& wt, const Guarded& out) {
    Product p = product(int(x.rows), x, w, out);
    if (form & 1) p.x = xt.data, p.x_stride = xt.stride, p.x_transposed = true;
    if (form & 2) p.w = wt.data, p.w_stride = wt.stride, p.w_transposed = true;
    return p;
}

// However the factors lie, the same bits, also on several threads and of a k of several blocks.
void transposed_factors() {
    std::mt19937 random(5);
    const int shapes[][3] = {{1, 1, 1},    {1, 19, 100}, {2, 9, 100},    {3, 5, 7},      {8, 8, 8},
                             {13, 31, 33}, {131, 9, 17}, {33, 259, 100}, {40, 47, 1541}, {7, 64, 3203}};
    for (const auto& shape : shapes) {
        for_all_types([&](int x_type, int w_type, int out_type) {
            Guarded x(shape[0], shape[2], shape[2], x_type), w(shape[1], shape[2], shape[2], w_type);
            x.fill(random);
            w.fill(random);
            const Transposed xt(x), wt(w);
            for (const Kernel& kernel : kernels()) {
                Block block = kernel.block_for(x_type, w_type);
                if (!block) continue;
                Guarded plain(shape[0], shape[1], shape[1], out_type);
                multiply(product(shape[0], x, w, plain), block, 2);
                for (int form = 1; form < 4; form++) {
                    Guarded out(shape[0], shape[1], shape[1], out_type);
                    const Product p = turned_product(form, x, xt, w, wt, out);
                    multiply(p, block, form);
                    for (int i = 0; i < shape[0]; i++) {
                        if (std::memcmp(out.at(i, 0), plain.at(i, 0), shape[1] * bytes_of(out_type))) {
                            fail("bits of transposed factors", kernel.name, p, i, form, out.get(i, 0),
                                 plain.get(i, 0));
                        }
                    }
                }
            }
        });
    }
}

void nan_and_infinity_stay_in_their_row_and_column() {
    const float inf = std::numeric_limits<float>::infinity();
    for_all_types([&](int x_type, int w_type, int out_type) {
        for (int k : {1, 16, 37, 100}) {
            for (const Kernel& kernel : kernels()) {
                Block block = kernel.block_for(x_type, w_type);
                if (!block) continue;
                Guarded x(5, k, k, x_type), w(11, k, k, w_type), out(5, 11, 11, out_type);
                for (int i = 0; i < 5; i++) {
                    for (int p = 0; p < k; p++) x.set(i, p, 1);
                }
                for (int j = 0; j < 11; j++) {
                    for (int p = 0; p < k; p++) w.set(j, p, 1);
                }
                x.set(1, k - 1, NAN);
                w.set(4, k / 2, inf);
                w.set(6, k / 3, -inf);
                x.set(3, k / 2, 0);  // 0 x inf
                Product p = product(5, x, w, out);
                multiply(p, block, 2);
                for (int i = 0; i < 5; i++) {
                    for (int j = 0; j < 11; j++) {
                        double expected = 0;
                        for (int q = 0; q < k; q++) expected += double(x.get(i, q)) * w.get(j, q);
                        double got = out.get(i, j);
                        bool same = std::isnan(expected) ? std::isnan(got) : got == expected;
                        if (!same) fail("special value", kernel.name, p, i, j, got, expected);
                    }
                }
            }
        }
    });
}

void refusals() {
    float x[4] = {1, 2, 3, 4}, w[4] = {1, 0, 0, 1}, out[4] = {-7, -7, -7, -7};
    auto gemm = [&](int m, int x_type, long x_stride, int w_type, int out_type) {
        return halter_gemm(m, 2, 2, x, x_type, x_stride, 0, w, w_type, 2, 0, out, out_type, 2);
    };
    bool refused = gemm(-1, HALTER_F32, 2, HALTER_F32, HALTER_F32) == -1 &&
                   gemm(2, HALTER_F32, 1, HALTER_F32, HALTER_F32) == -1 &&
                   gemm(2, HALTER_F16, 2, HALTER_F32, HALTER_F32) == -1 &&
                   gemm(2, HALTER_F32, 2, 4, HALTER_F32) == -1 &&
                   gemm(2, HALTER_F32, 2, HALTER_F32, HALTER_BF16) == -1 &&
                   // Two rows of x beside each other, whose memory has room for one.
                   halter_gemm(2, 2, 2, x, HALTER_F32, 1, 1, w, HALTER_F32, 2, 0, out, HALTER_F32, 2) == -1 &&
                   out[0] == -7;
    bool computed = gemm(2, HALTER_F32, 2, HALTER_F32, HALTER_F32) == 0 && out[0] == 1 &&
                    out[1] == 2 && out[2] == 3 && out[3] == 4;
    bool nothing = gemm(0, HALTER_F32, 2, HALTER_F32, HALTER_F32) == 0 && out[0] == 1;
    bool empty = halter_gemm(2, 2, 0, x, HALTER_F32, 2, 0, w, HALTER_F32, 2, 0, out, HALTER_F32, 2) == 0 &&
                 out[0] == 0 && out[1] == 0 && out[2] == 0 && out[3] == 0;
    if (!refused || !computed || !nothing || !empty) {
        failures++;
        std::printf("FAIL arguments: refused %d, computed %d, no rows %d, empty sum %d\n", refused,
                    computed, nothing, empty);
    }
}

// oneDNN, where this CPU's kernels take the same types: both within rounding of each other. Decoding
// and prefill take different paths there, so both are tried, and a second time from its cache. It need
// not have bf16 where the CPU has no instruction for it: on AVX2 it has not.
void agrees_with_onednn(const char* directory) {
    std::mt19937 random(3);
    for (int type : {HALTER_F32, HALTER_BF16}) {
        for (int m : {1, 7, 65}) {
            const int n = 131, k = 515;
            Guarded x(m, k, k + 2, type), w(n, k, k, type);
            Guarded own(m, n, n, HALTER_F32), theirs(m, n, n, HALTER_F32);
            x.fill(random);
            w.fill(random);
            auto run = [&](const Guarded& out) {
                return halter_gemm(m, n, k, x.data, type, x.stride, 0, w.data, type, w.stride, 0,
                                   out.data, HALTER_F32, out.stride);
            };
            if (run(own) != 0 || halter_onednn(directory) != 0) {
                failures++;
                std::printf("FAIL oneDNN in %s does not start\n", directory);
                return;
            }
            Product p = product(m, x, w, theirs);
            if (!onednn_multiply(p, 2)) {
                const bool must = type == HALTER_F32 || cpu().isa >= Isa::AVX512_BF16;
                failures += must;
                std::printf("%soneDNN has no %s product on this CPU: not compared\n",
                            must ? "FAIL " : "", type == HALTER_F32 ? "f32" : "bf16");
                halter_onednn(nullptr);
                break;
            }
            if (run(theirs) != 0) fail("oneDNN's second time", "halter_gemm", p, 0, 0, 0, 0);
            for (int i = 0; i < m; i++) {
                for (int j = 0; j < n; j++) {
                    double a = own.get(i, j), b = theirs.get(i, j);
                    if (!(std::fabs(a - b) <= 1e-3)) fail("oneDNN", "halter_gemm", p, i, j, a, b);
                }
            }
            halter_onednn(nullptr);
            if (onednn_multiply(p, 2)) fail("oneDNN is still in use", "", p, 0, 0, 0, 0);
            if (halter_onednn(directory) == 0) {
                const Transposed xt(x), wt(w);
                for (int form = 1; form < 4; form++) {
                    Guarded turned(m, n, n, HALTER_F32);
                    if (!onednn_multiply(turned_product(form, x, xt, w, wt, turned), 2)) {
                        fail("oneDNN takes no transposed factor", "", p, form, 0, 0, 0);
                    }
                    for (int i = 0; i < m; i++) {
                        for (int j = 0; j < n; j++) {
                            double a = own.get(i, j), b = turned.get(i, j);
                            if (!(std::fabs(a - b) <= 1e-3)) fail("oneDNN, transposed", "", p, i, j, b, a);
                        }
                    }
                }
            }
            halter_onednn(nullptr);
        }
    }
}

// ---------------------------------------------------------------------------- the best entries

struct Top {
    int m, lists, kept;
    std::vector<int> ids;
    std::vector<float> values, sums;

    Top(int m, int sign, int kept)
        : m(m), lists(sign == HALTER_TOP_BOTH ? 2 : 1), kept(kept), ids(m * lists * kept, -7),
          values(m * lists * kept, -7), sums(m * lists * 2, -7) {}

    bool same_rows(const Top& all, int from) const {
        const auto equal = [&](const auto& part, const auto& whole, int each) {
            return !std::memcmp(part.data(), whole.data() + from * lists * each,
                                part.size() * sizeof part[0]);
        };
        return equal(ids, all.ids, kept) && equal(values, all.values, kept) &&
               equal(sums, all.sums, 2);
    }
};

Top top(TopKernel kernel, int m, int first, const Guarded& x, const Guarded& w, int sign, int kept,
        int threads, Multiply multiply = nullptr) {
    Top to(m, sign, kept);
    float* sums = sign == HALTER_TOP_ABSOLUTE ? nullptr : to.sums.data();
    kernel({m, int(w.rows), int(w.columns), x.at(first, 0), x.stride, w.data, w.stride, x.type,
            w.type, sign, kept, to.ids.data(), to.values.data(), sums},
           threads, multiply);
    return to;
}

// In place of oneDNN's product, which takes factors of one type only.
bool by_own_products(const Product& p, int threads) {
    if (p.x_type != p.w_type || p.x_type == HALTER_F16) return false;
    Block block = avx2_block(p.x_type, p.w_type);
    multiply(p, block, threads);
    return true;
}

// Factors are multiples of 1/4 below 2, so that sums are exact and many entries equal.
void fill_exactly(Guarded& matrix, std::mt19937& random) {
    for (long i = 0; i < matrix.rows; i++) {
        for (long j = 0; j < matrix.columns; j++) matrix.set(i, j, (int(random() % 15) - 7) / 4.0f);
    }
}

void check_top(const char* name, TopKernel kernel, const Guarded& x, const Guarded& w, int sign,
               int kept, const std::vector<int>& sizes) {
    const int most = int(x.rows), n = int(w.rows);
    const Top all = top(kernel, most, 0, x, w, sign, kept, 2);
    const auto wrong = [&](const char* what, int row, int at, double got, double expected) {
        fail(what, name, {most, n, int(w.columns), x.data, x.stride, w.data, w.stride, nullptr, 0,
                          x.type, w.type, sign}, row, at, got, expected);
    };
    for (int row = 0; row < most; row += 1 + row / 8) {
        std::vector<double> entries(n);
        for (int j = 0; j < n; j++) {
            for (int p = 0; p < w.columns; p++) entries[j] += double(x.get(row, p)) * w.get(j, p);
        }
        for (int s = 0; s < all.lists; s++) {
            const double factor = sign == HALTER_TOP_MINUS || s == 1 ? -1 : 1;
            std::vector<int> order(n);
            for (int j = 0; j < n; j++) order[j] = j;
            std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
                return sign == HALTER_TOP_ABSOLUTE ? std::fabs(entries[a]) > std::fabs(entries[b])
                                                   : factor * entries[a] > factor * entries[b];
            });
            const int list = row * all.lists + s;
            for (int i = 0; i < kept; i++) {
                const int id = all.ids[list * kept + i], expected = i < n ? order[i] : -1;
                const double value = all.values[list * kept + i];
                if (id != expected) wrong("top id", row, i, id, expected);
                const double entry = i < n ? factor * entries[order[i]] : -INFINITY;
                if (value != entry) wrong("top value", row, i, value, entry);
            }
            if (sign == HALTER_TOP_ABSOLUTE) continue;
            double max = -INFINITY, sum = 0;
            for (double entry : entries) max = std::max(max, factor * entry);
            for (double entry : entries) sum += std::exp(factor * entry - max);
            if (all.sums[2 * list] != max) wrong("maximum", row, s, all.sums[2 * list], max);
            const double got = all.sums[2 * list + 1];
            if (!(std::fabs(got - sum) <= 1e-6 * sum)) wrong("sum of exp", row, s, got, sum);
        }
    }
    // Exact sums: another library's products give the same lists; sums of exp see other groups.
    const Top by_gemm = top(kernel, most, 0, x, w, sign, kept, 1, by_own_products);
    if (by_gemm.ids != all.ids || by_gemm.values != all.values) wrong("top by products", 0, 0, 0, 0);
    for (size_t i = 0; i < all.sums.size(); i++) {
        if (!(std::fabs(by_gemm.sums[i] - all.sums[i]) <= 1e-6 * std::fabs(all.sums[i]))) {
            wrong("sum by products", int(i), 0, by_gemm.sums[i], all.sums[i]);
        }
    }
    for (int m : sizes) {
        const int from = (most - m) / 2;
        const Top part = top(kernel, m, from, x, w, sign, kept, 1 + m % 3);
        if (!part.same_rows(all, from)) wrong("bits change with m or threads", from, m, 0, 0);
    }
}

void best_entries() {
    struct Set {
        const char* name;
        TopKernel (*kernel_for)(int, int);
    };
    std::vector<Set> sets = {{"avx2 top", avx2_top}};
    if (cpu().isa >= Isa::AVX512) sets.push_back({"avx512 top", avx512_top});
    if (cpu().isa >= Isa::AVX512_BF16) sets.push_back({"avx512_bf16 top", avx512_bf16_top});
    std::mt19937 random(4);
    const auto on_all_sets = [&](const Guarded& x, const Guarded& w, int sign, int kept,
                                 const std::vector<int>& sizes) {
        for (const Set& set : sets) {
            TopKernel kernel = set.kernel_for(x.type, w.type);
            if (kernel) check_top(set.name, kernel, x, w, sign, kept, sizes);
        }
    };
    for (int x_type : {HALTER_F32, HALTER_BF16}) {
        for (int w_type : {HALTER_F32, HALTER_F16, HALTER_BF16}) {
            int sign = 0;
            for (int n : {1, 11, 95, 97, 193, 700}) {
                for (int k : {1, 7, 8, 33}) {
                    Guarded x(67, k, k + 3, x_type), w(n, k, k % 2 ? k : k + 5, w_type);
                    fill_exactly(x, random);
                    fill_exactly(w, random);
                    on_all_sets(x, w, sign++ % 4, 1 + n % 20, {1, 8, 9, 16, 17, 32, 33, 66});
                }
            }
            // More than a block of x, a tile of w, and the steps that sums stay in registers for.
            Guarded x(550, 2049, 2049, x_type), w(310, 2049, 2050, w_type);
            fill_exactly(x, random);
            fill_exactly(w, random);
            on_all_sets(x, w, HALTER_TOP_BOTH, 3, {1, 100, 530});
            // Sums that round: the same bits all the same.
            Guarded normal(75, 600, 600, x_type), weights(200, 600, 600, w_type);
            normal.fill(random);
            weights.fill(random);
            for (const Set& set : sets) {
                TopKernel kernel = set.kernel_for(x_type, w_type);
                if (!kernel) continue;
                const Top all = top(kernel, 75, 0, normal, weights, HALTER_TOP_BOTH, 5, 1);
                for (int m : {1, 16, 40}) {
                    const Top part = top(kernel, m, 20, normal, weights, HALTER_TOP_BOTH, 5, 2);
                    if (!part.same_rows(all, 20)) {
                        fail("rounded bits change with m", set.name,
                             {m, 200, 600, nullptr, 0, nullptr, 0, nullptr, 0, x_type, w_type, 0},
                             0, 0, 0, 0);
                    }
                }
            }
        }
    }
}

void best_entries_refuse() {
    float x[4] = {1, 2, 3, 4}, values[4] = {-7, -7, -7, -7};
    int ids[4];
    const auto call = [&](int m, int n, int k, int x_type, int w_type, int sign, int kept,
                          float* sums) {
        return halter_multiply_top(m, n, k, x, x_type, 2, x, w_type, 2, sign, kept, ids, values,
                                   sums);
    };
    const bool refused = call(0, 2, 2, 1, 1, 0, 1, nullptr) && call(2, 0, 2, 1, 1, 0, 1, nullptr) &&
                         call(2, 2, 0, 1, 1, 0, 1, nullptr) && call(2, 2, 3, 1, 1, 0, 1, nullptr) &&
                         call(2, 2, 2, 2, 1, 0, 1, nullptr) && call(2, 2, 2, 1, 4, 0, 1, nullptr) &&
                         call(2, 2, 2, 1, 1, 4, 1, nullptr) && call(2, 2, 2, 1, 1, 0, 0, nullptr) &&
                         call(2, 2, 2, 1, 1, 3, 1, x) && values[0] == -7;
    const bool computed = !call(2, 2, 2, 1, 1, 0, 1, nullptr) && ids[1] == 1 && values[1] == 25;
    if (!refused || !computed) {
        failures++;
        std::printf("FAIL arguments of best entries: refused %d, computed %d\n", refused, computed);
    }
}

}  // namespace

// gemm-test [directory of libdnnl.so.3]
int main(int count, char** arguments) {
    if (cpu().isa == Isa::NONE) {
        std::printf("FAIL %s\n", cpu().problem.c_str());
        return 1;
    }
    values_and_bits();
    several_blocks();
    transposed_factors();
    nan_and_infinity_stay_in_their_row_and_column();
    refusals();
    best_entries();
    best_entries_refuse();
    if (halter_onednn("/nowhere") == 0) {
        failures++;
        std::printf("FAIL oneDNN is said to be where it is not\n");
    }
    if (count > 1) agrees_with_onednn(arguments[1]);
    std::printf("gemm (%s): %s\n", name(cpu().isa), failures ? "FAILED" : "ok");
    return failures ? 1 : 0;
}
