/* Chooses a backend by name. The CUDA backend lives in a shared library opened at run time, so that the program starts at once
 * and without a driver on machines that have none. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backend.h"
#include "kernels/cuda/host.h"

#ifndef SWBENCH_LIBDIR
#define SWBENCH_LIBDIR "/usr/local/lib"
#endif
#define CUDA_MODULE "libswbench_cuda.so"

const char *const sw_backend_names[] = {"cpu", "cuda", NULL};

/* ------------------------------------------------------------------------------------------------ the CUDA module */

/* Opens the module at `path` if there is such a file. */
static void *open_at(const char *path, bool *found)
{
    if (access(path, R_OK) != 0)
        return NULL;
    *found = true;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* Looks in lib/ beside the executable's folder, then beside the executable, then where the program is installed. */
static void *open_module(bool *found)
{
    char exe[PATH_MAX], path[PATH_MAX + sizeof "/../lib/" CUDA_MODULE];
    static const char *const beside[] = {"/../lib/" CUDA_MODULE, "/" CUDA_MODULE};
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (length > 0) {
        exe[length] = '\0';
        char *slash = strrchr(exe, '/');
        if (slash)
            *slash = '\0';
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            snprintf(path, sizeof path, "%s%s", exe, beside[i]);
            void *module = open_at(path, found);
            if (*found)
                return module;
        }
    }
    return open_at(SWBENCH_LIBDIR "/" CUDA_MODULE, found);
}

/* Why the module cannot be used, as a status; the module stays open for the life of the process. */
static enum sw_status cuda_open(int threads, struct sw_backend **out)
{
    static void *module;
    bool found = module != NULL;
    if (!module)
        module = open_module(&found);
    if (!found)
        return SW_FAIL(SW_EINPUT, "backend 'cuda' is not in this build; expected cpu or auto");
    if (!module) {
        const char *why = dlerror();
        return SW_FAIL(SW_EINPUT, "backend 'cuda': cannot load %s", why ? why : CUDA_MODULE);
    }
    /* ISO C forbids a cast from object to function pointer; POSIX guarantees that the bits are the same. */
    sw_cuda_backend_open_fn *make;
    void *symbol = dlsym(module, "sw_cuda_backend_open");
    if (!symbol)
        return SW_FAIL(SW_EINPUT, "backend 'cuda': " CUDA_MODULE " has no sw_cuda_backend_open");
    memcpy(&make, &symbol, sizeof make);
    const struct sw_cuda_host host = {.abi = SW_CUDA_ABI,
                                      .backend_size = sizeof(struct sw_backend),
                                      .fail_at = sw_fail_at,
                                      .selection_reserve = sw_selection_reserve,
                                      .selection_reserve_masks = sw_selection_reserve_masks};
    return make(&host, threads, out);
}

/* -------------------------------------------------------------------------------------------------------- by name */

enum sw_status sw_backend_open(const char *name, int threads, struct sw_backend **out)
{
    *out = NULL;
    if (strcmp(name, "cpu") == 0)
        return sw_cpu_backend_open(threads, out);
    if (strcmp(name, "cuda") == 0)
        return cuda_open(threads, out);
    if (strcmp(name, "auto") != 0)
        return SW_FAIL(SW_EINPUT, "backend '%s' is unknown; expected cpu, cuda or auto", name);
    enum sw_status st = cuda_open(threads, out);
    if (st != SW_EINPUT) /* a device that fails is not a machine without one */
        return st;
    sw_error_clear();
    return sw_cpu_backend_open(threads, out);
}

void sw_backend_close(struct sw_backend *be)
{
    if (be)
        be->close(be);
}

const char *sw_backend_state(const char *name, char *text, size_t size)
{
    struct sw_backend *be = NULL;
    bool known = strcmp(name, "cpu") == 0 || strcmp(name, "cuda") == 0;
    enum sw_status st = known ? sw_backend_open(name, 0, &be) : SW_EINPUT;
    if (st == SW_OK) {
        snprintf(text, size, "available: %s (%s)", be->device, be->details);
        be->close(be);
        return text;
    }
    /* "backend 'cuda': no usable GPU …" reads badly after the backend's own name. */
    const char *message = known ? sw_error_message() : "not a backend", *after = strstr(message, ": ");
    snprintf(text, size, "%s", strncmp(message, "backend 'cuda': ", 16) == 0 ? after + 2
                               : strstr(message, "not in this build")        ? "not in this build"
                                                                             : message);
    sw_error_clear();
    return text;
}
