// Elementary functions. fast_exp and silu are arithmetic that every build does alike: the same bits on
// a GPU and in the CPU builds, and plain enough for g++ to vectorise, which a call of libm's expf is
// not. fast_exp2 is what a GPU has as an instruction.
#pragma once

// 2^x to about one unit in the last place; a result below f32's normal numbers becomes 0.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

// e^x to within 1.01 units in the last place (over every 37th float). Results below 2^-125
// become 0, so a softmax never meets denormals; x above 88.72 gives infinity; NaN stays NaN.
// e^x = 2^n e^r with n = round(x / ln 2): r by Cody and Waite's two-part ln 2, so |r| <= 0.3466,
// and there 1 + r + r^2 p(r) with the coefficients of expf in Moshier's Cephes library. What becomes 0
// does so by a factor: a choice between 0 and the result g++ makes a branch around `sum += result`,
// and sums no longer vectorise.
__device__ __forceinline__ float fast_exp(float x) {
    const bool vanishes = x < -86.6f;
    const float exponent = vanishes ? -86.6f : x;
    float n = rintf(exponent * 1.44269504f);
    n = n > 128.0f ? 128.0f : n;
    float r = fmaf(n, -0.693359375f, exponent);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(p, r * r, r) + 1.0f;
    // 2^n as 2 * 2^(n-1): n = 128 has no float of its own.
    const float scale = vanishes ? 0.0f : __int_as_float(((int)n + 126) << 23);
    const float value = (p + p) * scale;
    return x > 88.722839f ? INFINITY : value;
}

__device__ __forceinline__ float silu(float value) { return value / (1.0f + fast_exp(-value)); }
