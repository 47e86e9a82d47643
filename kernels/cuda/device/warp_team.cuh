/* warp_team.cuh: neighbouring warps of a CTA that work on one row and wait for nobody else. */
#ifndef SW_CUDA_WARP_TEAM_CUH
#define SW_CUDA_WARP_TEAM_CUH

#include <cuda_runtime.h>

/* T: what warps tell each other. MOST: warps of all teams of the CTA. */
template <class T, int MOST>
struct warp_team {
    static_assert(MOST <= 16,
                  "barriers 1 … 15, one for each first warp; a team that needs one has two warps");
    int first, warps; /* its first warp, and how many */
    T *places;        /* [2][MOST] of shared memory, of all teams */
    /* of this thread: fields, as they are asked for too often to be made anew each time */
    int warp, lane;
    int turn = 0; /* of the two halves of `places`, so that an exchange needs one barrier */

    __device__ warp_team(int first, int warps, T *places)
        : first(first), warps(warps), places(places), warp(((int)threadIdx.x >> 5) - first),
          lane((int)threadIdx.x & 31)
    {
    }
    __device__ int thread() const { return (int)threadIdx.x - 32 * first; }
    __device__ int threads() const { return 32 * warps; }
    __device__ void sync() const
    {
        if (warps == 1)
            __syncwarp();
        else
            asm volatile("bar.sync %0, %1;" ::"r"(1 + first), "r"(32 * warps) : "memory");
    }
    /* v of the team's warp number `lane`, to each of its warps; `none` where there is no such
     * warp. */
    __device__ T exchange(T v, T none)
    {
        turn ^= 1;
        if (lane == 0)
            places[turn * MOST + first + warp] = v;
        sync();
        return lane < warps ? places[turn * MOST + first + lane] : none;
    }
};

#endif
