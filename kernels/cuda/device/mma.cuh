/* mma.cuh: the sm_80 building blocks of the attention kernels: swizzled bf16 tiles in shared
 * memory, cp.async, ldmatrix, mma.
 *
 * A tile is [rows][D] bf16; its 16-byte pieces ("chunks") are permuted inside a row so that the
 * eight rows that one ldmatrix phase reads fall into eight different bank groups. D is the head
 * dimension of the template: the true one, d <= D, is padded with zeros. */
#ifndef SW_CUDA_MMA_CUH
#define SW_CUDA_MMA_CUH

#include <cstdint>
#include <cuda_bf16.h>

template <int D>
__device__ inline uint32_t tile_at(int row, int chunk) /* byte offset */
{
    if constexpr (D == 96) /* 12 chunks a row: rows start at bank groups 0 and 4 by turns */
        return (uint32_t)(row * 12 + (chunk ^ ((row >> 1) & 3))) * 16;
    else
        return (uint32_t)(row * (D / 8) + (chunk ^ (row & 7))) * 16;
}

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes global → shared, past L1; zeros when !valid (src is not read then). */
__device__ inline void copy_async(uint32_t dst, const void *src, bool valid)
{
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(dst), "l"(src), "r"(bytes)
                 : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int PENDING>
__device__ inline void copy_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(PENDING) : "memory");
}

__device__ inline void load_matrix(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}
__device__ inline void load_matrix_transposed(uint32_t (&r)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* c[16×8] += a[16×16] · b[16×8]: bf16 in, fp32 accumulation. */
__device__ inline void mma16816(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* fp32 products on tensor cores: each factor as two tf32 numbers of 11 bits, and three of the four
 * products added; the error is about 2^-20.
 * v = hi + lo + less than 2^-21 |v|: bits cut off, not rounded (two instructions; cvt.rna.tf32 made
 * the kernel wait for the conversion unit). */
__device__ inline void split_tf32(float v, uint32_t &hi, uint32_t &lo)
{
    hi = __float_as_uint(v) & 0xffffe000u;
    lo = __float_as_uint(v - __uint_as_float(hi)) & 0xffffe000u;
}

/* c[16×8] += a[16×8] · b[8×8]: tf32 in, fp32 accumulation. Lane 4g + t holds rows g, g + 8 of k =
 * t, then of k = t + 4; of b column g, k = t and t + 4; of c rows g and g + 8, columns 2t and 2t +
 * 1 each. */
__device__ inline void mma1688(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t pack_bf16(float lo, float hi)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *reinterpret_cast<uint32_t *>(&v);
}

/* Addresses for ldmatrix.x4, by lane:
 * A operand, rows row0 … +15, columns of chunks chunk0, chunk0 + 1. */
template <int D>
__device__ inline uint32_t a_address(uint32_t tile, int row0, int chunk0, int lane)
{
    return tile + tile_at<D>(row0 + (lane & 15), chunk0 + (lane >> 4));
}
/* B operand of Q·Kᵀ: keys key0 … +15; r[0], r[1] are the first eight keys, r[2], r[3] the
 * others. */
template <int D>
__device__ inline uint32_t k_address(uint32_t tile, int key0, int chunk0, int lane)
{
    return tile + tile_at<D>(key0 + ((lane >> 4) << 3) + (lane & 7), chunk0 + ((lane >> 3) & 1));
}
/* B operand of P·V, transposed load: keys key0 … +15 summed over; r[0], r[1] are chunk0's eight
 * columns, r[2], r[3] the next eight. */
template <int D>
__device__ inline uint32_t v_address(uint32_t tile, int key0, int chunk0, int lane)
{
    return tile + tile_at<D>(key0 + (((lane >> 3) & 1) << 3) + (lane & 7), chunk0 + (lane >> 4));
}

/* Largest and sum over the four lanes that hold one row of an accumulator. */
__device__ inline float quad_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, 2));
}
__device__ inline float quad_sum(float v)
{
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

#endif
