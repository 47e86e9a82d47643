/* The forward pass of a model, over a prompt and over steps of several sequences. */
#include <stdlib.h>
#include <string.h>

#include "core/model/weights.h"

/* fewest tokens of a prompt that go through the MLP at once; sw_pass_chunk */
enum { CHUNK = 2048 };

struct sw_pass {
    struct sw_model *model;
    int sequences, max_tokens, max_prompt;
    int *n;        /* [sequences] tokens in the cache */
    int last_rows; /* rows of the last run, in x */
    /* those of them that are through the last layer: done0 … done1-1; none yet where these are
     * equal */
    int done0, done1;
    int chunk; /* rows that project and mix take at once */
    void *x;   /* residual stream [max_prompt, hidden] */
    void *q;   /* [max_prompt, H, d], and room for what follows */
    /* [max_prompt, H, d], in place only a step's [sequences, H, d], and room for what follows */
    void *attended;
    void *prompt_attended; /* where a prompt's attention is written: in place q, else attended */
    /* Never alive together with the one whose memory it is in: */
    void *before; /* [chunk, hidden] normed, until q, k and v are made: in attended */
    /* [chunk, hidden], [chunk, intermediate] twice, once o has taken what attention left: in q */
    void *normed, *gate, *up;
    void *k, *v;               /* [sequences, Hkv, d]: of a step, before they go to their caches */
    void **k_cache, **v_cache; /* per layer [sequences, max_tokens, Hkv, d] */
};

/* Matrices begin at multiples of 64 bytes, as alloc gives them. */
static size_t matrix_bytes(const struct sw_backend *be, int rows, int width)
{
    return ((size_t)rows * (size_t)width * sw_dtype_size(be->act) + 63) & ~(size_t)63;
}

/* The MLP's activations lie where the queries were: as many rows as fit there, in whole CHUNKs, and
 * one CHUNK where none does. So a long prompt needs no memory beside x, q and attended (in place: a
 * chunk's rows of it), and its products are as large as they can be (128K tokens of Llama-3.1-8B:
 * 16,384 rows). */
int sw_pass_chunk(const struct sw_model_config *c, int max_prompt)
{
    int64_t room = (int64_t)max_prompt * c->shape.n_heads * c->shape.head_dim,
            row = c->hidden + 2 * (int64_t)c->intermediate;
    int64_t fit = room / row / CHUNK * CHUNK, chunk = fit > CHUNK ? fit : CHUNK;
    return max_prompt < chunk ? max_prompt : (int)chunk;
}

enum sw_status sw_pass_open(struct sw_model *model, int sequences, int max_tokens, int max_prompt,
                            bool in_place, struct sw_pass **out)
{
    *out = NULL;
    struct sw_backend *be = model->backend;
    const struct sw_model_config *c = &model->config;
    size_t width = sw_dtype_size(be->act);
    int heads = c->shape.n_heads * c->shape.head_dim;
    size_t kv = (size_t)sequences * (size_t)c->shape.n_kv_heads * (size_t)c->shape.head_dim * width;
    /* rows of a prompt, or of a step */
    int prompt = max_prompt > sequences ? max_prompt : sequences;
    struct sw_pass *p = calloc(1, sizeof *p);
    if (!p)
        return SW_FAIL(SW_ENOMEM, "pass: out of host memory");
    p->model = model;
    p->sequences = sequences;
    p->max_tokens = max_tokens;
    p->max_prompt = max_prompt;
    p->n = calloc((size_t)sequences, sizeof *p->n);
    p->k_cache = calloc((size_t)c->shape.n_layers, sizeof *p->k_cache);
    p->v_cache = calloc((size_t)c->shape.n_layers, sizeof *p->v_cache);
    p->chunk = sw_pass_chunk(c, prompt);
    size_t hidden = matrix_bytes(be, p->chunk, c->hidden),
           inter = matrix_bytes(be, p->chunk, c->intermediate),
           queries = matrix_bytes(be, prompt, heads), mlp = hidden + 2 * inter,
           attended = in_place ? matrix_bytes(be, sequences, heads) : queries;
    enum sw_status st =
        p->n && p->k_cache && p->v_cache ? SW_OK : SW_FAIL(SW_ENOMEM, "pass: out of host memory");
    SW_TRY_GOTO(st, fail, st);
    SW_TRY_GOTO(st, fail, be->alloc(be, matrix_bytes(be, prompt, c->hidden), &p->x));
    SW_TRY_GOTO(st, fail, be->alloc(be, queries > mlp ? queries : mlp, &p->q));
    SW_TRY_GOTO(st, fail, be->alloc(be, attended > hidden ? attended : hidden, &p->attended));
    p->prompt_attended = in_place ? p->q : p->attended;
    p->before = p->attended;
    p->normed = p->q;
    p->gate = (char *)p->q + hidden;
    p->up = (char *)p->gate + inter;
    SW_TRY_GOTO(st, fail, be->alloc(be, kv, &p->k));
    SW_TRY_GOTO(st, fail, be->alloc(be, kv, &p->v));
    for (int l = 0; l < c->shape.n_layers; l++) {
        SW_TRY_GOTO(st, fail, be->alloc(be, kv * (size_t)max_tokens, &p->k_cache[l]));
        SW_TRY_GOTO(st, fail, be->alloc(be, kv * (size_t)max_tokens, &p->v_cache[l]));
    }
    *out = p;
    return SW_OK;
fail:
    sw_pass_close(p);
    return sw_context(st, "a pass of %d × %d tokens", sequences, max_tokens);
}

void sw_pass_close(struct sw_pass *p)
{
    if (!p)
        return;
    struct sw_backend *be = p->model->backend;
    void *all[] = {p->x, p->q, p->attended, p->k, p->v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        be->free(be, all[i]);
    for (int l = 0; l < p->model->config.shape.n_layers; l++) {
        be->free(be, p->k_cache ? p->k_cache[l] : NULL);
        be->free(be, p->v_cache ? p->v_cache[l] : NULL);
    }
    free(p->n);
    free(p->k_cache);
    free(p->v_cache);
    free(p);
}

void sw_pass_reset(struct sw_pass *p, int sequence) { p->n[sequence] = p->last_rows = 0; }

static char *rows_at(const struct sw_backend *be, void *base, int row, int width)
{
    return (char *)base + (size_t)row * (size_t)width * sw_dtype_size(be->act);
}

/* Where the keys or values of a sequence's tokens from `position` are kept. */
static void *cached(const struct sw_pass *p, void *cache, int sequence, int position)
{
    const struct sw_shape *s = &p->model->config.shape;
    size_t token =
        (size_t)s->n_kv_heads * (size_t)s->head_dim * sw_dtype_size(p->model->backend->act);
    return (char *)cache + ((size_t)sequence * (size_t)p->max_tokens + (size_t)position) * token;
}

/* Queries, keys and values of `rows` tokens from row `row` of x, before RoPE: to q likewise, k and
 * v [rows, Hkv, d]. */
static enum sw_status project(struct sw_pass *p, int l, int row, int rows, void *k, void *v)
{
    struct sw_model *m = p->model;
    struct sw_backend *be = m->backend;
    const struct sw_model_config *c = &m->config;
    const struct sw_model_layer *w = &m->layers[l];
    int d = c->shape.head_dim, heads = c->shape.n_heads, kv_heads = c->shape.n_kv_heads;
    void *q = rows_at(be, p->q, row, heads * d);
    SW_TRY(be->rmsnorm(be, rows_at(be, p->x, row, c->hidden), w->attention_norm, rows, c->hidden,
                       (float)c->rms_eps, p->before));
    SW_TRY(be->linear(be, p->before, w->q, w->q_bias, rows, c->hidden, heads * d, false, q));
    SW_TRY(be->linear(be, p->before, w->k, w->k_bias, rows, c->hidden, kv_heads * d, false, k));
    SW_TRY(be->linear(be, p->before, w->v, w->v_bias, rows, c->hidden, kv_heads * d, false, v));
    if (c->qk_norm) {
        SW_TRY(be->rmsnorm(be, q, w->q_norm, rows * heads, d, (float)c->rms_eps, q));
        SW_TRY(be->rmsnorm(be, k, w->k_norm, rows * kv_heads, d, (float)c->rms_eps, k));
    }
    return SW_OK;
}

/* RoPE on what project made of `rows` tokens of one sequence, the first of them at `position`. */
static enum sw_status rotate(struct sw_pass *p, int row, int rows, int position, void *k)
{
    struct sw_model *m = p->model;
    struct sw_backend *be = m->backend;
    const struct sw_shape *s = &m->config.shape;
    float factor = (float)m->config.rope_attention;
    SW_TRY(be->rope(be, rows_at(be, p->q, row, s->n_heads * s->head_dim), rows, s->n_heads,
                    s->head_dim, position, m->inv_freq, factor));
    return be->rope(be, k, rows, s->n_kv_heads, s->head_dim, position, m->inv_freq, factor);
}

/* x += o(attended). */
static enum sw_status add_attention(struct sw_pass *p, int l, void *attended, int row, int rows)
{
    struct sw_backend *be = p->model->backend;
    const struct sw_model_config *c = &p->model->config;
    const struct sw_model_layer *w = &p->model->layers[l];
    int heads = c->shape.n_heads * c->shape.head_dim;
    return be->linear(be, rows_at(be, attended, row, heads), w->o, w->o_bias, rows, heads,
                      c->hidden, true, rows_at(be, p->x, row, c->hidden));
}

/* x += down(silu(gate(norm x)) · up(norm x)). */
static enum sw_status add_mlp(struct sw_pass *p, int l, int row, int rows)
{
    struct sw_backend *be = p->model->backend;
    const struct sw_model_config *c = &p->model->config;
    const struct sw_model_layer *w = &p->model->layers[l];
    void *x = rows_at(be, p->x, row, c->hidden);
    SW_TRY(be->rmsnorm(be, x, w->mlp_norm, rows, c->hidden, (float)c->rms_eps, p->normed));
    SW_TRY(
        be->linear(be, p->normed, w->gate, NULL, rows, c->hidden, c->intermediate, false, p->gate));
    SW_TRY(be->linear(be, p->normed, w->up, NULL, rows, c->hidden, c->intermediate, false, p->up));
    SW_TRY(be->swiglu(be, p->gate, p->up, (size_t)rows * (size_t)c->intermediate, p->gate));
    return be->linear(be, p->gate, w->down, NULL, rows, c->intermediate, c->hidden, true, x);
}

/* The rest of a layer for rows row0 … row1-1 of what attention gave. All of o comes first: the
 * MLP's activations may lie on what it reads. */
static enum sw_status mix(struct sw_pass *p, int l, void *attended, int row0, int row1)
{
    for (int row = row0; row < row1; row += p->chunk)
        SW_TRY(add_attention(p, l, attended, row, row1 - row < p->chunk ? row1 - row : p->chunk));
    for (int row = row0; row < row1; row += p->chunk)
        SW_TRY(add_mlp(p, l, row, row1 - row < p->chunk ? row1 - row : p->chunk));
    return SW_OK;
}

/* Takes rows row0 … row0+rows-1 of a prompt through the last layer's rest, for whoever asks first
 * for what comes out. No other token needs it, and mostly one row is asked for: of Llama-3.1-8B's
 * 32 layers that is 1/32 of the time in o and the MLP less. The others are gone then: the MLP's
 * activations lie where the queries were, which in place is where attention's output is. */
static enum sw_status finish(struct sw_pass *p, int row0, int rows)
{
    if (p->done0 == p->done1) {
        SW_TRY(mix(p, p->model->config.shape.n_layers - 1, p->prompt_attended, row0, row0 + rows));
        p->done0 = row0;
        p->done1 = row0 + rows;
    }
    if (row0 < p->done0 || row0 + rows > p->done1)
        return SW_FAIL(SW_EINTERNAL, "rows %d…%d of a run of which %d…%d were asked for first",
                       row0, row0 + rows - 1, p->done0, p->done1 - 1);
    return SW_OK;
}

static enum sw_status check_id(const struct sw_pass *p, int t, int32_t id)
{
    int vocab = p->model->config.vocab;
    return id >= 0 && id < vocab
               ? SW_OK
               : SW_FAIL(SW_EINPUT, "token %d of the input is %d, expected 0…%d", t, id, vocab - 1);
}

enum sw_status sw_pass_run(struct sw_pass *p, int sequence, const int32_t *ids, int n,
                           struct sw_attention_hook hook)
{
    struct sw_model *m = p->model;
    struct sw_backend *be = m->backend;
    const struct sw_model_config *c = &m->config;
    int before = p->n[sequence];
    if (n < 1 || n > p->max_prompt || n > p->max_tokens - before)
        return SW_FAIL(SW_EINTERNAL, "%d tokens after %d; room for %d, runs of at most %d", n,
                       before, p->max_tokens, p->max_prompt);
    for (int t = 0; t < n; t++)
        SW_TRY(check_id(p, t, ids[t]));
    void *attended = n > 1 ? p->prompt_attended : p->attended;
    SW_TRY(be->embed(be, m->embedding, ids, n, c->hidden, p->x));
    for (int l = 0; l < c->shape.n_layers; l++) {
        for (int row = 0; row < n; row += p->chunk) {
            int rows = n - row < p->chunk ? n - row : p->chunk, position = before + row;
            void *k = cached(p, p->k_cache[l], sequence, position);
            SW_TRY(project(p, l, row, rows, k, cached(p, p->v_cache[l], sequence, position)));
            SW_TRY(rotate(p, row, rows, position, k));
        }
        SW_TRY(hook.attend(hook.context, l, n, before + n, p->q,
                           cached(p, p->k_cache[l], sequence, 0),
                           cached(p, p->v_cache[l], sequence, 0), attended));
        if (n == 1 || l < c->shape.n_layers - 1) /* a step is whole: it may be recorded */
            SW_TRY(mix(p, l, attended, 0, n));
    }
    p->n[sequence] += n;
    p->last_rows = n;
    p->done0 = 0;
    p->done1 = n == 1;
    return SW_OK;
}

/* RoPE, cache and attention of row `row` of a step. */
static enum sw_status step_attention(struct sw_pass *p, int l, int row, const struct sw_step *step)
{
    struct sw_backend *be = p->model->backend;
    const struct sw_shape *s = &p->model->config.shape;
    int before = p->n[step->sequence], kv = s->n_kv_heads * s->head_dim,
        heads = s->n_heads * s->head_dim;
    size_t bytes = (size_t)kv * sw_dtype_size(be->act);
    void *k = rows_at(be, p->k, row, kv), *keys = p->k_cache[l], *values = p->v_cache[l];
    SW_TRY(rotate(p, row, 1, before, k));
    SW_TRY(be->copy(be, cached(p, keys, step->sequence, before), k, bytes));
    SW_TRY(
        be->copy(be, cached(p, values, step->sequence, before), rows_at(be, p->v, row, kv), bytes));
    return step->hook.attend(step->hook.context, l, 1, before + 1, rows_at(be, p->q, row, heads),
                             cached(p, keys, step->sequence, 0),
                             cached(p, values, step->sequence, 0),
                             rows_at(be, p->attended, row, heads));
}

enum sw_status sw_pass_step(struct sw_pass *p, const struct sw_step *steps, int n)
{
    struct sw_model *m = p->model;
    struct sw_backend *be = m->backend;
    int hidden = m->config.hidden;
    if (n < 1 || n > p->sequences || n > be->rows_alike)
        return SW_FAIL(SW_EINTERNAL,
                       "a step of %d sequences; the pass has %d, the backend takes %d together", n,
                       p->sequences, be->rows_alike);
    for (int s = 0; s < n; s++) {
        int before = p->n[steps[s].sequence];
        if (before < 1 || before >= p->max_tokens)
            return SW_FAIL(SW_EINTERNAL, "a step after %d tokens; room for %d", before,
                           p->max_tokens);
        SW_TRY(check_id(p, s, steps[s].id));
        SW_TRY(be->embed(be, m->embedding, &steps[s].id, 1, hidden, rows_at(be, p->x, s, hidden)));
    }
    for (int l = 0; l < m->config.shape.n_layers; l++) {
        SW_TRY(project(p, l, 0, n, p->k, p->v));
        for (int s = 0; s < n; s++)
            SW_TRY(step_attention(p, l, s, &steps[s]));
        SW_TRY(mix(p, l, p->attended, 0, n));
    }
    for (int s = 0; s < n; s++)
        p->n[steps[s].sequence]++;
    p->last_rows = p->done1 = n;
    p->done0 = 0;
    return SW_OK;
}

enum sw_status sw_pass_predict(struct sw_pass *p, int row0, int rows, const int32_t *targets,
                               float *nll, int32_t *argmax)
{
    struct sw_model *m = p->model;
    struct sw_backend *be = m->backend;
    const struct sw_model_config *c = &m->config;
    if (row0 < 0 || rows < 1 || row0 + rows > p->last_rows)
        return SW_FAIL(SW_EINTERNAL, "rows %d…%d of a run of %d", row0, row0 + rows - 1,
                       p->last_rows);
    SW_TRY(finish(p, row0, rows));
    for (int row = 0; row < rows; row += p->chunk) {
        int some = rows - row < p->chunk ? rows - row : p->chunk;
        SW_TRY(be->rmsnorm(be, rows_at(be, p->x, row0 + row, c->hidden), m->final_norm, some,
                           c->hidden, (float)c->rms_eps, p->normed));
        SW_TRY(be->head(be, p->normed, m->head, some, c->hidden, c->vocab,
                        targets ? targets + row : NULL, nll ? nll + row : NULL,
                        argmax ? argmax + row : NULL));
    }
    return SW_OK;
}

enum sw_status sw_pass_logits(struct sw_pass *p, int row, float *logits)
{
    struct sw_model *m = p->model;
    struct sw_backend *be = m->backend;
    const struct sw_model_config *c = &m->config;
    if (row < 0 || row >= p->last_rows)
        return SW_FAIL(SW_EINTERNAL, "row %d of a run of %d", row, p->last_rows);
    SW_TRY(finish(p, row, 1));
    void *out;
    SW_TRY(be->alloc(be, (size_t)c->vocab * sw_dtype_size(be->act), &out));
    enum sw_status st;
    SW_TRY_GOTO(st, done,
                be->rmsnorm(be, rows_at(be, p->x, row, c->hidden), m->final_norm, 1, c->hidden,
                            (float)c->rms_eps, p->normed));
    SW_TRY_GOTO(st, done,
                be->linear(be, p->normed, m->head, NULL, 1, c->hidden, c->vocab, false, out));
    st = be->download_act(be, logits, out, (size_t)c->vocab);
done:
    be->free(be, out);
    return st;
}
