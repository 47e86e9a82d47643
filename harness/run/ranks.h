/* ranks.h: the processes of one `mpirun -n N swbench run …` or `srun swbench run …`. They share the
 * cells by claims (claim.h), as processes that know nothing of each other do; what is here tells
 * them apart, lets them meet, and splits the cores of a machine between them.
 *
 * MPI is started only where a launcher that speaks it (OMPI_COMM_WORLD_SIZE, PMI_SIZE, PMIX_RANK)
 * started the process. Without MPI in the build, or under an srun without PMI, the processes number
 * themselves by the environment and do not meet: each ends for itself. */
#ifndef SW_RANKS_H
#define SW_RANKS_H

#include <stdbool.h>
#include <stdint.h>

struct sw_ranks {
    int rank, size; /* 0, 1 for a process of its own */
    int local_size; /* ranks on this machine */
    /* this rank's share of the cores that it may use; 0: there is nothing to share */
    int threads;
    bool joined; /* by MPI: they meet */
};

void sw_ranks_begin(struct sw_ranks *out);
/* Waits, asleep, until every rank is here; returns the greatest `code`. Alone: `code`. */
int sw_ranks_meet(const struct sw_ranks *ranks, int code);
/* Meets, and adds each of the `n` values up over the ranks. Alone: nothing. */
void sw_ranks_sum(const struct sw_ranks *ranks, int64_t *values, int n);
void sw_ranks_end(const struct sw_ranks *ranks);

#endif
