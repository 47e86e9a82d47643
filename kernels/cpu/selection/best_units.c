/* best_units.c: the best of matrices over consecutive units, by score or by place in each unit's
 * ranking: from heads to groups, or to one for all. A row of a unit a task. */
#include "kernels/cpu/device/cpu.h"
#include "kernels/cpu/selection/order.h"

struct best {
    const struct sw_best_units *a;
    int share;      /* units of in a unit of out */
    uint64_t *keys; /* by rank: [threads, 2, cols], keys and room to sort them */
};

static void best_scores(const struct best *p, const float *in, int cols, float *out)
{
    size_t plane = (size_t)p->a->in.ld_rows * (size_t)p->a->in.ld;
    for (int j = 0; j < cols; j++)
        out[j] = in[j];
    for (int h = 1; h < p->share; h++)
        for (int j = 0; j < cols; j++) {
            float x = in[(size_t)h * plane + (size_t)j];
            out[j] = x > out[j] ? x : out[j];
        }
}

/* Sorting is stable, so that the keys go in by falling column: ties are the later column's. */
static void best_places(const struct best *p, const float *in, int cols, uint64_t *keys, float *out)
{
    size_t plane = (size_t)p->a->in.ld_rows * (size_t)p->a->in.ld;
    for (int h = 0; h < p->share; h++) {
        for (int j = 0; j < cols; j++)
            keys[cols - 1 - j] = sw_key_of(in[(size_t)h * plane + (size_t)j], (uint32_t)j);
        sw_sort_scores(keys, keys + p->a->cols, (size_t)cols);
        for (int rank = 0; rank < cols; rank++) {
            uint32_t j = sw_key_index(keys[rank]);
            float place = -(float)(rank * p->share + h);
            if (h == 0 || place > out[j])
                out[j] = place;
        }
    }
}

static void best_task(void *ctx, long task, int worker)
{
    const struct best *p = ctx;
    const struct sw_best_units *a = p->a;
    size_t unit = (size_t)(task / a->rows), row = (size_t)(task % a->rows);
    int seen = a->row0 + (int)row + 1, cols = a->causal && seen < a->cols ? seen : a->cols;
    const float *in = sw_unit_row(&a->in, unit * (size_t)p->share, row);
    float *out = sw_unit_row(&a->out, unit, row);
    if (a->by_rank)
        best_places(p, in, cols, p->keys + (size_t)worker * 2 * (size_t)a->cols, out);
    else
        best_scores(p, in, cols, out);
    for (int j = cols; j < a->cols; j++)
        out[j] = 0;
}

enum sw_status sw_cpu_best_units(struct sw_backend *be, const struct sw_best_units *a)
{
    CPU_NEED(a && a->rows >= 0 && a->row0 >= 0 && a->cols >= 0 &&
             sw_unit_holds(&a->in, a->rows, a->cols) && sw_unit_holds(&a->out, a->rows, a->cols) &&
             a->in.units % a->out.units == 0);
    struct best p = {.a = a, .share = a->in.units / a->out.units};
    if (a->by_rank && (int64_t)p.share * a->cols > SW_EXACT_PLACES)
        return SW_FAIL(SW_EUNSUPPORTED,
                       "best_units: places of %d units of %d columns; fp32 counts to 2^24", p.share,
                       a->cols);
    void *scratch = NULL;
    if (a->by_rank)
        SW_TRY(sw_cpu_scratch(be, (size_t)be->threads * 2 * (size_t)a->cols * sizeof(uint64_t),
                              &scratch));
    p.keys = scratch;
    sw_workers_run(cpu_of(be)->workers, (long)a->out.units * a->rows, best_task, &p);
    if (a->by_rank)
        sw_cpu_scratch_done(be);
    return SW_OK;
}
