// The instructions of sm_80 that tensor-core kernels are made of: mma.sync, ldmatrix and cp.async.
//
// On the CPU (faithful build) the same functions do what the PTX ISA says of them, warp by warp, so
// that tests run the text of such a kernel, its indices and its barriers, where there is no GPU. Of
// the asynchronous copies half are made at once and half at their wait, so that both data used too
// soon and data overwritten too soon show.
#pragma once
#include "types.cuh"

#ifndef __CUDACC__
#include <vector>
#endif

// mma.m16n8k16: C[16][8] += A[16][16] B[16][8], bf16 factors and f32 sums. Which elements each lane
// holds (PTX ISA, "Matrix Fragments for mma.m16n8k16"): register i of A has (row, column) and
// (row, column + 1), that of B (row, column) and (row + 1, column), that of C one element.
struct MmaPlace {
    int row, column;
};

__device__ constexpr MmaPlace mma_a(int lane, int i) {
    return {lane / 4 + i % 2 * 8, lane % 4 * 2 + i / 2 * 8};
}

__device__ constexpr MmaPlace mma_b(int lane, int i) {
    return {lane % 4 * 2 + i * 8, lane / 4};
}

__device__ constexpr MmaPlace mma_c(int lane, int i) {
    return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2};
}

// Two bf16 in a register, the first in the lower half.
__device__ __forceinline__ unsigned bf16_pair(float first, float second) {
    return from_float<bf16>(first).bits | (unsigned)from_float<bf16>(second).bits << 16;
}

#ifdef __CUDACC__

__device__ __forceinline__ void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                    unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Loads four 8 x 8 matrices of bf16 from shared memory: lane 8 * i + r points at row r of matrix i
// (16-byte aligned), and register i gets the elements (lane / 4, 2 * (lane % 4) + {0, 1}) of it:
// what mma_a asks for where rows of shared memory are rows of A, and mma_b where they are columns
// of B.
__device__ __forceinline__ void load_matrices(unsigned (&registers)[4], const bf16* row) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
}

// Loads four 8 x 8 matrices of bf16 from shared memory, transposed: lane 8 * i + r points at row r
// of matrix i (16-byte aligned), and register i gets the elements (2 * (lane % 4) + {0, 1},
// lane / 4) of it, which is what mma_b asks for where rows of shared memory are rows of B.
__device__ __forceinline__ void load_transposed(unsigned (&registers)[4], const bf16* row) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
}

// Starts a copy of 16 bytes to shared memory; zeros instead where `valid` is false.
__device__ __forceinline__ void start_copy(bf16* shared, const bf16* global, bool valid) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(global), "r"(valid ? 16 : 0)
                 : "memory");
}

// The copies that this thread started since the last call become a group.
__device__ __forceinline__ void end_copy_group() { asm volatile("cp.async.commit_group;"); }

// Waits until at most the last N groups of this thread are under way.
template <int N>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
}

#else

inline void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    struct Matrices {
        float a[16][16], b[16][8];
    };
    __shared__ Matrices matrices[32];
    Matrices& m = matrices[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    const unsigned b[2] = {b0, b1};
    for (int i = 0; i < 4; i++) {
        const MmaPlace at = mma_a(lane, i);
        m.a[at.row][at.column] = __uint_as_float(a[i] << 16);
        m.a[at.row][at.column + 1] = __uint_as_float(a[i] & 0xffff0000u);
    }
    for (int i = 0; i < 2; i++) {
        const MmaPlace at = mma_b(lane, i);
        m.b[at.row][at.column] = __uint_as_float(b[i] << 16);
        m.b[at.row + 1][at.column] = __uint_as_float(b[i] & 0xffff0000u);
    }
    __syncwarp();
    for (int i = 0; i < 4; i++) {
        const MmaPlace at = mma_c(lane, i);
        for (int k = 0; k < 16; k++) c[i] += m.a[at.row][k] * m.b[k][at.column];
    }
    __syncwarp();
}

inline void load_matrices(unsigned (&registers)[4], const bf16* row) {
    __shared__ const bf16* rows[32][32];
    const bf16** of_warp = rows[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    of_warp[lane] = row;
    __syncwarp();
    for (int i = 0; i < 4; i++) {
        const bf16* of_matrix = of_warp[8 * i + lane / 4] + lane % 4 * 2;
        registers[i] = of_matrix[0].bits | (unsigned)of_matrix[1].bits << 16;
    }
    __syncwarp();
}

inline void load_transposed(unsigned (&registers)[4], const bf16* row) {
    __shared__ const bf16* rows[32][32];
    const bf16** of_warp = rows[threadIdx.x / 32];
    const int lane = threadIdx.x % 32;
    of_warp[lane] = row;
    __syncwarp();
    for (int i = 0; i < 4; i++) {
        const bf16* const* of_matrix = of_warp + 8 * i + lane % 4 * 2;
        registers[i] = of_matrix[0][lane / 4].bits | (unsigned)of_matrix[1][lane / 4].bits << 16;
    }
    __syncwarp();
}

// Copies under way, by thread: a nullptr ends a group.
struct AsyncCopy {
    bf16* to;
    const bf16* from;
    bool valid;
};

inline std::vector<AsyncCopy>& async_copies() {
    static std::vector<AsyncCopy> copies[1024];
    return copies[threadIdx.x];
}

inline void make(const AsyncCopy& copy) {
    if (copy.valid) {
        memcpy(copy.to, copy.from, 16);
    } else {
        memset(copy.to, 0, 16);
    }
}

inline void start_copy(bf16* shared, const bf16* global, bool valid) {
    const AsyncCopy copy = {shared, global, valid};
    if (reinterpret_cast<uintptr_t>(shared) / 16 % 2 == 0) {
        make(copy);
    } else {
        async_copies().push_back(copy);
    }
}

inline void end_copy_group() { async_copies().push_back({nullptr, nullptr, false}); }

template <int N>
void wait_for_copies() {
    std::vector<AsyncCopy>& copies = async_copies();
    int groups = 0;
    for (const AsyncCopy& copy : copies) groups += copy.to == nullptr;
    size_t done = 0;
    for (; groups > N; done++) {
        const AsyncCopy& copy = copies[done];
        if (copy.to == nullptr) {
            groups--;
        } else {
            make(copy);
        }
    }
    copies.erase(copies.begin(), copies.begin() + done);
}

#endif
