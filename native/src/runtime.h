// What the parts of the libraries share.

#pragma once

#include "kernels.h"

namespace halter {

/// The kernels of one build, in the order of the linker.
struct KernelTable {
    const Kernel* const* begin = nullptr;
    const Kernel* const* end = nullptr;

    int count() const { return int(end - begin); }
};

/// Those linked into the library that defines this: see table.cpp.
extern "C" KernelTable halter_kernel_table();

/// Those that this library runs.
const KernelTable& kernels();

/// How many threads to use: what halter_threads() last set.
int thread_count();

/// Keeps a message for halter_error() on this thread.
__attribute__((format(printf, 1, 2))) void fail(const char* format, ...);

/// Whether the launch is one that every device can do; keeps a message if not.
bool check_launch(int id, int grid_x, int grid_y, int grid_z, int block, int shared);

}  // namespace halter
