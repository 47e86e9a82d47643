/* A kernel that only reads the listed blocks of K and V: what memory allows a decode step. */
#include "bench/plain_read.h"

#include "kernels/cuda/device/device.h"

/* Eight 16-byte loads in flight a thread. */
__global__ void read_blocks(const uint4 *k, const uint4 *v, const int32_t *indices, int listed,
                            int64_t sequence, int64_t block, int64_t count, uint32_t *never)
{
    uint32_t acc = 0;
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
#pragma unroll 4
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += stride) {
        int entry = (int)(i / block), in_list = entry % listed;
        int64_t at =
            entry / listed * sequence + (indices ? indices[entry] : in_list) * block + i % block;
        uint4 x = k[at], y = v[at];
        acc ^= x.x ^ x.y ^ x.z ^ x.w ^ y.x ^ y.y ^ y.z ^ y.w;
    }
    if (acc == 0x5eadbeefu && never)
        *never = acc;
}

enum sw_status plain_read(struct sw_backend *be, const struct plain_read *a)
{
    struct cuda_state *s = state_of(be);
    int64_t block = a->block_bytes / 16;
    read_blocks<<<(unsigned)s->multiprocessors * 4, 512, 0, queue_on(s)>>>(
        static_cast<const uint4 *>(a->k), static_cast<const uint4 *>(a->v), a->indices, a->blocks,
        a->sequence_bytes / 16, block, block * a->blocks * a->batch, NULL);
    return cudaGetLastError() == cudaSuccess ? SW_OK : SW_EDEVICE;
}
