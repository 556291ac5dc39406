// Matrix products by oneDNN.

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include <array>
#include <map>
#include <mutex>
#include <string>

#include "cpu.h"
#include "gemm.h"
#include "halter.h"
#include "runtime.h"

namespace halter {
namespace {

#define FUNCTIONS(F)                                                                             \
    F(dnnl_set_max_cpu_isa) F(dnnl_engine_create) F(dnnl_stream_create)                          \
    F(dnnl_memory_desc_create_with_strides)                                                      \
    F(dnnl_memory_desc_destroy) F(dnnl_matmul_primitive_desc_create)                             \
    F(dnnl_primitive_desc_destroy) F(dnnl_primitive_create) F(dnnl_primitive_destroy)            \
    F(dnnl_primitive_execute) F(dnnl_memory_create) F(dnnl_memory_destroy)                       \
    F(dnnl_memory_set_data_handle) F(dnnl_stream_wait)

/// HALTER_MAX_ISA in oneDNN's words.
dnnl_cpu_isa_t most(Isa cap) {
    return cap == Isa::AVX2     ? dnnl_cpu_isa_avx2
           : cap == Isa::AVX512 ? dnnl_cpu_isa_avx512_core
                                : dnnl_cpu_isa_avx512_core_bf16;
}

/// The functions used of libdnnl.so.3, by their own names.
struct Library {
#define DECLARE(name) decltype(&::name) name;
    FUNCTIONS(DECLARE)
#undef DECLARE
    void (*omp_set_num_threads)(int);  // of the OpenMP that it brings
    dnnl_engine_t engine;
    dnnl_stream_t stream;

    bool open(const std::string& file) {
        // Its threads are others than ours and spin after each product, by default for longer than
        // there is to gain. OpenMP reads this as it is loaded; what the user set is kept.
        setenv("GOMP_SPINCOUNT", "1000", 0);
        void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            fail("oneDNN: %s", dlerror());
            return false;
        }
#define FIND(name)                                                     \
    name = reinterpret_cast<decltype(name)>(dlsym(handle, #name));     \
    if (!name) {                                                       \
        fail("oneDNN: %s has no %s", file.c_str(), #name);             \
        return false;                                                  \
    }
        FUNCTIONS(FIND)
        FIND(omp_set_num_threads)
#undef FIND
        // Before its first use; refused when the same file is opened again, and then it holds already.
        if (cpu().cap != Isa::NONE && dnnl_set_max_cpu_isa(most(cpu().cap)) == dnnl_unimplemented) {
            fail("oneDNN: %s cannot be kept to HALTER_MAX_ISA", file.c_str());
            return false;
        }
        if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success ||
            dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) {
            fail("oneDNN: %s does not start", file.c_str());
            return false;
        }
        return true;
    }
};

/// A product of one shape, ready to run; without a primitive where oneDNN has none.
struct Prepared {
    dnnl_primitive_t primitive = nullptr;
    std::array<dnnl_memory_t, 3> memories = {};
};

using Shape = std::array<long, 12>;

std::mutex mutex;
Library* loaded = nullptr;
std::string loaded_from;
bool enabled = false;
std::map<Shape, Prepared> prepared;

dnnl_data_type_t type_of(int type) {
    return type == HALTER_F32 ? dnnl_f32 : type == HALTER_F16 ? dnnl_f16 : dnnl_bf16;
}

Prepared prepare(const Product& p) {
    Library& dnnl = *loaded;
    const dnnl_dims_t sizes[] = {{p.m, p.k}, {p.k, p.n}, {p.m, p.n}};
    const dnnl_dims_t strides[] = {{p.x_transposed ? 1 : p.x_stride, p.x_transposed ? p.x_stride : 1},
                                   {p.w_transposed ? p.w_stride : 1, p.w_transposed ? 1 : p.w_stride},
                                   {p.out_stride, 1}};
    const int types[] = {p.x_type, p.w_type, p.out_type};
    dnnl_memory_desc_t layouts[3] = {};
    Prepared ready;
    bool good = true;
    for (int i = 0; i < 3; i++) {
        good = good && dnnl.dnnl_memory_desc_create_with_strides(&layouts[i], 2, sizes[i],
                               type_of(types[i]), strides[i]) == dnnl_success &&
               dnnl.dnnl_memory_create(&ready.memories[i], layouts[i], dnnl.engine,
                                       DNNL_MEMORY_NONE) == dnnl_success;
    }
    dnnl_primitive_desc_t description = nullptr;
    if (good &&
        dnnl.dnnl_matmul_primitive_desc_create(&description, dnnl.engine, layouts[0], layouts[1],
                                               nullptr, layouts[2], nullptr) == dnnl_success) {
        dnnl.dnnl_primitive_create(&ready.primitive, description);
        dnnl.dnnl_primitive_desc_destroy(description);
    }
    for (dnnl_memory_desc_t layout : layouts) dnnl.dnnl_memory_desc_destroy(layout);
    return ready;
}

void forget() {
    for (auto& [shape, ready] : prepared) {
        for (dnnl_memory_t memory : ready.memories) loaded->dnnl_memory_destroy(memory);
        loaded->dnnl_primitive_destroy(ready.primitive);
    }
    prepared.clear();
}

}  // namespace

bool onednn_multiply(const Product& p, int threads) {
    if (!enabled || p.x_type != p.w_type || p.m == 0 || p.n == 0 || p.k == 0) return false;
    std::lock_guard<std::mutex> lock(mutex);
    loaded->omp_set_num_threads(threads);
    Shape shape = {p.m, p.n, p.k, p.x_stride, p.w_stride, p.out_stride, p.x_type, p.w_type,
                   p.out_type, p.x_transposed, p.w_transposed, threads};
    auto found = prepared.find(shape);
    if (found == prepared.end()) {
        if (prepared.size() >= 1024) forget();  // prompts have many lengths
        found = prepared.emplace(shape, prepare(p)).first;
    }
    const Prepared& ready = found->second;
    if (!ready.primitive) return false;
    void* data[] = {const_cast<void*>(p.x), const_cast<void*>(p.w), p.out};
    for (int i = 0; i < 3; i++) loaded->dnnl_memory_set_data_handle(ready.memories[i], data[i]);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, ready.memories[0]},
                                         {DNNL_ARG_WEIGHTS, ready.memories[1]},
                                         {DNNL_ARG_DST, ready.memories[2]}};
    return loaded->dnnl_primitive_execute(ready.primitive, loaded->stream, 3, arguments) ==
               dnnl_success &&
           loaded->dnnl_stream_wait(loaded->stream) == dnnl_success;
}

}  // namespace halter

using namespace halter;

int halter_onednn(const char* directory) {
    std::lock_guard<std::mutex> lock(mutex);
    enabled = false;
    if (!directory) return 0;
    if (!loaded || loaded_from != directory) {
        Library library;
        if (!library.open(std::string(directory) + "/libdnnl.so.3")) return -1;
        forget();
        delete loaded;
        loaded = new Library(library);
        loaded_from = directory;
    }
    enabled = true;
    return 0;
}
