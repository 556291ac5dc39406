// The one place that looks at the CPU.

#pragma once

#include <string>

namespace halter {

/// The instruction sets that kernels and products are built for, each with all before it.
enum class Isa { NONE, AVX2, AVX512, AVX512_BF16 };

/// "avx2", "avx512" or "avx512_bf16".
const char* name(Isa);

struct Cpu {
    Isa best;  // of those that it has
    Isa cap;   // what environment variable HALTER_MAX_ISA names; NONE: nothing
    Isa isa;   // what is used, the lesser of both; NONE: it cannot be
    std::string problem;  // why not
};

/// This CPU, as it was when first asked for.
const Cpu& cpu();

}  // namespace halter
