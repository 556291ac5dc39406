// The paged key and value cache of one layer.
//
// A page holds PAGE consecutive tokens of one sequence for all KV heads: keys as
// [kv_head][d_head][PAGE], so that the scores of neighbouring keys lie side by side, and values as
// [kv_head][PAGE][d_head]. `page_table[sequence][t / PAGE]` names the page of position t, which is
// at place t % PAGE.
#pragma once

constexpr int PAGE = 64;

// Where the part of one KV head begins in a page, in elements; the same for keys and values.
__device__ __forceinline__ long long page_offset(int page, int kv_head, int n_kv_heads,
                                                 int d_head) {
    return ((long long)page * n_kv_heads + kv_head) * d_head * PAGE;
}

// Likewise in the page of position `t`.
__device__ __forceinline__ long long page_offset(const int* page_table, int pages_per_sequence,
                                                 int sequence, int t, int kv_head, int n_kv_heads,
                                                 int d_head) {
    const int page = page_table[(long long)sequence * pages_per_sequence + t / PAGE];
    return page_offset(page, kv_head, n_kv_heads, d_head);
}
