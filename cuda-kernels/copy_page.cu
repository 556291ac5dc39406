// A page of the KV cache to another.

// In each of the arrays whose addresses are caches [arrays], the elements of page `to` become those of
// page `from`: keys and values of all layers at once.
// PRECOND: any grid (arrays, chunks) and any block; pages are `packs` times 16 bytes, arrays begin at
// multiples of 16; from != to. Moves arrays * packs * 32 bytes.
// One launch, since a copy for each array would be 64 calls of a few microseconds for a model of 32
// layers, and the page itself is read in less.
extern "C" __global__ void copy_page(const long long* __restrict__ caches, int packs, int from,
                                     int to) {
    int4* cache = reinterpret_cast<int4*>(caches[blockIdx.x]);
    const int4* in = cache + (long long)from * packs;
    int4* out = cache + (long long)to * packs;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < packs; i += gridDim.y * blockDim.x) {
        out[i] = in[i];
    }
}
