/* A cell's figures: /metrics, /per_layer, /per_layer_head, /samples. */
#include <hdf5_hl.h>
#include <math.h>
#include <stdlib.h>

#include "harness/store/cell_parts.h"

/* /layer or /head: 0, 1, …, n-1. */
static enum sw_status make_scale(struct sw_cell_writer *w, const char *name, int n, hid_t *out)
{
    int32_t *numbers = malloc(((size_t)n + 1) * sizeof *numbers);
    if (!numbers)
        return SW_FAIL(SW_ENOMEM, "%d numbers: out of host memory", n);
    for (int i = 0; i < n; i++)
        numbers[i] = i;
    enum sw_status st = sw_h5_write(w->file.id,
                                    &(struct sw_h5_array){.name = name,
                                                          .units = "1",
                                                          .long_name = name,
                                                          .type = H5T_NATIVE_INT32,
                                                          .rank = 1,
                                                          .dims = {(hsize_t)n},
                                                          .data = numbers},
                                    out);
    if (st == SW_OK && H5DSset_scale(*out, name) < 0)
        st = SW_H5_FAIL(SW_EIO, name);
    free(numbers);
    return st;
}

static enum sw_status write_value(hid_t group, const struct sw_metric *m)
{
    hid_t dataset;
    SW_TRY(sw_h5_write(group,
                       &(struct sw_h5_array){.name = m->info->name,
                                             .units = m->info->unit,
                                             .long_name = m->info->long_name,
                                             .type = H5T_NATIVE_DOUBLE,
                                             .data = &m->value},
                       &dataset));
    enum sw_status st = sw_h5_set_text(dataset, "unit", m->info->unit);
    if (st == SW_OK)
        st = sw_h5_set_int(dataset, "n", m->n);
    if (st == SW_OK)
        st = sw_h5_set_real(dataset, "lo", m->lo);
    if (st == SW_OK)
        st = sw_h5_set_real(dataset, "hi", m->hi);
    if (st == SW_OK && !isnan(m->p5)) {
        st = sw_h5_set_real(dataset, "p5", m->p5);
        if (st == SW_OK)
            st = sw_h5_set_real(dataset, "p95", m->p95);
    }
    if (st == SW_OK)
        st = sw_h5_set_int(dataset, "better", m->info->better);
    sw_h5_close(dataset);
    return st;
}

static enum sw_status write_layers(struct sw_cell_writer *w, hid_t group, const struct sw_metric *m,
                                   const double *values, bool heads)
{
    if (w->layers < 0) {
        SW_TRY(make_scale(w, "layer", m->n_layers, &w->layers));
        w->n_layers = m->n_layers;
    }
    if (heads && w->heads < 0) {
        SW_TRY(make_scale(w, "head", m->n_heads, &w->heads));
        w->n_heads = m->n_heads;
    }
    hid_t dataset;
    SW_TRY(sw_h5_write(group,
                       &(struct sw_h5_array){.name = m->info->name,
                                             .units = m->info->unit,
                                             .long_name = m->info->long_name,
                                             .type = H5T_NATIVE_DOUBLE,
                                             .rank = heads ? 2 : 1,
                                             .dims = {(hsize_t)m->n_layers, (hsize_t)m->n_heads},
                                             .data = values},
                       &dataset));
    /* All metrics of a cell have the same layers and heads, or KV heads; those get a dimension of
     * their own. */
    enum sw_status st = m->n_layers == w->n_layers
                            ? sw_h5_attach(dataset, w->layers, 0)
                            : sw_h5_attach_bare(group, dataset, 0, "layer", (hsize_t)m->n_layers);
    if (st == SW_OK && heads)
        st = m->n_heads == w->n_heads
                 ? sw_h5_attach(dataset, w->heads, 1)
                 : sw_h5_attach_bare(group, dataset, 1, "head", (hsize_t)m->n_heads);
    sw_h5_close(dataset);
    return st;
}

static enum sw_status write_samples(hid_t group, const struct sw_metric *m)
{
    hid_t dataset;
    SW_TRY(sw_h5_write(group,
                       &(struct sw_h5_array){.name = m->info->name,
                                             .units = m->info->unit,
                                             .long_name = m->info->long_name,
                                             .type = H5T_NATIVE_DOUBLE,
                                             .rank = 1,
                                             .dims = {(hsize_t)m->n_samples},
                                             .compress = true,
                                             .data = m->samples},
                       &dataset));
    enum sw_status st = sw_h5_attach_bare(group, dataset, 0, "sample", (hsize_t)m->n_samples);
    sw_h5_close(dataset);
    return st;
}

/* One pass over the metrics per kind, so that no group is made that stays empty. */
enum sw_status sw_cell_write_metrics(struct sw_cell_writer *w, const struct sw_result *result)
{
    enum { VALUES, LAYERS, LAYER_HEADS, SAMPLES, KINDS };
    static const char *const groups[KINDS] = {"metrics", "per_layer", "per_layer_head", "samples"};
    enum sw_status st = SW_OK;
    for (int kind = 0; kind < KINDS && st == SW_OK; kind++) {
        hid_t group = -1;
        for (int i = 0; i < result->n_metrics && st == SW_OK; i++) {
            const struct sw_metric *m = &result->metrics[i];
            bool there = kind == VALUES || (kind == LAYERS && m->per_layer) ||
                         (kind == LAYER_HEADS && m->per_layer_head) ||
                         (kind == SAMPLES && m->n_samples > 0);
            if (!there)
                continue;
            if (group < 0)
                st = sw_h5_group(w->file.id, groups[kind], &group);
            if (st != SW_OK)
                break;
            st = kind == VALUES    ? write_value(group, m)
                 : kind == LAYERS  ? write_layers(w, group, m, m->per_layer, false)
                 : kind == SAMPLES ? write_samples(group, m)
                                   : write_layers(w, group, m, m->per_layer_head, true);
        }
        sw_h5_close(group);
    }
    return st;
}
