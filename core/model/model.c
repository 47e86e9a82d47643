/* A decoder-only model: loading, and its forward pass over prompt and steps. */
#include "core/model/model.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/safetensors.h"
#include "core/rng.h"

/* fewest tokens of a prompt that go through the MLP at once; sw_pass_chunk */
enum { CHUNK = 2048 };

struct layer {
    void *attention_norm, *q, *k, *v, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm, *o, *o_bias,
        *mlp_norm, *gate, *up, *down;
};

struct sw_model {
    struct sw_backend *backend;
    struct sw_model_config config;
    void *embedding, *final_norm, *head; /* head == embedding when tied */
    float *inv_freq;
    struct layer *layers;
};

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

/* --- weights ---------------------------------------------------------------------------------- */

/* The tensors of a model: Hugging Face name, shape, and where the pointer goes. One list serves
 * loading, checking and random weights. */
struct slot {
    char name[96];
    int rank;
    int64_t shape[2];
    void **place;
    bool norm; /* random weights: ones */
};

static int add_slot(struct slot *slots, int n, void **place, bool norm, int rank, int64_t rows,
                    int64_t cols, const char *name)
{
    if (slots) {
        struct slot *s = &slots[n];
        *s = (struct slot){.rank = rank, .shape = {rows, cols}, .place = place, .norm = norm};
        snprintf(s->name, sizeof s->name, "%s", name);
    }
    return n + 1;
}

/* Fills slots (NULL: only counts). */
static int model_slots(struct sw_model *m, struct slot *slots)
{
    const struct sw_model_config *c = &m->config;
    int64_t hidden = c->hidden, qw = (int64_t)c->shape.n_heads * c->shape.head_dim,
            kw = (int64_t)c->shape.n_kv_heads * c->shape.head_dim;
    int64_t inter = c->intermediate, d = c->shape.head_dim;
    int n =
        add_slot(slots, 0, &m->embedding, false, 2, c->vocab, hidden, "model.embed_tokens.weight");
    n = add_slot(slots, n, &m->final_norm, true, 1, hidden, 1, "model.norm.weight");
    if (!c->tied)
        n = add_slot(slots, n, &m->head, false, 2, c->vocab, hidden, "lm_head.weight");
    for (int l = 0; l < c->shape.n_layers; l++) {
        struct layer *w = &m->layers[l];
        char name[96];
#define SLOT(place_, norm_, rank_, rows_, cols_, suffix)                      \
    do {                                                                      \
        snprintf(name, sizeof name, "model.layers.%d.%s", l, suffix);         \
        n = add_slot(slots, n, &w->place_, norm_, rank_, rows_, cols_, name); \
    } while (0)
        SLOT(attention_norm, true, 1, hidden, 1, "input_layernorm.weight");
        SLOT(q, false, 2, qw, hidden, "self_attn.q_proj.weight");
        SLOT(k, false, 2, kw, hidden, "self_attn.k_proj.weight");
        SLOT(v, false, 2, kw, hidden, "self_attn.v_proj.weight");
        if (c->qkv_bias) {
            SLOT(q_bias, false, 1, qw, 1, "self_attn.q_proj.bias");
            SLOT(k_bias, false, 1, kw, 1, "self_attn.k_proj.bias");
            SLOT(v_bias, false, 1, kw, 1, "self_attn.v_proj.bias");
        }
        if (c->qk_norm) {
            SLOT(q_norm, true, 1, d, 1, "self_attn.q_norm.weight");
            SLOT(k_norm, true, 1, d, 1, "self_attn.k_norm.weight");
        }
        SLOT(o, false, 2, hidden, qw, "self_attn.o_proj.weight");
        if (c->o_bias)
            SLOT(o_bias, false, 1, hidden, 1, "self_attn.o_proj.bias");
        SLOT(mlp_norm, true, 1, hidden, 1, "post_attention_layernorm.weight");
        SLOT(gate, false, 2, inter, hidden, "mlp.gate_proj.weight");
        SLOT(up, false, 2, inter, hidden, "mlp.up_proj.weight");
        SLOT(down, false, 2, hidden, inter, "mlp.down_proj.weight");
#undef SLOT
    }
    return n;
}

static enum sw_status list_slots(struct sw_model *m, struct slot **slots, int *count)
{
    *count = model_slots(m, NULL);
    *slots = calloc((size_t)*count, sizeof **slots);
    if (!*slots)
        return SW_FAIL(SW_ENOMEM, "model: asked %zu bytes of host memory",
                       (size_t)*count * sizeof **slots);
    model_slots(m, *slots);
    return SW_OK;
}

static enum sw_status check_slot(const char *folder, const struct slot *s,
                                 const struct sw_stored_tensor *t)
{
    if (!t)
        return SW_FAIL(SW_EINPUT, "%s: tensor '%s' is missing", folder, s->name);
    if (t->type != SW_STORED_F32 && t->type != SW_STORED_F16 && t->type != SW_STORED_BF16)
        return SW_FAIL(SW_EINPUT, "%s: tensor '%s' is not F32, F16 or BF16", folder, s->name);
    if (t->rank != s->rank || t->shape[0] != s->shape[0] ||
        (s->rank == 2 && t->shape[1] != s->shape[1]))
        return SW_FAIL(
            SW_EINPUT,
            "%s: tensor '%s' has shape [%lld%s%lld], expected [%lld, %lld] from config.json",
            folder, s->name, (long long)t->shape[0], t->rank == 2 ? ", " : "; rank ",
            t->rank == 2 ? (long long)t->shape[1] : (long long)t->rank, (long long)s->shape[0],
            (long long)s->shape[1]);
    return SW_OK;
}

static int by_slot_name(const void *a, const void *b)
{
    return strcmp(((const struct slot *)a)->name, ((const struct slot *)b)->name);
}

static size_t stored_bytes(const struct sw_stored_tensor *t)
{
    return (size_t)t->count * (t->type == SW_STORED_F32 ? 4 : 2);
}

/* A tensor that the forward pass does not read means another forward pass, unless it is known to be
 * none of its business. */
static enum sw_status check_extra(const struct sw_model *m, const char *folder,
                                  const struct sw_safetensors *weights,
                                  const struct sw_stored_tensor *t)
{
    size_t length = strlen(t->name);
    const char *constants = "rotary_emb.inv_freq"; /* old checkpoints store them */
    if (length >= strlen(constants) && strcmp(t->name + length - strlen(constants), constants) == 0)
        return SW_OK;
    if (!m->config.tied || strcmp(t->name, "lm_head.weight") != 0)
        return SW_FAIL(SW_EINPUT,
                       "%s: tensor '%s' is not part of a '%s' model with this config.json", folder,
                       t->name, m->config.type);
    const struct sw_stored_tensor *e = sw_safetensors_find(weights, "model.embed_tokens.weight");
    if (!e || e->type != t->type || e->count != t->count ||
        memcmp(e->data, t->data, stored_bytes(t)) != 0)
        return SW_FAIL(SW_EINPUT,
                       "%s: tensor 'lm_head.weight' differs from the embedding, but config.json "
                       "says tie_word_embeddings; "
                       "expected false there, or no such tensor",
                       folder);
    return SW_OK;
}

/* Every problem is a line on `messages`; without, the first one is the error. */
static enum sw_status check_weights(struct sw_model *m, const char *folder,
                                    const struct sw_safetensors *weights, struct slot *slots,
                                    int count, FILE *messages)
{
    int problems = 0, stored = sw_safetensors_count(weights);
    struct slot *sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted)
        return SW_FAIL(SW_ENOMEM, "model: asked %zu bytes of host memory",
                       (size_t)count * sizeof *sorted);
    memcpy(sorted, slots, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_slot_name);
    enum sw_status st = SW_OK;
    for (int i = 0; i < count + stored && st == SW_OK; i++) {
        if (i < count)
            st = check_slot(folder, &slots[i], sw_safetensors_find(weights, slots[i].name));
        else {
            const struct sw_stored_tensor *t = sw_safetensors_at(weights, i - count);
            struct slot key = {0};
            snprintf(key.name, sizeof key.name, "%s", t->name);
            if (strlen(t->name) >= sizeof key.name ||
                !bsearch(&key, sorted, (size_t)count, sizeof *sorted, by_slot_name))
                st = check_extra(m, folder, weights, t);
        }
        if (st == SW_EINPUT && messages) {
            fprintf(messages, "%s\n", sw_error_message());
            sw_error_clear();
            problems++;
            st = SW_OK;
        }
    }
    free(sorted);
    if (st == SW_OK && problems)
        st = SW_FAIL(SW_EINPUT, "%s: %d tensors do not fit config.json", folder, problems);
    return st;
}

static enum sw_status load_slot(struct sw_model *m, const struct slot *s,
                                const struct sw_stored_tensor *t)
{
    struct sw_backend *be = m->backend;
    static const enum sw_dtype dtype[] = {
        [SW_STORED_F32] = SW_F32, [SW_STORED_F16] = SW_F16, [SW_STORED_BF16] = SW_BF16};
    SW_TRY(be->alloc(be, (size_t)t->count * sw_dtype_size(be->act), s->place));
    if ((uintptr_t)t->data % sw_dtype_size(dtype[t->type]) == 0)
        return be->upload_act(be, *s->place, t->data, dtype[t->type], (size_t)t->count);
    /* legal, but rare: a header of odd length */
    size_t bytes = (size_t)t->count * sw_dtype_size(dtype[t->type]);
    void *aligned = malloc(bytes);
    if (!aligned)
        return SW_FAIL(SW_ENOMEM, "tensor '%s': asked %zu bytes of host memory", s->name, bytes);
    memcpy(aligned, t->data, bytes);
    enum sw_status st = be->upload_act(be, *s->place, aligned, dtype[t->type], (size_t)t->count);
    free(aligned);
    return st;
}

static enum sw_status make_frequencies(struct sw_model *m)
{
    size_t bytes = sizeof(float) * (size_t)(m->config.shape.head_dim / 2);
    float *host = malloc(bytes);
    if (!host)
        return SW_FAIL(SW_ENOMEM, "model: asked %zu bytes of host memory", bytes);
    sw_model_inv_freq(&m->config, host);
    void *p = NULL;
    enum sw_status st = m->backend->alloc(m->backend, bytes, &p);
    m->inv_freq = p;
    if (st == SW_OK)
        st = m->backend->upload(m->backend, m->inv_freq, host, bytes);
    free(host);
    return st;
}

static enum sw_status model_new(const struct sw_model_config *config, struct sw_backend *backend,
                                struct sw_model **out)
{
    struct sw_model *m = calloc(1, sizeof *m);
    if (m)
        m->layers = calloc((size_t)config->shape.n_layers, sizeof *m->layers);
    if (!m || !m->layers) {
        free(m);
        return SW_FAIL(SW_ENOMEM, "model: out of host memory");
    }
    m->backend = backend;
    m->config = *config;
    *out = m;
    return SW_OK;
}

enum sw_status sw_model_open(const char *folder, struct sw_backend *backend, struct sw_model **out)
{
    *out = NULL;
    struct sw_model_config config;
    SW_TRY(sw_model_config_read(folder, NULL, &config));
    struct sw_safetensors *weights;
    SW_TRY(sw_safetensors_open(folder, &weights));
    struct sw_model *m = NULL;
    struct slot *slots = NULL;
    int count = 0;
    enum sw_status st = model_new(&config, backend, &m);
    if (st == SW_OK)
        st = list_slots(m, &slots, &count);
    if (st == SW_OK) /* all checks before the first byte is loaded */
        st = check_weights(m, folder, weights, slots, count, NULL);
    for (int i = 0; i < count && st == SW_OK; i++)
        st = load_slot(m, &slots[i], sw_safetensors_find(weights, slots[i].name));
    if (st == SW_OK)
        st = make_frequencies(m);
    free(slots);
    sw_safetensors_close(weights);
    if (st != SW_OK) {
        sw_model_close(m);
        return st;
    }
    if (config.tied)
        m->head = m->embedding;
    *out = m;
    return SW_OK;
}

enum sw_status sw_model_check(const char *folder, FILE *messages)
{
    struct sw_model_config config;
    SW_TRY(sw_model_config_read(folder, messages, &config));
    struct sw_safetensors *weights;
    enum sw_status st = sw_safetensors_open(folder, &weights);
    if (st != SW_OK) {
        if (messages)
            fprintf(messages, "%s\n", sw_error_message());
        return st;
    }
    struct sw_model *m = NULL;
    struct slot *slots = NULL;
    int count = 0;
    st = model_new(&config, NULL, &m);
    if (st == SW_OK)
        st = list_slots(m, &slots, &count);
    if (st == SW_OK)
        st = check_weights(m, folder, weights, slots, count, messages);
    free(slots);
    if (m)
        free(m->layers);
    free(m);
    sw_safetensors_close(weights);
    return st;
}

/* A tile of normal numbers, laid end to end from a different start for every tensor: filling 8·10^9
 * weights one draw at a time would take longer than anything measured with them. */
static enum sw_status random_slot(struct sw_model *m, const struct slot *s, const float *tile,
                                  size_t tile_count, size_t start)
{
    struct sw_backend *be = m->backend;
    size_t count = (size_t)(s->shape[0] * s->shape[1]), width = sw_dtype_size(be->act);
    SW_TRY(be->alloc(be, count * width, s->place));
    for (size_t at = 0; at < count;) {
        size_t from = (start + at) % tile_count,
               n = tile_count - from < count - at ? tile_count - from : count - at;
        SW_TRY(be->upload_act(be, (char *)*s->place + at * width, tile + from, SW_F32, n));
        at += n;
    }
    return SW_OK;
}

enum sw_status sw_model_random(const struct sw_named_shape *shape, uint64_t seed,
                               struct sw_backend *backend, struct sw_model **out)
{
    *out = NULL;
    struct sw_model_config c = {.shape = shape->shape,
                                .hidden = shape->hidden,
                                .intermediate = shape->intermediate,
                                .vocab = shape->vocab,
                                .max_context = shape->max_context,
                                .rms_eps = 1e-5,
                                .rope_theta = shape->rope_theta,
                                .rope_factor = 1,
                                .rope_attention = 1};
    snprintf(c.type, sizeof c.type, "llama");
    enum { TILE = (1 << 22) + 7 };
    struct sw_model *m = NULL;
    struct slot *slots = NULL;
    int count = 0;
    float *normal = malloc(sizeof *normal * TILE), *ones = malloc(sizeof *ones * TILE);
    enum sw_status st = normal && ones ? SW_OK
                                       : SW_FAIL(SW_ENOMEM, "model: asked %zu bytes of host memory",
                                                 2 * sizeof *normal * TILE);
    if (st == SW_OK)
        for (size_t i = 0; i < TILE; i++) {
            normal[i] = (float)(0.02 * sw_rng_normal(seed, SW_RNG_WEIGHTS, i));
            ones[i] = 1.0f;
        }
    if (st == SW_OK)
        st = model_new(&c, backend, &m);
    if (st == SW_OK)
        st = list_slots(m, &slots, &count);
    for (int i = 0; i < count && st == SW_OK; i++)
        st = random_slot(
            m, &slots[i], slots[i].norm ? ones : normal, TILE,
            (size_t)(sw_rng_u64(seed, SW_RNG_WEIGHTS, (uint64_t)i + (1ull << 40)) % TILE));
    if (st == SW_OK)
        st = make_frequencies(m);
    free(normal);
    free(ones);
    free(slots);
    if (st != SW_OK) {
        sw_model_close(m);
        return st;
    }
    *out = m;
    return SW_OK;
}

void sw_model_close(struct sw_model *m)
{
    if (!m)
        return;
    struct sw_backend *be = m->backend;
    struct slot *slots;
    int count;
    if (m->config.tied)
        m->head = NULL;
    if (list_slots(m, &slots, &count) == SW_OK) {
        for (int i = 0; i < count; i++)
            be->free(be, *slots[i].place);
        free(slots);
    }
    be->free(be, m->inv_freq);
    free(m->layers);
    free(m);
}

const struct sw_model_config *sw_model_config(const struct sw_model *model)
{
    return &model->config;
}

/* --- forward pass ----------------------------------------------------------------------------- */

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
    const struct layer *w = &m->layers[l];
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
    const struct layer *w = &p->model->layers[l];
    int heads = c->shape.n_heads * c->shape.head_dim;
    return be->linear(be, rows_at(be, attended, row, heads), w->o, w->o_bias, rows, heads,
                      c->hidden, true, rows_at(be, p->x, row, c->hidden));
}

/* x += down(silu(gate(norm x)) · up(norm x)). */
static enum sw_status add_mlp(struct sw_pass *p, int l, int row, int rows)
{
    struct sw_backend *be = p->model->backend;
    const struct sw_model_config *c = &p->model->config;
    const struct layer *w = &p->model->layers[l];
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
