/* Recall of blocks and of attention mass, the relative error of an output, and signs of scores. */
#include "core/recovery.h"

#include <math.h>
#include <stdlib.h>

#include "core/budget.h"

struct candidate {
    float truth;
    int32_t j;
};

/* Best first; ties to the larger block, as in every selection. */
static int best_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->truth != y->truth)
        return x->truth < y->truth ? 1 : -1;
    return y->j - x->j;
}

static double share_of_causal(const struct sw_selection *s, int unit, int i, int32_t e)
{
    if (!s->whole || s->whole[e])
        return 1.0;
    struct sw_selection as_whole = *s;
    as_whole.whole = NULL;
    return (double)sw_selection_entry_pairs(s, unit, i, e) /
           (double)sw_selection_entry_pairs(&as_whole, unit, i, e);
}

enum sw_status sw_recovery_add(const struct sw_selection *s, int unit, const float *truth, int ld,
                               struct sw_recovery_sum *sum)
{
    int b = sw_blocks(s->n, s->block);
    struct candidate *others = malloc(sizeof *others * (size_t)b);
    unsigned char *kept = calloc((size_t)b, 1);
    if (!others || !kept) {
        free(others);
        free(kept);
        return SW_FAIL(SW_ENOMEM, "recovery: asked %zu bytes of host memory",
                       (sizeof *others + 1) * (size_t)b);
    }
    for (int r = 0; r < s->rows; r++) {
        int i = s->row0 + r, k = 0, hits = 0, n_others = 0;
        const float *row = truth + (size_t)r * (size_t)ld;
        int64_t at = (int64_t)unit * s->rows + r;
        double mass = 0;
        for (int32_t e = s->indptr[at]; e < s->indptr[at + 1]; e++) {
            int32_t j = s->indices[e];
            mass += row[j] * share_of_causal(s, unit, i, e);
            kept[j] = 1;
            k += !sw_forced_has(SW_FORCED_COMMON, i, j);
        }
        if (k > 0) {
            for (int32_t j = 0; j <= i; j++)
                if (!sw_forced_has(SW_FORCED_COMMON, i, j))
                    others[n_others++] = (struct candidate){row[j], j};
            qsort(others, (size_t)n_others, sizeof *others, best_first);
            for (int t = 0; t < k; t++)
                hits += kept[others[t].j];
            sum->recall_sum += (double)hits / k;
            sum->recall_rows++;
        }
        sum->mass_sum += mass;
        sum->mass_rows++;
        for (int32_t e = s->indptr[at]; e < s->indptr[at + 1]; e++)
            kept[s->indices[e]] = 0;
    }
    free(others);
    free(kept);
    return SW_OK;
}

static bool keeps(const struct sw_selection *s, int64_t row, int block)
{
    for (int32_t e = s->indptr[row]; e < s->indptr[row + 1]; e++)
        if (s->indices[e] == block)
            return true;
    return false;
}

static bool touches(const int64_t *spans, int count, int64_t from, int64_t to)
{
    for (int i = 0; i < count; i++)
        if (spans[2 * i] < to && spans[2 * i + 1] > from)
            return true;
    return false;
}

double sw_spans_kept(const struct sw_selection *s, int unit, int row, const int64_t *spans,
                     int count)
{
    int touched = 0, kept = 0;
    for (int j = 0; j <= s->row0 + row; j++)
        if (touches(spans, count, (int64_t)j * s->block, (int64_t)(j + 1) * s->block)) {
            touched++;
            kept += keeps(s, (int64_t)unit * s->rows + row, j);
        }
    return (double)kept / touched;
}

double sw_relative_error(const float *a, const float *b, int n, int heads, int d, double *per_head)
{
    double difference = 0, norm = 0;
    for (int h = 0; h < heads; h++) {
        double head_difference = 0, head_norm = 0;
        for (int t = 0; t < n; t++)
            for (int c = 0; c < d; c++) {
                size_t at = ((size_t)t * (size_t)heads + (size_t)h) * (size_t)d + (size_t)c;
                double delta = (double)a[at] - (double)b[at];
                head_difference += delta * delta;
                head_norm += (double)b[at] * (double)b[at];
            }
        if (per_head)
            per_head[h] = head_norm > 0 ? sqrt(head_difference / head_norm) : 0;
        difference += head_difference;
        norm += head_norm;
    }
    return norm > 0 ? sqrt(difference / norm) : 0;
}

enum sw_status sw_count_negative(struct sw_backend *be, struct sw_unit_matrix scores, int row0,
                                 int rows, int64_t *negative, int64_t *all)
{
    size_t ld = (size_t)scores.ld, used = (size_t)(rows - 1) * ld + (size_t)(row0 + rows);
    float *host = malloc(used * sizeof *host);
    if (!host)
        return SW_FAIL(SW_ENOMEM, "scores: asked %zu bytes of host memory", used * sizeof *host);
    enum sw_status st = SW_OK;
    *negative = *all = 0;
    for (int u = 0; u < scores.units && st == SW_OK; u++) {
        st = be->download(be, host, scores.data + (size_t)u * (size_t)scores.ld_rows * ld,
                          used * sizeof *host);
        for (int r = 0; r < rows && st == SW_OK; r++)
            for (int j = 0; j <= row0 + r; j++, ++*all)
                *negative += host[(size_t)r * ld + (size_t)j] < 0;
    }
    free(host);
    return st;
}
