// libhalter.so: kernels whose blocks have one thread, spread over the threads of the pool.

#include "halter.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "cpu.h"
#include "cuda_on_cpu.h"
#include "pool.h"
#include "runtime.h"

__thread HalterDim blockIdx, gridDim;
__thread void* halter_shared;

namespace halter {
namespace {

/// The build of the kernels for this CPU.
struct Build {
    KernelTable kernels;
    std::string problem;  // if there is none
};

Build load() {
    Build build;
    build.problem = cpu().problem;
    if (!build.problem.empty()) return build;
    const char* file = cpu().isa == Isa::AVX2 ? "libhalter-v3.so" : "libhalter-v4.so";
    // Found beside this library, by its run path.
    void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        build.problem = dlerror();
        return build;
    }
    build.kernels =
        reinterpret_cast<decltype(&halter_kernel_table)>(dlsym(library, "halter_kernel_table"))();
    return build;
}

const Build& build() {
    static const Build loaded = load();
    return loaded;
}

/// Dynamic shared memory of one thread, kept from launch to launch.
void provide_shared(int bytes) {
    struct Memory {
        void* data = nullptr;
        int bytes = 0;
        ~Memory() { free(data); }
    };
    static thread_local Memory memory;
    if (memory.bytes < bytes) {
        free(memory.data);
        memory.bytes = (bytes + 127) / 128 * 128;
        memory.data = aligned_alloc(128, memory.bytes);
    }
    halter_shared = memory.data;
}

struct Launch {
    const Kernel& kernel;
    HalterDim grid;
    int shared;
    void* const* arguments;

    /// Runs the blocks from `first` to before `end`.
    void run(long first, long end) const {
        if (shared > 0) provide_shared(shared);
        gridDim = grid;
        HalterDim block{int(first % grid.x), int(first / grid.x % grid.y),
                        int(first / grid.x / grid.y)};
        for (long i = first; i < end; i++) {
            blockIdx = block;
            kernel.call(arguments);
            if (++block.x == grid.x) {
                block.x = 0;
                if (++block.y == grid.y) {
                    block.y = 0;
                    block.z++;
                }
            }
        }
    }
};

}  // namespace

const KernelTable& kernels() {
    return build().kernels;
}

}  // namespace halter

using namespace halter;

const char* halter_isa() {
    if (build().problem.empty()) return name(cpu().isa);
    fail("%s", build().problem.c_str());
    return nullptr;
}

int halter_launch(int id, int grid_x, int grid_y, int grid_z, int block, int shared,
                  void** arguments) {
    if (!check_launch(id, grid_x, grid_y, grid_z, block, shared)) return -1;
    Launch launch{*kernels().begin[id], {grid_x, grid_y, grid_z}, shared, arguments};
    long blocks = long(grid_x) * grid_y * grid_z;

    // The first blocks run here while their pace is taken: waking threads costs microseconds, and
    // many launches are over before that. Twice as many each time, since to look at the clock costs
    // as much as a small block.
    using clock = std::chrono::steady_clock;
    constexpr double measurable = 1e-6, worth_waking = 20e-6, worth_sharing = 4e-6;
    const double worthwhile = helpers_awake() ? worth_sharing : worth_waking;
    const auto start = clock::now();
    launch.run(0, 1);
    long done = 1;
    while (done < blocks) {
        double spent = std::chrono::duration<double>(clock::now() - start).count();
        double left = spent / done * (blocks - done);
        if (spent > measurable && left > worthwhile) break;
        long end = std::min(2 * done, blocks);
        launch.run(done, end);
        done = end;
    }
    share_ranges(thread_count(), blocks - done,
                 [&](long first, long end) { launch.run(done + first, done + end); });
    return 0;
}

int halter_schedule(int, long) {
    fail("this build has no schedules: only the faithful one has");
    return -1;
}
