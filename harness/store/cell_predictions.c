/* What a model answered in a cell: /samples/predictions. */
#include <math.h>
#include <stdlib.h>

#include "harness/store/cell_parts.h"

/* Predictions with all references side by side: those of prompt i are
 * references[reference_offsets[i] …]. */
struct prediction_columns {
    const char **prediction, **references;
    int64_t *offsets;
    double *score, *depth;
    int n, n_references;
    bool any_depth;
};

static void free_columns(struct prediction_columns *c)
{
    free(c->prediction);
    free(c->references);
    free(c->offsets);
    free(c->score);
    free(c->depth);
}

static enum sw_status make_columns(const struct sw_result *result, struct prediction_columns *c)
{
    size_t n = (size_t)result->n_answers, r = 0;
    for (size_t i = 0; i < n; i++)
        r += (size_t)result->answers[i].n_references;
    *c = (struct prediction_columns){
        calloc(n + 1, sizeof *c->prediction), calloc(r + 1, sizeof *c->references),
        calloc(n + 1, sizeof *c->offsets),    calloc(n + 1, sizeof *c->score),
        calloc(n + 1, sizeof *c->depth),      .n = (int)n};
    if (!c->prediction || !c->references || !c->offsets || !c->score || !c->depth)
        return SW_FAIL(SW_ENOMEM, "%zu predictions: out of host memory", n);
    for (size_t i = 0; i < n; i++) {
        const struct sw_answer *answer = &result->answers[i];
        c->prediction[i] = answer->prediction;
        c->score[i] = answer->score;
        c->depth[i] = answer->depth;
        c->any_depth |= !isnan(answer->depth);
        for (int k = 0; k < answer->n_references; k++)
            c->references[c->n_references++] = answer->references[k];
        c->offsets[i + 1] = c->n_references;
    }
    return SW_OK;
}

/* Attaches the dimension `stem` of length n to a list just written, and closes it. */
static enum sw_status name_axis(hid_t group, hid_t dataset, const char *stem, int n)
{
    enum sw_status st = sw_h5_attach_bare(group, dataset, 0, stem, (hsize_t)n);
    sw_h5_close(dataset);
    return st;
}

static enum sw_status write_reals(hid_t group, const char *name, const char *units,
                                  const char *long_name, const double *values, int n)
{
    hid_t dataset;
    SW_TRY(sw_h5_write(group,
                       &(struct sw_h5_array){.name = name,
                                             .units = units,
                                             .long_name = long_name,
                                             .type = H5T_NATIVE_DOUBLE,
                                             .rank = 1,
                                             .dims = {(hsize_t)n},
                                             .data = values},
                       &dataset));
    return name_axis(group, dataset, "prompt", n);
}

static enum sw_status write_columns(hid_t group, const struct prediction_columns *c)
{
    hid_t dataset;
    SW_TRY(sw_h5_write_texts(group, "prediction", "what the model generated", c->prediction, c->n,
                             &dataset));
    SW_TRY(name_axis(group, dataset, "prompt", c->n));
    if (c->n_references) { /* HDF5 has no dimension of length 0 */
        SW_TRY(sw_h5_write_texts(group, "references", "what was expected of all prompts",
                                 c->references, c->n_references, &dataset));
        SW_TRY(name_axis(group, dataset, "reference", c->n_references));
        SW_TRY(
            sw_h5_write(group,
                        &(struct sw_h5_array){
                            .name = "reference_offsets",
                            .units = "1",
                            .long_name = "those of prompt i are references[reference_offsets[i]] …",
                            .type = H5T_NATIVE_INT64,
                            .rank = 1,
                            .dims = {(hsize_t)c->n + 1},
                            .data = c->offsets},
                        &dataset));
        SW_TRY(name_axis(group, dataset, "prompt_end", c->n + 1));
    }
    SW_TRY(write_reals(group, "score", "%", "score of the prediction", c->score, c->n));
    return c->any_depth
               ? write_reals(group, "depth", "1",
                             "share of the haystack before the needle; NaN: none", c->depth, c->n)
               : SW_OK;
}

enum sw_status sw_cell_write_predictions(struct sw_cell_writer *w, const struct sw_result *result)
{
    if (result->n_answers == 0)
        return SW_OK;
    hid_t group = -1;
    struct prediction_columns columns;
    enum sw_status st = make_columns(result, &columns);
    if (st == SW_OK)
        st = sw_h5_group(w->file.id, "samples/predictions", &group);
    if (st == SW_OK)
        st = write_columns(group, &columns);
    const struct sw_text_attribute source[] = {{"dataset", result->source.dataset},
                                               {"dataset_hash", result->source.dataset_hash},
                                               {"model_folder", result->source.model_folder},
                                               {NULL, NULL}};
    if (st == SW_OK && result->source.dataset)
        st = sw_cell_set_attributes(group, source, (const struct sw_int_attribute[]){{NULL, 0}});
    sw_h5_close(group);
    free_columns(&columns);
    return st;
}
