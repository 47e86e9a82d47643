/* bench.h: what the CPU benches share: a clock, the end of a program that cannot go on, the order
 * of times. */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/status.h"

/* Milliseconds of the wall; with SWBENCH_BENCH_CPU_TIME set, of the processor. */
static inline double now_ms(void)
{
    struct timespec t;
    clock_gettime(getenv("SWBENCH_BENCH_CPU_TIME") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC,
                  &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static inline void need(enum sw_status st)
{
    if (st != SW_OK) {
        fprintf(stderr, "%s (%s)\n", sw_error_message(), sw_error_place());
        exit(1);
    }
}

static inline int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

#endif
