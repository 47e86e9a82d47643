/* hash_scores.c: the random method's scores: hashes of seed, layer, unit, row and column. */
#include "core/rng.h"
#include "kernels/cpu/device/cpu.h"

static void hash_task(void *ctx, long task, int worker)
{
    (void)worker;
    const struct sw_hash_scores *a = ctx;
    uint64_t unit = (uint64_t)(task / a->rows), row = (uint64_t)(task % a->rows);
    uint64_t first_unit = (uint64_t)a->layer * (uint64_t)a->out.units;
    float *out = sw_unit_row(&a->out, unit, row);
    for (int j = 0; j < a->cols; j++) {
        uint64_t index =
            ((first_unit + unit) << 40) | (((uint64_t)a->row0 + row) << 20) | (uint64_t)j;
        /* The leading 24 bits of sw_rng_uniform: rounding to fp32 instead could give 1. */
        out[j] = (float)(sw_rng_u64(a->seed, SW_RNG_RANDOM_METHOD, index) >> 40) * 0x1p-24f;
    }
}

enum sw_status sw_cpu_hash_scores(struct sw_backend *be, const struct sw_hash_scores *a)
{
    CPU_NEED(a && a->layer >= 0 && a->row0 >= 0 && a->rows >= 0 && a->cols >= 0 &&
             sw_unit_holds(&a->out, a->rows, a->cols));
    CPU_NEED(a->row0 + a->rows <= 1 << 20 && a->cols <= 1 << 20);
    struct sw_hash_scores copy = *a;
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * a->rows, hash_task, &copy);
    return SW_OK;
}
