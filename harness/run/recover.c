/* Recovery, output error and densities of a method on a capture: its inputs are those of the dense
 * run, so that no error is carried from earlier layers and every method sees the same queries and
 * keys. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/recovery.h"
#include "harness/run/interrupt.h"
#include "harness/run/measure.h"

/* Decode lists of a layer, one step after the other, joined unit-major when the layer is done. */
struct steps {
    struct sw_selection *each; /* [m] host */
    float *output;             /* [m, H, d] */
    bool dense;
};

struct probe {
    const struct sw_cell *cell;
    struct sw_backend *be;
    struct sw_capture *capture;
    struct sw_cell_writer *writer;
    struct sw_sparse sp;
    struct sw_shape shape;
    int n, m, block;
    bool recovery, output_error, save_lists, save_output;
    bool record;               /* timed decode steps are recorded and run as one launch */
    void *out;                 /* attention output of one call, backend memory */
    float *host;               /* the same on the host, [n, H, d] */
    struct sw_selection lists; /* host copy */
    float *mean;               /* [b, b] truth averaged over heads */
    struct steps *steps;       /* [L] when decode is probed */
    /* [L] rollout of the prompt up to below each layer, P^(l-1) [b, b]; for decode steps' own
     * rows */
    float **before;
    float *own, *reach; /* [b] a decode step's row of P, and its rollout truth */
    struct sw_figures *figures;
};

/* --- figures of one selection ----------------------------------------------------------------- */

/* Truth [H, rows, b] averaged over heads, into mean. */
static void average_heads(struct probe *p, const float *truth, int rows, int b)
{
    int H = p->shape.n_heads;
    size_t matrix = (size_t)rows * (size_t)b;
    memset(p->mean, 0, matrix * sizeof *p->mean);
    for (int h = 0; h < H; h++)
        for (size_t e = 0; e < matrix; e++)
            p->mean[e] += truth[(size_t)h * matrix + e] / (float)H;
}

/* Recall and mass per head against truth [H, rows, b]; the selection may be per head, per group or
 * shared. */
static enum sw_status add_recovery(struct probe *p, int layer, const struct sw_selection *s,
                                   const float *truth, int rows, int b)
{
    int H = p->shape.n_heads;
    size_t matrix = (size_t)rows * (size_t)b;
    for (int h = 0; h < H; h++) {
        struct sw_recovery_sum sum = {0};
        SW_TRY(sw_recovery_add(s, h * s->units / H, truth + (size_t)h * matrix, b, &sum));
        sw_tally_add(&p->figures->recall, layer, sum.recall_sum, (double)sum.recall_rows);
        sw_tally_add_head(&p->figures->recall, layer, h, sum.recall_sum, (double)sum.recall_rows);
        sw_tally_add(&p->figures->mass, layer, sum.mass_sum, (double)sum.mass_rows);
        sw_tally_add_head(&p->figures->mass, layer, h, sum.mass_sum, (double)sum.mass_rows);
    }
    if (s->units != 1)
        return SW_OK;
    average_heads(p, truth, rows, b);
    struct sw_recovery_sum sum = {0};
    SW_TRY(sw_recovery_add(s, 0, p->mean, b, &sum));
    sw_tally_add(&p->figures->recall_shared, layer, sum.recall_sum, (double)sum.recall_rows);
    return SW_OK;
}

static enum sw_status add_rollout(struct probe *p, int layer, const struct sw_selection *s,
                                  const float *rollout, int b)
{
    int H = p->shape.n_heads;
    for (int h = 0; h < H; h++) {
        struct sw_recovery_sum sum = {0};
        SW_TRY(sw_recovery_add(s, h * s->units / H, rollout, b, &sum));
        sw_tally_add(&p->figures->rollout, layer, sum.recall_sum, (double)sum.recall_rows);
        sw_tally_add_head(&p->figures->rollout, layer, h, sum.recall_sum, (double)sum.recall_rows);
    }
    return SW_OK;
}

/* Rollout truth of decode steps. P^l = ½P^(l-1) + ½M^l·P^(l-1), P^-1 = I, is that of the prompt but
 * for the step's own row, c: with m its true mass, reach = m·P^(l-1), where row c of P is the
 * step's own, and own <- ½own + ½reach. Blocks that decoding has filled since reach themselves
 * only. */
static enum sw_status prepare_rollout(struct probe *p)
{
    int L = p->shape.n_layers, b = sw_blocks(p->n, p->block),
        all = sw_blocks(p->n + p->m, p->block);
    size_t matrix = (size_t)b * (size_t)b;
    p->before = calloc((size_t)L, sizeof *p->before);
    p->own = calloc((size_t)all, sizeof *p->own);
    p->reach = calloc((size_t)all, sizeof *p->reach);
    if (!p->before || !p->own || !p->reach)
        return SW_FAIL(SW_ENOMEM, "rollout: out of host memory");
    for (int l = 0; l < L; l++) {
        p->before[l] = calloc(matrix, sizeof **p->before);
        if (!p->before[l])
            return SW_FAIL(SW_ENOMEM, "rollout: asked %zu bytes of host memory",
                           matrix * sizeof **p->before);
        if (l == 0) {
            for (size_t i = 0; i < (size_t)b; i++)
                p->before[0][i * (size_t)b + i] = 1;
            continue;
        }
        const float *rolled;
        SW_TRY(sw_capture_rollout(p->capture, l - 1, p->n, p->block, &rolled));
        for (size_t e = 0; e < matrix; e++)
            p->before[l][e] = 0.5f * p->before[l - 1][e] + 0.5f * rolled[e];
    }
    return SW_OK;
}

/* The layer's rollout truth of the step into reach[0 … b-1], from its mass averaged over heads. */
static void roll_step(struct probe *p, int layer, const float *mass, int b)
{
    int c = b - 1, prompt = sw_blocks(p->n, p->block);
    for (int k = 0; k < b; k++) {
        p->reach[k] = 0;
        if (layer == 0)
            p->own[k] = k == c;
    }
    for (int j = 0; j < b; j++) {
        if (j != c && j >= prompt) {
            p->reach[j] += mass[j];
            continue;
        }
        const float *row = j == c ? p->own : p->before[layer] + (size_t)j * (size_t)prompt;
        for (int k = 0; k <= j; k++)
            p->reach[k] += mass[j] * row[k];
    }
    for (int k = 0; k < b; k++)
        p->own[k] = 0.5f * p->own[k] + 0.5f * p->reach[k];
}

static void add_density(struct probe *p, int layer, const struct sw_selection *s)
{
    int H = p->shape.n_heads;
    sw_tally_add(&p->figures->density, layer, sw_selection_density(s), 1);
    for (int u = 0; u < s->units; u++) {
        double kept = sw_selection_unit_density(s, u);
        for (int h = u * (H / s->units); h < (u + 1) * (H / s->units); h++)
            sw_tally_add_head(&p->figures->density, layer, h, kept, 1);
    }
    if (sw_selection_masked(s))
        sw_tally_add(&p->figures->union_density, layer, sw_selection_block_density(s), 1);
    sw_tally_add(&p->figures->fetch, layer,
                 sw_selection_kv_fetch_density(s, p->shape.n_heads, p->shape.n_kv_heads), 1);
}

/* --- prefill ---------------------------------------------------------------------------------- */

static enum sw_status prefill_layer(struct probe *p, int layer, bool measured)
{
    struct sw_backend *be = p->be;
    struct sw_capture_layer x;
    SW_TRY(sw_interrupt_check());
    SW_TRY(sw_capture_get(p->capture, layer, &x));
    SW_TRY(sw_sparse_attend(&p->sp, layer, p->n, p->n, x.q, x.k, x.v, p->out));
    if (!measured)
        return SW_OK;
    bool dense = !p->sp.sequence || layer < p->sp.dense_layers;
    int b = sw_blocks(p->n, p->block);
    if (dense) {
        if (p->save_lists)
            SW_TRY(sw_selection_full(&p->lists, p->n, p->block, 1));
    } else {
        SW_TRY(sw_selection_to_host(&p->sp.selection, &p->lists));
        SW_TRY(sw_selection_validate(&p->lists));
        add_density(p, layer, &p->lists);
        if (p->recovery) {
            const float *truth;
            SW_TRY(sw_capture_mass(p->capture, layer, p->n, p->n, p->block, &truth));
            SW_TRY(add_recovery(p, layer, &p->lists, truth, b, b));
            SW_TRY(sw_capture_rollout(p->capture, layer, p->n, p->block, &truth));
            SW_TRY(add_rollout(p, layer, &p->lists, truth, b));
        }
    }
    if (p->save_lists)
        SW_TRY(sw_cell_writer_selection(p->writer, false, layer, dense, &p->lists));
    if (p->save_output || (p->output_error && !dense))
        SW_TRY(
            be->download_act(be, p->host, p->out,
                             (size_t)p->n * (size_t)p->shape.n_heads * (size_t)p->shape.head_dim));
    if (p->save_output)
        SW_TRY(sw_cell_writer_output(p->writer, false, layer, p->host, p->n, p->shape.n_heads,
                                     p->shape.head_dim));
    if (p->output_error && !dense) {
        const float *truth;
        double *heads = malloc((size_t)p->shape.n_heads * sizeof *heads);
        if (!heads)
            return SW_FAIL(SW_ENOMEM, "output error: out of host memory");
        enum sw_status st = sw_capture_output(p->capture, layer, p->n, p->n, &truth);
        if (st == SW_OK) {
            sw_tally_add(
                &p->figures->error, layer,
                sw_relative_error(p->host, truth, p->n, p->shape.n_heads, p->shape.head_dim, heads),
                1);
            for (int h = 0; h < p->shape.n_heads; h++)
                sw_tally_add_head(&p->figures->error, layer, h, heads[h], 1);
        }
        free(heads);
        return st;
    }
    return SW_OK;
}

/* --- decode ----------------------------------------------------------------------------------- */

static size_t token_values(const struct probe *p)
{
    return (size_t)p->shape.n_heads * (size_t)p->shape.head_dim;
}

static enum sw_status decode_step(struct probe *p, int layer, int step, bool figures)
{
    struct sw_backend *be = p->be;
    struct sw_capture_layer x;
    struct steps *steps = &p->steps[layer];
    int n_k = p->n + step + 1, b = sw_blocks(n_k, p->block);
    SW_TRY(sw_capture_get(p->capture, layer, &x));
    const char *q =
        (const char *)x.q + (size_t)(n_k - 1) * token_values(p) * sw_dtype_size(be->act);
    SW_TRY(sw_sparse_attend(&p->sp, layer, 1, n_k, q, x.k, x.v, p->out));
    SW_TRY(be->download_act(be, steps->output + (size_t)step * token_values(p), p->out,
                            token_values(p)));
    struct sw_selection *s = &steps->each[step];
    steps->dense = !p->sp.sequence || layer < p->sp.dense_layers;
    if (steps->dense) {
        SW_TRY(sw_selection_reserve(s, NULL, 1, 1, b, false));
        *s = (struct sw_selection){.block = p->block,
                                   .n = n_k,
                                   .units = 1,
                                   .row0 = b - 1,
                                   .rows = 1,
                                   .n_q = 1,
                                   .indptr = s->indptr,
                                   .indices = s->indices,
                                   .capacity = s->capacity,
                                   .rows_capacity = s->rows_capacity};
        s->indptr[0] = 0;
        s->indptr[1] = b;
        for (int j = 0; j < b; j++)
            s->indices[j] = j;
    } else {
        SW_TRY(sw_selection_to_host(&p->sp.selection, s));
        SW_TRY(sw_selection_validate(s));
        if (figures)
            add_density(p, layer, s);
    }
    if (!figures || !p->before)
        return SW_OK;
    const float *truth; /* of dense layers too: the rollout goes through them */
    SW_TRY(sw_capture_mass(p->capture, layer, n_k, 1, p->block, &truth));
    average_heads(p, truth, 1, b);
    roll_step(p, layer, p->mean, b);
    if (steps->dense)
        return SW_OK;
    SW_TRY(add_rollout(p, layer, s, p->reach, b));
    return add_recovery(p, layer, s, truth, 1, b);
}

/* All steps' lists of a layer as one selection: unit-major, then steps. */
static enum sw_status save_steps(struct probe *p, int layer)
{
    struct steps *steps = &p->steps[layer];
    int units = steps->each[0].units;
    bool partial = false;
    int64_t total = 0;
    for (int s = 0; s < p->m; s++) {
        if (sw_selection_masked(&steps->each[s])) /* no method makes them: a decode step is one
                                                     query, whose blocks are whole */
            return SW_FAIL(SW_EUNSUPPORTED,
                           "lists of decode steps with token masks cannot be saved");
        total += steps->each[s].indptr[units];
        partial = partial || steps->each[s].whole;
    }
    struct sw_selection all = {0};
    enum sw_status st = sw_selection_reserve(&all, NULL, units, p->m, total, partial);
    if (st == SW_OK) {
        all.block = p->block;
        all.n = p->n + p->m;
        all.n_q = p->m;
        all.row0 = steps->each[0].row0;
        int32_t at = 0;
        for (int u = 0; u < units; u++)
            for (int s = 0; s < p->m; s++) {
                const struct sw_selection *one = &steps->each[s];
                all.indptr[(int64_t)u * p->m + s] = at;
                for (int32_t e = one->indptr[u]; e < one->indptr[u + 1]; e++, at++) {
                    all.indices[at] = one->indices[e];
                    if (partial)
                        all.whole[at] = one->whole ? one->whole[e] : 1;
                }
            }
        all.indptr[(int64_t)units * p->m] = at;
        st = sw_cell_writer_selection(p->writer, true, layer, steps->dense, &all);
    }
    sw_selection_free(&all);
    return st;
}

static enum sw_status finish_decode_layer(struct probe *p, int layer, bool figures)
{
    struct steps *steps = &p->steps[layer];
    if (p->save_lists)
        SW_TRY(save_steps(p, layer));
    if (p->save_output)
        SW_TRY(sw_cell_writer_output(p->writer, true, layer, steps->output, p->m, p->shape.n_heads,
                                     p->shape.head_dim));
    if (!figures || !p->output_error || steps->dense)
        return SW_OK;
    size_t m = p->m > 0 ? (size_t)p->m : 0;
    float *truth = malloc(m * token_values(p) * sizeof *truth);
    double *heads = malloc((size_t)p->shape.n_heads * sizeof *heads);
    enum sw_status st =
        truth && heads ? SW_OK : SW_FAIL(SW_ENOMEM, "output error: out of host memory");
    for (int s = 0; s < p->m && st == SW_OK; s++) {
        const float *one;
        st = sw_capture_output(p->capture, layer, p->n + s + 1, 1, &one);
        if (st == SW_OK)
            memcpy(truth + (size_t)s * token_values(p), one, token_values(p) * sizeof *truth);
    }
    if (st == SW_OK) {
        sw_tally_add(&p->figures->error, layer,
                     sw_relative_error(steps->output, truth, p->m, p->shape.n_heads,
                                       p->shape.head_dim, heads),
                     1);
        for (int h = 0; h < p->shape.n_heads; h++)
            sw_tally_add_head(&p->figures->error, layer, h, heads[h], 1);
    }
    free(truth);
    free(heads);
    return st;
}

static enum sw_status decode_all(struct probe *p, bool figures)
{
    int L = p->shape.n_layers;
    size_t m = (size_t)p->m;
    if (p->m < 1)
        return SW_OK;
    p->steps = calloc((size_t)L, sizeof *p->steps);
    if (!p->steps)
        return SW_FAIL(SW_ENOMEM, "decode steps: out of host memory");
    for (int l = 0; l < L; l++) {
        p->steps[l].each = calloc(m, sizeof *p->steps[l].each);
        p->steps[l].output = malloc(m * token_values(p) * sizeof *p->steps[l].output);
        if (!p->steps[l].each || !p->steps[l].output)
            return SW_FAIL(SW_ENOMEM, "decode steps: out of host memory");
    }
    if (figures && p->recovery && p->sp.sequence)
        SW_TRY(prepare_rollout(p));
    for (int s = 0; s < p->m; s++) {
        SW_TRY(sw_interrupt_check());
        for (int l = 0; l < L; l++)
            SW_TRY(decode_step(p, l, s, figures));
    }
    for (int l = 0; l < L; l++)
        SW_TRY(finish_decode_layer(p, l, figures));
    return SW_OK;
}

/* --- figures ---------------------------------------------------------------------------------- */

enum sw_status sw_figures_make(struct sw_figures *f, const struct sw_shape *shape)
{
    int L = shape->n_layers, H = shape->n_heads;
    *f = (struct sw_figures){0};
    SW_TRY(sw_tally_make(&f->density, L, H));
    SW_TRY(sw_tally_make(&f->union_density, L, 0));
    SW_TRY(sw_tally_make(&f->fetch, L, 0));
    SW_TRY(sw_tally_make(&f->recall, L, H));
    SW_TRY(sw_tally_make(&f->recall_shared, L, 0));
    SW_TRY(sw_tally_make(&f->rollout, L, H));
    SW_TRY(sw_tally_make(&f->mass, L, H));
    /* heads may keep different numbers of blocks */
    f->recall.of_heads = f->rollout.of_heads = f->mass.of_heads = true;
    return sw_tally_make(&f->error, L, H);
}

void sw_figures_free(struct sw_figures *f)
{
    struct sw_tally *all[] = {&f->density,       &f->union_density, &f->fetch, &f->recall,
                              &f->recall_shared, &f->rollout,       &f->mass,  &f->error};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_tally_free(all[i]);
}

static bool any(const struct sw_tally *t)
{
    for (int l = 0; l < t->layers; l++)
        if (t->count[l] > 0)
            return true;
    return false;
}

enum sw_status sw_figures_report(struct sw_figures *f, struct sw_result *result)
{
    int L = f->density.layers, dense = 0;
    for (int l = 0; l < L; l++)
        dense += f->density.count[l] == 0;
    if (dense == L) /* the dense method, or dense_layers covers all */
        for (int l = 0; l < L; l++) {
            sw_tally_add(&f->density, l, 1, 1);
            for (int h = 0; h < f->density.heads; h++)
                sw_tally_add_head(&f->density, l, h, 1, 1);
            sw_tally_add(&f->fetch, l, 1, 1);
        }
    SW_TRY(sw_tally_report(&f->density, result, "density"));
    SW_TRY(sw_tally_report(&f->fetch, result, "kv_fetch_density"));
    struct sw_metric *kept = sw_result_metric(result, "density"),
                     *all = sw_result_metric(result, "density_all_layers");
    if (!kept || !all)
        return SW_FAIL(SW_ENOMEM, "density: out of host memory");
    all->value = dense == L ? 1 : ((double)dense + kept->value * (double)(L - dense)) / (double)L;
    all->n = L;
    struct sw_metric *spread = sw_result_metric(result, "density_spread");
    if (!spread)
        return SW_FAIL(SW_ENOMEM, "density: out of host memory");
    spread->value = sw_tally_spread(&f->density);
    spread->n = (int64_t)(L - (dense == L ? 0 : dense)) * f->density.heads;
    const struct {
        const struct sw_tally *tally;
        const char *metric;
    } rest[] = {{&f->union_density, "block_union_density"},
                {&f->recall, "block_recall"},
                {&f->recall_shared, "block_recall_shared"},
                {&f->rollout, "block_recall_rollout"},
                {&f->mass, "mass_recall"},
                {&f->error, "output_rel_error"}};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
        if (any(rest[i].tally))
            SW_TRY(sw_tally_report(rest[i].tally, result, rest[i].metric));
    return SW_OK;
}

/* --- the probe -------------------------------------------------------------------------------- */

/* Gate: a matched budget keeps what was asked, within half a block a prompt, unless the forced set
 * alone is more. */
static enum sw_status check_density(const struct probe *p, struct sw_result *result)
{
    if (!p->lists.indptr || !p->sp.sequence || p->cell->budget != SW_BUDGET_MATCHED ||
        p->shape.n_layers <= p->sp.dense_layers)
        return SW_OK;
    double kept = sw_selection_density(&p->lists), pairs = 0.5 * p->n * (p->n + 1.0),
           half_block = 0.5 * p->block * p->block;
    if (p->sp.sequence->floored)
        return sw_result_warn(result, "density %g is below what the forced blocks alone keep, %.4f",
                              p->cell->density, kept);
    if (fabs(kept - p->cell->density) * pairs > half_block * (1 + 1e-9))
        return sw_result_warn(result,
                              "kept density %.6f is more than half a block from the %g asked for",
                              kept, p->cell->density);
    return SW_OK;
}

static enum sw_status measure(struct probe *p, struct sw_result *result)
{
    if (p->n < 1 || p->m < 0 || p->block < 1)
        return SW_FAIL(SW_EINTERNAL, "probe of %d tokens and %d steps in blocks of %d", p->n, p->m,
                       p->block);
    size_t prompt = (size_t)p->n * token_values(p);
    int b = sw_blocks(p->n + p->m, p->block);
    SW_TRY(p->be->alloc(p->be, prompt * sw_dtype_size(p->be->act), &p->out));
    p->host = malloc(prompt * sizeof *p->host);
    p->mean = malloc((size_t)b * (size_t)b * sizeof *p->mean);
    if (!p->host || !p->mean)
        return SW_FAIL(SW_ENOMEM, "recovery: out of host memory");
    /* In phase both the figures are the prompt's: its rows outnumber the decode steps', and phase
     * decode has those alone. */
    bool of_prompt = p->cell->phase != SW_PHASE_DECODE;
    for (int l = 0; l < p->shape.n_layers; l++)
        SW_TRY(prefill_layer(p, l, of_prompt));
    if (of_prompt)
        SW_TRY(check_density(p, result));
    return p->cell->phase == SW_PHASE_PREFILL ? SW_OK : decode_all(p, !of_prompt);
}

static void end(struct probe *p)
{
    sw_attention_end(&p->sp);
    p->be->free(p->be, p->out);
    sw_selection_free(&p->lists);
    free(p->host);
    free(p->mean);
    for (int l = 0; p->steps && l < p->shape.n_layers; l++) {
        for (int s = 0; p->steps[l].each && s < p->m; s++)
            sw_selection_free(&p->steps[l].each[s]);
        free(p->steps[l].each);
        free(p->steps[l].output);
    }
    free(p->steps);
    for (int l = 0; p->before && l < p->shape.n_layers; l++)
        free(p->before[l]);
    free(p->before);
    free(p->own);
    free(p->reach);
}

static enum sw_status begin(struct probe *p, const struct sw_cell *cell, struct sw_backend *be,
                            struct sw_capture *capture, int n, int m)
{
    *p = (struct probe){.cell = cell,
                        .be = be,
                        .capture = capture,
                        .shape = *sw_capture_shape(capture),
                        .n = n,
                        .m = m,
                        .block = ((const struct sw_method_params *)cell->params)->block_size};
    if (cell->phase == SW_PHASE_PREFILL)
        p->m = 0;
    if (p->m > 0 && !sw_capture_resident(capture))
        return SW_FAIL(
            SW_ENOMEM,
            "decode visits every layer at every step: %d layers of %d tokens do not fit in memory",
            p->shape.n_layers, n + m);
    return sw_attention_begin(cell, be, &p->shape, n + p->m, &p->sp);
}

enum sw_status sw_probe(const struct sw_cell *cell, struct sw_backend *be,
                        struct sw_capture *capture, int n, int m, struct sw_cell_writer *writer,
                        struct sw_figures *figures, struct sw_result *result)
{
    struct probe p;
    enum sw_status st = begin(&p, cell, be, capture, n, m);
    p.writer = writer;
    p.figures = figures;
    p.recovery = cell->config->measure & SW_MEASURE_RECOVERY;
    p.output_error = cell->config->measure & SW_MEASURE_OUTPUT_ERROR;
    p.save_lists = writer && (cell->config->save & SW_SAVE_SELECTION);
    p.save_output = writer && (cell->config->save & SW_SAVE_OUTPUT);
    if (st == SW_OK)
        st = measure(&p, result);
    end(&p);
    return st;
}

/* --- time ------------------------------------------------------------------------------------- */

/* One pass over all layers of the prompt; then, where decode is timed, m steps. */
static enum sw_status prompt_pass(struct probe *p)
{
    for (int l = 0; l < p->shape.n_layers; l++)
        SW_TRY(prefill_layer(p, l, false));
    return SW_OK;
}

/* Queues the attention of all layers for one token. */
static enum sw_status queue_step(struct probe *p, int step)
{
    for (int l = 0; l < p->shape.n_layers; l++) {
        struct sw_capture_layer x;
        SW_TRY(sw_capture_get(p->capture, l, &x));
        int n_k = p->n + step + 1;
        const char *q =
            (const char *)x.q + (size_t)(n_k - 1) * token_values(p) * sw_dtype_size(p->be->act);
        /* decode reads each byte once: a warm cache would flatter it */
        SW_TRY(p->be->flush_cache(p->be));
        SW_TRY(sw_sparse_attend(&p->sp, l, 1, n_k, q, x.k, x.v, p->out));
    }
    return SW_OK;
}

static enum sw_status recorded_step(struct probe *p, int step)
{
    SW_TRY(p->be->record_begin(p->be));
    enum sw_status st = queue_step(p, step);
    if (st == SW_OK)
        st = p->be->record_end(p->be);
    if (st != SW_OK) {
        p->be->record_drop(p->be);
        return st;
    }
    return p->be->record_run(p->be);
}

static enum sw_status decode_pass(struct probe *p, struct sw_times *times)
{
    for (int s = 0; s < p->m; s++) {
        SW_TRY(sw_interrupt_check());
        p->sp.marks = times ? sw_times_marks(times) : SW_MARKS_NONE;
        SW_TRY(times && p->record ? recorded_step(p, s) : queue_step(p, s));
        if (times)
            SW_TRY(sw_times_read(times, &p->sp));
    }
    return SW_OK;
}

/* The timed steps as recordings where that can be; a method that reads results back in a step is
 * timed launch by launch, and the result says so. */
static enum sw_status timed_decode_pass(struct probe *p, struct sw_times *times,
                                        struct sw_result *result)
{
    enum sw_status st = decode_pass(p, times);
    if (st != SW_EUNSUPPORTED || !p->record || times->n + times->n_parts > 0)
        return st;
    p->record = false;
    SW_TRY(
        sw_result_warn(result, "decode steps were timed launch by launch: %s", sw_error_message()));
    sw_error_clear();
    SW_TRY(prompt_pass(p)); /* the method's state as it was after the prompt */
    return decode_pass(p, times);
}

/* What the kept pairs cost: 4·d FLOPs a pair and head (QK^T and PV), over the attention's time; in
 * decode the bytes of the kept K and V. */
static enum sw_status report_rates(const struct probe *p, bool decode, const struct sw_times *times,
                                   struct sw_result *result)
{
    double attend_s = 0; /* the kernel alone: selection is not attention's work */
    for (int l = 0; l < times->layers; l++)
        attend_s += 1e-3 * times->layer_attend[l] / (times->n_parts > 0 ? times->n_parts : 1);
    struct sw_metric *density = sw_result_metric(result, "density_all_layers"),
                     *fetch = sw_result_metric(result, "kv_fetch_density");
    struct sw_metric *rate =
        sw_result_metric(result, decode ? "effective_gbps" : "effective_tflops");
    if (!density || !fetch || !rate || times->n_parts == 0)
        return SW_OK;
    double L = p->shape.n_layers, kept = isnan(density->value) ? 1 : density->value;
    if (!decode) {
        double pairs = 0.5 * p->n * (p->n + 1.0) * kept * L;
        rate->value = 4.0 * pairs * p->shape.n_heads * p->shape.head_dim / attend_s * 1e-12;
    } else {
        double bytes = 2.0 * (p->n + 0.5 * p->m) * kept * L * p->shape.n_kv_heads *
                       p->shape.head_dim * (double)sw_dtype_size(p->be->act);
        rate->value = bytes / attend_s * 1e-9;
    }
    rate->n = times->n;
    return SW_OK;
}

static enum sw_status time_passes(struct probe *p, bool decode, struct sw_result *result)
{
    const struct sw_timing *rule = &p->cell->config->timing;
    bool more = true;
    struct sw_times times;
    enum sw_status st = SW_OK;
    SW_TRY(sw_times_make(&times, p->shape.n_layers, decode));
    double begin = sw_seconds();
    do { /* warm-up: first touch of memory, clocks, caches */
        SW_TRY_GOTO(st, done, prompt_pass(p));
        if (decode)
            SW_TRY_GOTO(st, done, decode_pass(p, NULL));
        SW_TRY_GOTO(st, done, p->be->sync(p->be));
    } while (1e3 * (sw_seconds() - begin) < rule->warmup_ms);
    if (decode)
        SW_TRY_GOTO(st, done, prompt_pass(p));
    p->record = decode && p->be->record_begin;
    for (begin = sw_seconds(); more;) {
        if (decode) {
            SW_TRY_GOTO(st, done, timed_decode_pass(p, &times, result));
        } else {
            p->sp.marks = sw_times_marks(&times);
            SW_TRY_GOTO(st, done, prompt_pass(p));
            SW_TRY_GOTO(st, done, sw_times_read(&times, &p->sp));
        }
        SW_TRY_GOTO(st, done, sw_times_more(&times, rule, sw_seconds() - begin, &more));
        if (more && decode)
            /* the method's state as it was after the prompt */
            SW_TRY_GOTO(st, done, prompt_pass(p));
    }
    SW_TRY_GOTO(st, done, sw_times_report(&times, result));
    st = report_rates(p, decode, &times, result);
done:
    sw_times_free(&times);
    return st;
}

enum sw_status sw_probe_time(const struct sw_cell *cell, struct sw_backend *be,
                             struct sw_capture *capture, int n, int m, struct sw_result *result)
{
    struct probe p;
    enum sw_status st = begin(&p, cell, be, capture, n, m);
    if (st == SW_OK)
        st = be->alloc(be, (size_t)n * token_values(&p) * sw_dtype_size(be->act), &p.out);
    if (st == SW_OK && cell->phase != SW_PHASE_DECODE)
        st = time_passes(&p, false, result);
    if (st == SW_OK && cell->phase != SW_PHASE_PREFILL)
        st = time_passes(&p, true, result);
    end(&p);
    return st;
}
