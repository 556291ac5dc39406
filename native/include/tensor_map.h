// What the stand-in for the driver writes into a CUtensorMap, and the software form of the tensor
// copies (wgmma_sm90.cuh) reads from it: two dimensions of 2-byte elements.

#pragma once

#include <stdint.h>

struct HalterTensorMap {
    uint64_t magic;
    const void* address;
    uint64_t columns, rows;  // of the matrix
    uint64_t row_bytes;      // from one row to the next
    uint32_t box_columns, box_rows;
    uint64_t unused[10];
};

static_assert(sizeof(HalterTensorMap) == 128, "as large as a CUtensorMap");

constexpr uint64_t HALTER_TENSOR_MAP = 0x70614d726f736e54;
