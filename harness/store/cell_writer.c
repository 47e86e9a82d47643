/* Writing one cell: cells/<key>.h5. docs/formats.md has the layout. */
#include <hdf5_hl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/store/h5_data.h"
#include "harness/store/provenance.h"
#include "harness/store/store.h"

struct sw_cell_writer {
    struct sw_h5_file file;
    const struct sw_cell *cell;
    const struct sw_backend *backend; /* may be NULL: a skipped cell */
    char started[32];
    /* the dimension scales /layer and /head, made with the first metric that has them */
    hid_t layers, heads;
    int n_layers, n_heads;
};

enum sw_status sw_cell_writer_open(const char *folder, const struct sw_cell *cell,
                                   const struct sw_backend *backend, struct sw_cell_writer **out)
{
    char cells[PATH_MAX];
    *out = NULL;
    if (snprintf(cells, sizeof cells, "%s/cells", folder) >= (int)sizeof cells)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", folder);
    struct sw_cell_writer *w = calloc(1, sizeof *w);
    if (!w)
        return SW_FAIL(SW_ENOMEM, "cell writer: out of host memory");
    w->cell = cell;
    w->backend = backend;
    w->layers = w->heads = -1;
    sw_utc_now(w->started);
    enum sw_status st = sw_h5_create(cells, cell->key, &w->file);
    if (st != SW_OK) {
        free(w);
        return st;
    }
    *out = w;
    return SW_OK;
}

void sw_cell_writer_abort(struct sw_cell_writer *w)
{
    if (!w)
        return;
    sw_h5_close(w->layers);
    sw_h5_close(w->heads);
    sw_h5_discard(&w->file);
    free(w);
}

/* --- attributes ------------------------------------------------------------------------------- */

struct text_attribute {
    const char *name, *value;
};
struct int_attribute {
    const char *name;
    int64_t value;
};

static enum sw_status set_all(hid_t object, const struct text_attribute *texts,
                              const struct int_attribute *ints)
{
    for (; texts->name; ++texts)
        SW_TRY(sw_h5_set_text(object, texts->name, texts->value));
    for (; ints->name; ++ints)
        SW_TRY(sw_h5_set_int(object, ints->name, ints->value));
    return SW_OK;
}

/* --- selections and outputs ------------------------------------------------------------------- */

static enum sw_status open_layer(struct sw_cell_writer *w, bool decode, int layer, hid_t *out)
{
    char name[64];
    snprintf(name, sizeof name, "%slayer_%03d", decode ? "decode/" : "", layer);
    return sw_h5_group(w->file.id, name, out);
}

/* In a cell that only decodes, /layer_NNN/<what> is /decode/layer_NNN/<what>. */
static enum sw_status link_decode(struct sw_cell_writer *w, hid_t from, int layer, const char *what)
{
    hid_t to;
    if (w->cell->phase != SW_PHASE_DECODE)
        return SW_OK;
    SW_TRY(open_layer(w, false, layer, &to));
    enum sw_status st = H5Lcreate_hard(from, what, to, what, H5P_DEFAULT, H5P_DEFAULT) < 0
                            ? SW_H5_FAIL(SW_EIO, what)
                            : SW_OK;
    sw_h5_close(to);
    return st;
}

static enum sw_status set_selection_facts(hid_t object, const struct sw_selection *s, bool dense)
{
    SW_TRY(sw_h5_set_int(object, "units", s->units));
    SW_TRY(sw_h5_set_int(object, "block", s->block));
    SW_TRY(sw_h5_set_int(object, "row0", s->row0));
    SW_TRY(sw_h5_set_int(object, "rows", s->rows));
    SW_TRY(sw_h5_set_int(object, "n", s->n));
    SW_TRY(sw_h5_set_int(object, "n_q", s->n_q));
    SW_TRY(sw_h5_set_int(object, "dense", dense));
    if (!s->whole)
        return SW_OK;
    SW_TRY(sw_h5_set_int(object, "window", s->window));
    return sw_h5_set_int(object, "sink", s->sink);
}

/* Token masks beside the lists: what is there of columns, slashes [units, n] and queries [entries,
 * words]. */
static enum sw_status write_masks(hid_t file, hid_t group, const struct sw_selection *s,
                                  hid_t indices, hsize_t entries)
{
    const struct {
        const char *name, *axis, *long_name;
        const uint8_t *data;
    } lines[] = {
        {"columns", "token",
         "1: blocks that are not whole keep the pairs with this key [unit, token]", s->columns},
        {"slashes", "offset",
         "1: blocks that are not whole keep the pairs this far apart, t - u [unit, offset]",
         s->slashes}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!lines[i].data)
            continue;
        hid_t dataset = -1;
        enum sw_status st =
            sw_h5_write(group,
                        &(struct sw_h5_array){.name = lines[i].name,
                                              .units = "1",
                                              .long_name = lines[i].long_name,
                                              .type = H5T_NATIVE_UINT8,
                                              .rank = 2,
                                              .dims = {(hsize_t)s->units, (hsize_t)s->mask_ld},
                                              .compress = true,
                                              .data = lines[i].data},
                        &dataset);
        if (st == SW_OK)
            st = sw_h5_attach_bare(file, dataset, 0, "unit", (hsize_t)s->units);
        if (st == SW_OK)
            st = sw_h5_attach_bare(file, dataset, 1, lines[i].axis, (hsize_t)s->mask_ld);
        sw_h5_close(dataset);
        SW_TRY(st);
    }
    if (!s->queries)
        return SW_OK;
    hid_t dataset = -1;
    hsize_t words = (hsize_t)sw_query_words(s->block);
    enum sw_status st = sw_h5_write(
        group,
        &(struct sw_h5_array){.name = "queries",
                              .units = "1",
                              .long_name = "bit t mod block, lowest first: a block that is not "
                                           "whole keeps the pairs of query t [entry, word]",
                              .type = H5T_NATIVE_UINT64,
                              .rank = 2,
                              .dims = {entries, words},
                              .compress = true,
                              .data = s->queries},
        &dataset);
    if (st == SW_OK)
        st = sw_h5_attach(dataset, indices, 0);
    if (st == SW_OK)
        st = sw_h5_attach_bare(file, dataset, 1, "word", words);
    sw_h5_close(dataset);
    return st;
}

/* Which kept blocks are whole, and the masks that say what is kept of the others. */
static enum sw_status write_partial_blocks(hid_t file, hid_t group, const struct sw_selection *s,
                                           hid_t indices, hsize_t entries)
{
    const struct sw_h5_array array = {
        .name = "whole",
        .units = "1",
        .long_name = "1: kept whole; 0: only pairs with t - u < window or u < sink, and those of "
                     "columns, slashes and queries",
        .type = H5T_NATIVE_UINT8,
        .rank = 1,
        .dims = {entries},
        .compress = true,
        .data = s->whole};
    hid_t whole;
    SW_TRY(sw_h5_write(group, &array, &whole));
    enum sw_status st = sw_h5_attach(whole, indices, 0);
    sw_h5_close(whole);
    return st == SW_OK ? write_masks(file, group, s, indices, entries) : st;
}

static enum sw_status write_selection(hid_t file, hid_t group, const struct sw_selection *s,
                                      bool dense)
{
    hsize_t rows = (hsize_t)s->units * (hsize_t)s->rows + 1, entries = (hsize_t)s->indptr[rows - 1];
    hid_t indptr = -1, indices = -1;
    enum sw_status st;
    SW_TRY_GOTO(st, out, set_selection_facts(group, s, dense));
    /* `units` of these two is the number of head units; each is its own dimension. */
    SW_TRY_GOTO(st, out,
                sw_h5_write(group,
                            &(struct sw_h5_array){
                                .name = "indptr",
                                .long_name = "row (u, i) holds entries indptr[u*rows + i - row0] "
                                             "... next: unit-major, then query blocks",
                                .type = H5T_NATIVE_INT32,
                                .rank = 1,
                                .dims = {rows},
                                .compress = true,
                                .data = s->indptr},
                            &indptr));
    SW_TRY_GOTO(
        st, out,
        sw_h5_write(group,
                    &(struct sw_h5_array){.name = "indices",
                                          .long_name = "kept key blocks, ascending in each row",
                                          .type = H5T_NATIVE_INT32,
                                          .rank = 1,
                                          .dims = {entries},
                                          .compress = true,
                                          .data = s->indices},
                    &indices));
    SW_TRY_GOTO(st, out, set_selection_facts(indptr, s, dense));
    SW_TRY_GOTO(st, out, set_selection_facts(indices, s, dense));
    if (H5DSset_scale(indptr, "indptr") < 0 || H5DSset_scale(indices, "indices") < 0) {
        st = SW_H5_FAIL(SW_EIO, "cannot write a dimension");
        goto out;
    }
    if (s->whole)
        st = write_partial_blocks(file, group, s, indices, entries);
out:
    sw_h5_close(indptr);
    sw_h5_close(indices);
    return st;
}

enum sw_status sw_cell_writer_selection(struct sw_cell_writer *w, bool decode, int layer,
                                        bool dense, const struct sw_selection *selection)
{
    hid_t parent, group = -1;
    enum sw_status st = open_layer(w, decode, layer, &parent);
    if (st == SW_OK)
        st = sw_h5_group(parent, "selection", &group);
    if (st == SW_OK)
        st = write_selection(w->file.id, group, selection, dense);
    if (st == SW_OK && decode)
        st = link_decode(w, parent, layer, "selection");
    sw_h5_close(group);
    sw_h5_close(parent);
    return st == SW_OK ? st : sw_context(st, "%s: selection of layer %d", w->file.path, layer);
}

enum sw_status sw_cell_writer_output(struct sw_cell_writer *w, bool decode, int layer,
                                     const float *output, int n, int heads, int head_dim)
{
    hid_t parent, dataset = -1;
    enum sw_status st = open_layer(w, decode, layer, &parent);
    if (st == SW_OK)
        st = sw_h5_write(
            parent,
            &(struct sw_h5_array){
                .name = "output",
                .units = "1",
                .long_name = "attention output before the output projection [n, n_heads, head_dim]",
                .type = H5T_NATIVE_FLOAT,
                .rank = 3,
                .dims = {(hsize_t)n, (hsize_t)heads, (hsize_t)head_dim},
                .data = output},
            &dataset);
    /* Dimensions at the root: they must lie above both places that a decode output is found at. */
    if (st == SW_OK)
        st = sw_h5_attach_bare(w->file.id, dataset, 0, "token", (hsize_t)n);
    if (st == SW_OK)
        st = sw_h5_attach_bare(w->file.id, dataset, 1, "head", (hsize_t)heads);
    if (st == SW_OK)
        st = sw_h5_attach_bare(w->file.id, dataset, 2, "head_dim", (hsize_t)head_dim);
    if (st == SW_OK && decode)
        st = link_decode(w, parent, layer, "output");
    sw_h5_close(dataset);
    sw_h5_close(parent);
    return st == SW_OK ? st : sw_context(st, "%s: output of layer %d", w->file.path, layer);
}

/* --- metrics ---------------------------------------------------------------------------------- */

/* /layer or /head: 0, 1, …, n-1. */
static enum sw_status make_scale(struct sw_cell_writer *w, const char *name, int n, hid_t *out)
{
    int32_t *numbers = malloc(((size_t)n + 1) * sizeof *numbers);
    if (!numbers)
        return SW_FAIL(SW_ENOMEM, "%d numbers: out of host memory", n);
    for (int i = 0; i < n; ++i)
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
static enum sw_status write_metrics(struct sw_cell_writer *w, const struct sw_result *result)
{
    enum { VALUES, LAYERS, LAYER_HEADS, SAMPLES, KINDS };
    static const char *const groups[KINDS] = {"metrics", "per_layer", "per_layer_head", "samples"};
    enum sw_status st = SW_OK;
    for (int kind = 0; kind < KINDS && st == SW_OK; ++kind) {
        hid_t group = -1;
        for (int i = 0; i < result->n_metrics && st == SW_OK; ++i) {
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
    for (size_t i = 0; i < n; ++i)
        r += (size_t)result->answers[i].n_references;
    *c = (struct prediction_columns){
        calloc(n + 1, sizeof *c->prediction), calloc(r + 1, sizeof *c->references),
        calloc(n + 1, sizeof *c->offsets),    calloc(n + 1, sizeof *c->score),
        calloc(n + 1, sizeof *c->depth),      .n = (int)n};
    if (!c->prediction || !c->references || !c->offsets || !c->score || !c->depth)
        return SW_FAIL(SW_ENOMEM, "%zu predictions: out of host memory", n);
    for (size_t i = 0; i < n; ++i) {
        const struct sw_answer *answer = &result->answers[i];
        c->prediction[i] = answer->prediction;
        c->score[i] = answer->score;
        c->depth[i] = answer->depth;
        c->any_depth |= !isnan(answer->depth);
        for (int k = 0; k < answer->n_references; ++k)
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

static enum sw_status write_predictions(struct sw_cell_writer *w, const struct sw_result *result)
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
    const struct text_attribute source[] = {{"dataset", result->source.dataset},
                                            {"dataset_hash", result->source.dataset_hash},
                                            {"model_folder", result->source.model_folder},
                                            {NULL, NULL}};
    if (st == SW_OK && result->source.dataset)
        st = set_all(group, source, (const struct int_attribute[]){{NULL, 0}});
    sw_h5_close(group);
    free_columns(&columns);
    return st;
}

static enum sw_status write_warnings(struct sw_cell_writer *w, const struct sw_result *result)
{
    if (result->n_warnings == 0)
        return SW_OK;
    hid_t dataset;
    SW_TRY(sw_h5_write_texts(w->file.id, "warnings", "sanity checks that failed",
                             (const char *const *)result->warnings, result->n_warnings, &dataset));
    enum sw_status st =
        sw_h5_attach_bare(w->file.id, dataset, 0, "warning", (hsize_t)result->n_warnings);
    sw_h5_close(dataset);
    return st;
}

/* --- what the cell is, and how it came to be -------------------------------------------------- */

static enum sw_status write_root(struct sw_cell_writer *w, const struct sw_result *result)
{
    const struct sw_cell *cell = w->cell;
    const struct text_attribute texts[] = {
        {"format", "swbench-cell"},
        {"key", cell->key},
        {"status", sw_result_status_names[result->status]},
        {"reason", result->reason},
        {"workload", sw_cell_workload(cell)},
        {"model", sw_cell_model(cell)},
        {"task", sw_cell_task(cell)},
        {"method", cell->method->name},
        {"params", cell->params_json},
        {"backend", w->backend ? w->backend->name : ""},
        {"device", w->backend ? w->backend->device : ""},
        {"phase", sw_phase_names[cell->phase]},
        {"budget", sw_budget_mode_names[cell->budget]},
        {"experiment", cell->experiment},
        {"conditions", cell->conditions},
        {"baseline", sw_baseline_names[cell->config->baseline]},
        {NULL, NULL},
    };
    const struct int_attribute ints[] = {
        {"version", 1},
        {"context", cell->context},
        {"seed", (int64_t)cell->seed},
        {"dense_layers", cell->dense_layers},
        {NULL, 0},
    };
    SW_TRY(set_all(w->file.id, texts, ints));
    return sw_h5_set_real(w->file.id, "density", cell->density);
}

static enum sw_status write_provenance(struct sw_cell_writer *w)
{
    const struct sw_provenance *p = sw_provenance();
    const struct sw_backend *be = w->backend;
    const char *gpu = sw_provenance_gpu(be);
    char ended[32];
    const struct text_attribute texts[] = {
        {"config", w->cell->config->text},
        {"config_name", w->cell->config->name},
        {"argv", p->argv},
        {"identity", w->cell->identity},
        {"git", p->git},
        {"version", p->version},
        {"code", p->code},
        {"build", p->build},
        {"host", p->host},
        {"os", p->os},
        {"cpu", p->cpu},
        {"gpu", gpu},
        {"driver", *gpu ? be->details : ""},
        {"backend", be ? be->details : ""},
        {"variant", be ? be->variant : ""},
        {"libraries", p->libraries},
        {"started", w->started},
        {"ended", sw_utc_now(ended)},
        {NULL, NULL},
    };
    const struct int_attribute ints[] = {
        {"seed", (int64_t)w->cell->seed},  {"cpus", p->cpus}, {"threads", be ? be->threads : 0},
        {"memory_bytes", p->memory_bytes}, {NULL, 0},
    };
    hid_t group;
    SW_TRY(sw_h5_group(w->file.id, "provenance", &group));
    enum sw_status st = set_all(group, texts, ints);
    sw_h5_close(group);
    return st;
}

enum sw_status sw_cell_writer_commit(struct sw_cell_writer *w, const struct sw_result *result)
{
    enum sw_status st;
    SW_TRY_GOTO(st, out, write_root(w, result));
    SW_TRY_GOTO(st, out, write_metrics(w, result));
    SW_TRY_GOTO(st, out, write_predictions(w, result));
    SW_TRY_GOTO(st, out, write_warnings(w, result));
    SW_TRY_GOTO(st, out, write_provenance(w));
out:
    if (st != SW_OK)
        st = sw_context(st, "%s", w->file.path);
    sw_h5_close(w->layers);
    sw_h5_close(w->heads);
    w->layers = w->heads = -1;
    if (st == SW_OK)
        st = sw_h5_publish(&w->file);
    sw_cell_writer_abort(w); /* frees; after publish there is nothing left to remove */
    return st;
}
