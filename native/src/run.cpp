// Recorded steps: the calls of the C interface, made one after another without coming back to Java.

#include <string.h>

#include "halter.h"
#include "runtime.h"

namespace halter {
namespace {

int call(const long* words) {
    const long* a = words + 1;
    const auto pointer = [&](int i) { return reinterpret_cast<void*>(a[i]); };
    const auto number = [&](int i) { return int(a[i]); };
    switch (words[0]) {
        case HALTER_LAUNCH:
            return halter_launch(number(0), number(1), number(2), number(3), number(4), number(5),
                                 static_cast<void**>(pointer(6)));
        case HALTER_GEMM:
            return halter_gemm(number(0), number(1), number(2), pointer(3), number(4), a[5],
                               number(6), pointer(7), number(8), a[9], number(10), pointer(11),
                               number(12), a[13]);
        case HALTER_MULTIPLY_TOP:
            return halter_multiply_top(number(0), number(1), number(2), pointer(3), number(4), a[5],
                                       pointer(6), number(7), a[8], number(9), number(10),
                                       static_cast<int*>(pointer(11)),
                                       static_cast<float*>(pointer(12)),
                                       static_cast<float*>(pointer(13)));
        case HALTER_COPY: memcpy(pointer(0), pointer(1), a[2]); return 0;
        case HALTER_FILL: memset(pointer(0), number(1), a[2]); return 0;
        default: fail("no call number %ld", words[0]); return -1;
    }
}

}  // namespace
}  // namespace halter

using namespace halter;

int halter_run(const long* calls, long count) {
    for (long i = 0; i < count; i++) {
        const int status = call(calls + i * HALTER_CALL_WORDS);
        if (status != 0) return status;
    }
    return 0;
}
