/* The GPU's clock, by the driver's management library (NVML), which is opened when it is there:
 * times without their clock cannot be compared. */
#include <dlfcn.h>

#include "kernels/cuda/device/device.h"

/* The part of nvml.h used here: status 0 is success, clock type 1 is that of the
 * multiprocessors. */
static const int NVML_CLOCK_SM = 1;

int sw_cuda_clock_mhz(struct sw_backend *be)
{
    struct cuda_state *s = state_of(be);
    unsigned mhz = 0;
    return s->nvml_clock && s->nvml_clock(s->nvml_device, NVML_CLOCK_SM, &mhz) == 0 ? (int)mhz : 0;
}

void sw_cuda_clock_open(struct cuda_state *s)
{
    /* stays open: NVML is the process's */
    void *library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!library)
        return;
    auto init = reinterpret_cast<unsigned (*)()>(dlsym(library, "nvmlInit_v2"));
    auto by_bus = reinterpret_cast<unsigned (*)(const char *, void **)>(
        dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2"));
    auto clock = reinterpret_cast<unsigned (*)(void *, int, unsigned *)>(
        dlsym(library, "nvmlDeviceGetClockInfo"));
    char bus[32] = "";
    unsigned mhz;
    if (!init || !by_bus || !clock || init() != 0 ||
        cudaDeviceGetPCIBusId(bus, sizeof bus, s->device) != cudaSuccess ||
        by_bus(bus, &s->nvml_device) != 0 || clock(s->nvml_device, NVML_CLOCK_SM, &mhz) != 0) {
        (void)cudaGetLastError();
        return;
    }
    s->nvml_clock = clock;
}
