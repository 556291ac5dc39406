// The table of kernels. Each .cu file is compiled through a small generated file that includes it
// and names its entry points with KERNEL(name, cluster); types and sizes come from the functions
// themselves, so no list is kept by hand.

#pragma once

#include <utility>

namespace halter {

/// One kernel of the table.
struct Kernel {
    const char* name;
    int parameters;
    const int* sizes;
    /// Blocks of a cluster, along x.
    int cluster;
    /// Calls the kernel once, for the block and thread that blockIdx and threadIdx name.
    void (*call)(void* const* arguments);
};

template <auto function>
struct Entry;

template <typename... P, void (*function)(P...)>
struct Entry<function> {
    static constexpr int sizes[] = {int(sizeof(P))..., 0};

    template <std::size_t... I>
    static void unpack(void* const* arguments, std::index_sequence<I...>) {
        function(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
    }

    static void call(void* const* arguments) {
        unpack(arguments, std::index_sequence_for<P...>());
    }

    static constexpr Kernel kernel(const char* name, int cluster) {
        return {name, int(sizeof...(P)), sizes, cluster, &call};
    }
};

// The linker gathers the pointers of all files in one section, which is the table. (Pointers, not
// the entries themselves: the compiler may align those further apart.)
#define KERNEL(name, cluster)                                                                \
    static constexpr halter::Kernel kernel_##name =                                          \
        halter::Entry<&name>::kernel(#name, cluster);                                        \
    __attribute__((section("halter_kernels"), used)) static const halter::Kernel* const      \
        pointer_##name = &kernel_##name;

}  // namespace halter
