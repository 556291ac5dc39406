// The part of the C interface that both libraries have in common.

#include "runtime.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <set>
#include <string>
#include <unordered_map>

#include "halter.h"

namespace halter {
namespace {

std::string& error() {
    static thread_local std::string text;
    return text;
}

std::atomic<int> threads{1};

/// The cores that this process may use. Two threads of one core would share its vector units, which
/// one keeps busy.
int cores() {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    std::set<std::string> found;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        std::string siblings = std::to_string(cpu);  // where the system does not say
        std::ifstream("/sys/devices/system/cpu/cpu" + siblings +
                      "/topology/thread_siblings_list") >> siblings;
        found.insert(siblings);
    }
    return int(found.size());
}

}  // namespace

int thread_count() {
    return threads;
}

void fail(const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error() = text;
}

bool check_launch(int id, int grid_x, int grid_y, int grid_z, int block, int shared) {
    if (id < 0 || id >= kernels().count()) {
        fail("no kernel number %d", id);
        return false;
    }
    const char* name = kernels().begin[id]->name;
    if (grid_x < 1 || grid_y < 1 || grid_z < 1 || grid_y > 65535 || grid_z > 65535) {
        fail("kernel %s: no such grid: %d x %d x %d", name, grid_x, grid_y, grid_z);
        return false;
    }
    if (block < 32 || block > 1024 || block % 32 != 0) {
        fail("kernel %s: a block has a multiple of 32 threads up to 1024, not %d", name, block);
        return false;
    }
    const bool for_sm90 = strstr(name, "_sm90") != nullptr;
    const int most = for_sm90 ? HALTER_SHARED_SM90 : HALTER_SHARED_MAX;
    if (shared < 0 || shared > most) {
        fail("kernel %s: a block has at most %d bytes of dynamic shared memory, not %d", name, most,
             shared);
        return false;
    }
    return true;
}

}  // namespace halter

using namespace halter;

int halter_abi() {
    return HALTER_ABI;
}

const char* halter_error() {
    return error().c_str();
}

int halter_threads(int count) {
    threads = count > 0 ? count : cores();
    return threads;
}

int halter_kernel(const char* name) {
    static const std::unordered_map<std::string, int> ids = [] {
        std::unordered_map<std::string, int> map;
        for (int i = 0; i < kernels().count(); i++) map[kernels().begin[i]->name] = i;
        return map;
    }();
    auto found = ids.find(name);
    if (found == ids.end()) {
        fail("no kernel named '%s'", name);
        return -1;
    }
    return found->second;
}

const char* halter_kernel_name(int id) {
    return id >= 0 && id < kernels().count() ? kernels().begin[id]->name : nullptr;
}

int halter_kernel_parameters(int id, int* sizes, int max) {
    if (id < 0 || id >= kernels().count()) {
        fail("no kernel number %d", id);
        return -1;
    }
    const Kernel& kernel = *kernels().begin[id];
    std::copy_n(kernel.sizes, std::min(max, kernel.parameters), sizes);
    return kernel.parameters;
}
