// libhalter-faithful.so: kernels run as CUDA runs them, for tests. Each thread of a block has a
// stack of its own and runs until it ends or waits, at a barrier or for its warp; then the next one
// runs. In which order is the schedule's choice. What CUDA leaves undefined is reported as an error
// where this can see it: threads at different barriers, threads that end while others wait for them,
// lanes that a mask promises and that never come, writes past the shared memory. Shared memory is
// filled with 0xFF, which is NaN, before each block.
//
// All of it happens on one OS thread, which belongs to this library: the JVM's threads keep to the
// stacks that the JVM gave them.

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cpu.h"
#include "cuda_on_cpu.h"
#include "halter.h"
#include "runtime.h"

HalterDim threadIdx, blockIdx, blockDim, gridDim;

// Saves the registers that a call preserves on the running stack, whose pointer it stores, and goes
// on from those of another. (ucontext would make a system call each time.)
extern "C" void halter_switch(void** stored, void* other);
asm(R"(
    .text
    .hidden halter_switch
    .globl halter_switch
    .type halter_switch, @function
halter_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size halter_switch, .-halter_switch
)");

namespace halter {
namespace {

constexpr unsigned char poison = 0xff;

/// A place in a kernel.
struct Site {
    const char* file = "";
    int line = 0;

    bool operator==(const Site& other) const {
        return line == other.line && (file == other.file || strcmp(file, other.file) == 0);
    }

    std::string text() const {
        const char* slash = strrchr(file, '/');
        return std::string(slash != nullptr ? slash + 1 : file) + ":" + std::to_string(line);
    }
};

/// A stack on which threads run, one after another, with an unreadable page below it.
class Stack {
public:
    explicit Stack(int number) {
        // Tops differ, or those of all threads would compete for the same few lines of the cache.
        size_t offset = number % 64 * 64;
        mapping = static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (mapping == MAP_FAILED || mprotect(mapping, guard, PROT_NONE) != 0) {
            throw std::runtime_error("no memory for the stacks of a block");
        }
        top = reinterpret_cast<void**>(mapping + bytes - offset);
    }

    Stack(const Stack&) = delete;

    ~Stack() { munmap(mapping, bytes); }

    /// The stack pointer from which a switch calls `entry`, whatever was on the stack before.
    void* start(void (*entry)()) {
        top[-1] = nullptr;  // where entry would return to; it does not
        top[-2] = reinterpret_cast<void*>(entry);
        return top - 8;  // six registers lie below
    }

private:
    static constexpr size_t guard = 4096, bytes = 64 * 1024 + guard;
    char* mapping;
    void** top;
};

enum class State { ready, at_barrier, in_warp, waiting, ended };

struct Thread {
    State state = State::ready;
    Stack* stack = nullptr;   // none before it starts and after it ends
    void* pointer = nullptr;  // of that stack, to go on from
    Site site;                // where it waits

    // What it waits for; here, since a stack that is only asked about is better left alone.
    std::function<bool()> done;

    // In a warp operation: the lanes that take part, what it brings and gets, whose it reads.
    unsigned mask = 0;
    uint64_t value = 0;
    int source = 0;
};

/// Lanes of a warp that have come for an operation.
struct Gathering {
    unsigned mask;     // those that take part
    unsigned arrived;  // those that are here
    HalterWarp what;
    int first;  // the thread that came first
};

/// A launch as it was asked for.
struct Launch {
    const Kernel* kernel;
    HalterDim grid;
    int block;
    int shared;
    void* const* arguments;
};

/// Runs launches. One at a time, on one thread.
class Machine {
public:
    /// Returns what went wrong, or nothing.
    std::string run(const Launch& wanted, int kind, long seed) {
        launch = wanted;
        schedule = kind;
        random.seed(seed);
        gridDim = launch.grid;
        blockDim = {unsigned(launch.block), 1, 1};
        cluster = unsigned(launch.kernel->cluster);
        error.clear();
        later.clear();
        if (launch.grid.x % cluster != 0) {
            return "kernel " + std::string(launch.kernel->name) + ": a grid of " +
                   std::to_string(launch.grid.x) + " blocks is not made of clusters of " +
                   std::to_string(cluster);
        }

        // The order of the blocks, or of the clusters of blocks.
        const unsigned along_x = launch.grid.x / cluster;
        std::vector<unsigned> blocks(size_t(along_x) * launch.grid.y * launch.grid.z);
        std::iota(blocks.begin(), blocks.end(), 0u);
        arrange(blocks);
        order.resize(launch.block * cluster);
        std::iota(order.begin(), order.end(), 0);
        arrange(order);

        for (unsigned block : blocks) {
            first_block = {block % along_x * cluster, block / along_x % launch.grid.y,
                           block / along_x / launch.grid.y};
            blockIdx = first_block;
            run_blocks();
            if (!error.empty()) {
                return "kernel " + std::string(launch.kernel->name) + ", block (" +
                       std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                       std::to_string(blockIdx.z) + "): " + error;
            }
        }
        return "";
    }

    /// The running thread waits for the whole block, or for all blocks of the cluster.
    void barrier(Site site, bool of_cluster) {
        if (cluster > 1 && !of_cluster) {
            stop("__syncthreads at " + site.text() + ": blocks of a cluster cannot use it here");
        }
        wait(State::at_barrier, site);
    }

    /// The running thread waits until `done` holds.
    void wait_until(std::function<bool()> done, Site site) {
        if (done()) return;
        threads[current].done = std::move(done);
        wait(State::waiting, site);
    }

    void do_later(std::function<void()> work) { later.push_back(std::move(work)); }

    int thread() const { return current; }

    unsigned rank() const { return unsigned(current / launch.block); }

    void* shared_of(unsigned rank) {
        if (rank >= cluster) stop("there is no block " + std::to_string(rank) + " in a cluster");
        return shared.data + rank * shared_stride();
    }

    /// The running thread meets the lanes of the mask.
    uint64_t warp(HalterWarp what, unsigned mask, uint64_t value, int source, Site site) {
        Thread& self = threads[current];
        const int lane = current % 32;
        if ((mask >> lane & 1) == 0 ||
            (what == HalterWarp::shuffle && (mask >> source & 1) == 0)) {
            stop_outside(mask, source, site);
        }
        self.mask = mask;
        self.value = value;
        self.source = source;
        self.site = site;
        // Parts of a warp with masks of their own may gather at the same time.
        std::vector<Gathering>& gatherings = warps[current / 32];
        auto found = std::find_if(gatherings.begin(), gatherings.end(),
                                  [=](const Gathering& g) { return g.mask == mask; });
        if (found == gatherings.end()) {
            found = gatherings.insert(found, {mask, 0, what, current});
        } else if (found->what != what || !(threads[found->first].site == site)) {
            stop_apart(found->first, site);
        }
        found->arrived |= 1u << lane;
        if (found->arrived != mask) {
            wait(State::in_warp, site);
            return self.value;
        }
        // The last lane to come serves all: one switch for each of the others.
        gatherings.erase(found);
        serve(&threads[current - lane], what, mask);
        return self.value;
    }

    void* dynamic_shared() { return shared_of(rank()); }

    /// Ends the launch with an error; does not return.
    void stop(const std::string& text) {
        error = text;
        if (outside) throw Stopped();
        wait(State::ended, {});
    }

private:
    /// Ends what is done later, in no thread.
    struct Stopped {};

    static constexpr size_t canary = 128;

    /// Reads what the running kernel shares, which is all that is thread_local in this library: see
    /// __shared__. This thread must use nothing else of the kind.
    struct StaticShared {
        char* data = nullptr;
        size_t bytes = 0;

        StaticShared() {
            static thread_local char first;
            asm volatile("" : : "r"(&first));  // makes the system allocate it for this thread
            dl_iterate_phdr(
                [](dl_phdr_info* library, size_t, void* found) {
                    auto* self = static_cast<StaticShared*>(found);
                    auto here = reinterpret_cast<ElfW(Addr)>(&halter_switch);
                    bool mine = false;
                    size_t size = 0;
                    for (int i = 0; i < library->dlpi_phnum; i++) {
                        const ElfW(Phdr)& part = library->dlpi_phdr[i];
                        ElfW(Addr) begin = library->dlpi_addr + part.p_vaddr;
                        if (part.p_type == PT_LOAD && here >= begin &&
                            here < begin + part.p_memsz) {
                            mine = true;
                        }
                        if (part.p_type == PT_TLS) size = part.p_memsz;
                    }
                    if (!mine) return 0;
                    self->data = static_cast<char*>(library->dlpi_tls_data);
                    self->bytes = size;
                    return 1;
                },
                this);
        }
    };

    /// Dynamic shared memory of the blocks of a cluster, each with a margin that must stay as it is.
    struct DynamicShared {
        static constexpr size_t most = 2 * (HALTER_SHARED_SM90 + canary + 128);
        unsigned char* data = static_cast<unsigned char*>(aligned_alloc(128, most / 128 * 128));
    };

    size_t shared_stride() const { return (launch.shared + canary + 127) / 128 * 128; }

    // What a lane that waits has no need of is kept out of its frame of warp(): a switch to a thread
    // costs a miss for each line of the cache that it goes on from.

    /// Gives the lanes of a warp in the mask what they came for.
    __attribute__((noinline)) static void serve(Thread* warp, HalterWarp what, unsigned mask) {
        uint64_t values[32];
        uint64_t ballot = 0;
        for (int i = 0; i < 32; i++) {
            values[i] = warp[i].value;
            if ((mask >> i & 1) != 0 && values[i] != 0) ballot |= 1ull << i;
        }
        for (int i = 0; i < 32; i++) {
            if ((mask >> i & 1) == 0) continue;
            warp[i].value = what == HalterWarp::shuffle ? values[warp[i].source] : ballot;
            warp[i].state = State::ready;
        }
    }

    __attribute__((noinline)) void stop_outside(unsigned mask, int source, Site site) {
        const std::string who = name(current) + " at " + site.text();
        stop((mask >> current % 32 & 1) == 0
                 ? who + " is not in its own mask " + hex(mask)
                 : who + " reads lane " + std::to_string(source) + ", which is not in the mask " +
                       hex(mask));
    }

    __attribute__((noinline)) void stop_apart(int first, Site site) {
        stop("lanes of a warp call different operations: " + name(current) + " at " + site.text() +
             ", " + name(first) + " at " + threads[first].site.text());
    }

    /// Runs a block, or the blocks of a cluster together.
    void run_blocks() {
        threads.assign(launch.block * cluster, Thread());
        warps.assign(launch.block * cluster / 32, {});
        memset(static_shared.data, poison, static_shared.bytes);
        memset(shared.data, poison, cluster * shared_stride());
        int left = launch.block * cluster;
        std::vector<int> running = order;  // all but those that stand at the barrier or have ended
        while (left > 0 && error.empty()) {
            if (schedule == HALTER_RANDOM) arrange(running);
            int ran = 0;
            size_t kept = 0;
            for (size_t i = 0; i < running.size(); i++) {
                const int t = running[i];
                Thread& thread = threads[t];
                if (i + 2 < running.size()) ask_for(threads[running[i + 2]]);
                if (thread.state == State::waiting && thread.done()) {
                    thread.state = State::ready;
                }
                if (thread.state == State::ready) {
                    ran++;
                    resume(t);
                    if (!error.empty()) return;
                }
                if (thread.state == State::ended) {
                    left--;
                } else if (thread.state != State::at_barrier) {
                    running[kept++] = t;
                }
            }
            running.resize(kept);
            if (ran == 0 && !later.empty()) {
                const size_t next = schedule == HALTER_RANDOM ? random() % later.size() : 0;
                const std::function<void()> work = std::move(later[next]);
                later.erase(later.begin() + next);
                outside = true;
                try {
                    work();
                } catch (const Stopped&) {
                }
                outside = false;
                if (!error.empty()) return;
            } else if (ran == 0) {
                open_barrier();
                running = order;
            }
        }
        if (!later.empty()) error = "ends before its copies do";
        for (unsigned rank = 0; rank < cluster; rank++) {
            for (size_t i = 0; i < canary; i++) {
                if (shared.data[rank * shared_stride() + launch.shared + i] != poison) {
                    error = "writes past its " + std::to_string(launch.shared) +
                            " bytes of dynamic shared memory";
                }
            }
        }
    }

    /// No thread can go on: right if all stand at one barrier.
    void open_barrier() {
        const int first = int(std::find_if(threads.begin(), threads.end(), [](const Thread& t) {
                                  return t.state != State::ended;
                              }) - threads.begin());
        for (int t = 0; t < int(threads.size()); t++) {
            const Thread& other = threads[t];
            if (other.state == State::waiting) {
                error = name(t) + " waits for ever at " + other.site.text();
                return;
            }
            if (other.state == State::in_warp) {
                error = name(t) + " waits for its warp at " + other.site.text() + " with mask " +
                        hex(other.mask) + " for ever" + absent(t);
                return;
            }
        }
        for (int t = 0; t < int(threads.size()); t++) {
            const Thread& other = threads[t];
            if (other.state == State::ended) {
                error = name(t) + " has ended, and " + name(first) + " waits for it at " +
                        threads[first].site.text();
                return;
            }
            if (!(other.site == threads[first].site)) {
                error = "threads wait at different barriers: " + name(first) + " at " +
                        threads[first].site.text() + ", " + name(t) + " at " + other.site.text();
                return;
            }
        }
        for (Thread& thread : threads) thread.state = State::ready;
    }

    /// Where the first lane is for which thread `t` waits in vain.
    std::string absent(int t) {
        for (int other = t / 32 * 32; other < t / 32 * 32 + 32; other++) {
            const Thread& thread = threads[other];
            if ((threads[t].mask >> other % 32 & 1) == 0) continue;
            if (thread.state == State::ended) return ": " + name(other) + " has ended";
            if (thread.state == State::at_barrier) {
                return ": " + name(other) + " is at the barrier " + thread.site.text();
            }
            if (thread.mask != threads[t].mask) {
                return ": " + name(other) + " is at " + thread.site.text() + " with mask " +
                       hex(thread.mask);
            }
        }
        return "";
    }

    /// Asks for what a thread goes on from, which has long left the nearest cache: its stack is one
    /// of hundreds.
    static void ask_for(const Thread& thread) {
        if (thread.stack == nullptr || thread.state != State::ready) return;
        const char* top = static_cast<const char*>(thread.pointer);
        for (int line = 0; line < 4; line++) __builtin_prefetch(top + 64 * line);
    }

    /// Runs a thread until it waits or ends.
    void resume(int t) {
        Thread& thread = threads[t];
        if (thread.stack == nullptr) {
            if (idle.empty()) {
                stacks.push_back(std::make_unique<Stack>(int(stacks.size())));
                idle.push_back(stacks.back().get());
            }
            thread.stack = idle.back();
            thread.pointer = thread.stack->start(&Machine::live);
            idle.pop_back();
        }
        current = t;
        threadIdx = {unsigned(t % launch.block), 0, 0};
        blockIdx.x = first_block.x + unsigned(t / launch.block);
        halter_switch(&own, thread.pointer);
        if (!error.empty()) {
            // Where threads stand no longer matters.
            idle.clear();
            for (auto& stack : stacks) idle.push_back(stack.get());
        } else if (thread.state == State::ended) {
            idle.push_back(thread.stack);
            thread.stack = nullptr;
        }
    }

    /// What a thread runs, from its beginning to its end.
    static void live();

    void wait(State state, Site site) {
        Thread& self = threads[current];
        self.state = state;
        self.site = site;
        halter_switch(&self.pointer, own);
    }

    template <typename T>
    void arrange(std::vector<T>& things) {
        if (schedule == HALTER_REVERSE) std::reverse(things.begin(), things.end());
        if (schedule == HALTER_RANDOM) std::shuffle(things.begin(), things.end(), random);
    }

    static std::string name(int thread) { return "thread " + std::to_string(thread); }

    static std::string hex(unsigned mask) {
        char text[16];
        snprintf(text, sizeof text, "0x%08x", mask);
        return text;
    }

    Launch launch{};
    unsigned cluster = 1;
    bool outside = false;  // of all threads, doing what was left for later
    HalterDim first_block{};
    std::vector<std::function<void()>> later;
    int schedule = HALTER_FORWARD;
    std::mt19937_64 random;
    std::vector<int> order;
    std::vector<Thread> threads;
    std::vector<std::vector<Gathering>> warps;
    int current = 0;
    void* own = nullptr;  // the stack pointer of the machine itself while a thread runs
    std::vector<std::unique_ptr<Stack>> stacks;
    std::vector<Stack*> idle;
    StaticShared static_shared;
    DynamicShared shared;
    std::string error;
};

Machine* machine;  // of the one thread that runs kernels

void Machine::live() {
    machine->launch.kernel->call(machine->launch.arguments);
    machine->wait(State::ended, {});
}

/// The thread that runs kernels, and how others hand it work. Lives as long as the process.
class Worker {
public:
    Worker() { std::thread([this] { work(); }).detach(); }

    std::string run(const Launch& wanted, int kind, long seed) {
        std::unique_lock caller(callers);
        std::unique_lock lock(mutex);
        work_to_do = [=] { return machine->run(wanted, kind, seed); };
        busy = true;
        changed.notify_all();
        changed.wait(lock, [this] { return !busy; });
        return result;
    }

private:
    void work() {
        machine = new Machine();
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [this] { return busy; });
            try {
                result = work_to_do();
            } catch (const std::exception& e) {
                result = e.what();
            }
            busy = false;
            changed.notify_all();
        }
    }

    std::mutex callers;  // one at a time
    std::mutex mutex;
    std::condition_variable changed;
    std::function<std::string()> work_to_do;
    std::string result;
    bool busy = false;
};

std::atomic<int> schedule_kind{HALTER_FORWARD};
std::atomic<long> schedule_seed{0};

}  // namespace

const KernelTable& kernels() {
    static const KernelTable table = halter_kernel_table();
    return table;
}

}  // namespace halter

using namespace halter;

void halter_block_barrier(const char* file, int line) {
    machine->barrier({file, line}, false);
}

void halter_cluster_barrier(const char* file, int line) {
    machine->barrier({file, line}, true);
}

unsigned halter_cluster_rank() {
    return machine->rank();
}

void* halter_cluster_shared(unsigned rank) {
    return machine->shared_of(rank);
}

int halter_thread() {
    return machine->thread();
}

void halter_wait(std::function<bool()> done, const char* file, int line) {
    machine->wait_until(std::move(done), {file, line});
}

void halter_later(std::function<void()> work) {
    machine->do_later(std::move(work));
}

void halter_stop(const char* text) {
    machine->stop(text);
    abort();  // stop does not return
}

uint64_t halter_warp(HalterWarp what, unsigned mask, uint64_t value, int source, const char* file,
                     int line) {
    return machine->warp(what, mask, value, source, {file, line});
}

void* halter_dynamic_shared() {
    return machine->dynamic_shared();
}

const char* halter_isa() {
    if (cpu().problem.empty()) return "faithful";
    fail("%s", cpu().problem.c_str());
    return nullptr;
}

int halter_schedule(int kind, long seed) {
    if (kind < HALTER_FORWARD || kind > HALTER_RANDOM) {
        fail("no schedule number %d", kind);
        return -1;
    }
    schedule_kind = kind;
    schedule_seed = seed;
    return 0;
}

int halter_launch(int id, int grid_x, int grid_y, int grid_z, int block, int shared,
                  void** arguments) {
    if (!check_launch(id, grid_x, grid_y, grid_z, block, shared)) return -1;
    static Worker* const worker = new Worker();
    HalterDim grid{unsigned(grid_x), unsigned(grid_y), unsigned(grid_z)};
    std::string error = worker->run({kernels().begin[id], grid, block, shared, arguments},
                                    schedule_kind, schedule_seed++);
    if (error.empty()) return 0;
    fail("%s", error.c_str());
    return -1;
}
