// attention_sm80.cu's prefill for sm_90a: wgmma on pages that the tensor copy engine brings, as
// FlashAttention-3 has it (Shah et al. 2024).
#include "attention_rows.cuh"
#include "fast_math.cuh"
#include "kv_cache.cuh"
#include "wgmma_sm90.cuh"

constexpr int CONSUMERS = 2;      // warpgroups that multiply; the first of a block fetches
constexpr int THREADS = 128 * (1 + CONSUMERS);
constexpr int CONSUMER_ROWS = 64; // packed rows of a consumer, the rows of a wgmma
constexpr int KEYS = 2 * PAGE;    // of a step

// Numbered barriers: a consumer's turn to multiply, and its own threads.
constexpr int TURN = 1, OWN = 1 + CONSUMERS;

// Online softmax of this lane's two rows over a step's keys: scores become weights.
struct Softmax {
    float maximum[2] = {-INFINITY, -INFINITY};
    float total[2] = {0, 0};  // of this lane's keys
    float correction[2];      // of what was summed before this step

    // c: that of scores in the exponent of 2.
    __device__ __forceinline__ void weigh(float (&scores)[KEYS / 8][4], float c) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top[2] = {maximum[h], -INFINITY};
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                for (int i = 0; i < 2; i++) top[i] = fmaxf(top[i], scores[n][2 * h + i]);
            }
            top[0] = quad_max(fmaxf(top[0], top[1]));
            const float reference = finite_maximum(top[0]);
            const float shift = -reference * c;
            correction[h] = fast_exp2((maximum[h] - reference) * c);
            maximum[h] = top[0];
            float of_step[2] = {0, 0};
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                for (int i = 0; i < 2; i++) {
                    float& score = scores[n][2 * h + i];
                    score = fast_exp2(fmaf(score, c, shift));
                    of_step[i] += score;
                }
            }
            total[h] = fmaf(total[h], correction[h], of_step[0] + of_step[1]);
        }
    }
};

// One tile under one KV head.
struct Item {
    int4 tile;
    int kv_head;
    int end;                // behind the tile's last position
    int first_page;         // that any of its rows sees
    int first_step, steps;  // of the sequence's keys

    __device__ __forceinline__ Item(int number, const int4* tiles, int n_kv_heads, int window)
        : tile(tiles[number / n_kv_heads]), kv_head(number % n_kv_heads) {
        end = tile.w + tile.y;
        const int first_key = window == 0 || tile.w < window ? 0 : tile.w - window + 1;
        first_page = first_key / PAGE;
        first_step = first_key / KEYS;
        steps = (end + KEYS - 1) / KEYS;
    }
};

// The items of a block. The longest come first, and every other round runs the other way, so that
// blocks have about as much to do.
struct Items {
    int all, round = 0;

    __device__ __forceinline__ explicit Items(int all) : all(all) {}

    __device__ __forceinline__ int number() const {
        const int blocks = gridDim.x, block = blockIdx.x;
        return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
    }

    __device__ __forceinline__ bool has() const { return number() < all; }

    __device__ __forceinline__ void advance() { round++; }
};

// Contract and arguments of `attention` in attention.cu, with these differences: T is bf16 and d_head
// is D_HEAD; keys and values come by tensor maps of the cache, of keys as [pages KV d_head][PAGE] in
// boxes of d_head rows, of values as [pages KV PAGE][d_head] in boxes of PAGE rows; of `tiles`, the
// longest first, there are n_tiles, and one has at most 128 rows times heads of a group; weights are
// rounded to bf16 before they meet the values, and a value that is NaN or infinite reaches all rows of
// the tiles that read its page.
// A row's bits depend neither on the other rows of its tile, nor on the tile's size or place in its
// prompt, nor on the grid: steps of KEYS begin at multiples of KEYS, wherever the row stands, and one
// of which the row sees nothing adds nothing. They are not those of attention_sm80, since wgmma adds
// up in another order.
// PRECOND: grid at most n_tiles * KV, best as many blocks as run at the same time; block 384; rows of
// a tile times H / KV at most 128; dynamic shared memory 1,024 + 512 * D_HEAD + STAGES * (512 *
// D_HEAD + 32) bytes with STAGES = 256 / D_HEAD.
// Work: 4 d_head FLOP for each query head and pair of a query and a key that lie in one step. A layer
// of Llama-3.1-8B (32 heads of 128) and a prompt of 2,000 have 2.00 million pairs that are seen and
// 2.13 million in all: 34.9 GFLOP, 47 us at the 743 TFLOP/s of cuBLAS on an H200, 58 at 600. 8,000
// tokens: 532 GFLOP, 0.72 and 0.89 ms. For 128 rows and 128 keys the products take 2,048 clocks of an
// SM's tensor cores, the 16,384 powers of two 1,024 and the other arithmetic of the softmax about 600:
// so one must be hidden behind the other.
// Moves, for each tile and KV head, its queries, its z and the pages that it sees, 64 KB a step. From
// DRAM come, where L2 keeps a layer's keys and values (8 MB at 2,000 tokens), 41 MB at 2,000 tokens,
// or 9 us. Measured on an H200: 75 us at 2,000 tokens, 0.85 ms at 8,000, 13.2 ms at 32,000 (467, 630 and
// 645 TFLOP/s), where attention_sm80 takes 190 us, 2.2 and 34.6 ms.
// A block has several items, a tile under a KV head each; what fetches runs ahead into the next one,
// whose queries come while this one is made. One thread fetches; keys and values have barriers of
// their own, since a step's keys are free as soon as its scores are there. A consumer has 64 rows of
// the tile: it starts the scores of a step and the weighted values of the step before, and makes
// weights of the scores while the values are still multiplied. The two consumers hand each other the
// right to start products, so that one makes weights while the other's products run. (Tried: without
// turns 84 us at 2,000 tokens and 0.98 ms at 8,000; a block for each tile and KV head 79 us and 0.86 ms.)
// A page that no row of the tile sees is not fetched. Its values, and those at places that no token
// has taken yet, are set to zero in shared memory before they are multiplied: they may be anything,
// and a weight of 0 does not make a 0 of NaN.
template <int D_HEAD>
__device__ void attention_sm90(bf16* z, float* log_sum, const bf16* __restrict__ qkv,
                               const TensorMap& k_map, const TensorMap& v_map,
                               const int* __restrict__ page_table, int pages_per_sequence,
                               const int4* __restrict__ tiles, int n_tiles, int n_heads,
                               int n_kv_heads, float scale, int window,
                               const int2* __restrict__ ranges, const Steering& steering) {
    constexpr int STAGES = 256 / D_HEAD;
    constexpr int PIECES = D_HEAD / 8;           // 16-byte pieces of a row
    constexpr int BLOCKS = D_HEAD / BOX_COLUMNS;  // boxes across a row
    // In shared memory, all swizzled: queries [2 turns][consumer][BLOCKS][64][64], then of each stage
    // keys [2 pages][D_HEAD][PAGE], then of each stage values [BLOCKS][KEYS][64], then barriers.
    constexpr int QUERY_BLOCK = CONSUMER_ROWS * BOX_COLUMNS * 2;
    constexpr int QUERY_BYTES = BLOCKS * QUERY_BLOCK;
    constexpr int PAGE_BYTES = PAGE * D_HEAD * 2;
    constexpr int VALUE_BLOCK = KEYS * BOX_COLUMNS * 2;
    constexpr int STEP_BYTES = KEYS * D_HEAD * 2;
    constexpr int KEYS_AT = 2 * CONSUMERS * QUERY_BYTES;
    constexpr int VALUES_AT = KEYS_AT + STAGES * STEP_BYTES;
    SHARED_DYNAMIC(unsigned char, shared);
    const unsigned first = (shared_address(shared) + 1023) / 1024 * 1024;
    unsigned char* const aligned = shared + (first - shared_address(shared));
    const unsigned barriers = first + VALUES_AT + STAGES * STEP_BYTES;
    const auto keys_full = [&](int stage) { return barriers + 32 * stage; };
    const auto keys_empty = [&](int stage) { return barriers + 32 * stage + 8; };
    const auto values_full = [&](int stage) { return barriers + 32 * stage + 16; };
    const auto values_empty = [&](int stage) { return barriers + 32 * stage + 24; };

    const int group = n_heads / n_kv_heads;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            mbarrier_init(keys_full(stage), 1);
            mbarrier_init(values_full(stage), 1);
            mbarrier_init(keys_empty(stage), CONSUMERS);
            mbarrier_init(values_empty(stage), CONSUMERS);
        }
        mbarrier_init_done();
    }
    __syncthreads();

    if (threadIdx.x < 128) {
        give_registers<24>();
        if (threadIdx.x == 0) {
            prefetch_map(k_map);
            prefetch_map(v_map);
            Ring ring = {STAGES};
            for (Items items(n_tiles * n_kv_heads); items.has(); items.advance()) {
                const Item item(items.number(), tiles, n_kv_heads, window);
                const int* table = page_table + (long long)item.tile.z * pages_per_sequence;
                for (int step = item.first_step; step < item.steps; step++) {
                    bool has[2];
                    int row[2];  // of the two pages, counted in heads
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int page = 2 * step + i;
                        has[i] = page >= item.first_page && page * PAGE < item.end;
                        row[i] = has[i] ? table[page] * n_kv_heads + item.kv_head : 0;
                    }
                    const int bytes = (has[0] + has[1]) * PAGE_BYTES;
                    const unsigned keys = first + KEYS_AT + ring.stage * STEP_BYTES;
                    mbarrier_wait(keys_empty(ring.stage), ring.parity ^ 1);
                    mbarrier_expect(keys_full(ring.stage), bytes);
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        if (has[i]) {
                            start_box(keys + i * PAGE_BYTES, k_map, 0, row[i] * D_HEAD,
                                      keys_full(ring.stage));
                        }
                    }
                    const unsigned values = first + VALUES_AT + ring.stage * STEP_BYTES;
                    mbarrier_wait(values_empty(ring.stage), ring.parity ^ 1);
                    mbarrier_expect(values_full(ring.stage), bytes);
#pragma unroll
                    for (int i = 0; i < 2 * BLOCKS; i++) {
                        if (has[i % 2]) {
                            start_box(values + i / 2 * VALUE_BLOCK + i % 2 * (VALUE_BLOCK / 2),
                                      v_map, i / 2 * BOX_COLUMNS, row[i % 2] * PAGE,
                                      values_full(ring.stage));
                        }
                    }
                    ring.advance();
                }
            }
        }
    } else {
        take_registers<240>();
        const int consumer = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
        const int lane = thread % 32;
        const int first_row = consumer * CONSUMER_ROWS + thread / 32 * 16 + mma_c(lane, 0).row;
        const float c = scale * 1.44269504f;
        const unsigned long long k_factor = wgmma_factor_across(first + KEYS_AT, PAGE_BYTES);
        const unsigned long long v_factor = wgmma_factor_across(first + VALUES_AT, VALUE_BLOCK);
        Ring keys = {STAGES}, values = {STAGES};
        int queries = consumer * QUERY_BYTES;  // where those of this item are, the next ones beside
        constexpr int OTHER = CONSUMERS * QUERY_BYTES;

        // Packed row i is row i / group of the tile under head i % group of the KV head.
        const auto start_queries = [&](const Item& item, int to) {
            for (int i = thread; i < CONSUMER_ROWS * PIECES; i += 128) {
                const int row = i / PIECES, piece = i % PIECES;
                const int at = consumer * CONSUMER_ROWS + row;
                const long long head = (item.tile.x + at / group) * (n_heads + 2LL * n_kv_heads) +
                                       item.kv_head * group + at % group;
                const bool valid = at < item.tile.y * group;
                start_copy(reinterpret_cast<bf16*>(aligned + to + piece / 8 * QUERY_BLOCK +
                                                   row * 128 + (piece % 8 ^ row % 8) * 16),
                           valid ? qkv + head * D_HEAD + piece * 8 : qkv, valid);
            }
        };
        const auto start_turn = [&] { barrier_wait(TURN + consumer, 128 * CONSUMERS); };
        const auto end_turn = [&](bool last) {
            // Nobody waits for the end of the last consumer's last turn.
            if (!(last && consumer == CONSUMERS - 1)) {
                barrier_arrive(TURN + (consumer + 1) % CONSUMERS, 128 * CONSUMERS);
            }
        };

        Items items(n_tiles * n_kv_heads);
        start_queries(Item(items.number(), tiles, n_kv_heads, window), queries);
        end_copy_group();
        if (consumer == CONSUMERS - 1) barrier_arrive(TURN, 128 * CONSUMERS);
        while (items.has()) {
            const Item item(items.number(), tiles, n_kv_heads, window);
            items.advance();
            const bool is_last = !items.has();
            wait_for_copies<0>();
            shared_stores_done();
            barrier_wait(OWN + consumer, 128);  // the queries are there, and the others' room is free
            if (!is_last) {
                start_queries(Item(items.number(), tiles, n_kv_heads, window), queries ^ OTHER);
            }
            end_copy_group();

            int position[2];
            for (int h = 0; h < 2; h++) position[h] = item.tile.w + (first_row + 8 * h) / group;
            float scores[KEYS / 8][4];
            unsigned weights[KEYS / 16][4];
            float sums[D_HEAD / 8][4];
            Softmax softmax;

            // What this consumer has read and written of a stage has come to its end.
            const auto leave = [&](unsigned empty) {
                if (thread == 0) mbarrier_arrive(empty);
            };
            const auto start_scores = [&] {
                mbarrier_wait(keys_full(keys.stage), keys.parity);
                start_turn();
                const unsigned long long q = wgmma_factor(first + queries);
                const unsigned long long k = k_factor + keys.stage * (STEP_BYTES >> 4);
                wgmma_begin();
#pragma unroll
                for (int d = 0; d < D_HEAD / 16; d++) {
                    wgmma_across(scores, q + d / 4 * (QUERY_BLOCK >> 4) + d % 4 * 2, k + d * 128,
                                 d > 0);
                }
                wgmma_end();
            };
            const auto start_sums = [&](int step) {
                mbarrier_wait(values_full(values.stage), values.parity);
                const int from = max(item.first_page * PAGE - step * KEYS, 0);
                const int to = min(item.end - step * KEYS, KEYS);
                if (from > 0 || to < KEYS) {
                    unsigned char* const rows = aligned + VALUES_AT + values.stage * STEP_BYTES;
                    for (int i = thread; i < KEYS * PIECES; i += 128) {
                        const int row = i / PIECES, piece = i % PIECES;
                        if (row >= from && row < to) continue;
                        *reinterpret_cast<uint4*>(rows + piece / 8 * VALUE_BLOCK + row * 128 +
                                                  piece % 8 * 16) = {0, 0, 0, 0};
                    }
                    shared_stores_done();
                    barrier_wait(OWN + consumer, 128);
                }
                const unsigned long long v = v_factor + values.stage * (STEP_BYTES >> 4);
                wgmma_begin();
#pragma unroll
                for (int k = 0; k < KEYS / 16; k++) {
                    wgmma_across(sums, weights[k], v + k * 128, step > item.first_step || k > 0);
                }
                wgmma_end();
            };
            const auto end_scores = [&] {
                wgmma_results(scores);
                leave(keys_empty(keys.stage));
                keys.advance();
            };
            const auto end_sums = [&] {
                wgmma_wait<0>();
                wgmma_results(sums);
                leave(values_empty(values.stage));
                values.advance();
            };
            const auto weigh = [&](int step) {
                const int key = step * KEYS;
                if (key + KEYS - 1 > item.tile.w ||
                    (window != 0 && item.end - 1 - key >= window)) {
#pragma unroll
                    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            const int back =
                                position[i / 2] - (key + n * 8 + mma_c(lane, i).column);
                            const bool visible = back >= 0 && (window == 0 || back < window);
                            scores[n][i] = visible ? scores[n][i] : -INFINITY;
                        }
                    }
                }
                softmax.weigh(scores, c);
            };
            // Two neighbouring tiles of 8 keys are the A of a product over 16 keys.
            const auto pack = [&] {
#pragma unroll
                for (int k = 0; k < KEYS / 16; k++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float* pair = scores[2 * k + i / 2] + i % 2 * 2;
                        weights[k][i] = bf16_pair(pair[0], pair[1]);
                    }
                }
            };

            start_scores();
            end_turn(is_last && item.first_step == item.steps - 1);
            wgmma_wait<0>();
            end_scores();
            weigh(item.first_step);
            pack();
            for (int step = item.first_step + 1; step < item.steps; step++) {
                start_scores();
                start_sums(step - 1);
                end_turn(is_last && step == item.steps - 1);
                wgmma_wait<1>();
                end_scores();
                weigh(step);
                end_sums();
#pragma unroll
                for (int d = 0; d < D_HEAD / 8; d++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) sums[d][i] *= softmax.correction[i / 2];
                }
                pack();
            }
            start_sums(item.steps - 1);
            end_sums();

#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (position[h] >= item.end) continue;
                const int i = first_row + 8 * h;
                // Queries have done their work. Their room is half of what these rows take as f32: a
                // quad's two rows have it one after the other.
                float* const own = reinterpret_cast<float*>(aligned + queries) + thread / 4 * D_HEAD;
                finish_row<D_HEAD>(z, log_sum, sums, h, softmax.maximum[h],
                                   quad_sum(softmax.total[h]), item.tile.x + i / group,
                                   item.kv_head * group + i % group, n_heads, scale, own, ranges,
                                   steering);
            }
            queries ^= OTHER;
        }
    }
}

#define ATTENTION(d_head)                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_sm90_##d_head(             \
        bf16* z, float* log_sum, const bf16* qkv, const __grid_constant__ TensorMap k_map,        \
        const __grid_constant__ TensorMap v_map, const int* page_table, int pages_per_sequence,   \
        const int4* tiles, int n_tiles, int n_heads, int n_kv_heads, float scale, int window,     \
        const int2* ranges, const __grid_constant__ Steering steering) {                          \
        attention_sm90<d_head>(z, log_sum, qkv, k_map, v_map, page_table, pages_per_sequence,     \
                               tiles, n_tiles, n_heads, n_kv_heads, scale, window, ranges,        \
                               steering);                                                         \
    }

ATTENTION(64)
ATTENTION(128)
