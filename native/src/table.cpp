// The table of the kernels that are linked into the same library as this file.

#include "runtime.h"

// Made by the linker around the section that KERNEL() fills.
extern "C" const halter::Kernel* const __start_halter_kernels[]
    __attribute__((visibility("hidden")));
extern "C" const halter::Kernel* const __stop_halter_kernels[]
    __attribute__((visibility("hidden")));

extern "C" __attribute__((visibility("default"))) halter::KernelTable
halter::halter_kernel_table() {
    return {__start_halter_kernels, __stop_halter_kernels};
}
