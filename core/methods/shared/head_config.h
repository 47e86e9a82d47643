/* head_config.h: files that say something about each head of each layer. Anything may be in them:
 * SW_EINPUT, with the place, for what is not as below. Layers beyond the shape's are not looked at
 * (a run may take a model's first layers only); heads beyond it are an error. */
#ifndef SW_HEAD_CONFIG_H
#define SW_HEAD_CONFIG_H

#include "core/model/shape.h"
#include "core/status.h"

enum sw_head_pattern { SW_HEAD_VERTICAL_SLASH, SW_HEAD_BLOCK_SPARSE, SW_HEAD_A_SHAPE };

/* vertical-slash: columns and offsets kept; A-shape: first and last tokens kept. */
struct sw_head_rule {
    enum sw_head_pattern pattern;
    int columns, slashes;
};

/* MInference's head configurations: a list of layers, each an object {"head": [type, columns,
 * slashes, score]} with type vertical_and_slash, block_sparse or stream_llm (A-shape). Fills out
 * [n_layers, n_heads] (NULL: only checks); heads that the file leaves out: vertical-slash(1000,
 * 6096). */
SW_MUST_CHECK enum sw_status sw_head_rules_read(const char *path, const struct sw_shape *shape,
                                                struct sw_head_rule *out);

/* A list of layers, each a list of one number in [0, 1] a head. Fills out [n_layers, n_heads]
 * (NULL: only checks). */
SW_MUST_CHECK enum sw_status sw_head_shares_read(const char *path, const struct sw_shape *shape,
                                                 double *out);

#endif
