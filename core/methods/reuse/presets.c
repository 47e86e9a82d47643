/* reuse: what each preset stands for, and which layers select under it. */
#include <stdlib.h>
#include <string.h>

#include "core/methods/reuse/state.h"

enum { PUBLISHED_LAYERS = 32 }; /* of the models that the anchors were published for */

static const struct reuse_rules presets[] = {
    [PRESET_LAST_ANCHOR] = {.source = SOURCE_SKETCH,
                            .unit = UNIT_BLOCK,
                            .aggregate = AGGREGATE_MEAN,
                            .share = SHARE_ALL,
                            .every = 4},
    [PRESET_RUNNING_MEAN] = {.source = SOURCE_SKETCH,
                             .unit = UNIT_BLOCK,
                             .aggregate = AGGREGATE_MEAN,
                             .share = SHARE_ALL,
                             .every = 1,
                             .running = true},
    /* src/strategies/KascadeStrategy.py, README.md: k=10, tile_size=32, rolling_prefill=True */
    [PRESET_KASCADE] = {.source = SOURCE_EXACT,
                        .unit = UNIT_TOKEN,
                        .aggregate = AGGREGATE_MEAN,
                        .share = SHARE_GROUP,
                        .anchors = {0, 2, 8, 13, 14},
                        .n_anchors = 5,
                        .dense_first = true,
                        .token_budget = 128,
                        .token_share = 0.1,
                        .own_tile = 32},
    /* src/tidal_build/modify_llama.py; src/enable_tidal.py: top_k, correction_layer */
    [PRESET_TIDAL] = {.source = SOURCE_EXACT,
                      .unit = UNIT_TOKEN,
                      .aggregate = AGGREGATE_MEAN,
                      .share = SHARE_HEAD,
                      .anchors = {2, 13},
                      .n_anchors = 2,
                      .dense_anchors = true,
                      .token_budget = 256},
    /* configs/example.json; modeling/omnikv.py, selector softmax_before_last; modeling/
     * spec_cache.py: the layers that wait */
    [PRESET_OMNIKV] = {.source = SOURCE_EXACT,
                       .unit = UNIT_TOKEN,
                       .aggregate = AGGREGATE_MAX,
                       .share = SHARE_ALL,
                       .anchors = {2, 8, 18},
                       .n_anchors = 3,
                       .dense_anchors = true,
                       .wait = 1,
                       .token_share = 0.067,
                       .recent_window = 16,
                       .prompt_only = true},
    /* src/tidal_build/modify_llama_lim.py: correction_layer; README.md: the ratio of recent tokens,
     * budgets of 1K and 2K */
    [PRESET_LESSISMORE] = {.source = SOURCE_EXACT,
                           .unit = UNIT_TOKEN,
                           .aggregate = AGGREGATE_RANK_UNION,
                           .share = SHARE_ALL,
                           .anchors = {2, 9},
                           .n_anchors = 2,
                           .dense_anchors = true,
                           .token_budget = 2048,
                           .sinks = 4,
                           .recent_share = 0.25},
    /* README.md: index_topk_freq 4; the indexer's top 2048 are DeepSeek-V3.2's */
    [PRESET_INDEXCACHE] = {.source = SOURCE_EXACT,
                           .unit = UNIT_TOKEN,
                           .aggregate = AGGREGATE_MEAN,
                           .share = SHARE_ALL,
                           .every = 4,
                           .token_budget = 2048},
};

/* Every which layer selects; 0: those that are listed. */
static int every_of(const struct reuse_params *p)
{
    int preset = presets[p->preset].every;
    if (p->anchors || p->choose == CHOOSE_GIVEN)
        return 0;
    if (p->choose == CHOOSE_DP || p->choose == CHOOSE_GREEDY_NLL)
        return 1; /* until they are found */
    if (p->every || preset)
        return p->every ? p->every : preset;
    return p->choose == CHOOSE_EVERY ? presets[PRESET_INDEXCACHE].every : 0;
}

struct reuse_rules reuse_rules_of(const struct reuse_params *p, enum sw_budget_mode mode)
{
    struct reuse_rules r = presets[p->preset];
    r.every = every_of(p);
    r.source = p->source ? p->source : r.source;
    r.unit = p->unit ? p->unit : r.unit;
    r.aggregate = p->aggregate ? p->aggregate : r.aggregate;
    r.share = p->share ? p->share : r.share;
    if (p->token_budget)
        r.token_budget = p->token_budget;
    if (p->token_share > 0)
        r.token_share = p->token_share;
    if (p->dense_anchors == DENSE_FALSE ||
        (p->dense_anchors == REUSE_AUTO && mode != SW_BUDGET_NATIVE))
        r.dense_first = r.dense_anchors = false;
    else if (p->dense_anchors == DENSE_TRUE)
        r.dense_anchors = true;
    return r;
}

int reuse_units(const struct reuse_rules *rules, const struct sw_shape *shape)
{
    return rules->share == SHARE_HEAD    ? shape->n_heads
           : rules->share == SHARE_GROUP ? shape->n_kv_heads
                                         : 1;
}

int reuse_anchor_count(const struct reuse_params *p, const struct sw_shape *shape)
{
    int quarter = PUBLISHED_LAYERS / 4, of_preset = presets[p->preset].n_anchors;
    int of_32 = of_preset ? of_preset : quarter, L = shape->n_layers;
    int count = p->anchor_count ? p->anchor_count
                                : (2 * of_32 * L + PUBLISHED_LAYERS) / (2 * PUBLISHED_LAYERS);
    return count < 1 ? 1 : count > L ? L : count;
}

/* Reads an integer 0 … limit - 1 at *text and moves past it; -1 when there is none. */
static int take_number(const char **text, int limit)
{
    if (**text < '0' || **text > '9')
        return -1;
    char *end;
    long value = strtol(*text, &end, 10);
    *text = end;
    return value < limit ? (int)value : -1;
}

/* Published anchors at the same share of the depth, a half rounded up. */
static int scaled(int layer, int n_layers)
{
    return (2 * layer * n_layers + PUBLISHED_LAYERS) / (2 * PUBLISHED_LAYERS);
}

enum { MOST_LAYERS = 1 << 12 }; /* that a list may name; a run may have a model's first few alone */

static enum sw_status read_anchors(const char *text, int n_layers, struct reuse_state *s)
{
    const char *at = text;
    for (int before = -1;;) {
        int layer = take_number(&at, MOST_LAYERS);
        if (layer <= before || (*at != ',' && *at != '\0'))
            return SW_FAIL(SW_EINPUT, "anchors: found '%s', expected ascending layers, like 2,8,13",
                           text);
        if (layer < n_layers)
            s->layers[layer].selects = true;
        before = layer;
        if (*at++ == '\0')
            return SW_OK;
    }
}

/* A layer's units by commas, layers by slashes; of each list-making unit the anchor's unit whose
 * list it copies. */
static enum sw_status read_heads(const char *text, int n_layers, struct reuse_state *s)
{
    const char *at = text;
    for (int l = 0; l < n_layers; l++) {
        int *map = s->maps + (size_t)l * (size_t)s->units;
        for (int u = 0; u < s->units; u++) {
            map[u] = take_number(&at, s->units);
            bool last = u + 1 == s->units, end = last && l + 1 == n_layers;
            if (map[u] < 0 || !(*at == (last ? '/' : ',') || (end && *at == '\0')))
                return SW_FAIL(SW_EINPUT,
                               "heads: layer %d, list %d: expected a list of each layer, by "
                               "slashes, of %d numbers below %d, by commas",
                               l, u, s->units, s->units);
            at += *at != '\0';
        }
        s->layers[l].map = map;
    }
    return SW_OK;
}

static void mark_dense(const struct reuse_rules *r, int first, int n_layers, int first_anchor,
                       struct reuse_layer *layers)
{
    int since = MOST_LAYERS;
    for (int l = first; l < n_layers; l++) {
        since = layers[l].selects ? 0 : since + 1;
        if (r->dense_anchors)
            layers[l].dense = l < first_anchor || since <= r->wait;
        if (r->dense_first && l == 0)
            layers[l].dense = true;
    }
}

enum sw_status reuse_plan_layers(const struct reuse_params *p, const struct sw_shape *shape,
                                 int first, struct reuse_state *s)
{
    const struct reuse_rules *r = &s->rules;
    int n_layers = shape->n_layers;
    if (p->anchors)
        SW_TRY(read_anchors(p->anchors, n_layers, s));
    for (int l = 0; r->every && l < n_layers; l++) /* as IndexCache counts: 0, 1, 1 + every, … */
        s->layers[l].selects = l == 0 || (l - 1) % r->every == 0;
    for (int i = 0; !p->anchors && !r->every && i < r->n_anchors; i++)
        if (scaled(r->anchors[i], n_layers) < n_layers)
            s->layers[scaled(r->anchors[i], n_layers)].selects = true;
    if (p->heads)
        SW_TRY(read_heads(p->heads, n_layers, s));
    int first_anchor = 0;
    while (first_anchor < n_layers && !s->layers[first_anchor].selects)
        first_anchor++;
    if (first < n_layers)
        mark_dense(r, first, n_layers, first_anchor, s->layers);
    /* the first layer that needs a list and has none before it makes its own */
    for (int l = first; l < n_layers && !s->layers[l].selects; l++)
        if (!s->layers[l].dense) {
            s->layers[l].selects = true;
            break;
        }
    return SW_OK;
}
