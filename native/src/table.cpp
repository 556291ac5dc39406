// The table of the kernels that are linked into the same library as this file.

#include "runtime.h"

extern "C" {
// Made by the linker around the section that KERNEL() fills.
extern const halter::Kernel* const __start_halter_kernels[] __attribute__((visibility("hidden")));
extern const halter::Kernel* const __stop_halter_kernels[] __attribute__((visibility("hidden")));

__attribute__((visibility("default"))) halter::KernelTable halter_kernel_table() {
    return {__start_halter_kernels, __stop_halter_kernels};
}
}
