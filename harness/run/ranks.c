/* The processes of one run: by MPI where a launcher speaks it, else by the environment. */
#include "harness/run/ranks.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#ifdef SWBENCH_WITH_MPI
#include <mpi.h>
#endif

/* The first of these variables that is a number; otherwise `fallback`. */
static int number_of(const char *const *names, int fallback)
{
    for (; *names; names++) {
        const char *text = getenv(*names);
        if (text && *text >= '0' && *text <= '9')
            return atoi(text); /* "4(x2)", as Slurm counts tasks on nodes: 4 */
    }
    return fallback;
}

/* What the launcher says. Slurm's variables are also set in the batch script itself, outside any
 * srun: there is no step then. */
static void read_environment(struct sw_ranks *out)
{
    bool step = getenv("SLURM_STEP_ID") != NULL;
    out->rank = number_of((const char *const[]){"OMPI_COMM_WORLD_RANK", "PMI_RANK",
                                                step ? "SLURM_PROCID" : NULL, NULL},
                          0);
    out->size = number_of((const char *const[]){"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                                step ? "SLURM_STEP_NUM_TASKS" : NULL, NULL},
                          1);
    out->local_size =
        number_of((const char *const[]){"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS",
                                        step ? "SLURM_STEP_TASKS_PER_NODE" : NULL, NULL},
                  1);
    if (out->size < 1 || out->rank < 0 || out->rank >= out->size)
        out->rank = 0, out->size = 1;
    if (out->local_size < 1 || out->local_size > out->size)
        out->local_size = 1;
    if (out->local_size == 1)
        return;
    cpu_set_t mine;
    int cores = sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 1;
    bool bound = cores < sysconf(_SC_NPROCESSORS_ONLN); /* the launcher has split them already */
    out->threads = bound ? cores : cores / out->local_size;
    if (out->threads < 1)
        out->threads = 1;
}

#ifdef SWBENCH_WITH_MPI

static bool launched_by_mpi(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK");
}

/* MPI's own waiting spins, which would disturb the ranks of this machine that still measure. */
static void wait_asleep(MPI_Request *request)
{
    int done = 0;
    while (MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000L}, NULL);
}

/* A core that k ranks of this machine may use counts 1/k for each of them, so that it does not
 * matter whether the launcher binds ranks to cores. */
static int share_of_cores(MPI_Comm local, int local_size)
{
    cpu_set_t mine, *all = calloc((size_t)local_size, sizeof *all);
    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        CPU_SET(0, &mine);
    double share = 0;
    int known = all != NULL, everywhere = 0;
    MPI_Allreduce(&known, &everywhere, 1, MPI_INT, MPI_MIN, local);
    if (everywhere)
        MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, local);
    for (int cpu = 0; everywhere && cpu < CPU_SETSIZE; cpu++) {
        int owners = 0;
        for (int rank = 0; rank < local_size; rank++)
            owners += CPU_ISSET(cpu, &all[rank]) != 0;
        if (CPU_ISSET(cpu, &mine))
            share += 1.0 / owners;
    }
    free(all);
    return share < 1 ? 1 : (int)(share + 1e-6);
}

static void join(struct sw_ranks *out)
{
    int provided;
    MPI_Comm local;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &out->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &out->size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, out->rank, MPI_INFO_NULL, &local);
    MPI_Comm_size(local, &out->local_size);
    out->threads = out->local_size > 1 ? share_of_cores(local, out->local_size) : 0;
    MPI_Comm_free(&local);
    out->joined = true;
}

int sw_ranks_meet(const struct sw_ranks *ranks, int code)
{
    int most = code;
    MPI_Request request;
    if (!ranks->joined)
        return code;
    MPI_Iallreduce(&code, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD, &request);
    wait_asleep(&request);
    return most;
}

void sw_ranks_sum(const struct sw_ranks *ranks, int64_t *values, int n)
{
    MPI_Request request;
    if (!ranks->joined)
        return;
    MPI_Iallreduce(MPI_IN_PLACE, values, n, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD, &request);
    wait_asleep(&request);
}

void sw_ranks_begin(struct sw_ranks *out)
{
    *out = (struct sw_ranks){.size = 1, .local_size = 1};
    if (launched_by_mpi())
        join(out);
    else
        read_environment(out);
}

void sw_ranks_end(const struct sw_ranks *ranks)
{
    if (ranks->joined)
        MPI_Finalize();
}

#else

int sw_ranks_meet(const struct sw_ranks *ranks, int code)
{
    (void)ranks;
    return code;
}
void sw_ranks_sum(const struct sw_ranks *ranks, int64_t *values, int n)
{
    (void)ranks;
    (void)values;
    (void)n;
}
void sw_ranks_end(const struct sw_ranks *ranks) { (void)ranks; }

void sw_ranks_begin(struct sw_ranks *out)
{
    *out = (struct sw_ranks){.size = 1, .local_size = 1};
    read_environment(out);
}

#endif
