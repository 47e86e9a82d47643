/* The forward pass of every supported family against Hugging Face transformers on tiny random
 * models (tests/fixtures/make_family_logits.py): 128 tokens, four times past the length a scaled
 * RoPE was trained on, in one prefill and partly token by token. And one set of weights in every
 * type and in shards. */
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
#include "tests/support/backends.h"

#define FAMILIES "tests/fixtures/families"

static enum sw_status attend(void *context, int layer, int n_q, int n_k, const void *q,
                             const void *k, const void *v, void *out)
{
    return sw_sparse_attend(context, layer, n_q, n_k, q, k, v, out);
}

/* Logits [n, vocab] of ids with the first `prompt` tokens at once and the rest one by one. Freed by
 * the caller. */
static float *forward(const char *folder, const int32_t *ids, int n, int prompt)
{
    struct sw_backend *be;
    struct sw_model *model;
    struct sw_pass *pass;
    sw_test_ok(sw_backend_open("cpu", 0, &be));
    sw_test_ok(sw_model_open(folder, be, &model));
    const struct sw_model_config *config = sw_model_config(model);
    struct sw_sparse dense = {.backend = be, .shape = config->shape};
    struct sw_attention_hook hook = {attend, &dense};
    size_t vocab = (size_t)config->vocab;
    float *logits = malloc((size_t)n * vocab * sizeof *logits);
    assert_non_null(logits);
    sw_test_ok(sw_pass_open(model, 1, n, n, false, &pass));
    sw_test_ok(sw_pass_run(pass, 0, ids, prompt, hook));
    sw_test_ok(sw_pass_predict(pass, 0, prompt, NULL, NULL, NULL)); /* all rows are asked for */
    for (int row = 0; row < prompt; row++)
        sw_test_ok(sw_pass_logits(pass, row, logits + (size_t)row * vocab));
    for (int row = prompt; row < n; row++) {
        sw_test_ok(sw_pass_run(pass, 0, ids + row, 1, hook));
        sw_test_ok(sw_pass_logits(pass, 0, logits + (size_t)row * vocab));
    }
    sw_sparse_free(&dense);
    sw_pass_close(pass);
    sw_model_close(model);
    sw_backend_close(be);
    return logits;
}

static const struct sw_stored_tensor *tensor(const struct sw_safetensors *file, const char *name)
{
    const struct sw_stored_tensor *t = sw_safetensors_find(file, name);
    assert_non_null(t);
    return t;
}

/* Relative error of the logits of the model in FAMILIES/model, over the rows that FAMILIES/expected
 * has, for the ids of the latter. */
static double error_of(const char *model, const char *expected, int one_by_one)
{
    char folder[256], file_name[256];
    snprintf(folder, sizeof folder, FAMILIES "/%s", model);
    snprintf(file_name, sizeof file_name, FAMILIES "/%s/expected.safetensors", expected);
    struct sw_safetensors *file;
    sw_test_ok(sw_safetensors_open(file_name, &file));
    int n = (int)tensor(file, "ids")->count, rows = (int)tensor(file, "rows")->count,
        vocab = (int)tensor(file, "logits")->shape[1];
    const int32_t *row = tensor(file, "rows")->data;
    const float *want = tensor(file, "logits")->data;
    float *got = forward(folder, tensor(file, "ids")->data, n, n - one_by_one);
    double difference = 0, norm = 0;
    for (int i = 0; i < rows; i++)
        for (int id = 0; id < vocab; id++) {
            double w = (double)want[i * vocab + id], delta = (double)got[row[i] * vocab + id] - w;
            difference += delta * delta;
            norm += w * w;
        }
    free(got);
    sw_safetensors_close(file);
    return sqrt(difference / norm);
}

/* Where a case has the weights of another family member, that one must miss its logits: the fixture
 * can tell the two apart. */
static const struct family_case {
    const char *name, *told_from;
} cases[] = {
    {"llama", NULL},           {"llama3", "llama"},
    {"llama-linear", "llama"}, {"llama-yarn", "llama"},
    {"llama-bias", NULL},      {"smollm2", NULL},
    {"mistral", NULL},         {"mistral-wide-window", NULL},
    {"qwen2", NULL},           {"qwen2-yarn", "qwen2"},
    {"qwen3", NULL},           {"qwen3-yarn", "qwen3"},
    {"qwen3-bias", NULL},
};

static void test_families(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double at_once = error_of(cases[i].name, cases[i].name, 0),
               in_steps = error_of(cases[i].name, cases[i].name, 40);
        print_message(
            "%-20s relative error of the logits: %.1e in one prefill, %.1e with 40 decode steps\n",
            cases[i].name, at_once, in_steps);
        assert_true(at_once <= 1e-3 && in_steps <= 1e-3);
        if (cases[i].told_from)
            assert_true(error_of(cases[i].told_from, cases[i].name, 0) > 0.02);
    }
}

/* --- several sequences ------------------------------------------------------------------------ */

/* Logits of the last token of sequence s of `lengths`, all of which begin as one prompt each and
 * then take 6 steps: together, or one after the other. */
static void six_steps(const char *folder, const int *lengths, int sequences, bool together,
                      float *logits)
{
    enum { STEPS = 6, ROOM = 64, MOST = 8 };
    struct sw_backend *be;
    struct sw_model *model;
    struct sw_pass *pass;
    sw_test_ok(sw_backend_open("cpu", 2, &be));
    sw_test_ok(sw_model_open(folder, be, &model));
    int vocab = sw_model_config(model)->vocab;
    struct sw_sparse dense = {.backend = be, .shape = sw_model_config(model)->shape};
    struct sw_attention_hook hook = {attend, &dense};
    sw_test_ok(sw_pass_open(model, sequences, ROOM, ROOM - STEPS, false, &pass));
    for (int s = 0; s < sequences; s++) {
        int32_t ids[ROOM];
        for (int t = 0; t < ROOM; t++)
            ids[t] = (t * 31 + s * 7 + 5) % vocab;
        sw_test_ok(sw_pass_run(pass, s, ids, lengths[s], hook));
        for (int step = 0; step < STEPS && !together; step++)
            sw_test_ok(sw_pass_run(pass, s, ids + lengths[s] + step, 1, hook));
        if (!together)
            sw_test_ok(sw_pass_logits(pass, 0, logits + (size_t)s * (size_t)vocab));
    }
    for (int step = 0; step < STEPS && together; step++) {
        struct sw_step steps[MOST];
        for (int r = 0; r < sequences; r++) { /* in another order each time */
            int s = (r + step) % sequences;
            steps[r] = (struct sw_step){s, ((lengths[s] + step) * 31 + s * 7 + 5) % vocab, hook};
        }
        sw_test_ok(sw_pass_step(pass, steps, sequences));
        for (int r = 0; r < sequences; r++)
            sw_test_ok(sw_pass_logits(pass, r, logits + (size_t)steps[r].sequence * (size_t)vocab));
    }
    sw_test_fails(sw_pass_step(pass, &(struct sw_step){0, vocab, hook}, 1), SW_EINPUT);
    sw_test_fails(sw_pass_step(pass, &(struct sw_step){0, 1, hook}, 0), SW_EINTERNAL);
    sw_pass_reset(pass, 0);
    sw_test_fails(sw_pass_step(pass, &(struct sw_step){0, 1, hook}, 1), SW_EINTERNAL);
    sw_sparse_free(&dense);
    sw_pass_close(pass);
    sw_model_close(model);
    sw_backend_close(be);
}

static void test_together(void **state)
{
    (void)state;
    static const int lengths[] = {7, 40, 1, 33, 58, 12, 2, 21};
    static const char *const models[] = {"llama", "qwen2-yarn", "qwen3-bias"};
    enum { SEQUENCES = 8, VOCAB = 288 };
    float *one = malloc(SEQUENCES * VOCAB * sizeof *one),
          *all = malloc(SEQUENCES * VOCAB * sizeof *all);
    for (int i = 0; i < 3; i++) {
        char folder[128];
        snprintf(folder, sizeof folder, FAMILIES "/%s", models[i]);
        six_steps(folder, lengths, SEQUENCES, false, one);
        six_steps(folder, lengths, SEQUENCES, true, all);
        assert_memory_equal(one, all, SEQUENCES * VOCAB * sizeof *one);
    }
    free(one);
    free(all);
}

/* --- types and shards ------------------------------------------------------------------------- */

/* A value that bf16, fp16 and fp32 all hold, from its bf16 bits, in another type. */
static void convert(uint16_t bf16, enum sw_stored type, unsigned char *out)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    if (type == SW_STORED_F32)
        memcpy(out, &value, sizeof value);
    else if (type == SW_STORED_BF16)
        memcpy(out, &bf16, sizeof bf16);
    else {
        int exponent;
        /* [0.5, 1) · 2^exponent; normal in fp16 down to 2^-14 */
        double mantissa = frexp((double)value, &exponent);
        uint16_t half = value == 0 ? 0
                                   : (uint16_t)((value < 0 ? 0x8000 : 0) | ((exponent + 14) << 10) |
                                                ((int)(fabs(mantissa) * 2048) & 0x3ff));
        assert_true(value == 0 || exponent >= -13);
        memcpy(out, &half, sizeof half);
    }
}

/* The tensors number part, part + parts, … of weights as one safetensors file of the given type,
 * after `odd` more header bytes. */
static void write_part(const char *path, const struct sw_safetensors *weights, enum sw_stored type,
                       int part, int parts, int odd)
{
    static const char *const names[] = {
        [SW_STORED_F32] = "F32", [SW_STORED_F16] = "F16", [SW_STORED_BF16] = "BF16"};
    int size = type == SW_STORED_F32 ? 4 : 2;
    char header[8192] = "";
    int length = snprintf(header, sizeof header, "{\"__metadata__\":{}");
    long at = 0;
    for (int i = part; i < sw_safetensors_count(weights); i += parts) {
        const struct sw_stored_tensor *t = sw_safetensors_at(weights, i);
        char shape[48];
        snprintf(shape, sizeof shape, t->rank == 2 ? "%d,%d" : "%d", (int)t->shape[0],
                 (int)t->shape[1]);
        length += snprintf(header + length, sizeof header - (size_t)length,
                           ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%ld,%ld]}",
                           t->name, names[type], shape, at, at + (long)t->count * size);
        assert_true(length < (int)sizeof header);
        at += (long)t->count * size;
    }
    length += snprintf(header + length, sizeof header - (size_t)length, "}%*s",
                       (8 - (length + 1) % 8) % 8 + odd, "");
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        fputc((int)((uint64_t)length >> (8 * i) & 0xff), file);
    fwrite(header, 1, (size_t)length, file);
    for (int i = part; i < sw_safetensors_count(weights); i += parts) {
        const struct sw_stored_tensor *t = sw_safetensors_at(weights, i);
        assert_int_equal(t->type, SW_STORED_BF16);
        for (int64_t k = 0; k < t->count; k++) {
            uint16_t bits;
            unsigned char out[4];
            memcpy(&bits, (const char *)t->data + 2 * k, sizeof bits);
            convert(bits, type, out);
            fwrite(out, 1, (size_t)size, file);
        }
    }
    assert_int_equal(fclose(file), 0);
}

/* Logits of the llama fixture written anew in `type` and `parts` files. The folder is removed
 * again. */
static float *rewritten(enum sw_stored type, int parts, int odd, const int32_t *ids, int n)
{
    char folder[] = "/tmp/swbench-families-XXXXXX", config[4096], path[512];
    assert_non_null(mkdtemp(folder));
    struct sw_safetensors *weights;
    sw_test_ok(sw_safetensors_open(FAMILIES "/llama/model.safetensors", &weights));
    assert_non_null(realpath(FAMILIES "/llama/config.json", config));
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(symlink(config, path), 0);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    FILE *index = parts > 1 ? fopen(path, "w") : NULL;
    for (int part = 0; part < parts; part++) {
        snprintf(path, sizeof path,
                 parts > 1 ? "%s/model-%05d-of-%05d.safetensors" : "%s/model.safetensors", folder,
                 part + 1, parts);
        write_part(path, weights, type, part, parts, odd);
        for (int i = part; index && i < sw_safetensors_count(weights); i += parts)
            fprintf(index, "%s\"%s\": \"%s\"", part == 0 && i == 0 ? "{\"weight_map\": {" : ", ",
                    sw_safetensors_at(weights, i)->name, strrchr(path, '/') + 1);
    }
    if (index) {
        fprintf(index, "}}");
        assert_int_equal(fclose(index), 0);
    }
    sw_safetensors_close(weights);
    float *logits = forward(folder, ids, n, n);
    char command[600];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
    return logits;
}

static void test_forms(void **state)
{
    (void)state;
    enum { TOKENS = 24, VOCAB = 288 };
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        ids[i] = i * 37 % VOCAB;
    float *want = forward(FAMILIES "/llama", ids, TOKENS, TOKENS);
    static const struct {
        const char *name;
        enum sw_stored type;
        int parts, odd;
    } forms[] = {{"bf16", SW_STORED_BF16, 1, 0},
                 {"fp16", SW_STORED_F16, 1, 0},
                 {"fp32", SW_STORED_F32, 1, 0},
                 {"bf16, 3 shards", SW_STORED_BF16, 3, 0},
                 {"fp32, 5 shards, unaligned", SW_STORED_F32, 5, 1}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        float *got = rewritten(forms[i].type, forms[i].parts, forms[i].odd, ids, TOKENS);
        if (memcmp(got, want, sizeof *got * TOKENS * VOCAB) != 0)
            fail_msg("%s: other logits than bf16 in one file", forms[i].name);
        free(got);
    }
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_together),
                                       cmocka_unit_test(test_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
