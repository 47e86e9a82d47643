/* Attention written over its queries: every method's losses and logits have the same bits as with
 * an output of its own, the pass takes less memory by what that output was, and what cannot be had
 * in place is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "core/sparse.h"
#include "kernels/open.h"
#include "tests/support/backends.h"

#define FAMILIES "tests/fixtures/families"

/* A prompt of three chunks, the last one short: the MLP of the first lies on what attention made of
 * the others. */
enum { CHUNK = 2048, PROMPT = 2 * CHUNK + 150, STEPS = 3, VOCAB = 288 };

struct outcome {
    float nll[PROMPT];              /* of the prompt's rows */
    float logits[STEPS + 1][VOCAB]; /* of its last row, and of each step */
    size_t bytes;                   /* peak, less what there was before the pass */
};

static enum sw_status attend(void *context, int layer, int n_q, int n_k, const void *q,
                             const void *k, const void *v, void *out)
{
    return sw_sparse_attend(context, layer, n_q, n_k, q, k, v, out);
}

static void make_ids(int32_t *ids)
{
    for (int t = 0; t < PROMPT + STEPS; t++)
        ids[t] = (t * 31 + t / 7 * 5) % VOCAB;
}

static void *default_params(const struct sw_method *method)
{
    void *params = calloc(1, method->params_size);
    assert_non_null(params);
    sw_test_ok(sw_param_defaults(method->params, params));
    sw_test_ok(sw_param_set(sw_param_find(method->params, "block_size"), params, "32"));
    return params;
}

/* A prompt and some steps, with one method wherever it selects. */
static void run(struct sw_backend *be, struct sw_model *model, const struct sw_method *method,
                bool in_place, struct outcome *r)
{
    const struct sw_shape *shape = &sw_model_config(model)->shape;
    struct sw_sparse sp = {.backend = be,
                           .shape = *shape,
                           .sparse_prefill = method->flags & SW_METHOD_PREFILL,
                           .sparse_decode = method->flags & SW_METHOD_DECODE};
    void *params = default_params(method);
    struct sw_pass *pass;
    int32_t ids[PROMPT + STEPS];
    make_ids(ids);
    (void)be->peak_bytes(be, true);
    size_t before = be->peak_bytes(be, false);
    if (!(method->flags & SW_METHOD_DENSE))
        sw_test_ok(sw_sequence_begin(&sp.sequence, method, params, be, shape, PROMPT + STEPS, 0.3,
                                     SW_BUDGET_MATCHED, 1, 0));
    assert_true(sw_sparse_in_place(&sp, PROMPT));
    sw_test_ok(sw_pass_open(model, 1, PROMPT + STEPS, PROMPT, in_place, &pass));
    struct sw_attention_hook hook = {attend, &sp};
    sw_test_ok(sw_pass_run(pass, 0, ids, PROMPT, hook));
    sw_test_ok(sw_pass_predict(pass, 0, PROMPT, ids + 1, r->nll, NULL));
    sw_test_ok(sw_pass_logits(pass, PROMPT - 1, r->logits[0]));
    for (int step = 0; step < STEPS; step++) {
        sw_test_ok(sw_pass_run(pass, 0, ids + PROMPT + step, 1, hook));
        sw_test_ok(sw_pass_logits(pass, 0, r->logits[1 + step]));
    }
    r->bytes = be->peak_bytes(be, false) - before;
    sw_pass_close(pass);
    sw_sequence_end(sp.sequence);
    sw_sparse_free(&sp);
    sw_param_free(method->params, params);
    free(params);
}

static void test_same_bits_less_memory(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "qwen3-bias"};
    struct outcome *own = malloc(sizeof *own), *over = malloc(sizeof *over);
    for (int i = 0; i < 2; i++) {
        struct sw_backend *be;
        struct sw_model *model;
        char folder[128];
        snprintf(folder, sizeof folder, FAMILIES "/%s", models[i]);
        sw_test_ok(sw_backend_open("cpu", 2, &be));
        sw_test_ok(sw_model_open(folder, be, &model));
        const struct sw_model_config *c = sw_model_config(model);
        int heads = c->shape.n_heads * c->shape.head_dim, chunk = sw_pass_chunk(c, PROMPT);
        assert_true(c->vocab == VOCAB && chunk == CHUNK);
        for (const struct sw_method *const *method = sw_methods; *method; method++) {
            run(be, model, *method, false, own);
            run(be, model, *method, true, over);
            if (memcmp(own->nll, over->nll, sizeof own->nll) != 0 ||
                memcmp(own->logits, over->logits, sizeof own->logits) != 0)
                fail_msg("%s, %s: other losses or logits in place", models[i], (*method)->name);
            /* What was [prompt, H, d] has a chunk's rows of the residual stream, or is a step's
             * attention. */
            size_t was = sizeof(float) * PROMPT * (size_t)heads,
                   is = sizeof(float) * CHUNK * (size_t)c->hidden;
            if (own->bytes - over->bytes != was - is)
                fail_msg("%s, %s: %zu bytes, in place %zu, expected %zu less", models[i],
                         (*method)->name, own->bytes, over->bytes, was - is);
        }
        sw_model_close(model);
        sw_backend_close(be);
    }
    free(own);
    free(over);
}

/* Of a prompt the rows that are asked for first are there, again too, and no others; of a step
 * all. */
static void test_rows_that_are_left(void **state)
{
    (void)state;
    enum { FIRST = 10, ROWS = 5 };
    struct sw_backend *be;
    struct sw_model *model;
    struct sw_pass *pass;
    int32_t ids[PROMPT + STEPS];
    float logits[VOCAB];
    make_ids(ids);
    sw_test_ok(sw_backend_open("cpu", 2, &be));
    sw_test_ok(sw_model_open(FAMILIES "/llama", be, &model));
    struct sw_sparse dense = {.backend = be, .shape = sw_model_config(model)->shape};
    struct sw_attention_hook hook = {attend, &dense};
    for (int in_place = 0; in_place < 2; in_place++) {
        sw_test_ok(sw_pass_open(model, 1, PROMPT, PROMPT, in_place, &pass));
        for (int again = 0; again < 2; again++) {
            sw_pass_reset(pass, 0);
            sw_test_ok(sw_pass_run(pass, 0, ids, 100, hook));
            sw_test_ok(sw_pass_predict(pass, FIRST, ROWS, ids, logits, NULL));
            sw_test_ok(sw_pass_logits(pass, FIRST + ROWS - 1, logits));
            static const int gone[] = {FIRST - 1, FIRST + ROWS, 99};
            for (int i = 0; i < 3; i++)
                sw_test_fails(sw_pass_logits(pass, gone[i], logits), SW_EINTERNAL);
            sw_test_fails(sw_pass_predict(pass, FIRST, ROWS + 1, NULL, NULL, NULL), SW_EINTERNAL);
        }
        sw_test_ok(sw_pass_run(pass, 0, ids, 1, hook));
        sw_test_ok(sw_pass_logits(pass, 0, logits));
        sw_pass_close(pass);
    }
    sw_model_close(model);
    sw_backend_close(be);
}

/* A library promises nothing; and a query alone is read by many. */
static void test_not_in_place(void **state)
{
    (void)state;
    struct sw_backend *be;
    sw_test_ok(sw_backend_open("cpu", 1, &be));
    struct sw_sparse sp = {.backend = be,
                           .shape = {.n_layers = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16}};
    assert_true(sw_sparse_in_place(&sp, 100));
    assert_false(sw_sparse_in_place(&sp, 1));
    sp.dense_kernel = SW_ATTEND_LIBRARY;
    assert_false(sw_sparse_in_place(&sp, 100));
    sp.dense_kernel = SW_ATTEND_OWN;
    assert_true(sw_sparse_in_place(&sp, 100));
    sw_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits_less_memory),
                                       cmocka_unit_test(test_rows_that_are_left),
                                       cmocka_unit_test(test_not_in_place)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
