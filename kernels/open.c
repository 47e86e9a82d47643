/* Chooses a backend by name. The CUDA backend lives in a shared library opened at run time, so that
 * the program starts at once and without a driver on machines that have none. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/device/host.h"
#include "kernels/open.h"

#ifndef SWBENCH_LIBDIR
#define SWBENCH_LIBDIR     "/usr/local/lib"
#define SWBENCH_BIN_TO_LIB "../lib"
#endif
#define CUDA_MODULE "libswbench_cuda.so"

const char *const sw_backend_names[] = {"cpu", "cuda", NULL};

/* --- the CUDA module -------------------------------------------------------------------------- */

/* Opens the module at FOLDER/BELOW if there is such a file. */
static void *open_at(const char *folder, const char *below, bool *found)
{
    char path[2 * PATH_MAX];
    if (*found ||
        snprintf(path, sizeof path, "%s/%s%s" CUDA_MODULE, folder, below, *below ? "/" : "") >=
            (int)sizeof path ||
        access(path, R_OK) != 0)
        return NULL;
    *found = true;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static bool cut_to_folder(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    return slash && path[0] == '/';
}

/* The folder of the executable, and that of the shared library or executable that holds this
 * code. */
static bool executable_folder(char folder[PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    folder[length > 0 ? length : 0] = '\0';
    return cut_to_folder(folder);
}

static bool library_folder(char folder[PATH_MAX])
{
    Dl_info info;
    if (!dladdr(&sw_backend_names, &info) || !info.dli_fname)
        return false;
    size_t length = strlen(info.dli_fname);
    if (length >= PATH_MAX)
        return false;
    memcpy(folder, info.dli_fname, length + 1);
    return cut_to_folder(folder);
}

static void *open_module(bool *found)
{
    char folder[PATH_MAX];
    void *module = NULL;
    if (executable_folder(folder)) {
        static const char *const below[] = {SWBENCH_BIN_TO_LIB, "../lib", ""};
        for (size_t i = 0; i < sizeof below / sizeof *below && !*found; i++)
            module = open_at(folder, below[i], found);
    }
    if (!*found && library_folder(folder))
        module = open_at(folder, "", found);
    return *found ? module : open_at(SWBENCH_LIBDIR, "", found);
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
    /* ISO C forbids a cast from object to function pointer; POSIX guarantees that the bits are the
     * same. */
    sw_cuda_backend_open_fn *make;
    void *symbol = dlsym(module, "sw_cuda_backend_open");
    if (!symbol)
        return SW_FAIL(SW_EINPUT, "backend 'cuda': " CUDA_MODULE " has no sw_cuda_backend_open");
    memcpy(&make, &symbol, sizeof make);
    const struct sw_cuda_host host = {.interface_hash = SW_INTERFACE_HASH,
                                      .fail_at = sw_fail_at,
                                      .selection_reserve = sw_selection_reserve,
                                      .selection_reserve_masks = sw_selection_reserve_masks};
    return make(&host, threads, out);
}

/* --- by name ---------------------------------------------------------------------------------- */

static enum sw_status open_named(const char *name, int threads, struct sw_backend **out)
{
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

enum sw_status sw_backend_open(const char *name, int threads, struct sw_backend **out)
{
    *out = NULL;
    SW_TRY(open_named(name, threads, out));
    enum sw_status st = sw_backend_check(*out);
    if (st != SW_OK) {
        if ((*out)->close) /* it may be what is missing */
            (*out)->close(*out);
        *out = NULL;
    }
    return st;
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
    const char *message = known ? sw_error_message() : "not a backend",
               *after = strstr(message, ": ");
    snprintf(text, size, "%s",
             strncmp(message, "backend 'cuda': ", 16) == 0 ? after + 2
             : strstr(message, "not in this build")        ? "not in this build"
                                                           : message);
    sw_error_clear();
    return text;
}
