// Tests of the faithful build: that it runs kernels as CUDA does, under every schedule, and that it
// reports the mistakes it promises to report and goes on working.

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "halter.h"

static int failures = 0;

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            failures++;                                                           \
        }                                                                         \
    } while (0)

struct Grid {
    int x = 1, y = 1, z = 1;
};

/// Launches a kernel; returns the error's text, or nothing.
template <typename... A>
static std::string launch(const char* kernel, Grid grid, int block, int shared, A... arguments) {
    int id = halter_kernel(kernel);
    if (id < 0) return halter_error();
    void* addresses[] = {&arguments..., nullptr};
    int status = halter_launch(id, grid.x, grid.y, grid.z, block, shared, addresses);
    return status == 0 ? "" : halter_error();
}

static bool mentions(const std::string& text, std::initializer_list<const char*> parts) {
    for (const char* part : parts) {
        if (text.find(part) == std::string::npos) {
            printf("'%s' does not mention '%s'\n", text.c_str(), part);
            return false;
        }
    }
    return true;
}

/// Line of the n-th occurrence of a text in the kernels' file, counted after `kernel(`.
static std::string place(const char* kernel, const char* text, int n = 1) {
    FILE* file = fopen(KERNELS, "r");
    char line[512];
    bool inside = false;
    for (int number = 1; fgets(line, sizeof line, file) != nullptr; number++) {
        inside = inside || strstr(line, (std::string(kernel) + "(").c_str()) != nullptr;
        if (inside && strstr(line, text) != nullptr && --n == 0) {
            fclose(file);
            return "kernels.cu:" + std::to_string(number);
        }
    }
    fclose(file);
    return "no such place";
}

static void every_thread_of_every_block_runs() {
    std::vector<int> out(2 * 3 * 4 * 64, -1), expected(out.size());
    std::iota(expected.begin(), expected.end(), 0);
    CHECK(launch("number", {2, 3, 4}, 64, 0, out.data()) == "");
    CHECK(out == expected);
}

static void reductions_give_every_thread_the_result() {
    for (int block : {32, 64, 96, 256, 992, 1024}) {
        std::vector<float> in(block), out(4 * block);
        double sum = 0;
        for (int i = 0; i < block; i++) sum += in[i] = float((i * 37) % 101 - 50);
        int best = 0;
        float smallest = in[0];
        for (int i = 1; i < block; i++) {
            if (in[i] > in[best]) best = i;
            smallest = in[i] < smallest ? in[i] : smallest;
        }
        CHECK(launch("reductions", {}, block, 0, out.data(), in.data()) == "");
        bool all = true;
        for (int i = 0; i < block; i++) {
            // Small integers: exact in any order.
            all = all && out[4 * i] == float(sum) && out[4 * i + 1] == in[best] &&
                  out[4 * i + 2] == smallest && out[4 * i + 3] == float(best);
        }
        CHECK(all);
    }
}

static void warp_operations_do_as_cuda_says() {
    std::vector<int> out(32 * 8);
    CHECK(launch("warp_operations", {}, 32, 0, out.data()) == "");
    for (int lane = 0; lane < 32; lane++) {
        const int* row = &out[8 * lane];
        CHECK(row[0] == 107);
        CHECK(row[1] == 100 + (lane < 3 ? lane : lane - 3));
        CHECK(row[2] == 100 + (lane > 28 ? lane : lane + 3));
        CHECK(row[3] == 100 + (lane ^ 5));
        CHECK(row[4] == 100 + lane / 8 * 8 + 1);
        CHECK(row[5] == 0x49249249);
        CHECK(row[6] == 1);
        CHECK(row[7] == 1);
    }
}

static void warps_meet_without_the_rest_of_the_block() {
    std::vector<int> out(96);
    CHECK(launch("some_warps", {}, 96, 0, out.data()) == "");
    for (int t = 0; t < 96; t++) {
        CHECK(out[t] == (t < 32 ? 31 * 32 / 2 : t < 48 ? 33 : t < 64 ? 48 : t));
    }
}

static void shared_memory_is_poisoned_for_each_block() {
    std::vector<unsigned> out(6);
    CHECK(launch("uninitialised", {3}, 32, 16, out.data()) == "");
    for (unsigned bits : out) CHECK(bits == 0xffffffffu);
}

static void parameters_arrive() {
    std::vector<double> out(4);
    int sizes[8];
    int id = halter_kernel("parameters");
    CHECK(halter_kernel_parameters(id, sizes, 8) == 5);
    CHECK(sizes[0] == 8 && sizes[1] == 4 && sizes[2] == 4 && sizes[3] == 8 && sizes[4] == 4);
    CHECK(launch("parameters", {}, 32, 0, out.data(), -3, 0.25f, 1LL << 40, 4000000000u) == "");
    CHECK(out[0] == -3 && out[1] == 0.25 && out[2] == double(1LL << 40) && out[3] == 4e9);
}

static void atomics_count() {
    std::vector<int> counter{0, -5, -1};
    float sum = 0;
    CHECK(launch("count", {7}, 96, 0, counter.data(), &sum) == "");
    CHECK(counter[0] == 7 * 96 && counter[1] == 95 && counter[2] == 42);
    CHECK(sum == 7 * 96 * 0.5f);
}

static void a_missing_barrier_shows_between_schedules() {
    std::map<int, std::vector<int>> results;
    for (int kind : {HALTER_FORWARD, HALTER_REVERSE, HALTER_RANDOM}) {
        halter_schedule(kind, 1);
        results[kind].resize(2 * 64);
        CHECK(launch("race", {2}, 64, 0, results[kind].data()) == "");
    }
    auto block = [&](int kind, int i) {
        return std::vector<int>(results[kind].begin() + 64 * i, results[kind].begin() + 64 * i + 64);
    };
    CHECK(block(HALTER_FORWARD, 0) != block(HALTER_REVERSE, 0));
    CHECK(block(HALTER_FORWARD, 0) != block(HALTER_RANDOM, 0));
    CHECK(block(HALTER_FORWARD, 1) == block(HALTER_REVERSE, 1));
    CHECK(block(HALTER_FORWARD, 1) == block(HALTER_RANDOM, 1));
}

static void mistakes_are_reported() {
    std::vector<int> out(96);
    int* p = out.data();
    struct Mistake {
        const char* kernel;
        std::vector<std::string> mentions;
    };
    const Mistake mistakes[] = {
        {"different_barriers",
         {"different barriers", place("different_barriers", "__syncthreads", 1),
          place("different_barriers", "__syncthreads", 2), "thread 0", "thread 7"}},
        {"early_exit", {"thread 5 has ended", place("early_exit", "__syncthreads")}},
        {"not_in_mask", {"not in its own mask 0x0000ffff", place("not_in_mask", "__shfl")}},
        {"reads_outside_mask", {"lane 20", place("reads_outside_mask", "__shfl")}},
        {"absent_lane", {"for ever", "thread 3 has ended", place("absent_lane", "__shfl")}},
        {"lane_at_barrier",
         {"for ever", "thread 3 is at the barrier", place("lane_at_barrier", "__shfl")}},
        {"different_operations",
         {"different operations", place("different_operations", "__shfl"),
          place("different_operations", "__any")}},
        {"overrun", {"past its 128 bytes"}},
    };
    for (const Mistake& mistake : mistakes) {
        std::string error = launch(mistake.kernel, {1, 2}, 64, 128, p);
        CHECK(mentions(error, {mistake.kernel, "block (0, "}));
        for (const std::string& part : mistake.mentions) CHECK(mentions(error, {part.c_str()}));
        warps_meet_without_the_rest_of_the_block();  // it still works
    }
}

static void impossible_launches_are_refused() {
    std::vector<int> out(96);
    CHECK(mentions(launch("nothing", {}, 32, 0, out.data()), {"nothing"}));
    for (int block : {0, 16, 33, 1056}) {
        CHECK(mentions(launch("number", {}, block, 0, out.data()), {"number", "32"}));
    }
    CHECK(mentions(launch("number", {0}, 32, 0, out.data()), {"grid"}));
    CHECK(mentions(launch("number", {1, 70000}, 32, 0, out.data()), {"grid"}));
    CHECK(mentions(launch("number", {}, 32, 1 << 20, out.data()), {"shared"}));
    CHECK(halter_kernel_parameters(-1, nullptr, 0) < 0);
    CHECK(halter_schedule(3, 0) < 0);
    int kernels = 0;
    while (halter_kernel_name(kernels) != nullptr) kernels++;
    CHECK(kernels > 10 && halter_kernel(halter_kernel_name(kernels - 1)) == kernels - 1);
}

int main() {
    for (int kind : {HALTER_FORWARD, HALTER_REVERSE, HALTER_RANDOM}) {
        halter_schedule(kind, 7);
        every_thread_of_every_block_runs();
        reductions_give_every_thread_the_result();
        warp_operations_do_as_cuda_says();
        warps_meet_without_the_rest_of_the_block();
        shared_memory_is_poisoned_for_each_block();
        parameters_arrive();
        atomics_count();
        mistakes_are_reported();
    }
    a_missing_barrier_shows_between_schedules();
    impossible_launches_are_refused();
    printf(failures == 0 ? "all well\n" : "%d failures\n", failures);
    return failures != 0;
}
