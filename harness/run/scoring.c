/* Perplexity and accuracy of a task's samples. */
#include "harness/run/scoring.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/answers/score.h"
#include "core/utf8.h"
#include "harness/run/timing.h"

static enum sw_status out_of_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "scores: out of host memory");
}

enum sw_status sw_score_windows(const double *loss, int n, uint64_t seed, struct sw_result *result)
{
    SW_TRY(sw_report_mean(result, "nll", loss, n, seed));
    /* windows are equally long, so the pooled loss is the mean of their means */
    struct sw_metric *nll = sw_result_metric(result, "nll"), *ppl = sw_result_metric(result, "ppl");
    if (!ppl)
        return out_of_memory();
    ppl->value = exp(nll->value);
    ppl->lo = exp(nll->lo);
    ppl->hi = exp(nll->hi);
    ppl->n = n;
    return SW_OK;
}

/* Keeps what was generated for a sample, as text, and its score. */
static enum sw_status score_answer(const struct sw_dataset *d, const struct sw_vocab *vocab,
                                   int sample, const int32_t *ids, int n_ids, double *score,
                                   struct sw_result *result)
{
    const char *const *references =
        (const char *const *)d->references.items + d->reference_offsets[sample];
    struct sw_expected expected = {
        .references = references,
        .n = (int)(d->reference_offsets[sample + 1] - d->reference_offsets[sample]),
        .classes = (const char *const *)d->classes.items,
        .n_classes = d->classes.count};
    char *bytes = NULL, *text = NULL, *answer = NULL;
    enum sw_status st;
    SW_TRY_GOTO(st, out, sw_vocab_text(vocab, ids, n_ids, &bytes));
    SW_TRY_GOTO(st, out, sw_utf8_valid(bytes, &text));
    if (d->scorer->clean)
        sw_score_clean(text);
    answer = strdup(text);
    if (!answer)
        SW_TRY_GOTO(st, out, out_of_memory());
    if (d->first_line)
        sw_score_first_line(answer);
    SW_TRY_GOTO(st, out, sw_score(d->scorer, answer, &expected, score));
    st = sw_result_predict(result, &(struct sw_answer){.prediction = text,
                                                       .references = references,
                                                       .n_references = expected.n,
                                                       .score = *score,
                                                       .depth = d->depth ? d->depth[sample] : NAN});
out:
    free(bytes);
    free(text);
    free(answer);
    return st;
}

enum sw_status sw_score_answers(const struct sw_dataset *dataset, const struct sw_vocab *vocab,
                                const int32_t *ids, const int *n_ids, int n, uint64_t seed,
                                struct sw_result *result)
{
    double *score = malloc((size_t)n * sizeof *score);
    enum sw_status st = score ? SW_OK : out_of_memory();
    for (int s = 0; s < n && st == SW_OK; s++)
        st = score_answer(dataset, vocab, s, ids + (size_t)s * (size_t)dataset->max_new_tokens,
                          n_ids[s], &score[s], result);
    if (st == SW_OK)
        st = sw_report_mean(result, "accuracy", score, n, seed);
    free(score);
    return st;
}
