// Steering where the activation is made: the edits that a row's slot asks for at one site.
//
// A site instance (say blocks.7.hook_resid_post) has a table `ranges[slot] = {begin, end}` into the
// common array `ops`; slot 0 is always empty. Edits run in the order of the table. Each writes the
// squared L2 norm of the change that it made to changes[row * stride + op.report].
#pragma once
#include "reduce.cuh"
#include "types.cuh"

enum SteerKind {  // also in SteerOps
    STEER_ADD = 1,      // x += a * payload;               payload: float[d]
    STEER_PROJECT = 2,  // p = x . u; x += strength * (clip(p, lo, hi) - p) * u;  payload: unit float[d]
    STEER_HEADS = 3,    // z_h *= a for the listed heads;  payload: int[count]
    STEER_GATE = 4,     // hook_pre of the listed neurons; payload: int[count], each neuron once
    STEER_UP = 5,       // hook_pre_linear, likewise
    STEER_POST = 6,     // hook_post, likewise
    STEER_AFFINE = 7,   // z_h = A_h z_h + b_h for the listed heads; payload: see steer_map
};

struct SteerOp {  // 40 bytes; also in SteerOps, which writes them
    int kind;
    int count;
    const void* payload;
    float a;   // factor
    float lo;  // result bounds: value -> clip(a * value, lo, hi); a value is set by lo = hi
    float hi;
    float strength;  // of PROJECT and of neurons: which part of the change is made; 1 elsewhere
    int report;
};

// The place of a head in an edit's list, -1 if it is not there.
__device__ __forceinline__ int steer_head(const SteerOp& op, int head) {
    const int* heads = static_cast<const int*>(op.payload);
    int place = -1;
    for (int j = 0; j < op.count; j++) place = heads[j] == head ? j : place;
    return place;
}

// A head's map in the payload of a STEER_AFFINE: int[count] heads, filled up to a multiple of 16, then
// for each head float[d_head][d_head], A transposed so that a result's column is contiguous across
// results, and float[d_head] b.
__device__ __forceinline__ const float* steer_map(const SteerOp& op, int place, int d_head) {
    const int* heads = static_cast<const int*>(op.payload);
    const float* maps = reinterpret_cast<const float*>(heads + (op.count + 15) / 16 * 16);
    return maps + (long long)place * (d_head + 1) * d_head;
}

// clip keeps NaN, which fminf and fmaxf would lose.
__device__ __forceinline__ float steer_clip(float value, float lo, float hi) {
    return value < lo ? lo : value > hi ? hi : value;
}

// The value of a neuron under an edit: clip(a * value, lo, hi), where lo = hi sets it whatever it was;
// at a strength other than 1, as far towards that.
__device__ __forceinline__ float steer_neuron(const SteerOp& op, float value) {
    const float edited = op.lo == op.hi ? op.lo : steer_clip(op.a * value, op.lo, op.hi);
    return op.strength == 1.0f ? edited : value + op.strength * (edited - value);
}

// Edits one row x[d] of a d_model site in place. Every thread of the block calls it; each thread
// touches only elements threadIdx.x + n * blockDim.x, as its caller's own loops do.
template <typename T>
__device__ void steer_row(T* x, int d, const int2 range, const SteerOp* ops, float* report) {
    for (int i = range.x; i < range.y; i++) {
        const SteerOp& op = ops[i];
        const float* v = static_cast<const float*>(op.payload);
        float changed = 0;
        if (op.kind == STEER_ADD) {
            for (int j = threadIdx.x; j < d; j += blockDim.x) {
                const float step = op.a * v[j];
                x[j] = from_float<T>(to_float(x[j]) + step);
                changed += step * step;
            }
            changed = block_sum(changed);
        } else {
            float dot = 0;
            for (int j = threadIdx.x; j < d; j += blockDim.x) {
                dot += to_float(x[j]) * v[j];
            }
            dot = block_sum(dot);
            const float step = op.strength * (steer_clip(dot, op.lo, op.hi) - dot);
            for (int j = threadIdx.x; j < d; j += blockDim.x) {
                x[j] = from_float<T>(to_float(x[j]) + step * v[j]);
            }
            changed = step * step;
        }
        if (threadIdx.x == 0) report[op.report] = changed;
    }
}

// How the rows of a step are steered: the same for all kernels of the step. Each takes it, as a
// __grid_constant__ (see sparse.cuh), after the table `ranges` of its site, which is null where
// nothing is steered there; then none of this is read.
struct Steering {
    const int* slots;  // [rows]
    const SteerOp* ops;
    float* changes;  // [rows, stride] the report
    int stride;

    // The edits of `row` at the site whose table is `ranges`.
    __device__ __forceinline__ int2 range(const int2* ranges, int row) const {
        return ranges == nullptr ? make_int2(0, 0) : ranges[slots[row]];
    }

    // Where edits of `row` report.
    __device__ __forceinline__ float* report(int row) const {
        return changes + (long long)row * stride;
    }
};
