/* inputs.h: what a workload's files say about it before anything is run: shape, length, and a hash
 * of the content. */
#ifndef SW_INPUTS_H
#define SW_INPUTS_H

#include "harness/config/config.h"

struct sw_input {
    struct sw_shape shape;
    int n; /* prompt tokens: the context, or the bundle's own */
    /* tensors, synthetic: tokens after the prompt (0: no decode data); task: most that are
     * generated */
    int decode_tokens;
    int scored_tokens; /* task: tokens of a window whose loss counts, 0 where answers are scored */
    int max_context;   /* of the model; 0: no limit */
    double parameters; /* of a task's model, counted from its config; 0 otherwise */
    /* 32 hex digits over all content: bundle; model and dataset; generator and shape */
    char hash[33];
    char file_hash[33]; /* 32 hex digits: a task's dataset alone */
    char *file;         /* bundle or dataset; NULL for synthetic */
    char *model_folder; /* of a task; NULL otherwise */
};

/* Fills *out (sw_input_clear frees it, also after a failure). task, context: as in the cell;
 * context is ignored for tensors. File hashes are kept for the life of the process, so that a model
 * in many cells is read once.
 * SW_EINPUT: missing or unusable file, model and dataset that do not belong together, context
 * longer than the model's. */
SW_MUST_CHECK enum sw_status sw_input_describe(const struct sw_config *config,
                                               const struct sw_workload *workload, const char *task,
                                               int context, struct sw_input *out);
void sw_input_clear(struct sw_input *input);

/* The folder of a model: `model` itself when it has a '/', else datasets/models/MODEL here, else
 * under $SWBENCH_DATASETS. Malloc'd. SW_EINPUT when there is none: says where it was looked for. */
SW_MUST_CHECK enum sw_status sw_input_model_folder(const char *model, char **out);

/* 32 hex digits over the content of a file, kept as above. */
SW_MUST_CHECK enum sw_status sw_input_hash_file(const char *path, char hex[33]);

/* Frees the kept hashes (for leak checkers). */
void sw_inputs_forget(void);

#endif
