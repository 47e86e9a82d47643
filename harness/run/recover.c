/* Recovery, output error and densities of a method on a capture: its inputs are those of the dense
 * run, so that no error is carried from earlier layers and every method sees the same queries and
 * keys. */
#include "harness/run/recover.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/recovery.h"
#include "harness/run/attention.h"
#include "harness/run/decode_rollout.h"
#include "harness/run/interrupt.h"
#include "harness/run/step_lists.h"

/* The lists and outputs of a layer's decode steps. They are saved as one array a layer, and a step
 * visits all layers: they wait here until the last step is done. */
struct steps {
    struct sw_selection *lists; /* [m] host */
    float *output;              /* [m, H, d] */
    bool dense;
};

struct recover {
    const struct sw_cell *cell;
    struct sw_backend *be;
    struct sw_capture *capture;
    struct sw_cell_writer *writer;
    struct sw_figures *figures;
    struct sw_sparse sp;
    struct sw_shape shape;
    int n, m, block;
    const int64_t *hops; /* [n_hops, 2], or NULL */
    int n_hops;
    bool recovery, output_error, save_lists, save_output;
    void *out;                        /* attention output of one call, backend memory */
    float *host;                      /* the same on the host, [n, H, d] */
    struct sw_selection lists;        /* of the prompt's layer, on the host */
    float *mean;                      /* [b, b] truth averaged over heads */
    double *errors;                   /* [H] */
    struct steps *steps;              /* [L] when there are decode steps */
    struct sw_decode_rollout rollout; /* made where decode steps are counted */
};

static enum sw_status out_of_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "recovery: out of host memory");
}

static size_t token_values(const struct recover *r)
{
    return (size_t)r->shape.n_heads * (size_t)r->shape.head_dim;
}

static bool is_dense(const struct recover *r, int layer)
{
    return !r->sp.sequence || layer < r->sp.dense_layers;
}

/* --- what is counted of one selection --------------------------------------------------------- */

/* Truth [H, rows, b] averaged over heads, into mean. */
static void average_heads(struct recover *r, const float *truth, int rows, int b)
{
    int H = r->shape.n_heads;
    size_t matrix = (size_t)rows * (size_t)b;
    memset(r->mean, 0, matrix * sizeof *r->mean);
    for (int h = 0; h < H; h++)
        for (size_t e = 0; e < matrix; e++)
            r->mean[e] += truth[(size_t)h * matrix + e] / (float)H;
}

static enum sw_status add_both(struct recover *r, const char *metric, int layer, int head,
                               double sum, double count)
{
    SW_TRY(sw_figures_add(r->figures, metric, layer, sum, count));
    return sw_figures_add_head(r->figures, metric, layer, head, sum, count);
}

/* Recall and mass per head against truth [H, rows, b]; the selection may be per head, per group or
 * shared. */
static enum sw_status add_recovery(struct recover *r, int layer, const struct sw_selection *s,
                                   const float *truth, int rows, int b)
{
    int H = r->shape.n_heads;
    size_t matrix = (size_t)rows * (size_t)b;
    for (int h = 0; h < H; h++) {
        struct sw_recovery_sum sum = {0};
        SW_TRY(sw_recovery_add(s, h * s->units / H, truth + (size_t)h * matrix, b, &sum));
        SW_TRY(add_both(r, "block_recall", layer, h, sum.recall_sum, (double)sum.recall_rows));
        SW_TRY(add_both(r, "mass_recall", layer, h, sum.mass_sum, (double)sum.mass_rows));
    }
    if (s->units != 1)
        return SW_OK;
    average_heads(r, truth, rows, b);
    struct sw_recovery_sum sum = {0};
    SW_TRY(sw_recovery_add(s, 0, r->mean, b, &sum));
    return sw_figures_add(r->figures, "block_recall_shared", layer, sum.recall_sum,
                          (double)sum.recall_rows);
}

static enum sw_status add_rollout(struct recover *r, int layer, const struct sw_selection *s,
                                  const float *rollout, int b)
{
    int H = r->shape.n_heads;
    for (int h = 0; h < H; h++) {
        struct sw_recovery_sum sum = {0};
        SW_TRY(sw_recovery_add(s, h * s->units / H, rollout, b, &sum));
        SW_TRY(
            add_both(r, "block_recall_rollout", layer, h, sum.recall_sum, (double)sum.recall_rows));
    }
    return SW_OK;
}

/* Of a selection's last row, which is the one that asks. */
static enum sw_status add_hop_recall(struct recover *r, int layer, const struct sw_selection *s)
{
    int per_unit = r->shape.n_heads / s->units;
    for (int h = 0; r->hops && h < r->shape.n_heads; h++)
        SW_TRY(add_both(r, "hop_recall", layer, h,
                        sw_spans_kept(s, h / per_unit, s->rows - 1, r->hops, r->n_hops), 1));
    return SW_OK;
}

/* Signs of what a method takes to a power: an even one ranks strongly negative scores like strongly
 * positive ones. */
static enum sw_status add_negative_scores(struct recover *r, int layer,
                                          const struct sw_selection *s)
{
    struct sw_sequence *seq = r->sp.sequence;
    if (!seq->method->raw_scores)
        return SW_OK;
    struct sw_layer_input in = {.layer = layer, .n = s->n, .n_q = s->n_q};
    struct sw_unit_matrix scores = seq->method->raw_scores(seq, &in);
    int64_t negative, all;
    if (!scores.data)
        return SW_OK;
    SW_TRY(sw_count_negative(r->be, scores, s->row0, s->rows, &negative, &all));
    return sw_figures_add(r->figures, "negative_scores", layer, (double)negative, (double)all);
}

/* Error of an output [rows, H, d] of a layer against the truth. */
static enum sw_status add_error(struct recover *r, int layer, const float *output,
                                const float *truth, int rows)
{
    int H = r->shape.n_heads;
    double all = sw_relative_error(output, truth, rows, H, r->shape.head_dim, r->errors);
    SW_TRY(sw_figures_add(r->figures, "output_rel_error", layer, all, 1));
    for (int h = 0; h < H; h++)
        SW_TRY(sw_figures_add_head(r->figures, "output_rel_error", layer, h, r->errors[h], 1));
    return SW_OK;
}

/* Keys that the KV groups read in a decode step: the blocks that any head of the group keeps, a
 * block once. The last one, which every head keeps, is as long as it is. */
static double fetched_keys(const struct recover *r, const struct sw_selection *s)
{
    int b = sw_blocks(s->n, s->block), tail = s->n - (b - 1) * s->block;
    double blocks = b * sw_selection_kv_fetch_density(s, r->shape.n_heads, r->shape.n_kv_heads);
    return r->shape.n_kv_heads * ((blocks - 1) * s->block + tail);
}

/* --- prefill ---------------------------------------------------------------------------------- */

static enum sw_status count_prompt(struct recover *r, int layer)
{
    int b = sw_blocks(r->n, r->block);
    const float *truth;
    SW_TRY(sw_selection_to_host(&r->sp.selection, &r->lists));
    SW_TRY(sw_selection_validate(&r->lists));
    SW_TRY(sw_figures_add_densities(r->figures, layer, &r->lists));
    if (!r->recovery)
        return SW_OK;
    SW_TRY(add_negative_scores(r, layer, &r->lists));
    SW_TRY(add_hop_recall(r, layer, &r->lists));
    SW_TRY(sw_capture_mass(r->capture, layer, r->n, r->n, r->block, &truth));
    SW_TRY(add_recovery(r, layer, &r->lists, truth, b, b));
    SW_TRY(sw_capture_rollout(r->capture, layer, r->n, r->block, &truth));
    return add_rollout(r, layer, &r->lists, truth, b);
}

static enum sw_status prompt_output(struct recover *r, int layer)
{
    bool compare = r->output_error && !is_dense(r, layer);
    if (!compare && !r->save_output)
        return SW_OK;
    SW_TRY(r->be->download_act(r->be, r->host, r->out, (size_t)r->n * token_values(r)));
    if (r->save_output)
        SW_TRY(sw_cell_writer_output(r->writer, false, layer, r->host, r->n, r->shape.n_heads,
                                     r->shape.head_dim));
    if (!compare)
        return SW_OK;
    const float *truth;
    SW_TRY(sw_capture_output(r->capture, layer, r->n, r->n, &truth));
    return add_error(r, layer, r->host, truth, r->n);
}

/* counted: false where the prompt only brings decode steps their state. */
static enum sw_status prefill_layer(struct recover *r, int layer, bool counted)
{
    struct sw_capture_layer x;
    SW_TRY(sw_interrupt_check());
    SW_TRY(sw_capture_get(r->capture, layer, &x));
    SW_TRY(sw_sparse_attend(&r->sp, layer, r->n, r->n, x.q, x.k, x.v, r->out));
    if (!counted)
        return SW_OK;
    if (!is_dense(r, layer))
        SW_TRY(count_prompt(r, layer));
    else if (r->save_lists)
        SW_TRY(sw_selection_full(&r->lists, r->n, r->block, 1));
    if (r->save_lists)
        SW_TRY(
            sw_cell_writer_selection(r->writer, false, layer, is_dense(r, layer), &r->lists, NULL));
    return prompt_output(r, layer);
}

/* Sanity check: a matched budget keeps what was asked, within half a block a prompt, unless the
 * forced set alone is more. */
static enum sw_status check_density(const struct recover *r, struct sw_result *result)
{
    if (!r->lists.indptr || !r->sp.sequence || r->cell->budget != SW_BUDGET_MATCHED ||
        r->shape.n_layers <= r->sp.dense_layers)
        return SW_OK;
    double kept = sw_selection_density(&r->lists), pairs = 0.5 * r->n * (r->n + 1.0),
           half_block = 0.5 * r->block * r->block;
    if (r->sp.sequence->floored)
        return sw_result_warn(result, "density %g is below what the forced blocks alone keep, %.4f",
                              r->cell->density, kept);
    if (fabs(kept - r->cell->density) * pairs > half_block * (1 + 1e-9))
        return sw_result_warn(result,
                              "kept density %.6f is more than half a block from the %g asked for",
                              kept, r->cell->density);
    return SW_OK;
}

/* --- decode ----------------------------------------------------------------------------------- */

/* The list of a dense step: every block. */
static enum sw_status list_all(struct recover *r, int n_k, struct sw_selection *s)
{
    int b = sw_blocks(n_k, r->block);
    SW_TRY(sw_selection_reserve(s, NULL, 1, 1, b, false));
    s->block = r->block;
    s->n = n_k;
    s->row0 = b - 1;
    s->n_q = 1;
    s->indptr[0] = 0;
    s->indptr[1] = b;
    for (int j = 0; j < b; j++)
        s->indices[j] = j;
    return SW_OK;
}

/* counted: false in phase both, whose figures are the prompt's; only the keys that are read count
 * then, for the rate of decoding. */
static enum sw_status count_step(struct recover *r, int layer, const struct sw_selection *s,
                                 bool counted)
{
    int b = sw_blocks(s->n, r->block);
    bool dense = is_dense(r, layer);
    const float *truth;
    r->figures->decode_keys += fetched_keys(r, s);
    if (!counted)
        return SW_OK;
    if (!dense)
        SW_TRY(sw_figures_add_densities(r->figures, layer, s));
    if (!r->recovery || !r->sp.sequence)
        return SW_OK;
    /* of dense layers too: the rollout goes through them */
    SW_TRY(sw_capture_mass(r->capture, layer, s->n, 1, r->block, &truth));
    average_heads(r, truth, 1, b);
    const float *rollout = sw_decode_rollout_step(&r->rollout, layer, r->mean, b);
    if (dense)
        return SW_OK;
    SW_TRY(add_negative_scores(r, layer, s));
    SW_TRY(add_hop_recall(r, layer, s));
    SW_TRY(add_rollout(r, layer, s, rollout, b));
    return add_recovery(r, layer, s, truth, 1, b);
}

static enum sw_status decode_step(struct recover *r, int layer, int step, bool counted)
{
    struct sw_capture_layer x;
    struct steps *steps = &r->steps[layer];
    struct sw_selection *s = &steps->lists[step];
    int n_k = r->n + step + 1;
    size_t query = (size_t)(n_k - 1) * token_values(r) * sw_dtype_size(r->be->act);
    SW_TRY(sw_capture_get(r->capture, layer, &x));
    SW_TRY(sw_sparse_attend(&r->sp, layer, 1, n_k, (const char *)x.q + query, x.k, x.v, r->out));
    SW_TRY(r->be->download_act(r->be, steps->output + (size_t)step * token_values(r), r->out,
                               token_values(r)));
    steps->dense = is_dense(r, layer);
    if (steps->dense) {
        SW_TRY(list_all(r, n_k, s));
    } else {
        SW_TRY(sw_selection_to_host(&r->sp.selection, s));
        SW_TRY(sw_selection_validate(s));
    }
    return count_step(r, layer, s, counted);
}

static enum sw_status save_steps(struct recover *r, int layer)
{
    struct steps *steps = &r->steps[layer];
    struct sw_step_lists joined = {0};
    enum sw_status st = sw_step_lists_join(&joined, steps->lists, r->m);
    if (st == SW_OK)
        st = sw_cell_writer_selection(r->writer, true, layer, steps->dense, &joined.lists,
                                      &joined.parts);
    sw_step_lists_free(&joined);
    return st;
}

static enum sw_status decode_error(struct recover *r, int layer)
{
    size_t m = (size_t)r->m;
    float *truth = malloc(m * token_values(r) * sizeof *truth);
    enum sw_status st = truth ? SW_OK : out_of_memory();
    for (size_t s = 0; s < m && st == SW_OK; s++) {
        const float *one;
        st = sw_capture_output(r->capture, layer, r->n + (int)s + 1, 1, &one);
        if (st == SW_OK)
            memcpy(truth + s * token_values(r), one, token_values(r) * sizeof *truth);
    }
    if (st == SW_OK)
        st = add_error(r, layer, r->steps[layer].output, truth, r->m);
    free(truth);
    return st;
}

static enum sw_status finish_decode_layer(struct recover *r, int layer, bool counted)
{
    struct steps *steps = &r->steps[layer];
    if (r->save_lists)
        SW_TRY(save_steps(r, layer));
    if (r->save_output)
        SW_TRY(sw_cell_writer_output(r->writer, true, layer, steps->output, r->m, r->shape.n_heads,
                                     r->shape.head_dim));
    return counted && r->output_error && !steps->dense ? decode_error(r, layer) : SW_OK;
}

static enum sw_status make_steps(struct recover *r)
{
    size_t m = (size_t)r->m;
    r->steps = calloc((size_t)r->shape.n_layers, sizeof *r->steps);
    if (!r->steps)
        return out_of_memory();
    for (int l = 0; l < r->shape.n_layers; l++) {
        struct steps *steps = &r->steps[l];
        steps->lists = calloc(m, sizeof *steps->lists);
        steps->output = malloc(m * token_values(r) * sizeof *steps->output);
        if (!steps->lists || !steps->output)
            return out_of_memory();
    }
    return SW_OK;
}

static enum sw_status decode_all(struct recover *r, bool counted)
{
    if (r->m < 1)
        return SW_OK;
    SW_TRY(make_steps(r));
    if (counted && r->recovery && r->sp.sequence)
        SW_TRY(sw_decode_rollout_make(&r->rollout, r->capture, r->n, r->m, r->block));
    for (int s = 0; s < r->m; s++) {
        SW_TRY(sw_interrupt_check());
        for (int l = 0; l < r->shape.n_layers; l++)
            SW_TRY(decode_step(r, l, s, counted));
    }
    r->figures->decode_steps += r->m;
    for (int l = 0; l < r->shape.n_layers; l++)
        SW_TRY(finish_decode_layer(r, l, counted));
    return SW_OK;
}

/* --- prompt and decode steps ------------------------------------------------------------------ */

static enum sw_status set_up(struct recover *r)
{
    size_t prompt = (size_t)r->n * token_values(r);
    int b = sw_blocks(r->n + r->m, r->block);
    if (r->m > 0)
        SW_TRY(sw_capture_need_resident(r->capture));
    SW_TRY(sw_attention_open(r->cell, r->be, &r->shape, r->n + r->m, &r->sp));
    SW_TRY(r->be->alloc(r->be, prompt * sw_dtype_size(r->be->act), &r->out));
    r->host = malloc(prompt * sizeof *r->host);
    r->mean = malloc((size_t)b * (size_t)b * sizeof *r->mean);
    r->errors = malloc((size_t)r->shape.n_heads * sizeof *r->errors);
    return r->host && r->mean && r->errors ? SW_OK : out_of_memory();
}

/* In phase both the figures are the prompt's: its rows outnumber the decode steps', and phase
 * decode has those alone. */
static enum sw_status run(struct recover *r, struct sw_result *result)
{
    bool of_prompt = r->cell->phase != SW_PHASE_DECODE;
    SW_TRY(set_up(r));
    for (int l = 0; l < r->shape.n_layers; l++)
        SW_TRY(prefill_layer(r, l, of_prompt));
    if (of_prompt)
        SW_TRY(check_density(r, result));
    return decode_all(r, !of_prompt);
}

static void clear(struct recover *r)
{
    sw_attention_close(&r->sp);
    r->be->free(r->be, r->out);
    sw_selection_free(&r->lists);
    free(r->host);
    free(r->mean);
    free(r->errors);
    for (int l = 0; r->steps && l < r->shape.n_layers; l++) {
        for (int s = 0; r->steps[l].lists && s < r->m; s++)
            sw_selection_free(&r->steps[l].lists[s]);
        free(r->steps[l].lists);
        free(r->steps[l].output);
    }
    free(r->steps);
    sw_decode_rollout_free(&r->rollout);
}

enum sw_status sw_recover(const struct sw_cell *cell, struct sw_backend *be,
                          const struct sw_recovered *of, struct sw_cell_writer *writer,
                          struct sw_figures *figures, struct sw_result *result)
{
    unsigned measure = cell->config->measure, save = writer ? cell->config->save : 0;
    struct recover r = {.cell = cell,
                        .be = be,
                        .capture = of->capture,
                        .writer = writer,
                        .figures = figures,
                        .shape = *sw_capture_shape(of->capture),
                        .n = of->n,
                        .m = cell->phase == SW_PHASE_PREFILL ? 0 : of->m,
                        .hops = of->hops,
                        .n_hops = of->n_hops,
                        .block = ((const struct sw_method_params *)cell->params)->block_size,
                        .recovery = measure & SW_MEASURE_RECOVERY,
                        .output_error = measure & SW_MEASURE_OUTPUT_ERROR,
                        .save_lists = save & SW_SAVE_SELECTION,
                        .save_output = save & SW_SAVE_OUTPUT};
    if (r.n < 1 || r.m < 0 || r.block < 1)
        return SW_FAIL(SW_EINTERNAL, "recovery of %d tokens and %d steps in blocks of %d", r.n, r.m,
                       r.block);
    enum sw_status st = run(&r, result);
    clear(&r);
    return st;
}
