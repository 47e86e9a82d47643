/* Densities of a method's lists in a model's own passes. */
#include "harness/run/kept.h"

enum { COUNTED_STEPS = 16 };

enum sw_status sw_kept_begin(struct sw_kept *kept, const struct sw_cell *cell,
                             const struct sw_shape *shape)
{
    bool prompt = cell->phase != SW_PHASE_DECODE;
    int sparse = shape->n_layers - cell->dense_layers;
    *kept = (struct sw_kept){0};
    if (sw_cell_recovery_samples(cell) > 0 || cell->config->measure & SW_MEASURE_LATENCY)
        return SW_OK;
    if (cell->method->flags & SW_METHOD_DENSE || sparse < 0)
        sparse = 0;
    kept->cell = cell;
    kept->most = (int64_t)sparse * (prompt ? 1 : COUNTED_STEPS);
    return sw_figures_make(&kept->figures, shape);
}

void sw_kept_end(struct sw_kept *kept)
{
    sw_figures_free(&kept->figures);
    sw_selection_free(&kept->lists);
    *kept = (struct sw_kept){0};
}

bool sw_kept_wants_step(const struct sw_kept *kept)
{
    return kept->cell && kept->cell->phase == SW_PHASE_DECODE && kept->counted < kept->most;
}

static enum sw_status count(struct sw_kept *kept, const struct sw_sparse *sp, int layer)
{
    SW_TRY(sw_selection_to_host(&sp->selection, &kept->lists));
    SW_TRY(sw_selection_validate(&kept->lists));
    kept->counted++;
    return sw_figures_add_densities(&kept->figures, layer, &kept->lists);
}

enum sw_status sw_kept_count(struct sw_kept *kept, const struct sw_sparse *sp, int layer, int n_q,
                             int n_k)
{
    bool prompt = n_q == n_k;
    if (!kept->cell || !sp->sequence || layer < sp->dense_layers || prompt != sp->sparse_prefill ||
        kept->counted >= kept->most)
        return SW_OK;
    enum sw_status st = count(kept, sp, layer);
    if (st == SW_ENOMEM) { /* a figure beside accuracy must not cost it */
        sw_error_clear();
        sw_kept_end(kept);
        return SW_OK;
    }
    return st;
}

enum sw_status sw_kept_report(struct sw_kept *kept, struct sw_result *result)
{
    bool nothing = kept->most > 0 && kept->counted == 0; /* an answer that took no step */
    return kept->cell && !nothing ? sw_figures_report(&kept->figures, result) : SW_OK;
}
