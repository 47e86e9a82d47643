/* Captures: where their layers come from, and the dense truth about them, kept while there is
 * room. */
#include "harness/run/capture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Dense attention's answer to one question about a layer, in host memory. */
struct truth {
    enum { OUTPUT, MASS, ROLLOUT } what;
    int layer, n, n_q, block;
    float *data;
    size_t bytes;
};

struct sw_capture {
    struct sw_backend *backend;
    struct sw_shape shape;
    int tokens;
    /* where layers come from; model captures are resident from the start */
    struct sw_bundle *bundle;
    bool synthetic;
    int planted;
    uint64_t seed;
    /* activations: all layers, or one at a time */
    bool resident;
    int held; /* layer in slot 0 when not resident; -1: none */
    void **q, **k, **v;
    bool *loaded;
    /* truth: a list, dropped oldest first when it outgrows its room */
    struct truth *truths;
    int n_truths;
    size_t truth_bytes, truth_room;
};

static size_t q_count(const struct sw_capture *c)
{
    return (size_t)c->tokens * (size_t)c->shape.n_heads * (size_t)c->shape.head_dim;
}
static size_t k_count(const struct sw_capture *c)
{
    return (size_t)c->tokens * (size_t)c->shape.n_kv_heads * (size_t)c->shape.head_dim;
}

static enum sw_status out_of_memory(size_t bytes)
{
    return SW_FAIL(SW_ENOMEM, "capture: out of host memory (%zu bytes)", bytes);
}

/* --- making ----------------------------------------------------------------------------------- */

static enum sw_status allocate_slot(struct sw_capture *c, int slot)
{
    size_t width = sw_dtype_size(c->backend->act);
    SW_TRY(c->backend->alloc(c->backend, q_count(c) * width, &c->q[slot]));
    SW_TRY(c->backend->alloc(c->backend, k_count(c) * width, &c->k[slot]));
    return c->backend->alloc(c->backend, k_count(c) * width, &c->v[slot]);
}

static enum sw_status make(struct sw_backend *be, const struct sw_shape *shape, int tokens,
                           bool must_be_resident, struct sw_capture **out)
{
    *out = NULL;
    struct sw_capture *c = calloc(1, sizeof *c);
    if (!c)
        return out_of_memory(sizeof *c);
    size_t layers = (size_t)shape->n_layers;
    c->backend = be;
    c->shape = *shape;
    c->tokens = tokens;
    c->held = -1;
    c->q = calloc(layers, sizeof *c->q);
    c->k = calloc(layers, sizeof *c->k);
    c->v = calloc(layers, sizeof *c->v);
    c->loaded = calloc(layers, sizeof *c->loaded);
    if (!c->q || !c->k || !c->v || !c->loaded) {
        sw_capture_free(c);
        return out_of_memory(layers * (3 * sizeof(void *) + 1));
    }
    size_t all = layers * (q_count(c) + 2 * k_count(c)) * sw_dtype_size(be->act);
    c->resident = must_be_resident || all <= be->free_bytes(be) / 2;
    /* Dense truth is recomputed rather than let it take more than a quarter of the host's
     * memory. */
    c->truth_room = (size_t)sysconf(_SC_PHYS_PAGES) / 4 * (size_t)sysconf(_SC_PAGESIZE);
    enum sw_status st = SW_OK;
    for (int slot = 0; slot < (c->resident ? shape->n_layers : 1) && st == SW_OK; slot++)
        st = allocate_slot(c, slot);
    if (st != SW_OK) {
        sw_capture_free(c);
        return sw_context(st, "activations of %d layers of %d tokens", shape->n_layers, tokens);
    }
    *out = c;
    return SW_OK;
}

enum sw_status sw_capture_bundle(struct sw_backend *be, struct sw_bundle *bundle,
                                 struct sw_capture **out)
{
    enum sw_status st =
        make(be, sw_bundle_shape(bundle),
             sw_bundle_tokens(bundle) + sw_bundle_decode_tokens(bundle), false, out);
    if (st != SW_OK) {
        sw_bundle_close(bundle);
        return st;
    }
    (*out)->bundle = bundle;
    return SW_OK;
}

enum sw_status sw_capture_synthetic(struct sw_backend *be, const struct sw_shape *shape,
                                    int planted, uint64_t seed, int tokens, struct sw_capture **out)
{
    SW_TRY(make(be, shape, tokens, false, out));
    (*out)->synthetic = true;
    (*out)->planted = planted;
    (*out)->seed = seed;
    return SW_OK;
}

/* Attention hook of the dense run: copies the layer, then attends. */
static enum sw_status keep_layer(void *context, int layer, int n_q, int n_k, const void *q,
                                 const void *k, const void *v, void *out)
{
    struct sw_capture *c = context;
    struct sw_backend *be = c->backend;
    size_t width = sw_dtype_size(be->act);
    SW_TRY(be->copy(be, c->q[layer], q, q_count(c) * width));
    SW_TRY(be->copy(be, c->k[layer], k, k_count(c) * width));
    SW_TRY(be->copy(be, c->v[layer], v, k_count(c) * width));
    c->loaded[layer] = true;
    return be->attend(be,
                      &(struct sw_attend){.batch = 1,
                                          .n_q = n_q,
                                          .n_k = n_k,
                                          .n_heads = c->shape.n_heads,
                                          .n_kv_heads = c->shape.n_kv_heads,
                                          .head_dim = c->shape.head_dim,
                                          .kv_stride = n_k,
                                          .q = q,
                                          .k = k,
                                          .v = v,
                                          .out = out,
                                          .scale = (float)(1.0 / sqrt((double)c->shape.head_dim))});
}

enum sw_status sw_capture_model(struct sw_backend *be, struct sw_model *model, const int32_t *ids,
                                int tokens, struct sw_capture **out)
{
    struct sw_pass *pass;
    SW_TRY(make(be, &sw_model_config(model)->shape, tokens, true, out));
    enum sw_status st = sw_pass_open(model, 1, tokens, tokens, false, &pass);
    if (st == SW_OK) {
        st = sw_pass_run(pass, 0, ids, tokens, (struct sw_attention_hook){keep_layer, *out});
        sw_pass_close(pass);
    }
    if (st != SW_OK) {
        sw_capture_free(*out);
        *out = NULL;
    }
    return st;
}

void sw_capture_free(struct sw_capture *c)
{
    if (!c)
        return;
    for (int l = 0; l < c->shape.n_layers; l++) {
        c->backend->free(c->backend, c->q ? c->q[l] : NULL);
        c->backend->free(c->backend, c->k ? c->k[l] : NULL);
        c->backend->free(c->backend, c->v ? c->v[l] : NULL);
    }
    for (int i = 0; i < c->n_truths; i++)
        free(c->truths[i].data);
    free(c->truths);
    free(c->q);
    free(c->k);
    free(c->v);
    free(c->loaded);
    sw_bundle_close(c->bundle);
    free(c);
}

const struct sw_shape *sw_capture_shape(const struct sw_capture *c) { return &c->shape; }

enum sw_status sw_capture_need_resident(const struct sw_capture *c)
{
    return c->resident
               ? SW_OK
               : SW_FAIL(SW_ENOMEM,
                         "decode visits every layer at every step: %d layers of %d tokens do not "
                         "fit in memory",
                         c->shape.n_layers, c->tokens);
}

/* --- layers ----------------------------------------------------------------------------------- */

static enum sw_status load(struct sw_capture *c, int layer, int slot)
{
    struct sw_backend *be = c->backend;
    size_t nq = q_count(c), nk = k_count(c);
    float *host = malloc((nq + 2 * nk) * sizeof *host);
    if (!host)
        return out_of_memory((nq + 2 * nk) * sizeof *host);
    float *q = host, *k = host + nq, *v = k + nk;
    enum sw_status st =
        c->synthetic ? sw_synthetic_layer(&c->shape, c->planted, c->seed, layer, c->tokens, q, k, v)
                     : sw_bundle_read(c->bundle, layer, q, k, v);
    if (st == SW_OK)
        st = be->upload_act(be, c->q[slot], q, SW_F32, nq);
    if (st == SW_OK)
        st = be->upload_act(be, c->k[slot], k, SW_F32, nk);
    if (st == SW_OK)
        st = be->upload_act(be, c->v[slot], v, SW_F32, nk);
    free(host);
    return st;
}

enum sw_status sw_capture_get(struct sw_capture *c, int layer, struct sw_capture_layer *out)
{
    int slot = c->resident ? layer : 0;
    bool there = c->resident ? c->loaded[layer] : c->held == layer;
    if (!there) {
        SW_TRY(load(c, layer, slot));
        c->loaded[layer] = c->resident;
        c->held = layer;
    }
    *out = (struct sw_capture_layer){c->q[slot], c->k[slot], c->v[slot]};
    return SW_OK;
}

/* --- truth ------------------------------------------------------------------------------------ */

static const float *recall(const struct sw_capture *c, struct truth key)
{
    for (int i = 0; i < c->n_truths; i++) {
        const struct truth *t = &c->truths[i];
        if (t->what == key.what && t->layer == key.layer && t->n == key.n && t->n_q == key.n_q &&
            t->block == key.block)
            return t->data;
    }
    return NULL;
}

/* Makes room and adds an entry of `bytes`; the caller fills it. */
static enum sw_status remember(struct sw_capture *c, struct truth key, size_t bytes, float **data)
{
    while (c->n_truths > 0 && c->truth_bytes + bytes > c->truth_room) {
        c->truth_bytes -= c->truths[0].bytes;
        free(c->truths[0].data);
        memmove(c->truths, c->truths + 1, (size_t)--c->n_truths * sizeof *c->truths);
    }
    struct truth *grown = realloc(c->truths, (size_t)(c->n_truths + 1) * sizeof *grown);
    if (grown)
        c->truths = grown;
    *data = malloc(bytes);
    if (!grown || !*data) {
        free(*data);
        return out_of_memory(bytes);
    }
    key.data = *data;
    key.bytes = bytes;
    c->truths[c->n_truths++] = key;
    c->truth_bytes += bytes;
    return SW_OK;
}

static void forget_last(struct sw_capture *c)
{
    struct truth *t = &c->truths[--c->n_truths];
    c->truth_bytes -= t->bytes;
    free(t->data);
}

static enum sw_status attention_of(struct sw_capture *c, int layer, int n, int n_q,
                                   struct sw_attend *a)
{
    struct sw_capture_layer x;
    SW_TRY(sw_capture_get(c, layer, &x));
    size_t first = (size_t)(n - n_q) * (size_t)c->shape.n_heads * (size_t)c->shape.head_dim *
                   sw_dtype_size(c->backend->act);
    *a = (struct sw_attend){.batch = 1,
                            .n_q = n_q,
                            .n_k = n,
                            .n_heads = c->shape.n_heads,
                            .n_kv_heads = c->shape.n_kv_heads,
                            .head_dim = c->shape.head_dim,
                            .kv_stride = n,
                            .q = (const char *)x.q + first,
                            .k = x.k,
                            .v = x.v,
                            .scale = (float)(1.0 / sqrt((double)c->shape.head_dim))};
    return SW_OK;
}

enum sw_status sw_capture_output(struct sw_capture *c, int layer, int n, int n_q,
                                 const float **output)
{
    struct truth key = {.what = OUTPUT, .layer = layer, .n = n, .n_q = n_q};
    if ((*output = recall(c, key)))
        return SW_OK;
    struct sw_backend *be = c->backend;
    size_t count = (size_t)n_q * (size_t)c->shape.n_heads * (size_t)c->shape.head_dim;
    struct sw_attend a;
    float *data;
    SW_TRY(attention_of(c, layer, n, n_q, &a));
    SW_TRY(remember(c, key, count * sizeof *data, &data));
    enum sw_status st = be->alloc(be, count * sw_dtype_size(be->act), &a.out);
    if (st == SW_OK)
        st = be->attend(be, &a);
    if (st == SW_OK)
        st = be->download_act(be, data, a.out, count);
    be->free(be, a.out);
    if (st != SW_OK)
        forget_last(c);
    *output = data;
    return st;
}

enum sw_status sw_capture_mass(struct sw_capture *c, int layer, int n, int n_q, int block,
                               const float **mass)
{
    struct truth key = {.what = MASS, .layer = layer, .n = n, .n_q = n_q, .block = block};
    if ((*mass = recall(c, key)))
        return SW_OK;
    struct sw_backend *be = c->backend;
    int b = sw_blocks(n, block), rows = n_q == n ? b : 1;
    size_t bytes = sizeof(float) * (size_t)c->shape.n_heads * (size_t)rows * (size_t)b;
    struct sw_block_mass m = {.block = block,
                              .out = {.units = c->shape.n_heads, .ld_rows = rows, .ld = b}};
    float *data;
    void *device = NULL;
    SW_TRY(attention_of(c, layer, n, n_q, &m.in));
    SW_TRY(remember(c, key, bytes, &data));
    enum sw_status st = be->alloc(be, bytes, &device);
    m.out.data = device;
    if (st == SW_OK)
        st = be->block_mass(be, &m);
    if (st == SW_OK)
        st = be->download(be, data, device, bytes);
    be->free(be, device);
    if (st != SW_OK)
        forget_last(c);
    *mass = data;
    return st;
}

/* P^l = ½P^(l-1) + ½M^l·P^(l-1), P^-1 = I; the rollout of layer l is M^l·P^(l-1). All lower
 * triangular, on the backend. */
static enum sw_status roll(struct sw_capture *c, int n, int block, struct sw_walk *w, float *mass,
                           float *mean, float *p, float *out)
{
    struct sw_backend *be = c->backend;
    int b = sw_blocks(n, block);
    size_t bytes = sizeof(float) * (size_t)b * (size_t)b;
    float *host = calloc((size_t)b * (size_t)b, sizeof *host);
    if (!host)
        return out_of_memory(bytes);
    for (int i = 0; i < b; i++)
        host[(size_t)i * (size_t)b + (size_t)i] = 1.0f;
    enum sw_status st = be->upload(be, p, host, bytes);
    free(host);
    SW_TRY(st);
    for (int l = 0; l < c->shape.n_layers; l++) {
        const float *truth;
        SW_TRY(sw_capture_mass(c, l, n, n, block, &truth));
        SW_TRY(be->upload(be, mass, truth, bytes * (size_t)c->shape.n_heads));
        SW_TRY(be->mean_units(be, &(struct sw_mean_units){.in = {mass, c->shape.n_heads, b, b},
                                                          .rows = b,
                                                          .cols = b,
                                                          .out = {mean, 1, b, b}}));
        w->x = mean;
        w->a.data = p;
        w->out.data = out;
        w->alpha = 0;
        w->beta = 1;
        w->anchor = NULL;
        SW_TRY(be->walk(be, w));
        float *kept;
        SW_TRY(remember(
            c, (struct truth){.what = ROLLOUT, .layer = l, .n = n, .n_q = n, .block = block}, bytes,
            &kept));
        st = be->download(be, kept, out, bytes);
        if (st != SW_OK) {
            forget_last(c);
            return st;
        }
        w->alpha = w->beta = 0.5f;
        w->anchor = p;
        SW_TRY(be->walk(be, w));
        SW_TRY(be->copy(be, p, out, bytes));
    }
    return SW_OK;
}

enum sw_status sw_capture_rollout(struct sw_capture *c, int layer, int n, int block,
                                  const float **rollout)
{
    struct truth key = {.what = ROLLOUT, .layer = layer, .n = n, .n_q = n, .block = block};
    if ((*rollout = recall(c, key)))
        return SW_OK;
    struct sw_backend *be = c->backend;
    int b = sw_blocks(n, block);
    size_t bytes = sizeof(float) * (size_t)b * (size_t)b;
    struct sw_walk w = {.rows = b,
                        .b = b,
                        .causal = true,
                        .out = {.units = 1, .ld_rows = b, .ld = b},
                        .a = {.units = 1, .ld_rows = b, .ld = b}};
    void *mass = NULL, *mean = NULL, *p = NULL, *out = NULL;
    enum sw_status st = be->alloc(be, bytes * (size_t)c->shape.n_heads, &mass);
    if (st == SW_OK)
        st = be->alloc(be, bytes, &mean);
    if (st == SW_OK)
        st = be->alloc(be, bytes, &p);
    if (st == SW_OK)
        st = be->alloc(be, bytes, &out);
    if (st == SW_OK)
        st = roll(c, n, block, &w, mass, mean, p, out);
    be->free(be, mass);
    be->free(be, mean);
    be->free(be, p);
    be->free(be, out);
    SW_TRY(st);
    *rollout = recall(c, key);
    return *rollout ? SW_OK
                    : SW_FAIL(SW_ENOMEM,
                              "rollout truth of %d layers of %d tokens does not fit in host memory",
                              c->shape.n_layers, n);
}
