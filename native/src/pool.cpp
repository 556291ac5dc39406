#include "pool.h"

#include <immintrin.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <thread>

namespace halter {
namespace {

/// How long who waits looks again and again before it sleeps. To be woken takes some 50 us; between
/// a step's products the caller alone is busy for as long, and with 50 us here helpers slept before
/// every other one. Tried: helpers that ask for the next product's w meanwhile, 300 KB of it between
/// two products of one row, all of its beginning or the block that a helper mostly gets. No step was
/// faster; mostly they seem to wait for a product's last blocks, which have the bandwidth then.
constexpr auto SPIN = std::chrono::microseconds(200);

/// Shares of each thread in what is left that a part taken at once is at most: all end at about the
/// same time, and one that loses its core to another process keeps little with it.
constexpr long SHARES = 8;

void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(std::atomic<uint32_t>& word, int count) {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

/// Whether `done` becomes true while it is worth spinning.
template <class F>
bool spin_until(F done) {
    const auto end = std::chrono::steady_clock::now() + SPIN;
    do {
        for (int i = 0; i < 16; i++) {
            if (done()) return true;
            _mm_pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

class Pool {
public:
    void run(int threads, long parts, Parts run, const void* job) {
        if (threads <= 1 || parts <= 1 || taken.test_and_set(std::memory_order_acquire)) {
            run(job, 0, parts);
            return;
        }
        provide(threads - 1);
        open(threads, parts, run, job);
        work(0);
        await();
        taken.clear(std::memory_order_release);
    }

    bool awake() const { return helpers.load() > asleep.load(); }

private:
    // A job is open from when `place` names its first part until its last part is claimed. Helpers
    // that come late read a job's fields while the next is being written; what they then claim is
    // refused, since `place` has another turn in it.
    static constexpr uint32_t CLOSED = UINT32_MAX;

    void open(int threads, long parts, Parts run, const void* job) {
        const uint32_t next = turn.load(std::memory_order_relaxed) + 1;
        place.store(uint64_t(next) << 32 | CLOSED, std::memory_order_relaxed);
        const long unit = parts / INT32_MAX + 1;
        the_run.store(run, std::memory_order_release);
        the_job.store(job, std::memory_order_release);
        the_threads.store(threads, std::memory_order_release);
        the_parts.store(parts, std::memory_order_release);
        the_unit.store(unit, std::memory_order_release);
        const long units = (parts + unit - 1) / unit;
        the_units.store(units, std::memory_order_release);
        done.store(0, std::memory_order_relaxed);
        place.store(uint64_t(next) << 32, std::memory_order_release);
        turn.store(next);  // whoever is about to sleep sees this, or is seen below
        if (asleep.load() > 0) {
            // Where some may not take part, those that may have to be among the woken.
            const bool all = helpers.load(std::memory_order_relaxed) > threads - 1;
            wake(turn, all ? INT_MAX : int(std::min<long>(threads, units) - 1));
        }
    }

    /// Does parts until all are claimed.
    void work(int number) {
        uint32_t mine = 0;
        uint64_t at = place.load(std::memory_order_acquire);
        for (;;) {
            const Parts run = the_run.load(std::memory_order_acquire);
            const void* job = the_job.load(std::memory_order_acquire);
            const long threads = the_threads.load(std::memory_order_acquire);
            const long parts = the_parts.load(std::memory_order_acquire);
            const long unit = the_unit.load(std::memory_order_acquire);
            const long all = the_units.load(std::memory_order_acquire);
            const long first = uint32_t(at);
            if (first >= all || number >= threads) break;
            const long count = std::max(1L, (all - first) / (SHARES * threads));
            if (!place.compare_exchange_weak(at, at + count, std::memory_order_acq_rel,
                                             std::memory_order_acquire)) {
                continue;
            }
            run(job, first * unit, std::min(parts, (first + count) * unit));
            mine += uint32_t(count);
            at = place.load(std::memory_order_acquire);
        }
        // A caller that sleeps opens no other job, so that the number is still that of this one.
        if (mine > 0 && done.fetch_add(mine) + mine == the_units.load() && caller_sleeps.load()) {
            wake(done, 1);
        }
    }

    /// Waits until what others claimed is done.
    void await() {
        const uint32_t units = uint32_t(the_units.load());
        const auto finished = [&] { return done.load() == units; };
        if (spin_until(finished)) return;
        caller_sleeps.store(true);
        for (uint32_t now = done.load(); now != units; now = done.load()) sleep_while(done, now);
        caller_sleeps.store(false);
    }

    /// Has `count` helpers, or as many as the system gives.
    void provide(int count) {
        for (int number = helpers.load() + 1; number <= count; number++) {
            try {
                std::thread([this, number] { help(number); }).detach();
            } catch (const std::system_error&) {
                return;
            }
            helpers.store(number);
        }
    }

    [[noreturn]] void help(int number) {
        for (uint32_t seen = turn.load();;) {
            work(number);
            const auto changed = [&] { return turn.load() != seen; };
            if (!spin_until(changed)) {
                asleep.fetch_add(1);
                while (!changed()) sleep_while(turn, seen);
                asleep.fetch_sub(1);
            }
            seen = turn.load();
        }
    }

    std::atomic_flag taken = ATOMIC_FLAG_INIT;
    std::atomic<int> helpers{0};

    alignas(64) std::atomic<uint64_t> place{CLOSED};  // turn << 32 | next unit
    alignas(64) std::atomic<uint32_t> done{0};        // units
    std::atomic<bool> caller_sleeps{false};
    alignas(64) std::atomic<uint32_t> turn{0};
    std::atomic<int> asleep{0};

    alignas(64) std::atomic<Parts> the_run{nullptr};
    std::atomic<const void*> the_job{nullptr};
    std::atomic<long> the_threads{0}, the_parts{0};
    std::atomic<long> the_unit{1};   // parts of a unit, of which there are less than 2^31
    std::atomic<long> the_units{0};
};

Pool& pool() {
    static Pool* const the_pool = new Pool;  // helpers live as long as the process
    return *the_pool;
}

}  // namespace

void share(int threads, long parts, Parts run, const void* job) {
    pool().run(threads, parts, run, job);
}

bool helpers_awake() {
    return pool().awake();
}

}  // namespace halter
