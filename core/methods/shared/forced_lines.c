/* Blocks that a rule keeps whatever their scores. */
#include "core/methods/shared/forced_lines.h"

#include <stdlib.h>

/* All units have the same flags. */
static enum sw_status upload(struct sw_sequence *seq, struct forced_rule rule, int units, int b,
                             struct forced_lines *lines)
{
    size_t count = (size_t)units * (size_t)b;
    uint8_t *flags = calloc(3 * count, 1);
    if (!flags)
        return SW_FAIL(SW_ENOMEM, "asked %zu bytes of host memory", 3 * count);
    for (size_t at = 0; at < count; at++) {
        int x = (int)(at % (size_t)b);
        flags[at] = x < rule.sink;
        flags[count + at] = x < rule.window;
        flags[2 * count + at] = x >= b - rule.dense_rows;
    }
    enum sw_status st = sw_scratch_reserve(seq->backend, &lines->flags, 3 * count);
    if (st == SW_OK)
        st = seq->backend->upload(seq->backend, lines->flags.data, flags, 3 * count);
    free(flags);
    lines->b = st == SW_OK ? b : 0;
    return st;
}

enum sw_status forced_lines_keep(struct sw_sequence *seq, const struct sw_layer_input *in,
                                 struct forced_rule rule, struct forced_lines *lines,
                                 struct sw_keep_matrix keep)
{
    int block = sw_sequence_block(seq), b = sw_blocks(in->n, block);
    if (lines->b != b)
        SW_TRY(upload(seq, rule, keep.units, b, lines));
    const uint8_t *flags = lines->flags.data;
    size_t count = (size_t)keep.units * (size_t)b;
    return seq->backend->keep_vertical_slash(
        seq->backend, &(struct sw_keep_vertical_slash){.columns = flags,
                                                       .slashes = flags + count,
                                                       .whole_rows = flags + 2 * count,
                                                       .rows = b,
                                                       .n = in->n,
                                                       .block = block,
                                                       .grain = block,
                                                       .ld_in = b,
                                                       .keep = keep});
}

void forced_lines_free(struct sw_backend *be, struct forced_lines *lines)
{
    sw_scratch_free(be, &lines->flags);
}
