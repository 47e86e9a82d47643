/* The tensors of a model: which a config asks for, whether a folder has them, and loading them. */
#include "core/model/weights.h"

#include <stdlib.h>
#include <string.h>

static int add_slot(struct sw_weight_slot *slots, int n, void **place, bool norm, int rank,
                    int64_t rows, int64_t cols, const char *name)
{
    if (slots) {
        struct sw_weight_slot *s = &slots[n];
        *s = (struct sw_weight_slot){
            .rank = rank, .shape = {rows, cols}, .place = place, .norm = norm};
        snprintf(s->name, sizeof s->name, "%s", name);
    }
    return n + 1;
}

/* Fills slots (NULL: only counts). */
static int model_slots(struct sw_model *m, struct sw_weight_slot *slots)
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
        struct sw_model_layer *w = &m->layers[l];
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

enum sw_status sw_weights_list(struct sw_model *m, struct sw_weight_slot **slots, int *count)
{
    *count = model_slots(m, NULL);
    *slots = calloc((size_t)*count, sizeof **slots);
    if (!*slots)
        return SW_FAIL(SW_ENOMEM, "model: asked %zu bytes of host memory",
                       (size_t)*count * sizeof **slots);
    model_slots(m, *slots);
    return SW_OK;
}

static enum sw_status check_slot(const char *folder, const struct sw_weight_slot *s,
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
    return strcmp(((const struct sw_weight_slot *)a)->name,
                  ((const struct sw_weight_slot *)b)->name);
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

enum sw_status sw_weights_check(struct sw_model *m, const char *folder,
                                const struct sw_safetensors *weights, struct sw_weight_slot *slots,
                                int count, FILE *messages)
{
    int problems = 0, stored = sw_safetensors_count(weights);
    struct sw_weight_slot *sorted = malloc((size_t)count * sizeof *sorted);
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
            struct sw_weight_slot key = {0};
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

enum sw_status sw_weights_load(struct sw_model *m, const struct sw_weight_slot *s,
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
