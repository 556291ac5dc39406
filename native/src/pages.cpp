// libhalter-pages.so: files that are mapped may get shorter. Reading a page that is gone raises SIGBUS, which
// ends a process, and in Java is an error of its own only where Java itself reads. Here the reader gets zeros
// and goes on, whatever thread it is, and whoever mapped the file is told (halter_pages_lost).
//
// A library of its own, since there is one such handler in a process, and since a file may be mapped where no
// kernel runs.

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

#include "halter.h"

namespace {

/// A mapped file, for the handler to read at any moment: `end` is written last and is 0 for a free place.
struct Range {
    std::atomic<uintptr_t> begin;
    std::atomic<uintptr_t> end;
    std::atomic<bool> lost;
};

constexpr int most = 16384;
Range ranges[most];
std::atomic<int> used;  // no range from here on
std::mutex changes;     // of those who watch and forget; the handler takes no lock
uintptr_t page;
struct sigaction before;

/// Puts zeros in the place of everything from the page of `address` to the end of its range: a file that is
/// read past its end has nothing behind it either, and one mapping is as cheap as that of a page. Only calls
/// the system: a signal may come at any moment.
bool replace(uintptr_t address) {
    for (int i = 0; i < used.load(std::memory_order_acquire); i++) {
        Range& range = ranges[i];
        uintptr_t end = range.end.load(std::memory_order_acquire);
        if (address >= end || address < range.begin.load(std::memory_order_relaxed)) continue;
        uintptr_t first = address / page * page;
        range.lost.store(true, std::memory_order_release);  // before anyone can read a zero
        return mmap(reinterpret_cast<void*>(first), end - first, PROT_READ,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
    }
    return false;
}

/// What came before gets all that is none of ours: the JVM turns some signals into errors, and reports others.
void handle(int signal, siginfo_t* info, void* context) {
    int kept = errno;
    bool done = info->si_code == BUS_ADRERR && replace(reinterpret_cast<uintptr_t>(info->si_addr));
    errno = kept;
    if (done) return;
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        sigaction(SIGBUS, &before, nullptr);  // the access is tried again, and ends the process
    }
}

bool install() {
    page = uintptr_t(sysconf(_SC_PAGESIZE));
    if (sigaction(SIGBUS, nullptr, &before) != 0) return false;
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = handle;
    ours.sa_mask = before.sa_mask;
    ours.sa_flags = SA_SIGINFO | SA_RESTART | (before.sa_flags & SA_ONSTACK);
    return sigaction(SIGBUS, &ours, nullptr) == 0;
}

}  // namespace

int halter_pages_watch(const void* address, long bytes) {
    std::lock_guard<std::mutex> lock(changes);
    static const bool installed = install();
    if (!installed || bytes <= 0) return -1;
    int count = used.load();
    int place = 0;
    while (place < count && ranges[place].end.load() != 0) place++;
    if (place == most) return -1;
    Range& range = ranges[place];
    uintptr_t begin = reinterpret_cast<uintptr_t>(address);
    range.begin.store(begin / page * page);
    range.lost.store(false);
    range.end.store((begin + uintptr_t(bytes) + page - 1) / page * page, std::memory_order_release);
    if (place == count) used.store(count + 1, std::memory_order_release);
    return place;
}

int halter_pages_lost(int place) {
    return ranges[place].lost.load(std::memory_order_acquire);
}

void halter_pages_forget(int place) {
    ranges[place].end.store(0);
}
