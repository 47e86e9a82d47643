/* Reuse: few layers select, the layers after each copy its lists and score nothing. One method, by
 * `preset` those that were published:
 *   kascade     Deshmukh et al., arXiv 2512.16391; microsoft/kascade @ 76aea84
 *   tidal       TidalDecode, arXiv 2410.05076; DerrickYLJ/TidalDecode @ d67a1bd
 *   omnikv      OmniKV, ICLR 2025; antgroup/OmniKV @ 5c33cb5
 *   lessismore  LessIsMore, arXiv 2508.07101; DerrickYLJ/LessIsMore @ 6753bf7
 *   indexcache  IndexCache, arXiv 2603.12201; THUDM/IndexCache @ 08d22d6
 * and two controls of Sketch&Walk's claim that several hops find what one does not: both use the
 * layers below, and make no hop:
 *   last_anchor   one-hop's list of the last layer that selected
 *   running_mean  one-hop's scores, averaged over the layers so far: every layer selects
 * Matched budget: the scores alone, with the forced set of every method; every layer is sparse.
 * Native: the published numbers of tokens, in decode exactly these tokens (unit: token), in a
 * prompt the blocks that would hold as many; layers that are published dense are so. */
#include <stdlib.h>

#include "core/methods/reuse/state.h"

extern const struct sw_method sw_method_reuse;

#define FIELD(name) offsetof(struct reuse_params, name)
#define CHOICE(field, first, words)                                                    \
    .name = #field, .type = SW_PARAM_CHOICE, .offset = FIELD(field), .initial = first, \
    .choices = words

static const struct sw_param params[] = {
    SW_METHOD_COMMON_PARAMS,
    {CHOICE(preset, "last_anchor",
            "last_anchor|running_mean|kascade|tidal|omnikv|lessismore|indexcache"),
     .help = "the method that all that is auto follows"},
    {.name = "anchors",
     .type = SW_PARAM_TEXT,
     .offset = FIELD(anchors),
     .initial = "",
     .help = "layers that select, like \"2,8,13\"; the first layer that is not dense always does"},
    {CHOICE(choose, "auto", "auto|given|every|dp|greedy_nll"),
     .help = "where the layers that select come from: the preset's or `anchors`, published for 32 "
             "layers and moved to the same share of the depth; every so many; or found by "
             "`swbench calibrate`, for least lost attention mass (Kascade's dynamic program) or, "
             "one by one, for least loss (IndexCache's greedy search)"},
    {.name = "every",
     .type = SW_PARAM_INT,
     .offset = FIELD(every),
     .initial = "0",
     .min = 0,
     .max = 1000,
     .help = "layers 0, 1, 1 + every, … select; 0: as the preset has it, 4"},
    {.name = "anchor_count",
     .type = SW_PARAM_INT,
     .offset = FIELD(anchor_count),
     .initial = "0",
     .min = 0,
     .max = 1000,
     .help =
         "choose: dp or greedy_nll: how many layers select; 0: as many as the preset has of 32, "
         "at this depth, or a quarter"},
    {CHOICE(source, "auto", "auto|exact|sketch|quest"),
     .help = "scores: the true mass of attention; one-hop's sketch; or, in decode, Quest's bounds"},
    {CHOICE(unit, "auto", "auto|block|token"),
     .help = "native budget, in decode: best blocks, or best tokens by the true softmax"},
    {CHOICE(aggregate, "auto", "auto|mean|max|rank_union"),
     .help = "over the heads of a list: the mean of their scores, the largest, or the union of "
             "their lists in the order of rank, then of heads"},
    {CHOICE(share, "auto", "auto|head|group|all"),
     .help = "a list a query head, a KV group, or one for all heads"},
    {CHOICE(map, "auto", "auto|identity|similarity"),
     .help = "whose list of the selecting layer a list copies: its own number's, or that which "
             "`heads` says; auto: as `heads` says where it is given"},
    {.name = "heads",
     .type = SW_PARAM_TEXT,
     .offset = FIELD(heads),
     .initial = "",
     .help = "map: similarity: for each layer, by slashes, the numbers that its lists copy, by "
             "commas, as `swbench calibrate` finds them"},
    {CHOICE(dense_anchors, "auto", "auto|true|false"),
     .help = "whether layers that select attend to everything; auto: under a native budget where "
             "that is published (tidal, omnikv, lessismore, and kascade's layer 0), else not, so "
             "that all layers have the same density"},
    {.name = "token_budget",
     .type = SW_PARAM_INT,
     .offset = FIELD(token_budget),
     .initial = "0",
     .min = 0,
     .max = 1 << 24,
     .published = "as the source of its preset",
     .help = "native budget: least number of tokens kept; 0: kascade 128, tidal 256, lessismore "
             "2048, indexcache 2048, others none"},
    {.name = "token_share",
     .type = SW_PARAM_REAL,
     .offset = FIELD(token_share),
     .initial = "0",
     .min = 0,
     .max = 1,
     .published = "as the source of its preset",
     .help = "native budget: share of the keys kept, where that is more; 0: kascade 0.1, omnikv "
             "0.067 (of the prompt), others none"},
    SW_PARAM_END,
};

static enum sw_status check_names(const struct reuse_params *p, const struct reuse_rules *rules,
                                  enum sw_budget_mode mode)
{
    if (p->anchors && (p->choose == CHOOSE_EVERY || p->every))
        return SW_FAIL(SW_EINPUT, "anchors and every are both given; expected one of them");
    if (p->choose == CHOOSE_GIVEN && !p->anchors && !rules->n_anchors)
        return SW_FAIL(SW_EINPUT, "choose: given needs anchors: the preset has no layers of its "
                                  "own");
    if (p->map == MAP_SIMILARITY && !p->heads && p->choose != CHOOSE_DP)
        return SW_FAIL(SW_EINPUT, "map: similarity needs heads, which 'swbench calibrate' finds");
    if (p->map == MAP_IDENTITY && p->heads)
        return SW_FAIL(SW_EINPUT, "heads is given with map: identity, which has no use for it");
    if (mode == SW_BUDGET_NATIVE && rules->source == SOURCE_SKETCH &&
        (rules->aggregate != AGGREGATE_MEAN || p->heads))
        return SW_FAIL(SW_EUNSUPPORTED, "source: sketch under a native budget follows one-hop's "
                                        "rule, which has aggregate: mean and map: identity alone");
    if (mode == SW_BUDGET_NATIVE && rules->source != SOURCE_SKETCH && rules->token_budget == 0 &&
        rules->token_share <= 0)
        return SW_FAIL(SW_EINPUT, "a native budget needs token_budget or token_share: the preset "
                                  "has none for this source");
    return SW_OK;
}

/* What is kept of a sequence's layers, for a check alone or for good. */
static enum sw_status plan_layers(const struct reuse_params *p, const struct sw_shape *shape,
                                  enum sw_budget_mode mode, int first, struct reuse_state *s)
{
    s->rules = reuse_rules_of(p, mode);
    s->units = reuse_units(&s->rules, shape);
    size_t layers = (size_t)shape->n_layers, maps = layers * (size_t)s->units;
    s->layers = calloc(layers, sizeof *s->layers);
    s->maps = calloc(maps, sizeof *s->maps);
    if (!s->layers || !s->maps)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       layers * sizeof *s->layers + maps * sizeof *s->maps);
    return reuse_plan_layers(p, shape, first, s);
}

static enum sw_status check(const void *params_, const struct sw_shape *shape,
                            enum sw_budget_mode mode)
{
    const struct reuse_params *p = params_;
    struct reuse_rules rules = reuse_rules_of(p, mode);
    struct reuse_state s = {0};
    SW_TRY(check_names(p, &rules, mode));
    if (shape->n_heads % shape->n_kv_heads != 0)
        return SW_FAIL(SW_EINPUT, "%d heads are no multiple of %d KV heads", shape->n_heads,
                       shape->n_kv_heads);
    enum sw_status st = plan_layers(p, shape, mode, 0, &s);
    free(s.layers);
    free(s.maps);
    return st;
}

/* Kascade's program and IndexCache's greedy search. Only the first one looks at heads, where there
 * is more than one list and the map is left to it. */
static struct sw_layer_search layer_search(const void *params_, const struct sw_shape *shape)
{
    const struct reuse_params *p = params_;
    struct reuse_rules rules = reuse_rules_of(p, SW_BUDGET_MATCHED);
    bool dp = p->choose == CHOOSE_DP, wanted = dp || p->choose == CHOOSE_GREEDY_NLL;
    if (!wanted || p->anchors)
        return (struct sw_layer_search){.kind = SW_SEARCH_NONE};
    int units = reuse_units(&rules, shape);
    bool map = dp && units > 1 && p->map != MAP_IDENTITY && !p->heads;
    return (struct sw_layer_search){.kind = dp ? SW_SEARCH_MASS : SW_SEARCH_LOSS,
                                    .count = reuse_anchor_count(p, shape),
                                    .units = units,
                                    .layers = "anchors",
                                    .sources = map ? "heads" : NULL};
}

static enum sw_status begin(struct sw_sequence *seq)
{
    const struct reuse_params *p = seq->params;
    struct reuse_state *s = seq->state;
    s->cap = (sw_blocks(seq->max_tokens, p->common.block_size) + 3) / 4 * 4;
    SW_TRY(plan_layers(p, &seq->shape, seq->mode, seq->dense_layers, s));
    s->counts = calloc((size_t)s->units, sizeof *s->counts);
    if (!s->counts)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory",
                       (size_t)s->units * sizeof *s->counts);
    return reuse_begin_scores(seq);
}

static enum sw_status choose_or_copy(struct sw_sequence *seq, const struct sw_layer_input *in,
                                     struct sw_selection *out)
{
    struct reuse_state *s = seq->state;
    bool prompt = in->n_q == in->n;
    bool tokens = seq->mode == SW_BUDGET_NATIVE && !prompt && s->rules.unit == UNIT_TOKEN &&
                  s->rules.source == SOURCE_EXACT;
    if (prompt)
        s->prompt = in->n;
    if (s->layers[in->layer].selects && tokens) {
        SW_TRY(reuse_choose_tokens(seq, in));
    } else if (s->layers[in->layer].selects) {
        struct sw_unit_matrix scores;
        SW_TRY(reuse_scores(seq, in, out ? &scores : NULL));
        if (out)
            SW_TRY(reuse_choose(seq, in, scores));
    }
    return out ? reuse_emit(seq, in, out) : SW_OK;
}

static void end(struct sw_sequence *seq)
{
    struct reuse_state *s = seq->state;
    struct sw_scratch *all[] = {&s->heads, &s->merged, &s->mean, &s->columns,
                                &s->flags, &s->mapped, &s->keep};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sw_scratch_free(seq->backend, all[i]);
    for (int l = 0; s->layers && l < seq->shape.n_layers; l++) {
        sw_scratch_free(seq->backend, &s->layers[l].pages.low);
        sw_scratch_free(seq->backend, &s->layers[l].pages.high);
    }
    sw_sequence_end(s->onehop);
    sw_selection_free(&s->kept);
    free(s->layers);
    free(s->maps);
    free(s->budget);
    free(s->counts);
}

const struct sw_method sw_method_reuse = {
    .name = "reuse",
    .summary = "few layers select, the others copy their lists; controls of the walk",
    .source = "by preset: arXiv 2512.16391, 2410.05076, 2508.07101, 2603.12201, OmniKV (ICLR "
              "2025); the code named in core/methods/reuse.c",
    .flags = SW_METHOD_PREFILL | SW_METHOD_DECODE | SW_METHOD_NATIVE,
    .params_size = sizeof(struct reuse_params),
    .params = params,
    .state_size = sizeof(struct reuse_state),
    .check = check,
    .uses_density = sw_density_unless_native,
    .layer_search = layer_search,
    .begin = begin,
    .prefill = choose_or_copy,
    .decode = choose_or_copy,
    .end = end,
};
