/* The pooled metrics of a cell: one tally each, by the metric table. */
#include "harness/run/figures.h"

#include <stdlib.h>

static enum sw_status out_of_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "figures: out of host memory");
}

enum sw_status sw_figures_make(struct sw_figures *f, const struct sw_shape *shape)
{
    size_t metrics = 0;
    while (sw_metric_table[metrics].name)
        metrics++;
    *f = (struct sw_figures){
        .layers = shape->n_layers, .heads = shape->n_heads, .kv_heads = shape->n_kv_heads};
    f->tallies = calloc(metrics, sizeof *f->tallies);
    return f->tallies ? SW_OK : out_of_memory();
}

void sw_figures_free(struct sw_figures *f)
{
    for (size_t i = 0; f->tallies && sw_metric_table[i].name; i++)
        sw_tally_free(&f->tallies[i]);
    free(f->tallies);
    *f = (struct sw_figures){0};
}

/* The tally of a metric, made when first asked for. */
static enum sw_status tally_of(struct sw_figures *f, const char *metric, bool of_head,
                               struct sw_tally **out)
{
    const struct sw_metric_info *info = sw_metric_find(metric);
    *out = NULL;
    if (!info || info->pooled == SW_NOT_POOLED || (of_head && info->pooled == SW_POOLED_BY_LAYER))
        return SW_FAIL(SW_EINTERNAL, "metric %s is not pooled by %s", metric,
                       of_head ? "head" : "layer");
    *out = &f->tallies[info - sw_metric_table];
    if ((*out)->sum)
        return SW_OK;
    SW_TRY(sw_tally_make(*out, f->layers, info->pooled == SW_POOLED_BY_LAYER ? 0 : f->heads));
    (*out)->of_heads = info->pooled == SW_POOLED_HEADS_ALIKE;
    return SW_OK;
}

enum sw_status sw_figures_add(struct sw_figures *f, const char *metric, int layer, double sum,
                              double count)
{
    struct sw_tally *tally;
    SW_TRY(tally_of(f, metric, false, &tally));
    sw_tally_add(tally, layer, sum, count);
    return SW_OK;
}

enum sw_status sw_figures_add_head(struct sw_figures *f, const char *metric, int layer, int head,
                                   double sum, double count)
{
    struct sw_tally *tally;
    SW_TRY(tally_of(f, metric, true, &tally));
    sw_tally_add_head(tally, layer, head, sum, count);
    return SW_OK;
}

enum sw_status sw_figures_add_densities(struct sw_figures *f, int layer,
                                        const struct sw_selection *s)
{
    int per_unit = f->heads / s->units;
    SW_TRY(sw_figures_add(f, "density", layer, sw_selection_density(s), 1));
    for (int h = 0; h < f->heads; h++)
        SW_TRY(sw_figures_add_head(f, "density", layer, h,
                                   sw_selection_unit_density(s, h / per_unit), 1));
    if (sw_selection_masked(s))
        SW_TRY(sw_figures_add(f, "block_union_density", layer, sw_selection_block_density(s), 1));
    return sw_figures_add(f, "kv_fetch_density", layer,
                          sw_selection_kv_fetch_density(s, f->heads, f->kv_heads), 1);
}

/* The dense method, or dense_layers covers all: nothing was counted, and everything kept. */
static enum sw_status add_dense(struct sw_figures *f)
{
    for (int l = 0; l < f->layers; l++) {
        SW_TRY(sw_figures_add(f, "density", l, 1, 1));
        for (int h = 0; h < f->heads; h++)
            SW_TRY(sw_figures_add_head(f, "density", l, h, 1, 1));
        SW_TRY(sw_figures_add(f, "kv_fetch_density", l, 1, 1));
    }
    return SW_OK;
}

static enum sw_status report(struct sw_figures *f, struct sw_result *result)
{
    struct sw_tally *density;
    int L = f->layers, sparse = 0;
    SW_TRY(tally_of(f, "density", false, &density));
    for (int l = 0; l < L; l++)
        sparse += density->count[l] > 0;
    if (sparse == 0)
        SW_TRY(add_dense(f));
    for (size_t i = 0; sw_metric_table[i].name; i++)
        if (f->tallies[i].sum && sw_tally_any(&f->tallies[i]))
            SW_TRY(sw_tally_report(&f->tallies[i], result, sw_metric_table[i].name));
    struct sw_metric *kept = sw_result_metric(result, "density"),
                     *all = sw_result_metric(result, "density_all_layers"),
                     *spread = sw_result_metric(result, "density_spread");
    if (!kept || !all || !spread)
        return out_of_memory();
    all->value =
        sparse == 0 ? 1 : ((double)(L - sparse) + kept->value * (double)sparse) / (double)L;
    all->n = L;
    spread->value = sw_tally_spread(density);
    spread->n = (int64_t)(sparse ? sparse : L) * f->heads;
    return SW_OK;
}

enum sw_status sw_figures_report(struct sw_figures *f, struct sw_result *result)
{
    int before = result->n_metrics;
    enum sw_status st = report(f, result);
    if (st != SW_OK)
        sw_result_keep_metrics(result, before);
    return st;
}
