// Rotary embedding (Su et al. 2021) of one pair of a head's elements.
#pragma once

// Elements i and i + d_head / 2 of a head, turned by an angle. The last product of each sum is fused
// into it, said here so that every kernel's bits are the same.
struct Rotated {
    float first, second;

    __device__ __forceinline__ Rotated(float a, float b, float cosine, float sine)
        : first(fmaf(a, cosine, -(b * sine))), second(fmaf(b, cosine, a * sine)) {}
};
