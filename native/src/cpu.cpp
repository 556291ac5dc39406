#include "cpu.h"

#include <stdlib.h>

#include <algorithm>

#include "halter.h"

namespace halter {
namespace {

Isa best() {
    if (!__builtin_cpu_supports("x86-64-v3")) return Isa::NONE;
    if (!__builtin_cpu_supports("x86-64-v4")) return Isa::AVX2;
    return __builtin_cpu_supports("avx512bf16") ? Isa::AVX512_BF16 : Isa::AVX512;
}

Cpu look() {
    Cpu cpu{best(), Isa::NONE, Isa::NONE, ""};
    const char* wanted = getenv("HALTER_MAX_ISA");
    if (wanted && *wanted) {
        for (Isa isa : {Isa::AVX2, Isa::AVX512, Isa::AVX512_BF16}) {
            if (std::string(wanted) == name(isa)) cpu.cap = isa;
        }
        if (cpu.cap == Isa::NONE) {
            cpu.problem = "HALTER_MAX_ISA is '" + std::string(wanted) +
                          "', which is none of avx2, avx512, avx512_bf16";
            return cpu;
        }
    }
    cpu.isa = cpu.cap == Isa::NONE ? cpu.best : std::min(cpu.best, cpu.cap);
    if (cpu.isa == Isa::NONE) {
        cpu.problem = "this CPU lacks AVX2: the kernels need x86-64-v3 or later";
    }
    return cpu;
}

}  // namespace

const char* name(Isa isa) {
    switch (isa) {
        case Isa::AVX2: return "avx2";
        case Isa::AVX512: return "avx512";
        case Isa::AVX512_BF16: return "avx512_bf16";
        default: return "none";
    }
}

const Cpu& cpu() {
    static const Cpu found = look();
    return found;
}

}  // namespace halter

const char* halter_cpu_isa() {
    return halter::name(halter::cpu().best);
}
