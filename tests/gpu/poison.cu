/* Loaded into a program with LD_PRELOAD: after POISON_AFTER_MS milliseconds a kernel of this
 * library writes to an address that does not exist. That breaks the process's CUDA context for good
 * (a "sticky" error), as a bug in somebody's kernel or a failing GPU would. */
#include <cstdlib>
#include <thread>

#include <cuda_runtime.h>
#include <unistd.h>

__global__ void write_nowhere(volatile int *p) { *p = 1; }

__attribute__((constructor)) static void poison()
{
    const char *after = getenv("POISON_AFTER_MS");
    if (!after)
        return;
    useconds_t wait = (useconds_t)(atof(after) * 1000);
    std::thread([wait] {
        usleep(wait);
        write_nowhere<<<1, 1>>>(reinterpret_cast<volatile int *>(0x10));
        (void)cudaDeviceSynchronize();
    }).detach();
}
