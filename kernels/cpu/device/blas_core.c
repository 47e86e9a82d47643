/* Makes an older OpenBLAS use a newer processor's vectors. */
#include "kernels/cpu/device/blas_core.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define RESTARTED "SWBENCH_BLAS_RESTARTED"

bool sw_cpu_blas_wants_restart(void)
{
#if defined(__x86_64__)
    static const char *const with_avx512[] = {"SkylakeX", "Cooperlake", "SapphireRapids", "Zen4",
                                              "Zen5"};
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") ||
        getenv("OPENBLAS_CORETYPE"))
        return false;
    const char *core = openblas_get_corename();
    for (size_t i = 0; i < sizeof with_avx512 / sizeof *with_avx512; i++)
        if (strcasecmp(core, with_avx512[i]) == 0)
            return false;
    return true;
#else
    return false;
#endif
}

void sw_cpu_prefer_fast_blas(char **argv)
{
    if (getenv(RESTARTED) || !sw_cpu_blas_wants_restart())
        return;
    if (setenv(RESTARTED, "1", 1) == 0 && setenv("OPENBLAS_CORETYPE", "SkylakeX", 1) == 0)
        execv("/proc/self/exe", argv);
    unsetenv("OPENBLAS_CORETYPE"); /* go on as we were */
}
