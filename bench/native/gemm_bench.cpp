// How near the matrix product comes to what this machine can do, on its own and beside oneDNN:
//   gemm_bench [threads] [directory of libdnnl.so.3]
// On a machine with other work, more than one thread mostly measures that work.
// First the limits, measured in the same run: fused multiply-adds on registers (f32, and bf16 pairs
// where the CPU has them) and reading 1 GiB of memory, each thread one stream (the product reads
// eight rows at once and can be faster). Then for each shape the first quartile of interleaved runs,
// in GFLOP/s and as a share of the limit that binds it: reading w once, or arithmetic. Weights rotate
// through copies of 512 MiB in all, so they come from memory as those of a model do, and start 8
// bytes off a cache line, as tensors in safetensors files do.

// g++ 12 takes the "undefined" operands inside its own intrinsics for uninitialised variables.
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cpu.h"
#include "gemm.h"
#include "halter.h"
#include "pool.h"
#include "runtime.h"

int used_threads = 1;

// What the product needs of the runtime.
namespace halter {
int thread_count() { return used_threads; }
void fail(const char*, ...) {}
}  // namespace halter

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

// Calls `run` until that has taken `at_least` seconds and adds the time of each call to `times`.
template <class Run>
void measure(Run run, double at_least, std::vector<double>& times) {
    for (double end = now() + at_least; now() < end;) {
        double start = now();
        run();
        times.push_back(now() - start);
    }
}

// The first quartile: neither other work on the machine nor weights met by luck in a cache.
double typical(std::vector<double>& times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 4];
}

// A limit is the shortest time.
template <class Run>
double best(Run run, double at_least) {
    std::vector<double> times;
    measure(run, at_least, times);
    return *std::min_element(times.begin(), times.end());
}

__attribute__((target("avx512f,avx512bf16"))) float bf16_pairs(long rounds) {
    __m512 sum[16] = {};
    __m512bh one = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (long i = 0; i < rounds; i++) {
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) {
            sum[j] = _mm512_dpbf16_ps(sum[j], one, one);
            asm volatile("" : "+v"(sum[j]));
        }
    }
    __m512 total = sum[0];
#pragma GCC unroll 16
    for (int j = 1; j < 16; j++) total = _mm512_add_ps(total, sum[j]);
    return _mm512_reduce_add_ps(total);
}

__attribute__((target("avx512f"))) float wide_adds(long rounds) {
    __m512 sum[16] = {}, one = _mm512_set1_ps(1);
    for (long i = 0; i < rounds; i++) {
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) {
            sum[j] = _mm512_fmadd_ps(one, one, sum[j]);
            asm volatile("" : "+v"(sum[j]));
        }
    }
    __m512 total = sum[0];
#pragma GCC unroll 16
    for (int j = 1; j < 16; j++) total = _mm512_add_ps(total, sum[j]);
    return _mm512_reduce_add_ps(total);
}

__attribute__((target("avx2,fma"))) float narrow_adds(long rounds) {
    __m256 sum[12] = {}, one = _mm256_set1_ps(1);
    for (long i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < 12; j++) {
            sum[j] = _mm256_fmadd_ps(one, one, sum[j]);
            asm volatile("" : "+x"(sum[j]));
        }
    }
    __m256 total = sum[0];
#pragma GCC unroll 12
    for (int j = 1; j < 12; j++) total = _mm256_add_ps(total, sum[j]);
    return _mm256_cvtss_f32(total);
}

volatile float sink;

double peak(float (*body)(long), double flops, int threads) {
    const long rounds = 200000;
    return flops * rounds * threads / 1e9 / best([&] {
        halter::share_each(threads, threads, [&](long) { sink = body(rounds); });
    }, 0.5);
}

__attribute__((target("avx2"))) float read_all(const char* from, long bytes) {
    __m256i all[4] = {};
    for (long i = 0; i < bytes; i += 128) {
        _mm_prefetch(from + i + 4096, _MM_HINT_T1);
        _mm_prefetch(from + i + 4160, _MM_HINT_T1);
        for (int j = 0; j < 4; j++) {
            all[j] = _mm256_or_si256(all[j], _mm256_load_si256((const __m256i*)(from + i) + j));
        }
    }
    __m256i any = _mm256_or_si256(_mm256_or_si256(all[0], all[1]), _mm256_or_si256(all[2], all[3]));
    return float(_mm256_extract_epi32(any, 0));
}

double read_bandwidth(int threads) {
    const long bytes = 1L << 30;
    char* memory = (char*)std::aligned_alloc(4096, bytes);
    std::memset(memory, 1, bytes);
    double seconds = best([&] {
        halter::share_each(threads, 64, [&](long i) {
            sink = read_all(memory + i * (bytes / 64), bytes / 64);
        });
    }, 1.0);
    std::free(memory);
    return bytes / 1e9 / seconds;
}

float element(long i) { return float((i * 2654435761u >> 8) % 2001) / 1000 - 1; }

void fill(char* to, long count, int type) {
    for (long i = 0; i < count; i++) {
        float v = element(i);
        if (type == HALTER_F32) {
            ((float*)to)[i] = v;
        } else {
            uint32_t bits;
            std::memcpy(&bits, &v, 4);
            ((uint16_t*)to)[i] = uint16_t(bits >> 16);
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    int threads = count > 1 ? std::atoi(arguments[1]) : int(std::thread::hardware_concurrency());
    used_threads = threads;
    bool onednn = count > 2 && halter_onednn(arguments[2]) == 0;
    bool pairs = halter::cpu().isa == halter::Isa::AVX512_BF16;
    bool wide = halter::cpu().isa != halter::Isa::AVX2;
    double adds = wide ? peak(wide_adds, 16 * 16 * 2, threads) : peak(narrow_adds, 12 * 8 * 2, threads);
    double pair_adds = pairs ? peak(bf16_pairs, 16 * 32 * 2, threads) : adds;
    double bandwidth = read_bandwidth(threads);
    std::printf("%s, %d threads: f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s, reading %.1f GB/s\n",
                halter::name(halter::cpu().isa), threads, adds, pair_adds, bandwidth);
    std::printf("%-10s %4s %6s %6s %9s %6s %6s %9s %9s\n", "x x w", "m", "n", "k", "GFLOP/s", "GB/s",
                "share", "w [k,n]", onednn ? "oneDNN" : "");

    const struct { int x, w; const char* name; } types[] = {{HALTER_F32, HALTER_F32, "f32xf32"},
                                                            {HALTER_BF16, HALTER_BF16, "bf16xbf16"},
                                                            {HALTER_F32, HALTER_BF16, "f32xbf16"}};
    const int shapes[][2] = {{768, 768}, {2048, 768}, {768, 2048}, {32000, 768}, {4096, 4096}};
    for (auto type : types) {
        for (auto shape : shapes) {
            for (int m : {1, 3, 8, 32, 128, 512}) {
                int n = shape[0], k = shape[1];
                long size = type.w == HALTER_F32 ? 4 : 2, x_size = type.x == HALTER_F32 ? 4 : 2;
                long weights = long(n) * k, copies = std::max(2L, (512L << 20) / (weights * size));
                char* w = (char*)std::aligned_alloc(4096, (copies * weights * size + 8191) / 4096 * 4096);
                char* x = (char*)std::aligned_alloc(4096, (m * long(k) * x_size + 4095) / 4096 * 4096);
                float* out = (float*)std::aligned_alloc(4096, (m * long(n) * 4 + 4095) / 4096 * 4096);
                fill(w + 8, weights, type.w);
                for (long i = 1; i < copies; i++) {
                    std::memcpy(w + 8 + i * weights * size, w + 8, weights * size);
                }
                fill(x, m * long(k), type.x);
                long turn = 0;
                auto run = [&](bool own, bool transposed) {
                    halter_onednn(own ? nullptr : arguments[2]);
                    halter_gemm(m, n, k, x, type.x, k, 0, w + 8 + turn++ % copies * weights * size,
                                type.w, transposed ? n : k, transposed, out, HALTER_F32, n);
                };
                std::vector<double> own_times, transposed_times, their_times;
                for (int i = 0; i < 3; i++) {
                    measure([&] { run(true, false); }, 0.08, own_times);
                    measure([&] { run(true, true); }, 0.08, transposed_times);
                    if (onednn) measure([&] { run(false, false); }, 0.08, their_times);
                }
                double ours = typical(own_times), theirs = onednn ? typical(their_times) : 0;
                double flops = 2.0 * m * weights / 1e9;
                double limit = std::max(weights * size / 1e9 / bandwidth,
                                        flops / (type.x == HALTER_BF16 ? pair_adds : adds));
                std::printf("%-10s %4d %6d %6d %9.1f %6.1f %5.0f%% %9.1f", type.name, m, n, k,
                            flops / ours, weights * size / 1e9 / ours, 100 * limit / ours,
                            flops / typical(transposed_times));
                if (onednn && type.x == type.w) std::printf(" %9.1f", flops / theirs);
                std::printf("\n");
                std::fflush(stdout);
                std::free(w);
                std::free(x);
                std::free(out);
            }
        }
    }
}
