/* What a cell will need: memory, and time from operations and bytes at the backend's rates. */
#include "harness/plan/estimate.h"

#include <math.h>

#include "harness/inputs/inputs.h"

/* Of a native budget, whose density is not known before. */
static const double GUESSED_DENSITY = 0.3;
/* A timed figure runs at least about so long, however short one run is. */
static const double TIMED_SECONDS = 1;
enum { TIMED_FIGURES = 2 }; /* attention and selection */

/* Weights, KV cache, one layer's Q, K, V and output, the widest activations, and two b × b matrices
 * a head for the methods' scores. Where a task measures recovery, Q, K and V of all layers too. */
static double memory(const struct sw_cell *cell, double act)
{
    const struct sw_input *input = cell->input;
    const struct sw_shape *s = &cell->shape;
    bool task = cell->workload->kind == SW_WORKLOAD_TASK;
    double total = cell->context + (double)input->decode_tokens, H = s->n_heads, d = s->head_dim,
           kv = 2.0 * s->n_kv_heads;
    int block = ((const struct sw_method_params *)cell->params)->block_size;
    double b = ceil((double)cell->context / block), layers_held = task ? s->n_layers : 1;
    double weights = input->parameters * act, cache = layers_held * total * kv * d * act,
           activations = 2 * total * (2 * H + kv) * d * act, scores = 2 * H * b * b * sizeof(float),
           given = task ? 0 : total * (H + kv) * d * sizeof(float),
           captured = task && sw_cell_recovery_samples(cell) > 0
                          ? s->n_layers * cell->context * (H + kv) * d * act
                          : 0;
    return weights + cache + activations + scores + given + captured;
}

/* Seconds of one pass over the prompt, dense and with this cell's method, and of a decode step. */
struct pace {
    double dense, pass, step;
};

/* A pass costs 2 operations a weight and token and 4·H·d a causal pair, all of them in dense layers
 * and the kept share in others; a decode step reads weights and KV cache once. */
static struct pace pace_of(const struct sw_cell *cell, const struct sw_backend *backend)
{
    const struct sw_input *input = cell->input;
    const struct sw_shape *s = &cell->shape;
    double n = cell->context, total = n + input->decode_tokens, L = s->n_layers, H = s->n_heads,
           d = s->head_dim;
    double kept = isnan(cell->density) ? GUESSED_DENSITY : cell->density;
    bool all_dense = cell->method->flags & SW_METHOD_DENSE || cell->phase == SW_PHASE_DECODE ||
                     L < cell->dense_layers;
    double sparse_layers = all_dense ? 0 : L - cell->dense_layers;
    double attention = 2 * H * d * n * n; /* of one layer: half the pairs are causal */
    double dense = 2 * input->parameters * n + L * attention,
           saved = sparse_layers * attention * (1 - kept);
    double read = (input->parameters + 2 * L * total * s->n_kv_heads * d) *
                  (double)sw_dtype_size(backend->act);
    return (struct pace){.dense = dense / backend->flops,
                         .pass = (dense - saved) / backend->flops,
                         .step = read / backend->bytes_per_second};
}

/* Accuracy takes a pass and its decode steps a sample; recovery two dense passes (the run, the
 * truth) and a sparse one a probe; each timed figure its warm-up and runs. */
static double seconds(const struct sw_cell *cell, struct pace pace)
{
    const struct sw_input *input = cell->input;
    const struct sw_config *c = cell->config;
    const struct sw_workload *w = cell->workload;
    bool task = w->kind == SW_WORKLOAD_TASK;
    double steps =
        input->decode_tokens + (cell->phase == SW_PHASE_PREFILL ? 0 : input->scored_tokens);
    double sum = 0;
    if (task && c->measure & SW_MEASURE_ACCURACY)
        sum += w->samples * (pace.pass + steps * pace.step);
    bool probed = c->measure & (SW_MEASURE_RECOVERY | SW_MEASURE_OUTPUT_ERROR);
    sum += (task ? sw_cell_recovery_samples(cell) : probed) * (2 * pace.dense + pace.pass);
    if (c->measure & SW_MEASURE_LATENCY) {
        double run = cell->phase == SW_PHASE_DECODE ? pace.step : pace.pass;
        sum += TIMED_FIGURES *
               (c->timing.warmup_ms / 1e3 +
                fmax(c->timing.min_runs * run, fmin(TIMED_SECONDS, c->timing.max_seconds)));
    }
    return sum;
}

void sw_estimate(struct sw_cell *cell, const struct sw_backend *backend)
{
    cell->memory_bytes = memory(cell, (double)sw_dtype_size(backend->act));
    cell->seconds = seconds(cell, pace_of(cell, backend));
}
