/* Chooses a backend by name. The CUDA backend lives in a shared library opened at run time, so that the program starts at once
 * and without a driver on machines that have none. */
#include <stdio.h>
#include <string.h>

#include "core/backend.h"

const char *const sw_backend_names[] = {"cpu", NULL};

enum sw_status sw_backend_open(const char *name, int threads, struct sw_backend **out)
{
    if (strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0)
        return sw_cpu_backend_open(threads, out);
    return SW_FAIL(SW_EINPUT, "backend '%s' is not in this build; expected cpu or auto", name);
}

void sw_backend_close(struct sw_backend *be)
{
    if (be)
        be->close(be);
}

const char *sw_backend_state(const char *name, char *text, size_t size)
{
    snprintf(text, size, "%s", strcmp(name, "cpu") == 0 ? "available" : "not in this build");
    return text;
}
