// Kernels that try what the faithful build promises: right ones, and one for each mistake that it
// reports.

#include "reduce.cuh"

// out[i] = i for every thread of every block, in the order of a 3-D grid.
extern "C" __global__ void number(int* out) {
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int i = block * blockDim.x + threadIdx.x;
    out[i] = i;
}

// Sums, maxima and where the maximum is, from one call after another; out[blockDim][4].
extern "C" __global__ void reductions(float* out, const float* in) {
    int t = threadIdx.x;
    float sum = block_sum(in[t]);
    float largest = block_max(in[t]);
    float smallest = block_min(in[t]);
    Argmax best = block_argmax(in[t], t);
    out[4 * t] = sum;
    out[4 * t + 1] = largest;
    out[4 * t + 2] = smallest;
    out[4 * t + 3] = best.value == largest ? best.index : -1;
}

// What each warp operation gives each lane; out[32][8].
extern "C" __global__ void warp_operations(int* out) {
    const unsigned all = 0xffffffffu;
    int lane = threadIdx.x;
    int value = 100 + lane;
    int* row = out + 8 * lane;
    row[0] = __shfl_sync(all, value, 7);
    row[1] = __shfl_up_sync(all, value, 3);
    row[2] = __shfl_down_sync(all, value, 3);
    row[3] = __shfl_xor_sync(all, value, 5);
    row[4] = __shfl_sync(all, value, 9, 8);
    row[5] = int(__ballot_sync(all, lane % 3 == 0));
    row[6] = __any_sync(all, lane == 31) + 2 * __any_sync(all, lane == 32);
    row[7] = __all_sync(all, lane < 32) + 2 * __all_sync(all, lane < 31);
}

// Only the first warp shuffles, and halves of the second one by themselves.
extern "C" __global__ void some_warps(int* out) {
    int t = threadIdx.x, value = t;
    if (t < 32) {
        value = warp_reduce(value, Sum());
    } else if (t < 48) {
        value = __shfl_sync(0x0000ffffu, value, 1);
    } else if (t < 64) {
        value = __shfl_sync(0xffff0000u, value, 16);
    }
    __syncthreads();
    out[t] = value;
}

// out[t] = what the thread before wrote, but without waiting for it.
extern "C" __global__ void race(int* out) {
    __shared__ int values[1024];
    values[threadIdx.x] = threadIdx.x;
    if (blockIdx.x == 1) __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = values[(threadIdx.x + 31) % blockDim.x];
}

// The bits of shared memory before anything is written to it, static and dynamic.
extern "C" __global__ void uninitialised(unsigned* out) {
    __shared__ unsigned fixed[4];
    SHARED_DYNAMIC(unsigned, dynamic);
    if (threadIdx.x == 0) {
        out[2 * blockIdx.x] = fixed[3];
        out[2 * blockIdx.x + 1] = dynamic[3];
        fixed[3] = dynamic[3] = 7;
    }
}

extern "C" __global__ void different_barriers(int* out) {
    if (threadIdx.x < 7) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

extern "C" __global__ void early_exit(int* out) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

extern "C" __global__ void not_in_mask(int* out) {
    out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1, 1);
}

extern "C" __global__ void reads_outside_mask(int* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}

extern "C" __global__ void absent_lane(int* out) {
    if (threadIdx.x == 3) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

extern "C" __global__ void lane_at_barrier(int* out) {
    if (threadIdx.x == 3) {
        __syncthreads();
    } else {
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    }
}

extern "C" __global__ void different_operations(int* out) {
    if (threadIdx.x < 16) {
        out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
    } else {
        out[threadIdx.x] = __any_sync(0xffffffffu, 1);
    }
}

extern "C" __global__ void overrun(int* out) {
    SHARED_DYNAMIC(int, values);
    values[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x];
}

// Every parameter size there is, so that a launch shows that they arrive.
extern "C" __global__ void parameters(double* out, int i, float f, long long l, unsigned u) {
    if (threadIdx.x == 0) {
        out[0] = i;
        out[1] = f;
        out[2] = double(l);
        out[3] = u;
    }
}

extern "C" __global__ void count(int* counter, float* sum) {
    atomicAdd(counter, 1);
    atomicAdd(sum, 0.5f);
    atomicMax(counter + 1, int(threadIdx.x));
    atomicCAS(counter + 2, -1, 42);
}
