// The threads that share launches and products: one pool for the whole process.
//
// Work is cut into parts, and whoever is there takes the next ones, the caller among them. Nobody
// waits for a helper that has not begun: one that the system does not run, since other processes
// have the cores, costs nothing but its help. (OpenMP's threads all meet at the end of a region:
// beside one busy process each launch then took 3 ms, the system's time slice, instead of 30 us.)
// Idle helpers spin for as long as the next launch of a step takes to come, then they sleep.

#pragma once

namespace halter {

/// Some of the parts of a job, from `first` to before `end`.
using Parts = void (*)(const void* job, long first, long end);

/// Does all parts of a job on up to `threads` threads and returns when they are done. Where the
/// helpers are busy for another caller, or this is called by a part, the caller does them alone.
void share(int threads, long parts, Parts run, const void* job);

/// Calls do_parts(first, end) for ranges that make up [0, parts).
template <class F>
void share_ranges(int threads, long parts, const F& do_parts) {
    share(threads, parts,
          [](const void* job, long first, long end) { (*static_cast<const F*>(job))(first, end); },
          &do_parts);
}

/// Calls do_part(i) for each i in [0, parts).
template <class F>
void share_each(int threads, long parts, const F& do_part) {
    share_ranges(threads, parts, [&](long first, long end) {
        for (long i = first; i < end; i++) do_part(i);
    });
}

/// Whether helpers are awake, so that work is worth sharing which is done before a sleeping one
/// would have come.
bool helpers_awake();

}  // namespace halter
