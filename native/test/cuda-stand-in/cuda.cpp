// A libcuda.so.1 for machines without a GPU: the driver functions that CudaDevice calls, over host
// memory, with the faithful build of the kernels behind cuLaunchKernel. For tests only.
//
// It is as lazy as a GPU may be: what is queued runs when somebody waits for it, so that a missing
// wait shows. It is stricter than a GPU: no address is ever given out twice, memory is poisoned
// when it is allocated and out of reach when it is freed, and whatever a real driver would let pass
// in silence stands in the report.

#include <sys/mman.h>

#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "halter.h"
#include "stand_in.h"
#include "tensor_map.h"

namespace {

// cuda.h is not there on a machine without the toolkit. Names as in it, without CUDA_ERROR_.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    STREAM_CAPTURE_UNSUPPORTED = 900,
};

constexpr uintptr_t PAGE = 4096;
constexpr size_t RESERVED = size_t(1) << 40;         // addresses for all allocations ever made
constexpr size_t POISONED = size_t(64) << 20;        // of a larger allocation the rest stays zero
constexpr size_t CANARY = 64;                        // bytes at least behind each allocation
constexpr unsigned char CANARY_BYTE = 0xFD;
constexpr int SHARED_UNASKED = 48 * 1024;
constexpr int MAX_THREADS = 1024;
constexpr unsigned EVENT_DISABLE_TIMING = 2;
constexpr int MULTIPROCESSORS = 4;
constexpr size_t QUEUE = 4096;                       // a GPU would have begun long before
constexpr char IMAGE[] = "stand-in";                 // what stand-in.fatbin begins with

struct Allocation {
    size_t bytes;
    size_t reserved;
    bool live;
};

using Work = std::function<int()>;

struct Graph {
    std::vector<Work> work;
};

struct Stream {
    std::deque<Work> queue;
    uint64_t queued = 0;
    uint64_t done = 0;
    std::unique_ptr<Graph> recording;
};

using Clock = std::chrono::steady_clock;

struct Event {
    bool timed = true;
    Stream* stream = nullptr;
    uint64_t ticket = 0;
    std::shared_ptr<Clock::time_point> reached;  // by the stream; shared with what is queued
};

struct Function {
    int id;
    std::string name;
    std::vector<int> parameters;
    int dynamic_shared = SHARED_UNASKED;
};

struct Module {
    std::vector<std::unique_ptr<Function>> functions;
};

int first_capability() {
    const char* asked = std::getenv("STAND_IN_CAPABILITY");
    return asked ? std::atoi(asked) : 75;
}

struct Settings {
    int devices = 1;
    size_t memory = size_t(4) << 30;
    size_t pinned = size_t(4) << 30;
    int image = SUCCESS;
    int capability = first_capability();
};

std::recursive_mutex lock;
std::string report;
Settings settings;
bool initialised = false;
int context_references = 0;
int context_serial = 0;                              // a context made anew is another one
thread_local int current_context = 0;
int sticky = SUCCESS;                                // a failed kernel ends its context
long long runs = 0;
std::map<std::string, long long> calls;  // of functions that need a context

unsigned char* region = nullptr;
size_t region_used = 0;
size_t memory_used = 0;
size_t pinned_used = 0;
std::map<uintptr_t, Allocation> allocations;
std::map<void*, size_t> pinned;
std::set<Stream*> streams;
std::set<Event*> events;
std::set<Module*> modules;
std::set<Graph*> graphs;
std::set<Graph*> executables;

#define GUARD std::lock_guard<std::recursive_mutex> guard(lock)

/// What every call needs first: a context in this thread that has not failed.
#define IN_CONTEXT                                                                          \
    GUARD;                                                                                  \
    calls[__func__]++;                                                                      \
    if (context_references == 0 || current_context != context_serial) {                     \
        stand_in::complain("%s: no context is current in this thread", __func__);           \
        return INVALID_CONTEXT;                                                             \
    }                                                                                       \
    if (sticky != SUCCESS) return sticky

template <class T>
bool known(const std::set<T*>& all, T* one, const char* function) {
    if (all.count(one) != 0) return true;
    stand_in::complain("%s: unknown handle %p", function, static_cast<void*>(one));
    return false;
}

const std::pair<const uintptr_t, Allocation>* find(uintptr_t address) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return nullptr;
    auto& found = *std::prev(next);
    return address < found.first + found.second.reserved ? &found : nullptr;
}

bool in_region(uintptr_t address) {
    uintptr_t start = reinterpret_cast<uintptr_t>(region);
    return region != nullptr && address >= start && address < start + region_used;
}

/// Runs what was queued up to `ticket`.
int run(Stream* stream, uint64_t ticket) {
    while (sticky == SUCCESS && stream->done < ticket) {
        Work work = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        sticky = work();
    }
    return sticky;
}

/// Shared memory that a block may ask for.
int shared_limit() {
    return settings.capability == 90 ? HALTER_SHARED_SM90 : HALTER_SHARED_MAX;
}

bool recording() {
    for (Stream* stream : streams) {
        if (stream->recording) return true;
    }
    return false;
}

/// An argument of a kernel; 128 bytes where it is a tensor map.
struct alignas(64) Argument {
    uint64_t words[16] = {};
};

int launch(const Function& function, const unsigned (&grid)[3], unsigned block, unsigned shared,
           std::vector<Argument> values) {
    std::vector<void*> arguments;
    for (size_t i = 0; i < values.size(); i++) {
        uintptr_t value = values[i].words[0];
        if (function.parameters[i] == 8 && in_region(value)) {
            auto* found = find(value);
            if (found == nullptr || !found->second.live ||
                value > found->first + found->second.bytes) {
                stand_in::complain("kernel %s: argument %zu points into %s", function.name.c_str(),
                                   i, found != nullptr && !found->second.live
                                          ? "freed memory" : "no allocation");
                return ILLEGAL_ADDRESS;
            }
        }
        arguments.push_back(&values[i]);
    }
    runs++;
    if (halter_launch(function.id, static_cast<int>(grid[0]), static_cast<int>(grid[1]),
                      static_cast<int>(grid[2]), static_cast<int>(block), static_cast<int>(shared),
                      arguments.data()) != 0) {
        stand_in::complain("kernel %s: %s", function.name.c_str(), halter_error());
        return LAUNCH_FAILED;
    }
    return SUCCESS;
}

void check_canary(uintptr_t address, const Allocation& allocation) {
    auto* end = reinterpret_cast<unsigned char*>(address + allocation.bytes);
    for (size_t i = allocation.reserved - PAGE - allocation.bytes; i-- > 0;) {
        if (end[i] != CANARY_BYTE) {
            stand_in::complain("something wrote %zu bytes past an allocation of %zu bytes", i + 1,
                               allocation.bytes);
            return;
        }
    }
}

void leaked(size_t count, const char* what) {
    if (count > 0) stand_in::complain("%zu %s left when the context was destroyed", count, what);
}

void destroy_context() {
    size_t live = 0;
    for (auto& [address, allocation] : allocations) {
        if (!allocation.live) continue;
        live++;
        allocation.live = false;
        mprotect(reinterpret_cast<void*>(address), allocation.reserved, PROT_NONE);
    }
    if (sticky == SUCCESS) {  // else nothing could be freed any more
        leaked(live, "allocations");
        leaked(pinned.size(), "pinned allocations");
        leaked(streams.size(), "streams");
        leaked(events.size(), "events");
        leaked(modules.size(), "modules");
        leaked(graphs.size() + executables.size(), "graphs");
    }
    for (auto& [address, bytes] : pinned) free(address);
    pinned.clear();
    pinned_used = 0;
    for (Stream* stream : streams) delete stream;
    streams.clear();
    for (Event* event : events) delete event;
    events.clear();
    for (Module* module : modules) delete module;
    modules.clear();
    for (Graph* graph : graphs) delete graph;
    graphs.clear();
    for (Graph* graph : executables) delete graph;
    executables.clear();
    memory_used = 0;
    sticky = SUCCESS;
}

}  // namespace

// For tests and for the cuBLAS stand-in.

namespace stand_in {

__attribute__((visibility("default"))) void complain(const char* format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    GUARD;
    report.append(line).append("\n");
}

__attribute__((visibility("default"))) bool inside(const void* address, size_t bytes,
                                                   const char* what) {
    GUARD;
    uintptr_t start = reinterpret_cast<uintptr_t>(address);
    auto* found = find(start);
    if (found == nullptr || start > found->first + found->second.bytes) {
        complain("%s: %p lies in no allocation", what, address);
        return false;
    }
    if (!found->second.live) {
        complain("%s: %p lies in freed memory", what, address);
        return false;
    }
    if (bytes > found->first + found->second.bytes - start) {
        complain("%s: %zu bytes at %zu of an allocation of %zu bytes", what, bytes,
                 static_cast<size_t>(start - found->first), found->second.bytes);
        return false;
    }
    return true;
}

__attribute__((visibility("default"))) int enqueue(void* handle, std::function<int()> work) {
    GUARD;
    auto* stream = static_cast<Stream*>(handle);
    if (!known(streams, stream, "enqueue")) return INVALID_HANDLE;
    if (stream->recording) {
        stream->recording->work.push_back(std::move(work));
        return SUCCESS;
    }
    stream->queue.push_back(std::move(work));
    stream->queued++;
    return stream->queue.size() > QUEUE ? run(stream, stream->queued) : SUCCESS;
}

}  // namespace stand_in

const char* stand_in_report() {
    GUARD;
    static std::string text;
    text = report;
    return text.c_str();
}

void stand_in_reset() {
    GUARD;
    report.clear();
    settings = Settings();
    runs = 0;
    calls.clear();
}

void stand_in_set(const char* what, long long value) {
    GUARD;
    std::string name = what;
    if (name == "devices") {
        settings.devices = static_cast<int>(value);
    } else if (name == "memory") {
        settings.memory = static_cast<size_t>(value);
    } else if (name == "pinned") {
        settings.pinned = static_cast<size_t>(value);
    } else if (name == "image") {
        settings.image = static_cast<int>(value);
    } else if (name == "capability") {
        settings.capability = static_cast<int>(value);
    } else {
        stand_in::complain("stand_in_set: no setting '%s'", what);
    }
}

long long stand_in_runs() {
    GUARD;
    return runs;
}

long long stand_in_calls(const char* function) {
    GUARD;
    return calls[function];
}

// The driver. Handles are pointers to the structures above; a device is 0.

STAND_IN_API int cuInit(unsigned) {
    GUARD;
    initialised = settings.devices > 0;
    return initialised ? SUCCESS : NO_DEVICE;
}

STAND_IN_API int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

STAND_IN_API int cuGetErrorString(int error, const char** text) {
    switch (error) {
        case INVALID_VALUE: *text = "invalid argument"; return SUCCESS;
        case OUT_OF_MEMORY: *text = "out of memory"; return SUCCESS;
        case ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; return SUCCESS;
        case LAUNCH_FAILED: *text = "unspecified launch failure"; return SUCCESS;
        default: *text = nullptr; return INVALID_VALUE;
    }
}

STAND_IN_API int cuDeviceGet(int* device, int ordinal) {
    GUARD;
    if (!initialised) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= settings.devices) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetCount(int* count) {
    *count = settings.devices;
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetName(char* name, int length, int device) {
    const auto size = static_cast<size_t>(length);
    if (device == 0) {
        snprintf(name, size, "CUDA stand-in");
    } else {
        snprintf(name, size, "CUDA stand-in %d", device);
    }
    return SUCCESS;
}

STAND_IN_API int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 16: *value = MULTIPROCESSORS; return SUCCESS;
        case 75: *value = settings.capability / 10; return SUCCESS;  // of compute, major
        case 76: *value = settings.capability % 10; return SUCCESS;  // and minor
        case 81: *value = shared_limit() + 1024; return SUCCESS;  // shared memory of a multiprocessor
        case 97: *value = shared_limit(); return SUCCESS;
        default:
            stand_in::complain("cuDeviceGetAttribute: attribute %d is not known here", attribute);
            return INVALID_VALUE;
    }
}

STAND_IN_API int cuDevicePrimaryCtxRetain(intptr_t* context, int device) {
    GUARD;
    if (!initialised) return NOT_INITIALIZED;
    if (device < 0 || device >= settings.devices) return INVALID_DEVICE;
    if (context_references++ == 0) context_serial++;
    *context = context_serial;
    return SUCCESS;
}

STAND_IN_API int cuDevicePrimaryCtxRelease_v2(int) {
    GUARD;
    if (context_references == 0) {
        stand_in::complain("cuDevicePrimaryCtxRelease: not retained");
        return INVALID_CONTEXT;
    }
    if (--context_references == 0) destroy_context();
    return SUCCESS;
}

STAND_IN_API int cuCtxSetCurrent(void* context) {
    GUARD;
    int serial = static_cast<int>(reinterpret_cast<intptr_t>(context));
    if (serial != 0 && (context_references == 0 || serial != context_serial)) {
        stand_in::complain("cuCtxSetCurrent: the context was destroyed");
        return INVALID_CONTEXT;
    }
    current_context = serial;
    return serial == 0 ? int(SUCCESS) : sticky;  // a real one may answer with what failed before
}

STAND_IN_API int cuMemGetInfo_v2(size_t* free, size_t* total) {
    IN_CONTEXT;
    *total = settings.memory;
    *free = memory_used < settings.memory ? settings.memory - memory_used : 0;
    return SUCCESS;
}

STAND_IN_API int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    IN_CONTEXT;
    if (recording()) {
        stand_in::complain("cuMemAlloc while a graph is recorded");
        return STREAM_CAPTURE_UNSUPPORTED;
    }
    if (bytes == 0) return INVALID_VALUE;
    if (bytes > settings.memory || memory_used > settings.memory - bytes) return OUT_OF_MEMORY;
    if (region == nullptr) {
        void* mapped = mmap(nullptr, RESERVED, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
        region = static_cast<unsigned char*>(mapped);
    }
    // The last page stays out of reach, so that reading far past the end faults.
    size_t usable = (bytes + CANARY + PAGE - 1) / PAGE * PAGE;
    if (usable + PAGE > RESERVED - region_used) return OUT_OF_MEMORY;
    unsigned char* memory = region + region_used;
    if (mprotect(memory, usable, PROT_READ | PROT_WRITE) != 0) return OUT_OF_MEMORY;
    region_used += usable + PAGE;
    memory_used += bytes;
    memset(memory, 0xFF, bytes < POISONED ? bytes : POISONED);  // NaN in every float type
    memset(memory + bytes, CANARY_BYTE, usable - bytes);
    *address = reinterpret_cast<uintptr_t>(memory);
    allocations[*address] = {bytes, usable + PAGE, true};
    return SUCCESS;
}

STAND_IN_API int cuMemFree_v2(uint64_t address) {
    IN_CONTEXT;
    auto found = allocations.find(address);
    if (found == allocations.end() || !found->second.live) {
        stand_in::complain("cuMemFree: %p is not allocated", reinterpret_cast<void*>(address));
        return INVALID_VALUE;
    }
    Allocation& allocation = found->second;
    check_canary(address, allocation);
    allocation.live = false;
    memory_used -= allocation.bytes;
    void* memory = reinterpret_cast<void*>(address);
    madvise(memory, allocation.reserved, MADV_DONTNEED);
    mprotect(memory, allocation.reserved, PROT_NONE);
    return SUCCESS;
}

STAND_IN_API int cuMemAllocHost_v2(void** address, size_t bytes) {
    IN_CONTEXT;
    if (bytes > settings.pinned || pinned_used > settings.pinned - bytes) return OUT_OF_MEMORY;
    *address = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (*address == nullptr) return OUT_OF_MEMORY;
    pinned[*address] = bytes;
    pinned_used += bytes;
    return SUCCESS;
}

STAND_IN_API int cuMemFreeHost(void* address) {
    IN_CONTEXT;
    auto found = pinned.find(address);
    if (found == pinned.end()) {
        stand_in::complain("cuMemFreeHost: %p is not allocated", address);
        return INVALID_VALUE;
    }
    pinned_used -= found->second;
    pinned.erase(found);
    free(address);
    return SUCCESS;
}

STAND_IN_API int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    IN_CONTEXT;
    void* target = reinterpret_cast<void*>(to);
    if (!stand_in::inside(target, bytes, "copy from the host")) return INVALID_VALUE;
    return stand_in::enqueue(stream, [=] {
        if (!stand_in::inside(target, bytes, "copy from the host")) return int(ILLEGAL_ADDRESS);
        memcpy(target, from, bytes);
        return int(SUCCESS);
    });
}

STAND_IN_API int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    IN_CONTEXT;
    const void* source = reinterpret_cast<const void*>(from);
    if (!stand_in::inside(source, bytes, "copy to the host")) return INVALID_VALUE;
    return stand_in::enqueue(stream, [=] {
        if (!stand_in::inside(source, bytes, "copy to the host")) return int(ILLEGAL_ADDRESS);
        memcpy(to, source, bytes);
        return int(SUCCESS);
    });
}

STAND_IN_API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    IN_CONTEXT;
    void* target = reinterpret_cast<void*>(to);
    const void* source = reinterpret_cast<const void*>(from);
    if (!stand_in::inside(target, bytes, "target of a copy") ||
        !stand_in::inside(source, bytes, "source of a copy")) {
        return INVALID_VALUE;
    }
    if (to < from + bytes && from < to + bytes) {
        stand_in::complain("copy of %zu bytes onto itself", bytes);
        return INVALID_VALUE;
    }
    return stand_in::enqueue(stream, [=] {
        if (!stand_in::inside(target, bytes, "target of a copy") ||
            !stand_in::inside(source, bytes, "source of a copy")) {
            return int(ILLEGAL_ADDRESS);
        }
        memcpy(target, source, bytes);
        return int(SUCCESS);
    });
}

STAND_IN_API int cuMemsetD8Async(uint64_t address, unsigned char value, size_t bytes,
                                 void* stream) {
    IN_CONTEXT;
    void* target = reinterpret_cast<void*>(address);
    if (!stand_in::inside(target, bytes, "setting memory")) return INVALID_VALUE;
    return stand_in::enqueue(stream, [=] {
        if (!stand_in::inside(target, bytes, "setting memory")) return int(ILLEGAL_ADDRESS);
        memset(target, value, bytes);
        return int(SUCCESS);
    });
}

STAND_IN_API int cuStreamCreate(Stream** stream, unsigned) {
    IN_CONTEXT;
    *stream = new Stream();
    streams.insert(*stream);
    return SUCCESS;
}

STAND_IN_API int cuStreamDestroy_v2(Stream* stream) {
    IN_CONTEXT;
    if (!known(streams, stream, __func__)) return INVALID_HANDLE;
    int result = run(stream, stream->queued);
    streams.erase(stream);
    delete stream;
    return result;
}

STAND_IN_API int cuStreamSynchronize(Stream* stream) {
    IN_CONTEXT;
    if (!known(streams, stream, __func__)) return INVALID_HANDLE;
    if (stream->recording) {
        stand_in::complain("cuStreamSynchronize while a graph is recorded");
        return STREAM_CAPTURE_UNSUPPORTED;
    }
    return run(stream, stream->queued);
}

STAND_IN_API int cuStreamBeginCapture_v2(Stream* stream, int) {
    IN_CONTEXT;
    if (!known(streams, stream, __func__) || stream->recording) return INVALID_HANDLE;
    stream->recording = std::make_unique<Graph>();
    return SUCCESS;
}

STAND_IN_API int cuStreamEndCapture(Stream* stream, Graph** graph) {
    IN_CONTEXT;
    if (!known(streams, stream, __func__) || !stream->recording) return INVALID_HANDLE;
    *graph = stream->recording.release();
    graphs.insert(*graph);
    return SUCCESS;
}

STAND_IN_API int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph,
                                             unsigned long long) {
    IN_CONTEXT;
    if (!known(graphs, graph, __func__)) return INVALID_HANDLE;
    *executable = new Graph(*graph);
    executables.insert(*executable);
    return SUCCESS;
}

STAND_IN_API int cuGraphDestroy(Graph* graph) {
    IN_CONTEXT;
    if (!known(graphs, graph, __func__)) return INVALID_HANDLE;
    graphs.erase(graph);
    delete graph;
    return SUCCESS;
}

STAND_IN_API int cuGraphExecDestroy(Graph* executable) {
    IN_CONTEXT;
    if (!known(executables, executable, __func__)) return INVALID_HANDLE;
    executables.erase(executable);
    delete executable;
    return SUCCESS;
}

STAND_IN_API int cuGraphLaunch(Graph* executable, Stream* stream) {
    IN_CONTEXT;
    if (!known(executables, executable, __func__)) return INVALID_HANDLE;
    for (const Work& work : executable->work) {
        int result = stand_in::enqueue(stream, work);
        if (result != SUCCESS) return result;
    }
    return SUCCESS;
}

STAND_IN_API int cuEventCreate(Event** event, unsigned flags) {
    IN_CONTEXT;
    *event = new Event();
    (*event)->timed = (flags & EVENT_DISABLE_TIMING) == 0;
    events.insert(*event);
    return SUCCESS;
}

STAND_IN_API int cuEventDestroy_v2(Event* event) {
    IN_CONTEXT;
    if (!known(events, event, __func__)) return INVALID_HANDLE;
    events.erase(event);
    delete event;
    return SUCCESS;
}

STAND_IN_API int cuEventRecord(Event* event, Stream* stream) {
    IN_CONTEXT;
    if (!known(events, event, __func__) || !known(streams, stream, __func__)) {
        return INVALID_HANDLE;
    }
    event->stream = stream;
    if (event->timed) {
        if (stream->recording) {
            stand_in::complain("cuEventRecord of an event with a time while a graph is recorded");
            return STREAM_CAPTURE_UNSUPPORTED;
        }
        auto reached = std::make_shared<Clock::time_point>();
        event->reached = reached;
        const int result = stand_in::enqueue(stream, [=] {
            *reached = Clock::now();
            return int(SUCCESS);
        });
        if (result != SUCCESS) return result;
    }
    event->ticket = stream->queued;
    return SUCCESS;
}

STAND_IN_API int cuStreamWaitEvent(Stream* stream, Event* event, unsigned) {
    IN_CONTEXT;
    if (!known(events, event, __func__) || !known(streams, stream, __func__)) {
        return INVALID_HANDLE;
    }
    if (event->stream == nullptr || event->stream == stream) return SUCCESS;
    Stream* other = event->stream;
    const uint64_t ticket = event->ticket;
    return stand_in::enqueue(stream, [=] { return run(other, ticket); });
}

STAND_IN_API int cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    IN_CONTEXT;
    for (Event* event : {start, end}) {
        if (!known(events, event, __func__) || !event->reached) return INVALID_HANDLE;
        if (event->stream->done < event->ticket) return NOT_READY;
    }
    using Milliseconds = std::chrono::duration<float, std::milli>;
    *milliseconds = Milliseconds(*end->reached - *start->reached).count();
    return SUCCESS;
}

STAND_IN_API int cuEventSynchronize(Event* event) {
    IN_CONTEXT;
    if (!known(events, event, __func__)) return INVALID_HANDLE;
    return event->stream == nullptr ? SUCCESS : run(event->stream, event->ticket);
}

STAND_IN_API int cuModuleLoadData(Module** module, const void* image) {
    IN_CONTEXT;
    if (memcmp(image, IMAGE, sizeof IMAGE - 1) != 0) return INVALID_IMAGE;
    if (settings.image != SUCCESS) return settings.image;
    auto loaded = std::make_unique<Module>();
    for (int id = 0; halter_kernel_name(id) != nullptr; id++) {
        auto function = std::make_unique<Function>();
        function->id = id;
        function->name = halter_kernel_name(id);
        function->parameters.resize(
            static_cast<size_t>(halter_kernel_parameters(id, nullptr, 0)));
        halter_kernel_parameters(id, function->parameters.data(),
                                 static_cast<int>(function->parameters.size()));
        loaded->functions.push_back(std::move(function));
    }
    *module = loaded.release();
    modules.insert(*module);
    return SUCCESS;
}

STAND_IN_API int cuModuleUnload(Module* module) {
    IN_CONTEXT;
    if (!known(modules, module, __func__)) return INVALID_HANDLE;
    modules.erase(module);
    delete module;
    return SUCCESS;
}

STAND_IN_API int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    IN_CONTEXT;
    if (!known(modules, module, __func__)) return INVALID_HANDLE;
    for (auto& candidate : module->functions) {
        if (candidate->name == name) {
            *function = candidate.get();
            return SUCCESS;
        }
    }
    stand_in::complain("%s: a module was asked for '%s', which it has not", __func__, name);
    return NOT_FOUND;
}

STAND_IN_API int cuModuleGetFunctionCount(unsigned* count, Module* module) {
    IN_CONTEXT;
    if (!known(modules, module, __func__)) return INVALID_HANDLE;
    *count = static_cast<unsigned>(module->functions.size());
    return SUCCESS;
}

STAND_IN_API int cuModuleEnumerateFunctions(Function** functions, unsigned count, Module* module) {
    IN_CONTEXT;
    if (!known(modules, module, __func__)) return INVALID_HANDLE;
    for (unsigned i = 0; i < count && i < module->functions.size(); i++) {
        functions[i] = module->functions[i].get();
    }
    return SUCCESS;
}

STAND_IN_API int cuFuncGetName(const char** name, const Function* function) {
    *name = function->name.c_str();
    return SUCCESS;
}

STAND_IN_API int cuFuncGetParamInfo(const Function* function, size_t index, size_t* offset,
                                    size_t* size) {
    if (index >= function->parameters.size()) return INVALID_VALUE;
    *offset = 0;
    for (size_t i = 0; i <= index; i++) {  // each at a multiple of its own size
        size_t bytes = static_cast<size_t>(function->parameters[i]);
        *offset = (*offset + bytes - 1) / bytes * bytes;
        if (i < index) *offset += bytes;
    }
    *size = static_cast<size_t>(function->parameters[index]);
    return SUCCESS;
}

STAND_IN_API int cuFuncGetAttribute(int* value, int attribute, const Function*) {
    switch (attribute) {
        case 0: *value = MAX_THREADS; return SUCCESS;
        case 1: *value = 0; return SUCCESS;  // static shared memory, which the CPU build hides
        default:
            stand_in::complain("cuFuncGetAttribute: attribute %d is not known here", attribute);
            return INVALID_VALUE;
    }
}

STAND_IN_API int cuFuncSetAttribute(Function* function, int attribute, int value) {
    GUARD;
    if (attribute != 8 || value < 0 || value > shared_limit()) {
        stand_in::complain("cuFuncSetAttribute: kernel %s cannot have attribute %d be %d",
                           function->name.c_str(), attribute, value);
        return INVALID_VALUE;
    }
    function->dynamic_shared = value;
    return SUCCESS;
}

/// Only what CudaDevice asks for: a matrix of bf16, swizzled by 128 bytes, zeros outside.
STAND_IN_API int cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address,
                                        const uint64_t* sizes, const uint64_t* strides,
                                        const unsigned* box, const unsigned* steps, int interleave,
                                        int swizzle, int promotion, int fill) {
    GUARD;
    const bool known = type == 9 && rank == 2 && steps[0] == 1 && steps[1] == 1 &&
                       interleave == 0 && swizzle == 3 && promotion >= 0 && promotion <= 3 &&
                       fill == 0;
    const bool aligned = reinterpret_cast<uintptr_t>(map) % 64 == 0 &&
                         reinterpret_cast<uintptr_t>(address) % 16 == 0 && strides[0] % 16 == 0;
    if (!known || !aligned || sizes[0] < 1 || sizes[1] < 1 || sizes[0] > 1ull << 32 ||
        sizes[1] > 1ull << 32 || box[0] * 2 > 128 || box[1] < 1 || box[1] > 256) {
        stand_in::complain("cuTensorMapEncodeTiled: a map that the driver would not make");
        return INVALID_VALUE;
    }
    const size_t bytes = (sizes[1] - 1) * strides[0] + sizes[0] * 2;
    if (!stand_in::inside(address, bytes, "matrix of a tensor map")) return INVALID_VALUE;
    const HalterTensorMap encoded = {HALTER_TENSOR_MAP, address, sizes[0], sizes[1], strides[0],
                                     box[0], box[1], {}};
    memcpy(map, &encoded, sizeof encoded);
    return SUCCESS;
}

STAND_IN_API int cuLaunchKernel(const Function* function, unsigned grid_x, unsigned grid_y,
                                unsigned grid_z, unsigned block_x, unsigned block_y,
                                unsigned block_z, unsigned shared, void* stream, void** arguments,
                                void** extra) {
    IN_CONTEXT;
    const char* name = function->name.c_str();
    if (grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_y > 65535 || grid_z > 65535 ||
        block_x == 0 || block_x * block_y * block_z > MAX_THREADS || extra != nullptr) {
        stand_in::complain("kernel %s: no such grid or block", name);
        return INVALID_VALUE;
    }
    if (shared > static_cast<unsigned>(function->dynamic_shared)) {
        stand_in::complain("kernel %s: %u bytes of shared memory, %d granted", name, shared,
                           function->dynamic_shared);
        return INVALID_VALUE;
    }
    // As the driver does: values are read now, whatever becomes of the caller's memory.
    std::vector<Argument> values(function->parameters.size());
    for (size_t i = 0; i < values.size(); i++) {
        memcpy(values[i].words, arguments[i], static_cast<size_t>(function->parameters[i]));
    }
    const unsigned grid[3] = {grid_x, grid_y, grid_z};
    return stand_in::enqueue(stream, [=] {
        return launch(*function, grid, block_x, shared, values);
    });
}

namespace {

// As in cuda.h.
struct LaunchAttribute {
    int id;
    char padding[4];
    int value;
    char rest[60];
};

struct LaunchConfig {
    unsigned grid[3], block[3], shared;
    void* stream;
    const LaunchAttribute* attributes;
    unsigned count;
};

static_assert(sizeof(LaunchAttribute) == 72 && sizeof(LaunchConfig) == 56, "as in cuda.h");

constexpr int PROGRAMMATIC_STREAM_SERIALIZATION = 6;

}  // namespace

/// Launches that may begin early run one after another here, as they may anywhere.
STAND_IN_API int cuLaunchKernelEx(const LaunchConfig* config, const Function* function,
                                  void** arguments, void** extra) {
    for (unsigned i = 0; i < config->count; i++) {
        const LaunchAttribute& attribute = config->attributes[i];
        if (attribute.id != PROGRAMMATIC_STREAM_SERIALIZATION || settings.capability < 90) {
            stand_in::complain("cuLaunchKernelEx: attribute %d is not known here", attribute.id);
            return INVALID_VALUE;
        }
    }
    return cuLaunchKernel(function, config->grid[0], config->grid[1], config->grid[2],
                          config->block[0], config->block[1], config->block[2], config->shared,
                          config->stream, arguments, extra);
}
