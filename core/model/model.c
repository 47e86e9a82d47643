/* A model from a folder, or with random weights. pass.c runs it. */
#include "core/model/model.h"

#include <stdlib.h>
#include <string.h>

#include "core/model/weights.h"
#include "core/rng.h"

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
    struct sw_weight_slot *slots = NULL;
    int count = 0;
    enum sw_status st = model_new(&config, backend, &m);
    if (st == SW_OK)
        st = sw_weights_list(m, &slots, &count);
    if (st == SW_OK) /* all checks before the first byte is loaded */
        st = sw_weights_check(m, folder, weights, slots, count, NULL);
    for (int i = 0; i < count && st == SW_OK; i++)
        st = sw_weights_load(m, &slots[i], sw_safetensors_find(weights, slots[i].name));
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
    struct sw_weight_slot *slots = NULL;
    int count = 0;
    st = model_new(&config, NULL, &m);
    if (st == SW_OK)
        st = sw_weights_list(m, &slots, &count);
    if (st == SW_OK)
        st = sw_weights_check(m, folder, weights, slots, count, messages);
    free(slots);
    if (m)
        free(m->layers);
    free(m);
    sw_safetensors_close(weights);
    return st;
}

/* A tile of normal numbers, laid end to end from a different start for every tensor: filling 8·10^9
 * weights one draw at a time would take longer than anything measured with them. */
static enum sw_status random_slot(struct sw_model *m, const struct sw_weight_slot *s,
                                  const float *tile, size_t tile_count, size_t start)
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
    struct sw_weight_slot *slots = NULL;
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
        st = sw_weights_list(m, &slots, &count);
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
    struct sw_weight_slot *slots;
    int count;
    if (m->config.tied)
        m->head = NULL;
    if (sw_weights_list(m, &slots, &count) == SW_OK) {
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
