// Launches that overlap (programmatic dependent launch, sm_90 and later; nothing happens elsewhere).
//
// A kernel launched so begins when every block of the one before it has called
// let_next_launch_begin() or has ended. Until its own wait_for_launches_before() it reads and writes
// nothing but what no kernel of the step writes: weights, tables, keys and values of earlier steps, and its
// shared memory. Every thread that writes anything calls the wait, and so does one block at least: this
// kernel ends after the one before it, and whoever waits for this one has waited for all before.
#pragma once

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

__device__ __forceinline__ void wait_for_launches_before() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

__device__ __forceinline__ void let_next_launch_begin() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

#else

__device__ __forceinline__ void wait_for_launches_before() {}

__device__ __forceinline__ void let_next_launch_begin() {}

#endif
