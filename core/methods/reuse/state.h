/* state.h: the parameters of reuse, its presets, and what it keeps of a sequence. */
#ifndef SW_REUSE_STATE_H
#define SW_REUSE_STATE_H

#include "core/methods/sketchwalk/state.h"

/* Each enum in the order of its parameter's choices; AUTO: as the preset has it. */
enum { REUSE_AUTO };
enum reuse_preset {
    PRESET_LAST_ANCHOR,
    PRESET_RUNNING_MEAN,
    PRESET_KASCADE,
    PRESET_TIDAL,
    PRESET_OMNIKV,
    PRESET_LESSISMORE,
    PRESET_INDEXCACHE
};
enum reuse_source { SOURCE_EXACT = 1, SOURCE_SKETCH, SOURCE_QUEST };
enum reuse_unit { UNIT_BLOCK = 1, UNIT_TOKEN };
enum reuse_aggregate { AGGREGATE_MEAN = 1, AGGREGATE_MAX, AGGREGATE_RANK_UNION };
enum reuse_share { SHARE_HEAD = 1, SHARE_GROUP, SHARE_ALL };
enum reuse_map { MAP_IDENTITY = 1, MAP_SIMILARITY };
enum reuse_choose { CHOOSE_GIVEN = 1, CHOOSE_EVERY, CHOOSE_DP, CHOOSE_GREEDY_NLL };
enum reuse_dense { DENSE_TRUE = 1, DENSE_FALSE };

struct reuse_params {
    struct sw_method_params common;
    int preset, source, unit, aggregate, share, map, choose, every, anchor_count, dense_anchors,
        token_budget;
    double token_share;
    char *anchors, *heads;
};

/* What a preset stands for, and after reuse_rules_of what a sequence does. */
struct reuse_rules {
    int source, unit, aggregate, share;
    int anchors[8], n_anchors; /* published for a model of 32 layers; none: by `every` */
    int every;                 /* 0: by anchors */
    bool running;              /* scores are the mean of all layers' so far */
    /* native budget: layers that attend to everything: the first one; or the layers before the
     * first anchor, the anchors, and `wait` layers after each */
    bool dense_first, dense_anchors;
    int wait;
    /* Native budget, tokens: the larger of token_budget and token_share of the keys (prompt_only:
     * of the prompt's, and later tokens are kept besides); of them the first `sinks`, the share
     * recent_share of them the latest, or in all the latest recent_window tokens; `own_tile`: in a
     * prompt a row's number follows the keys before it, and the tile of queries comes besides. */
    int token_budget, sinks, recent_window, own_tile;
    double token_share, recent_share;
    bool prompt_only;
};

struct reuse_pages {
    struct sw_scratch low, high; /* [Hkv, cap, d] */
};

struct reuse_layer {
    bool selects, dense;      /* attends to everything */
    const int *map;           /* [units] whose list each unit copies; NULL: its own number's */
    struct reuse_pages pages; /* source quest */
};

struct reuse_state {
    struct reuse_rules rules;
    int units, cap; /* lists; blocks that max_tokens can have */
    int prompt;     /* tokens of the prompt */
    struct reuse_layer *layers;
    int *maps; /* [L, units], what the layers' maps point into */
    /* source sketch: one-hop, of whose scores, budget and rules nothing is repeated here */
    struct sw_sequence *onehop;
    struct sketchwalk_params onehop_params;
    struct sw_scratch heads, merged; /* scores of the layer at hand: of heads, of units */
    struct sw_scratch mean;          /* running: of the layers so far, [units, rows, ld] */
    int meant;                       /* layers in it */
    /* The last selecting layer's choice: lists, or flags of tokens. */
    bool by_token;
    struct sw_selection kept;
    int64_t entries; /* of each unit's lists; -1: they differ */
    struct sw_scratch columns, flags, mapped, keep;
    int *budget; /* [b] native: off-diagonal blocks of a row */
    int *counts; /* [units] */
};

/* presets.c: parameters and preset, decided for a budget. */
struct reuse_rules reuse_rules_of(const struct reuse_params *p, enum sw_budget_mode mode);
/* Which layers select, which attend to everything, and whose lists they copy: fills the layers of
 * the state, whose rules and units are set. SW_EINPUT: `anchors` or `heads` is not such a list. */
enum sw_status reuse_plan_layers(const struct reuse_params *p, const struct sw_shape *shape,
                                 int first, struct reuse_state *s);
/* How many a search is to find, at least one. */
int reuse_anchor_count(const struct reuse_params *p, const struct sw_shape *shape);
int reuse_units(const struct reuse_rules *rules, const struct sw_shape *shape);

/* scores.c: of this layer, [units, rows, ld]. out NULL: only what later steps need is taken in. */
enum sw_status reuse_begin_scores(struct sw_sequence *seq);
enum sw_status reuse_scores(struct sw_sequence *seq, const struct sw_layer_input *in,
                            struct sw_unit_matrix *out);
/* in [H, …] to out [units, …]: rows × cols by `aggregate`. */
enum sw_status reuse_merge(struct sw_sequence *seq, struct sw_unit_matrix in, int row0, int rows,
                           int cols, bool causal, struct sw_unit_matrix out);

/* lists.c: chooses from scores and keeps it; what is kept, as this layer's selection. */
enum sw_status reuse_choose(struct sw_sequence *seq, const struct sw_layer_input *in,
                            struct sw_unit_matrix scores);
enum sw_status reuse_emit(struct sw_sequence *seq, const struct sw_layer_input *in,
                          struct sw_selection *out);
/* tokens.c: a decode step's own tokens (native, unit token) and their lists. */
enum sw_status reuse_choose_tokens(struct sw_sequence *seq, const struct sw_layer_input *in);
enum sw_status reuse_emit_tokens(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct sw_selection *out);

#endif
