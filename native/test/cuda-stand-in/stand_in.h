// What the two libraries of the stand-in share, and what tests ask of it.

#pragma once

#include <cstddef>
#include <functional>

#define STAND_IN_API extern "C" __attribute__((visibility("default")))

/// What went wrong so far, a line each; empty if nothing. Valid until the next call.
STAND_IN_API const char* stand_in_report();

/// Forgets the report and every setting.
STAND_IN_API void stand_in_reset();

/// Makes the stand-in another machine: "devices" (how many; one context at a time), "memory" (bytes), "pinned"
/// (bytes of the host's), "image" (what loading a module answers: 0, or a CUresult), "capability" (of compute: 90 for
/// 9.0; 75 unless STAND_IN_CAPABILITY in the environment says otherwise).
STAND_IN_API void stand_in_set(const char* what, long long value);

/// Kernels run since the last reset.
STAND_IN_API long long stand_in_runs();

/// Calls of a function of the driver since then, by the name that it is exported by.
STAND_IN_API long long stand_in_calls(const char* function);

namespace stand_in {

/// Adds a line to the report.
void complain(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// Whether [address, address + bytes) lies in one live allocation; complains if not.
bool inside(const void* address, size_t bytes, const char* what);

/// Queues work on a stream, or adds it to the graph that the stream records. Work returns a
/// CUresult.
int enqueue(void* stream, std::function<int()> work);

}  // namespace stand_in
