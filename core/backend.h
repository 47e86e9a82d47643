/* backend.h: the operations that methods and models are made of, once per kind of device.
 *
 * M methods and K backends cost M + K: a method is host code over these operations and never knows
 * where it runs. core/operations.h lists and explains the operations, core/operation_args.h their
 * arguments. Operations are queued in order; only download, sync and timer reads wait for them.
 *
 * Errors: SW_ENOMEM (message has the bytes asked and free), SW_EDEVICE (sticky device error),
 * SW_EUNSUPPORTED (a shape that a kernel of this backend does not handle; `why` in the message),
 * SW_EINTERNAL for arguments that break what those two headers ask. */
#ifndef SW_BACKEND_H
#define SW_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/operation_args.h"
#include "core/selection.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum sw_dtype { SW_F32, SW_F16, SW_BF16 };
static inline size_t sw_dtype_size(enum sw_dtype t) { return t == SW_F32 ? 4 : 2; }

enum { SW_TIMER_SLOTS = 1024 }; /* made when first used */

struct sw_backend {
    const char *name;  /* "cpu", "cuda" */
    char device[128];  /* human name of the processor or GPU */
    char details[512]; /* instruction set, threads, library versions: for provenance */
    /* which of its kernels it runs, of those that the environment or the build could have it run
     * instead ("isa=avx2 …"): part of a cell's key */
    char variant[128];
    enum sw_dtype act;              /* type of activations, weights and KV cache */
    double flops, bytes_per_second; /* sustained, roughly: for estimates before a run */
    int threads;                    /* host threads used; results never depend on it */
    /* linear and head: among so few rows a row's result has the same bits as alone; at least 1 */
    int rows_alike;
    void *impl;

#define SW_OPERATION(need, name, parameters)      enum sw_status(*name) parameters SW_MUST_CHECK;
#define SW_FUNCTION(need, type, name, parameters) type(*name) parameters;
#include "core/operations.h"
};

/* SW_EINTERNAL, naming it, when a function that the list requires is NULL: kernels/open.c asks for
 * every backend that is opened. */
SW_MUST_CHECK enum sw_status sw_backend_check(const struct sw_backend *be);

static inline void sw_backend_close(struct sw_backend *be) /* NULL is fine */
{
    if (be)
        be->close(be);
}

#ifdef __cplusplus
}
#endif
#endif
