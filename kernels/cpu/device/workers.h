/* workers.h: a small pool of threads that share the iterations of one loop. */
#ifndef SW_CPU_WORKERS_H
#define SW_CPU_WORKERS_H

#include "core/status.h"

struct sw_workers;

/* `threads` includes the calling thread. */
SW_MUST_CHECK enum sw_status sw_workers_open(int threads, struct sw_workers **out);
void sw_workers_close(struct sw_workers *w);

/* Calls fn(ctx, i, worker) for 0 <= i < n, each once, in no fixed order (taken in ascending order),
 * and waits for all. worker: 0 … threads - 1, for scratch memory only. fn must make iteration i
 * depend on i alone: then results do not depend on the number of threads. */
void sw_workers_run(struct sw_workers *w, long n, void (*fn)(void *ctx, long i, int worker),
                    void *ctx);

#endif
