// The instructions of sm_90a that kernels with wgmma are made of: products of a warpgroup, tensor
// copies, barriers in shared memory, clusters.
//
// On the CPU (faithful build) the same functions do what the PTX ISA says of them, so that tests
// run the text of such a kernel, its descriptors, swizzles, phases and roles, where there is no
// GPU. What is asynchronous happens there as late as it may or at once: products when they are
// waited for and no thread can go on without them, which shows factors overwritten too soon; of the
// copies some at once and some when no thread can go on, which shows data used too soon.
//
// Addresses of shared memory are 32-bit numbers, as the instructions take them.
#pragma once
#include "types.cuh"

/// The places of a ring in shared memory, one after another, and the parity of their barriers.
struct Ring {
    int stages;
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/// A CUtensorMap: PRECOND of the kernels: a matrix of bf16, boxes of 64 columns, swizzled by 128
/// bytes, zeros outside.
struct alignas(64) TensorMap {
    unsigned long long words[16];
};

/// Columns of a box, of whose 16-byte pieces c lies at c ^ row % 8 in shared memory. The box begins
/// at a multiple of 1,024 bytes.
constexpr int BOX_COLUMNS = 64;

/// What wgmma is told of a factor: rows of 64 elements as a tensor copy leaves them, from `address`
/// on. To go on by 16 elements along a row, add 2.
__device__ __forceinline__ unsigned long long wgmma_factor(unsigned address) {
    const unsigned long long start = (address & 0x3ffff) >> 4;
    const unsigned long long eight_rows = 1024 >> 4;
    const unsigned long long swizzle_128 = 1;
    return start | 1ull << 16 | eight_rows << 32 | swizzle_128 << 62;
}

/// Likewise of a factor B that lies the other way round, as [k][n] ("N-major"): boxes of 64 columns,
/// each `next_columns` bytes behind the one before. To go on by 16 rows, add 128.
__device__ __forceinline__ unsigned long long wgmma_factor_across(unsigned address,
                                                                  unsigned next_columns) {
    const unsigned long long start = (address & 0x3ffff) >> 4;
    const unsigned long long eight_rows = 1024 >> 4;
    const unsigned long long swizzle_128 = 1;
    return start | (unsigned long long)(next_columns >> 4) << 16 | eight_rows << 32 |
           swizzle_128 << 62;
}

#ifdef __CUDACC__

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

// ----------------------------------------------------------------------------------------- cluster

__device__ __forceinline__ unsigned cluster_rank() {
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/// All threads of all blocks of the cluster meet, each for itself: lanes of a warp may come apart.
__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\n\t"
                 "barrier.cluster.wait.acquire;" ::: "memory");
}

// ---------------------------------------------------------------------------------------- mbarrier
//
// Arrivals, remote ones too, release and waits acquire for the block only, which is their default:
// they order what tensor copies and wgmma do in shared memory, and no thread's own loads and stores
// depend on them. For the cluster ptxas puts a MEMBAR of the whole GPU before each arrival and
// clears the L1 cache after each wait, hundreds of clocks at every step.

/// A phase ends when `arrivals` have come and all bytes that they announced.
__device__ __forceinline__ void mbarrier_init(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

/// Shows initialised barriers to the cluster and to tensor copies; cluster_sync() must follow.
__device__ __forceinline__ void mbarrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Arrives and announces bytes that copies will bring.
__device__ __forceinline__ void mbarrier_expect(unsigned barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                 "r"(bytes)
                 : "memory");
}

/// Arrives at the barrier of that address in block `rank` of the cluster.
__device__ __forceinline__ void mbarrier_arrive(unsigned barrier, unsigned rank) {
    asm volatile("{\n\t"
                 ".reg .b32 remote;\n\t"
                 "mapa.shared::cluster.u32 remote, %0, %1;\n\t"
                 "mbarrier.arrive.shared::cluster.b64 _, [remote];\n\t"
                 "}" ::"r"(barrier), "r"(rank)
                 : "memory");
}

/// Writes 8 bytes to that address in block `rank` of the cluster; they count at the barrier of
/// that address there, and are seen after the wait for it, without a fence.
template <typename T>
__device__ __forceinline__ void mbarrier_put(unsigned address, T value, unsigned barrier,
                                             unsigned rank) {
    long long bits;
    memcpy(&bits, &value, 8);
    asm volatile("{\n\t"
                 ".reg .b32 there, remote;\n\t"
                 "mapa.shared::cluster.u32 there, %0, %3;\n\t"
                 "mapa.shared::cluster.u32 remote, %2, %3;\n\t"
                 "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 "
                 "[there], %1, [remote];\n\t"
                 "}" ::"r"(address), "l"(bits), "r"(barrier), "r"(rank)
                 : "memory");
}

/// The same in this block, whose cluster has no other.
__device__ __forceinline__ void mbarrier_arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Waits until the phase of this parity has ended. (The one before the first counts as ended.)
__device__ __forceinline__ void mbarrier_wait(unsigned barrier, unsigned parity) {
    unsigned ended = 0;
    while (ended == 0) {
        asm volatile("{\n\t"
                     ".reg .pred p;\n\t"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, p;\n\t"
                     "}" : "=r"(ended) : "r"(barrier), "r"(parity) : "memory");
    }
}

// -------------------------------------------------------------------------------- barriers by number

/// Waits at barrier `number`, 1 to 15, until `threads` threads in all have come here or to
/// barrier_arrive; warps come whole.
__device__ __forceinline__ void barrier_wait(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/// Comes to it without waiting.
__device__ __forceinline__ void barrier_arrive(int number, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// ----------------------------------------------------------------------------------- tensor copies

/// What this thread has stored in shared memory is seen by the products and tensor copies that begin
/// after a barrier that follows.
__device__ __forceinline__ void shared_stores_done() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Starts copying `bytes` to shared memory as they are, which count at `barrier`; in the L2 cache they
/// go first where room is needed. They and both addresses are multiples of 16.
__device__ __forceinline__ void start_bytes(unsigned shared, const void* global, int bytes,
                                            unsigned barrier) {
    const unsigned long long evict_first = 0x12F0000000000000ull;  // as createpolicy makes it
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], %4;" ::"r"(shared), "l"(__cvta_generic_to_global(global)),
                 "r"(bytes), "r"(barrier), "l"(evict_first)
                 : "memory");
}

/// Starts copying the map's box at (row, column) to shared memory; its bytes count at `barrier`.
__device__ __forceinline__ void start_box(unsigned shared, const TensorMap& map, int column,
                                          int row, unsigned barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared), "l"(&map), "r"(column), "r"(row),
                 "r"(barrier)
                 : "memory");
}

/// The same to these addresses in all blocks of the cluster that the bits of `ranks` name.
__device__ __forceinline__ void start_box(unsigned shared, const TensorMap& map, int column,
                                          int row, unsigned barrier, unsigned short ranks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared), "l"(&map),
                 "r"(column), "r"(row), "r"(barrier), "h"(ranks)
                 : "memory");
}

__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// ------------------------------------------------------------------------------------------- wgmma

/// Before the first product of a step: registers and shared memory written before are seen by it.
__device__ __forceinline__ void wgmma_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// The products since the last call become a group.
__device__ __forceinline__ void wgmma_end() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Waits until at most the last N groups of this warpgroup are under way.
template <int N>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/// Reads of c below stay below the wait that stands above.
template <int N>
__device__ __forceinline__ void wgmma_results(float (&c)[N][4]) {
#pragma unroll
    for (int j = 0; j < N; j++) {
        asm volatile("" : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])::"memory");
    }
}

#define HALTER_4(c, j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define HALTER_16(c, j) HALTER_4(c, j), HALTER_4(c, j + 1), HALTER_4(c, j + 2), HALTER_4(c, j + 3)
#define HALTER_32(c, j) HALTER_16(c, j), HALTER_16(c, j + 4)
#define HALTER_64(c, j) HALTER_32(c, j), HALTER_32(c, j + 8)

/// m64n256k16: starts C[64][256] = or += A[64][16] B[256][16]ᵀ, bf16 factors and f32 sums. Lane l
/// of warp i of the warpgroup holds in c[j] the columns 8 j + 2 (l % 4) + {0, 1} of row
/// 16 i + l / 4, then of the row 8 below.
__device__ __forceinline__ void wgmma(float (&c)[32][4], unsigned long long a,
                                      unsigned long long b, bool add) {
    asm volatile(
        "{\n\t"
        ".reg .pred p;\n\t"
        "setp.ne.b32 p, %130, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "
        "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
        "%125, %126, %127}, %128, %129, p, 1, 1, 0, 0;\n\t"
        "}"
        : HALTER_64(c, 0), HALTER_64(c, 16)
        : "l"(a), "l"(b), "r"((int)add));
}

/// m64n128k16: as above, of a B that lies as [16][128] (wgmma_factor_across).
__device__ __forceinline__ void wgmma_across(float (&c)[16][4], unsigned long long a,
                                             unsigned long long b, bool add) {
    asm volatile(
        "{\n\t"
        ".reg .pred p;\n\t"
        "setp.ne.b32 p, %66, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, "
        "%31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
        "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, "
        "%61, %62, %63}, "
        "%64, %65, p, 1, 1, 0, 1;\n\t"
        "}"
        : HALTER_64(c, 0)
        : "l"(a), "l"(b), "r"((int)add));
}

/// The same with A in registers: each warp holds its 16 rows as an mma's A (mma_a). Until the product
/// has been waited for they must stay as they are.
__device__ __forceinline__ void wgmma_across(float (&c)[16][4], const unsigned (&a)[4],
                                             unsigned long long b, bool add) {
    asm volatile(
        "{\n\t"
        ".reg .pred p;\n\t"
        "setp.ne.b32 p, %69, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, "
        "%31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
        "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, "
        "%61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, p, 1, 1, 1;\n\t"
        "}"
        : HALTER_64(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));
}

/// m64n64k16, likewise.
__device__ __forceinline__ void wgmma_across(float (&c)[8][4], const unsigned (&a)[4],
                                             unsigned long long b, bool add) {
    asm volatile(
        "{\n\t"
        ".reg .pred p;\n\t"
        "setp.ne.b32 p, %37, 0;\n\t"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, "
        "%31}, "
        "{%32, %33, %34, %35}, %36, p, 1, 1, 1;\n\t"
        "}"
        : HALTER_32(c, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));
}

/// How many registers a thread of this warpgroup may use from here on.
template <int N>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

template <int N>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

#else

#include <vector>

inline unsigned char* shared_pointer(unsigned address, unsigned rank) {
    if (address < HALTER_SHARED_BASE) halter_stop("an address below shared memory");
    return static_cast<unsigned char*>(halter_cluster_shared(rank)) + address -
           HALTER_SHARED_BASE;
}

inline unsigned shared_address(const void* pointer) {
    return HALTER_SHARED_BASE + unsigned(static_cast<const unsigned char*>(pointer) -
                                         static_cast<unsigned char*>(halter_dynamic_shared()));
}

inline unsigned cluster_rank() { return halter_cluster_rank(); }

inline void cluster_sync(HALTER_SITE) { halter_cluster_barrier(file, line); }

struct Mbarrier {
    uint8_t phase, arrivals;
    int16_t awaited;
    int32_t bytes;

    void step() {
        if (awaited > 0 || bytes != 0) return;
        phase ^= 1;
        awaited = arrivals;
    }

    void arrive(int announced) {
        if (awaited == 0) halter_stop("more arrive at an mbarrier than it waits for");
        bytes += announced;
        awaited--;
        step();
    }

    void complete(int brought) {
        bytes -= brought;
        step();
    }
};

inline Mbarrier* mbarrier(unsigned address, unsigned rank) {
    if (address % 8 != 0) halter_stop("an mbarrier that is not aligned");
    return reinterpret_cast<Mbarrier*>(shared_pointer(address, rank));
}

inline void mbarrier_init(unsigned barrier, int arrivals) {
    *mbarrier(barrier, cluster_rank()) = {0, uint8_t(arrivals), int16_t(arrivals), 0};
}

inline void mbarrier_init_done() {}

inline void mbarrier_expect(unsigned barrier, int bytes) {
    mbarrier(barrier, cluster_rank())->arrive(bytes);
}

inline void mbarrier_arrive(unsigned barrier, unsigned rank) { mbarrier(barrier, rank)->arrive(0); }

inline void mbarrier_arrive(unsigned barrier) { mbarrier_arrive(barrier, cluster_rank()); }

inline void mbarrier_wait(unsigned barrier, unsigned parity, HALTER_SITE) {
    const Mbarrier* awaited = mbarrier(barrier, cluster_rank());
    halter_wait([=] { return awaited->phase != parity; }, file, line);
}

/// Half of the copies are made at once, half when no thread can go on.
inline void copy_sometime(const std::function<void()>& copy) {
    static unsigned random = 1;
    random = random * 1664525u + 1013904223u;
    if (random >> 31 != 0) {
        copy();
    } else {
        halter_later(copy);
    }
}

template <typename T>
void mbarrier_put(unsigned address, T value, unsigned barrier, unsigned rank) {
    static_assert(sizeof(T) == 8, "an 8-byte number");
    if (address % 8 != 0) halter_stop("an 8-byte number that is not aligned");
    unsigned char* to = shared_pointer(address, rank);
    Mbarrier* counting = mbarrier(barrier, rank);
    copy_sometime([=] {
        memcpy(to, &value, 8);
        counting->complete(8);
    });
}

/// Barriers by number, of each block of a cluster. What is shared begins as bytes of 0xFF.
struct NumberedBarrier {
    int came, rounds;  // less 1
};

inline NumberedBarrier& numbered_barrier(int number) {
    __shared__ NumberedBarrier all[16][16];
    if (number < 1 || number > 15) halter_stop("there are barriers 1 to 15");
    return all[cluster_rank()][number];
}

inline void barrier_arrive(int number, int threads) {
    NumberedBarrier& barrier = numbered_barrier(number);
    if (++barrier.came < threads - 1) return;
    barrier.came = -1;
    barrier.rounds++;
}

inline void barrier_wait(int number, int threads, HALTER_SITE) {
    const NumberedBarrier& barrier = numbered_barrier(number);
    const int round = barrier.rounds;
    barrier_arrive(number, threads);
    halter_wait([=, &barrier] { return barrier.rounds != round; }, file, line);
}

inline void shared_stores_done() {}

inline void start_bytes(unsigned shared, const void* global, int bytes, unsigned barrier) {
    if (bytes <= 0 || (shared | reinterpret_cast<uintptr_t>(global) | unsigned(bytes)) % 16 != 0) {
        halter_stop("a copy of bytes that are not aligned to 16");
    }
    unsigned char* to = shared_pointer(shared, cluster_rank());
    Mbarrier* counting = mbarrier(barrier, cluster_rank());
    copy_sometime([=] {
        memcpy(to, global, size_t(bytes));
        counting->complete(bytes);
    });
}

/// Where a byte of shared memory lies that a swizzle by 128 bytes has moved.
inline unsigned swizzled_128(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

inline void start_box(unsigned shared, const TensorMap& tensor_map, int column, int row,
                      unsigned barrier, unsigned short ranks) {
    HalterTensorMap map;
    memcpy(&map, &tensor_map, sizeof map);
    if (map.magic != HALTER_TENSOR_MAP || map.box_columns != BOX_COLUMNS) {
        halter_stop("a tensor map that was not encoded, or with other boxes");
    }
    if (shared % 1024 != 0) halter_stop("a box at an address that is no multiple of 1024");
    for (unsigned rank = 0; rank < 16; rank++) {
        if ((ranks >> rank & 1) == 0) continue;
        unsigned char* to = shared_pointer(shared, rank) - shared;  // plus an address
        Mbarrier* counting = mbarrier(barrier, rank);
        auto copy = [=] {
            for (unsigned r = 0; r < map.box_rows; r++) {
                for (unsigned c = 0; c < BOX_COLUMNS; c++) {
                    uint16_t element = 0;
                    if (uint64_t(row) + r < map.rows && uint64_t(column) + c < map.columns) {
                        memcpy(&element, static_cast<const char*>(map.address) +
                                             (uint64_t(row) + r) * map.row_bytes +
                                             (uint64_t(column) + c) * 2, 2);
                    }
                    memcpy(to + swizzled_128(shared + r * 128 + c * 2), &element, 2);
                }
            }
            counting->complete(int(map.box_rows) * BOX_COLUMNS * 2);
        };
        copy_sometime(copy);
    }
}

inline void start_box(unsigned shared, const TensorMap& map, int column, int row,
                      unsigned barrier) {
    start_box(shared, map, column, row, barrier, (unsigned short)(1u << cluster_rank()));
}

inline void prefetch_map(const TensorMap&) {}

/// A product that a thread has started: its part of C, and the factors. Registers are read when the
/// product is made, as shared memory is.
struct Wgmma {
    float (*c)[4];
    int columns;            // of C
    const unsigned* own_a;  // the thread's part of A, where that is in registers, else null
    unsigned long long a, b;
    bool across, add;
};

/// Of the threads of a warpgroup: groups of products under way. They end for all four warps at
/// once, so waiting is done together.
struct Warpgroup {
    std::vector<std::vector<Wgmma>> groups[128];
    int waiting = 0;
    unsigned rounds = 0;
};

inline Warpgroup& warpgroup() {
    static Warpgroup all[16];
    return all[halter_thread() / 128];
}

inline std::vector<std::vector<Wgmma>>& wgmma_groups() {
    auto& groups = warpgroup().groups[threadIdx.x % 128];
    if (groups.empty()) groups.emplace_back();
    return groups;
}

inline void wgmma_begin() {}
inline void wgmma_end() { wgmma_groups().emplace_back(); }

template <int N>
void wgmma_results(float (&)[N][4]) {}

inline void wgmma(float (&c)[32][4], unsigned long long a, unsigned long long b, bool add) {
    wgmma_groups().back().push_back({c, 256, nullptr, a, b, false, add});
}

inline void wgmma_across(float (&c)[16][4], unsigned long long a, unsigned long long b, bool add) {
    wgmma_groups().back().push_back({c, 128, nullptr, a, b, true, add});
}

template <int N>
void wgmma_across(float (&c)[N][4], const unsigned (&a)[4], unsigned long long b, bool add) {
    wgmma_groups().back().push_back({c, 8 * N, a, 0, b, true, add});
}

inline float wgmma_element(unsigned address, unsigned rank) {
    uint16_t bits;
    memcpy(&bits, shared_pointer(swizzled_128(address), rank), 2);
    return __uint_as_float(unsigned(bits) << 16);
}

/// Row `row` of a factor, or column of one that lies across: 16 elements.
inline void wgmma_row(float (&row_elements)[16], unsigned long long factor, int row, bool across,
                      unsigned rank) {
    const unsigned start = unsigned(factor & 0x3fff) << 4;
    const unsigned next_columns = unsigned(factor >> 16 & 0x3fff) << 4;
    const unsigned eight_rows = unsigned(factor >> 32 & 0x3fff) << 4;
    if (factor >> 62 != 1 || (factor >> 49 & 7) != 0) halter_stop("wgmma of another swizzle");
    for (unsigned k = 0; k < 16; k++) {
        const unsigned from =
            across ? start + row / 64 * next_columns + row % 64 * 2 + k / 8 * eight_rows + k % 8 * 128
                   : start + row / 8 * eight_rows + row % 8 * 128 + 2 * k;
        row_elements[k] = wgmma_element(from, rank);
    }
}

/// Row `row` of A where that is in registers: the four lanes that share it hold 16 elements.
inline void wgmma_row(float (&row_elements)[16],
                      const std::vector<std::vector<Wgmma>> (&groups)[128], size_t group,
                      size_t product, int row) {
    for (int k = 0; k < 16; k++) {
        const int thread = row / 16 * 32 + row % 8 * 4 + k % 8 / 2;
        const unsigned pair =
            groups[thread][group][product].own_a[row % 16 / 8 + k / 8 * 2];
        row_elements[k] = __uint_as_float(k % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
    }
}

/// Makes a product of the threads of a warpgroup of block `rank`.
inline void make(std::vector<std::vector<Wgmma>> (&groups)[128], size_t group, size_t number,
                 unsigned rank) {
    const Wgmma& first = groups[0][group][number];
    static thread_local float a[64][16], b[256][16];
    for (int row = 0; row < 64; row++) {
        if (first.own_a != nullptr) {
            wgmma_row(a[row], groups, group, number, row);
        } else {
            wgmma_row(a[row], first.a, row, false, rank);
        }
    }
    for (int column = 0; column < first.columns; column++) {
        wgmma_row(b[column], first.b, column, first.across, rank);
    }
    for (int thread = 0; thread < 128; thread++) {
        float(*c)[4] = groups[thread][group][number].c;
        const int row = thread / 32 * 16 + thread % 32 / 4;
        for (int j = 0; j < first.columns / 8; j++) {
            for (int i = 0; i < 4; i++) {
                const float(&from)[16] = b[8 * j + thread % 4 * 2 + i % 2];
                float sum = first.add ? c[j][i] : 0.0f;
                for (int k = 0; k < 16; k++) sum += a[row + i / 2 * 8][k] * from[k];
                c[j][i] = sum;
            }
        }
    }
}

/// Makes all products of a warpgroup of block `rank` but for those of the last `but` groups.
inline void make_all(Warpgroup& all, size_t but, unsigned rank) {
    const auto& first = all.groups[0];
    for (const auto& groups : all.groups) {
        if (groups.size() != first.size()) halter_stop("a warpgroup that is not at one wgmma");
    }
    for (size_t g = 0; g + but + 1 < first.size(); g++) {
        for (size_t p = 0; p < first[g].size(); p++) {
            for (const auto& groups : all.groups) {
                const Wgmma &its = groups[g].at(p), &of_first = first[g][p];
                if (its.a != of_first.a || its.b != of_first.b || its.add != of_first.add) {
                    halter_stop("threads of a warpgroup that differ in a product");
                }
            }
            make(all.groups, g, p, rank);
        }
    }
    for (auto& groups : all.groups) {
        if (groups.size() > but + 1) groups.erase(groups.begin(), groups.end() - (but + 1));
    }
}

/// The warpgroup waits together, until no thread of the block can go on without the products.
template <int N>
void wgmma_wait(HALTER_SITE) {
    Warpgroup& all = warpgroup();
    const unsigned round = all.rounds;
    if (++all.waiting == 128) {
        halter_later([&all, rank = cluster_rank()] {
            make_all(all, N, rank);
            all.waiting = 0;
            all.rounds++;
        });
    }
    halter_wait([=, &all] { return all.rounds != round; }, file, line);
}

template <int N>
void give_registers() {}

template <int N>
void take_registers() {}

#endif
