/* The forward pass on the real small model against an independent implementation
 * (tests/fixtures/make_smollm2_logits.py): logits, losses and arg-maxes of 512 tokens, in one
 * prefill and token by token. Skipped, with a word, where the model was not imported. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/model/model.h"
#include "core/model/safetensors.h"
#include "core/sparse.h"
#include "kernels/open.h"

static const char model_folder[] = "datasets/models/smollm2-135m-instruct";
static const char fixture_file[] = "tests/fixtures/smollm2-logits.safetensors";

static enum sw_status attend(void *context, int layer, int n_q, int n_k, const void *q,
                             const void *k, const void *v, void *out)
{
    return sw_sparse_attend(context, layer, n_q, n_k, q, k, v, out);
}

struct fixture {
    struct sw_safetensors *file;
    int n, columns;
    const int32_t *ids, *column, *argmax;
    const float *logits, *margin;
};

static const void *tensor(const struct sw_safetensors *file, const char *name)
{
    const struct sw_stored_tensor *t = sw_safetensors_find(file, name);
    assert_non_null(t);
    return t->data;
}

static void load_fixture(struct fixture *f)
{
    assert_int_equal(sw_safetensors_open(fixture_file, &f->file), SW_OK);
    f->n = (int)sw_safetensors_find(f->file, "ids")->count;
    f->columns = (int)sw_safetensors_find(f->file, "columns")->count;
    f->ids = tensor(f->file, "ids");
    f->column = tensor(f->file, "columns");
    f->argmax = tensor(f->file, "argmax");
    f->logits = tensor(f->file, "logits");
    f->margin = tensor(f->file, "margin");
}

/* Relative error over the stored columns of rows row0 …, and arg-max agreement where the margin is
 * above what fp32 may turn. */
static void compare(const struct fixture *f, int row, const float *logits, int vocab,
                    double *difference, double *norm, int *wrong)
{
    int best = 0;
    for (int id = 1; id < vocab; id++)
        if (logits[id] > logits[best])
            best = id;
    *wrong += best != f->argmax[row] && f->margin[row] > 1e-3f;
    for (int c = 0; c < f->columns; c++) {
        double want = (double)f->logits[row * f->columns + c],
               delta = (double)logits[f->column[c]] - want;
        *difference += delta * delta;
        *norm += want * want;
    }
}

static void check(int prompt)
{
    if (access(model_folder, R_OK) != 0) {
        fprintf(stderr, "%s is not there (make test imports it)\n", model_folder);
        skip();
    }
    struct fixture f;
    load_fixture(&f);
    struct sw_backend *be;
    struct sw_model *model;
    struct sw_pass *pass;
    assert_int_equal(sw_backend_open("cpu", 0, &be), SW_OK);
    assert_int_equal(sw_model_open(model_folder, be, &model), SW_OK);
    const struct sw_model_config *config = sw_model_config(model);
    struct sw_sparse dense = {.backend = be, .shape = config->shape};
    struct sw_attention_hook hook = {attend, &dense};
    float *logits = malloc((size_t)config->vocab * sizeof *logits);
    int32_t *argmax = malloc((size_t)f.n * sizeof *argmax);
    double difference = 0, norm = 0;
    int wrong = 0;
    assert_int_equal(sw_pass_open(model, 1, f.n, f.n, false, &pass), SW_OK);
    assert_int_equal(sw_pass_run(pass, 0, f.ids, prompt, hook), SW_OK);
    assert_int_equal(sw_pass_predict(pass, 0, prompt, NULL, NULL, argmax), SW_OK);
    for (int row = 0; row < prompt; row++) {
        assert_int_equal(sw_pass_logits(pass, row, logits), SW_OK);
        compare(&f, row, logits, config->vocab, &difference, &norm, &wrong);
    }
    for (int row = prompt; row < f.n; row++) {
        assert_int_equal(sw_pass_run(pass, 0, f.ids + row, 1, hook), SW_OK);
        assert_int_equal(sw_pass_logits(pass, 0, logits), SW_OK);
        compare(&f, row, logits, config->vocab, &difference, &norm, &wrong);
        assert_int_equal(sw_pass_predict(pass, 0, 1, NULL, NULL, argmax + row), SW_OK);
    }
    for (int row = 0; row < f.n; row++)
        assert_true(argmax[row] == f.argmax[row] || f.margin[row] <= 1e-3f);
    print_message("%d tokens at once, %d one by one: relative error %.2e, wrong arg-max %d of %d\n",
                  prompt, f.n - prompt, sqrt(difference / norm), wrong, f.n);
    assert_true(sqrt(difference / norm) <= 1e-3);
    assert_true(wrong <= f.n * 5 / 1000);
    free(logits);
    free(argmax);
    sw_sparse_free(&dense);
    sw_pass_close(pass);
    sw_model_close(model);
    sw_backend_close(be);
    sw_safetensors_close(f.file);
}

static void test_prefill(void **state)
{
    (void)state;
    check(512);
}

static void test_decode(void **state)
{
    (void)state;
    check(440);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prefill),
                                       cmocka_unit_test(test_decode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
