/* reuse: a decode step's lists of tokens, as they are published: under a native budget with unit:
 * token. Elsewhere lists are of blocks. */
#include <stdlib.h>
#include <string.h>

#include "core/methods/reuse/state.h"
#include "core/methods/shared/token_top.h"

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }

/* Kept are the first `sinks` tokens, the `best` of those before `end`, and all from `end` on. */
struct token_rule {
    int sinks, best, end;
};

static struct token_rule rule_of(const struct sw_sequence *seq, int n)
{
    const struct reuse_state *s = seq->state;
    const struct reuse_rules *r = &s->rules;
    int of = r->prompt_only ? s->prompt : n;
    int tokens = least(of, most(r->token_budget, (int)(r->token_share * of)));
    if (r->prompt_only) { /* the window is of the last queries, the step's own among them */
        int window = least(s->prompt, most(0, r->recent_window - (n - s->prompt)));
        return (struct token_rule){0, most(1, tokens - window), s->prompt - window};
    }
    int best = (int)(tokens * (1 - r->recent_share)), recent = tokens - best;
    int sinks = recent < r->sinks ? 0 : r->sinks;
    return (struct token_rule){sinks, most(1, best - r->own_tile), n - (recent - sinks)};
}

/* Each head's softmax over the keys before `end` (all, where only tokens that are kept anyway lie
 * behind it: they change no order), merged over the heads of a list: [units, n]. */
static enum sw_status token_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                                   const struct token_rule *rule, const float **scores)
{
    struct reuse_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    int heads = seq->shape.n_heads, n = in->n;
    size_t bytes = sizeof(float) * (size_t)seq->max_tokens; /* so that no later step allocates */
    SW_TRY(sw_scratch_reserve(be, &s->columns, bytes * (size_t)heads));
    struct sw_attend attend = sw_sequence_attend(seq, in);
    attend.n_k = rule->end;
    SW_TRY(
        be->vertical_slash(be, &(struct sw_vertical_slash){
                                   .in = &attend, .last = 1, .ld = n, .columns = s->columns.data}));
    *scores = s->columns.data;
    if (s->units == heads)
        return SW_OK;
    SW_TRY(sw_scratch_reserve(be, &s->merged, bytes * (size_t)s->units));
    /* the sinks do not compete: a place is one among the others */
    struct sw_unit_matrix from = {(float *)s->columns.data + rule->sinks, heads, 1, n},
                          to = {(float *)s->merged.data + rule->sinks, s->units, 1, n};
    *scores = s->merged.data;
    return reuse_merge(seq, from, 0, 1, rule->end - rule->sinks, false, to);
}

/* Flags of all units' tokens from `end` on. */
static enum sw_status flag_recent(struct sw_sequence *seq, int n, int end)
{
    struct reuse_state *s = seq->state;
    size_t count = (size_t)(n - end);
    uint8_t *ones = malloc(count + 1);
    if (!ones)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", count);
    memset(ones, 1, count);
    enum sw_status st = SW_OK;
    for (int u = 0; st == SW_OK && count > 0 && u < s->units; u++)
        st = seq->backend->upload(
            seq->backend, (uint8_t *)s->flags.data + (size_t)u * (size_t)n + end, ones, count);
    free(ones);
    return st;
}

enum sw_status reuse_choose_tokens(struct sw_sequence *seq, const struct sw_layer_input *in)
{
    struct reuse_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    struct token_rule rule = rule_of(seq, in->n);
    s->by_token = true;
    SW_TRY(sw_scratch_reserve(be, &s->flags, (size_t)s->units * (size_t)seq->max_tokens));
    if (rule.end > rule.sinks) {
        const float *scores;
        SW_TRY(token_scores(seq, in, &rule, &scores));
        for (int u = 0; u < s->units; u++)
            s->counts[u] = rule.sinks + rule.best;
        SW_TRY(be->mark_top(be, &(struct sw_mark_top){.in = scores,
                                                      .rows = s->units,
                                                      .n = rule.end,
                                                      .ld = in->n,
                                                      .always = rule.sinks,
                                                      .k = s->counts,
                                                      .flags = s->flags.data}));
    }
    return flag_recent(seq, in->n, rule.end > rule.sinks ? rule.end : 0);
}

enum sw_status reuse_emit_tokens(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_selection *out)
{
    struct reuse_state *s = seq->state;
    struct sw_backend *be = seq->backend;
    const struct reuse_layer *layer = &s->layers[in->layer];
    int n = in->n, b = sw_blocks(n, sw_sequence_block(seq));
    const uint8_t *flags = s->flags.data;
    if (layer->map && !layer->selects) {
        SW_TRY(sw_scratch_reserve(be, &s->mapped, (size_t)s->units * (size_t)seq->max_tokens));
        for (int u = 0; u < s->units; u++)
            SW_TRY(be->copy(be, (uint8_t *)s->mapped.data + (size_t)u * (size_t)n,
                            flags + (size_t)layer->map[u] * (size_t)n, (size_t)n));
        flags = s->mapped.data;
    }
    SW_TRY(sw_scratch_reserve(be, &s->keep, (size_t)s->units * (size_t)s->cap));
    struct sw_keep_matrix keep = {s->keep.data, s->units, 1, b};
    return sw_token_lists(seq, in, flags, n, keep, out);
}
