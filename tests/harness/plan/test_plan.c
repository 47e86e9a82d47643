/* Plans: which cells there are and in which order, what is skipped and why, what decides a key, and
 * inputs that cannot be used. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/inputs/inputs.h"
#include "harness/plan/plan.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"
#include "tests/support/bundles.h"
#include "tests/support/folder.h"

static struct sw_backend backend = {.name = "cpu",
                                    .device = "A Processor",
                                    .variant = "isa=avx2",
                                    .act = SW_F32,
                                    .flops = 1e11,
                                    .bytes_per_second = 1e10,
                                    .threads = 2};

/* --- small files ------------------------------------------------------------------------------ */

static void ok(enum sw_status st)
{
    if (st != SW_OK)
        fail_msg("%s", sw_error_message());
}

static const char model_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 64, "
    "\"intermediate_size\": 96, \"num_hidden_layers\": 3,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, \"vocab_size\": "
    "100, \"max_position_embeddings\": 512,"
    " \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"tie_word_embeddings\": true, "
    "\"hidden_act\": \"silu\", \"bos_token_id\": 1,"
    " \"eos_token_id\": [2, 3]}";

static void write_model(void)
{
    mkdir(sw_test_path("model"), 0777);
    sw_test_write("model/config.json", model_config);
    sw_test_write("model/model.safetensors", "not looked into by a plan");
    sw_test_write("model/swbench.json",
                  "{\"files\": {\"tokenizer.safetensors\": \"abc\", \"tokenizer.json\": \"def\"}}");
}

static void write_dataset(const char *task, int context, const char *tokenizer)
{
    char name[100];
    mkdir(sw_test_path("data"), 0777);
    mkdir(sw_test_path("data/model"), 0777);
    snprintf(name, sizeof name, "data/model/%s-%d-s1-n2.h5", task, context);
    hid_t file = H5Fcreate(sw_test_path(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    ok(sw_h5_set_text(file, "format", "swbench-dataset"));
    ok(sw_h5_set_text(file, "tokenizer_sha256", tokenizer));
    ok(sw_h5_set_text(file, "tokenizer_json_sha256", "def"));
    ok(sw_h5_set_text(file, "chat_template_sha256", ""));
    ok(sw_h5_set_text(file, "special_ids", "{\"bos_token_id\": 1, \"eos_token_id\": [2, 3]}"));
    ok(sw_h5_set_text(file, "lengths", "exact"));
    ok(sw_h5_set_text(file, "score", "ppl"));
    static const char *const names[] = {"version",        "vocab_size",    "n_samples",
                                        "max_new_tokens", "scored_tokens", "first_line"};
    static const int values[] = {2, 100, 2, 0, 64, 0};
    for (int i = 0; i < 6; i++)
        ok(sw_h5_set_int(file, names[i], values[i]));
    ok(sw_h5_set_int(file, "context", context));
    assert_true(H5Fclose(file) >= 0);
}

/* --- plans ------------------------------------------------------------------------------------ */

static struct sw_config *configure(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct sw_config *configure(const char *format, ...)
{
    char text[4000];
    struct sw_config *config;
    va_list ap;
    va_start(ap, format);
    int used = snprintf(text, sizeof text, "version: 1\nname: t\n");
    vsnprintf(text + used, sizeof text - (size_t)used, format, ap);
    va_end(ap);
    sw_test_write("config.yaml", text);
    ok(sw_config_read(sw_test_path("config.yaml"), NULL, 0, stderr, &config));
    return config;
}

static struct sw_plan *plan_of(const struct sw_config *config)
{
    struct sw_plan *plan;
    ok(sw_plan_make(config, &backend, NULL, &plan));
    return plan;
}

static void refused(struct sw_config *config, enum sw_status code, const char *message)
{
    struct sw_plan *plan;
    assert_int_equal(sw_plan_make(config, &backend, NULL, &plan), code);
    assert_null(plan);
    if (!strstr(sw_error_message(), message))
        fail_msg("expected '%s', found '%s'", message, sw_error_message());
    assert_null(strchr(sw_error_message(), '\n'));
    sw_error_clear();
    sw_config_free(config);
}

#define SYNTHETIC "workloads: [{kind: synthetic, shape: llama-3.2-1b}]\n"

static void order_and_ignored_axes(void **state)
{
    (void)state;
    struct sw_config *config = configure(
        SYNTHETIC "axes: {context: [64, 128], density: [0.5, 0.25], phase: [prefill, decode]}\n"
                  "methods: [dense, {name: onehop, params: {block_size: [32, 16]}}]\n");
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 2 * (2 + 2 * 2 * 2));
    int i = 0;
    for (int c = 0; c < 2; c++) {
        for (int p = 0; p < 2; p++, i++) {
            assert_string_equal(plan->cells[i].method->name, "dense");
            assert_true(plan->cells[i].density == 1 && (int)plan->cells[i].phase == p);
        }
        for (int b = 0; b < 2; b++)
            for (int d = 0; d < 2; d++)
                for (int p = 0; p < 2; p++, i++) {
                    const struct sw_cell *cell = &plan->cells[i];
                    assert_int_equal(cell->context, c ? 128 : 64);
                    assert_int_equal(((const struct sw_method_params *)cell->params)->block_size,
                                     b ? 16 : 32);
                    assert_true(cell->density == (d ? 0.25 : 0.5) && (int)cell->phase == p);
                    assert_int_equal(cell->state, SW_CELL_TODO);
                    assert_int_equal(cell->shape.n_layers, 4);
                    assert_true(cell->memory_bytes > 0);
                    assert_true(cell->seconds > 0 && cell->seconds < 3600);
                    assert_memory_equal(cell->params_json,
                                        b ? "{\"block_size\": 16, " : "{\"block_size\": 32, ", 19);
                    assert_string_equal(sw_cell_model(cell), "llama-3.2-1b");
                    assert_string_equal(sw_cell_task(cell), "planted");
                    assert_string_equal(sw_cell_workload(cell), "synthetic");
                }
    }
    assert_int_equal(i, plan->count);
    for (int a = 0; a < plan->count; a++) {
        assert_int_equal(strlen(plan->cells[a].key), 32);
        for (int b = 0; b < a; b++)
            assert_string_not_equal(plan->cells[a].key, plan->cells[b].key);
    }
    sw_plan_free(plan);
    sw_config_free(config);
}

/* The key of the only cell of a config. */
static void key_of(char key[33], const char *text)
{
    struct sw_config *config = configure("%s", text);
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 1);
    memcpy(key, plan->cells[0].key, 33);
    sw_plan_free(plan);
    sw_config_free(config);
}

static void what_decides_a_key(void **state)
{
    (void)state;
#define ONE "axes: {context: 64, density: 0.5}\nmethods: [onehop]\n"
    static const char *const same[] = {
        SYNTHETIC ONE, SYNTHETIC ONE "output: elsewhere\nbackend: cpu\n",
        SYNTHETIC "axes: {density: [5e-1], context: [64]}\n"
                  "methods: [{name: onehop, params: {block_size: 64}}]\n",
        SYNTHETIC ONE "strict: true\n"};
    static const char *const others[] = {
        SYNTHETIC ONE "seed: 2\n",
        SYNTHETIC ONE "dense_layers: 1\n",
        SYNTHETIC ONE "measure: recovery\n",
        SYNTHETIC ONE "save: output\n",
        SYNTHETIC ONE "timing: {min_runs: 4}\n",
        SYNTHETIC ONE "threads: 1\n",
        SYNTHETIC "axes: {context: 65, density: 0.5}\nmethods: [onehop]\n",
        SYNTHETIC "axes: {context: 64, density: 0.50001}\nmethods: [onehop]\n",
        SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [oracle]\n",
        SYNTHETIC "axes: {context: 64, density: 0.5, phase: both}\nmethods: [onehop]\n",
        SYNTHETIC
        "axes: {context: 64, density: 0.5}\nmethods: [{name: onehop, params: {block_size: 32}}]\n",
        "workloads: [{kind: synthetic, shape: llama-3.2-1b, generator: gaussian}]\n" ONE,
        "workloads: [{kind: synthetic, shape: llama-3.1-8b}]\n" ONE,
        "workloads: [{kind: synthetic, shape: llama-3.2-1b, layers: 5}]\n" ONE,
        "workloads: [{kind: synthetic, shape: llama-3.2-1b, decode_tokens: 5}]\n" ONE,
        SYNTHETIC ONE "budget: native\n",
    };
    enum { OTHERS = sizeof others / sizeof *others };
    char first[33], key[OTHERS][33];
    key_of(first, same[0]);
    for (size_t i = 1; i < sizeof same / sizeof *same; i++) {
        key_of(key[0], same[i]);
        assert_string_equal(key[0], first);
    }
    for (int i = 0; i < OTHERS; i++) {
        key_of(key[i], others[i]);
        assert_string_not_equal(key[i], first);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(key[i], key[j]);
    }
    snprintf(backend.device, sizeof backend.device, "Another");
    key_of(key[0], same[0]);
    assert_string_not_equal(key[0], first);
    snprintf(backend.device, sizeof backend.device, "A Processor");
    snprintf(backend.variant, sizeof backend.variant, "isa=sse2");
    key_of(key[0], same[0]);
    assert_string_not_equal(key[0], first);
    snprintf(backend.variant, sizeof backend.variant, "isa=avx2");
}

/* A file that a parameter names counts by its content; one that cannot be used stops the plan. */
static void files_of_parameters(void **state)
{
    (void)state;
    char text[600], first[33], key[33];
    snprintf(text, sizeof text,
             SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [{name: minference, params: "
                       "{head_config: %s}}]\n",
             sw_test_path("heads.json"));
    sw_test_write("heads.json", "[{\"0\": [\"vertical_and_slash\", 30, 800, 1]}]");
    key_of(first, text);
    key_of(key, text);
    assert_string_equal(key, first);
    sw_test_write("heads.json", "[{\"0\": [\"vertical_and_slash\", 31, 800, 1]}]");
    key_of(key, text);
    assert_string_not_equal(key, first);
    /* of another size, so that its hash is not the kept one */
    sw_test_write("heads.json", "[{\"0\": [\"vertical_and_slash\", 30, 800, 1]}] ");
    key_of(key, text);
    assert_string_not_equal(key, first);
    sw_test_write("heads.json", "[{\"0\": [\"diagonal\", 30, 800, 1]}]");
    refused(configure("%s", text), SW_EINPUT, "config.yaml:5: minference: ");
    unlink(sw_test_path("heads.json"));
    refused(configure("%s", text), SW_EINPUT, "heads.json: cannot open: No such file");
    refused(configure(SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [{name: xattention, "
                                "params: {stride: 24}}]\n"),
            SW_EINPUT, "stride: found 24, expected a divisor of block_size 64");
    refused(configure(SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [{name: flexprefill, "
                                "params: {min_budget: 65, max_budget: 64}}]\n"),
            SW_EINPUT, "max_budget: found 64, expected 0 or at least min_budget 65");
}

static int block_of(const char *text)
{
    struct sw_config *config = configure("%s", text);
    struct sw_plan *plan = plan_of(config);
    int block = ((const struct sw_method_params *)plan->cells[0].params)->block_size;
    sw_plan_free(plan);
    sw_config_free(config);
    return block;
}

/* The published default, where the budget is native, whatever the order of keys, and the config
 * says nothing else. */
static void native_budgets_have_published_defaults(void **state)
{
    (void)state;
#define AXES SYNTHETIC "axes: {context: 64, density: 0.5}\n"
    assert_int_equal(block_of(AXES "budget: native\nmethods: [xattention]\n"), 128);
    assert_int_equal(block_of(AXES "methods: [xattention]\nbudget: native\n"), 128);
    assert_int_equal(block_of(AXES "methods: [xattention]\n"), 64);
    assert_int_equal(block_of(AXES "methods: [{name: xattention, params: {block_size: 32}}]\n"
                                   "budget: native\n"),
                     32);
#undef AXES
}

static void expect_skipped(struct sw_config *config, const char *method, const char *reason)
{
    struct sw_plan *plan = plan_of(config);
    int found = 0;
    for (int i = 0; i < plan->count; i++) {
        const struct sw_cell *cell = &plan->cells[i];
        if (strcmp(cell->method->name, method) != 0) {
            assert_int_equal(cell->state, SW_CELL_TODO);
            continue;
        }
        found++;
        assert_int_equal(cell->state, SW_CELL_SKIPPED);
        assert_non_null(strstr(cell->reason, reason));
    }
    assert_true(found > 0);
    sw_plan_free(plan);
    sw_config_free(config);
}

static void skipped_with_a_reason(void **state)
{
    (void)state;
    expect_skipped(configure(SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [dense, "
                                       "xattention]\nbudget: calibrated\n"),
                   "xattention", "swbench calibrate");
    expect_skipped(
        configure(SYNTHETIC
                  "axes: {context: 64, density: 0.5}\nmethods: [dense, oracle]\nbudget: native\n"),
        "oracle", "oracle has no native budget");
    sw_test_bundle_write(
        sw_test_path("prompt.h5"),
        (struct sw_test_bundle){.layers = 3, .heads = 4, .kv_heads = 2, .d = 16, .n = 70});
    expect_skipped(configure("workloads: [{kind: tensors, path: %s}]\naxes: {density: 0.5, phase: "
                             "decode}\nmethods: [onehop]\n",
                             sw_test_path("prompt.h5")),
                   "onehop", "the bundle has no /decode");
}

static void native_budgets_ignore_density(void **state)
{
    (void)state;
    struct sw_config *config = configure(
        SYNTHETIC
        "axes: {context: 64, density: [0.5, 0.2]}\nmethods: [dense, onehop]\nbudget: native\n");
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 2);
    assert_true(plan->cells[0].density == 1 && isnan(plan->cells[1].density));
    assert_non_null(strstr(plan->cells[1].identity, "\"density\": null"));
    sw_plan_free(plan);
    sw_config_free(config);
}

/* Every method under every budget: a density is NaN only where a native rule has its own, and there
 * is a cell a density wherever density counts. */
static void budgets_of_every_method(void **state)
{
    (void)state;
    for (int i = 0; sw_methods[i]; i++)
        for (int mode = 0; sw_budget_mode_names[mode]; mode++) {
            const struct sw_method *method = sw_methods[i];
            bool dense = method->flags & SW_METHOD_DENSE,
                 native = mode == SW_BUDGET_NATIVE && method->flags & SW_METHOD_NATIVE;
            struct sw_config *config =
                configure(SYNTHETIC "axes: {context: 64, density: [0.6, 0.3]}\n"
                                    "methods: [%s]\nbudget: %s\n",
                          method->name, sw_budget_mode_names[mode]);
            struct sw_plan *plan = plan_of(config);
            if (!native)
                assert_int_equal(plan->count, dense ? 1 : 2);
            for (int c = 0; c < plan->count; c++) {
                const struct sw_cell *cell = &plan->cells[c];
                bool calibrated = mode == SW_BUDGET_CALIBRATED;
                assert_int_equal(cell->budget,
                                 calibrated && !method->threshold ? SW_BUDGET_MATCHED : mode);
                if (!native && !(cell->density == (dense ? 1 : c == 0 ? 0.6 : 0.3)))
                    fail_msg("%s, %s: density %g", method->name, sw_budget_mode_names[mode],
                             cell->density);
            }
            sw_plan_free(plan);
            sw_config_free(config);
        }
}

static void too_many_or_twice(void **state)
{
    (void)state;
    char text[3000] =
        SYNTHETIC "methods: [onehop]\naxes:\n  phase: [prefill, decode, both]\n  context: [",
         *end;
    for (int i = 1; i <= 200; i++) {
        end = text + strlen(text);
        snprintf(end, (size_t)(text + sizeof text - end), "%d,", i);
    }
    end = text + strlen(text);
    snprintf(end, (size_t)(text + sizeof text - end), "]\n  density: [");
    for (int i = 1; i <= 200; i++) {
        end = text + strlen(text);
        snprintf(end, (size_t)(text + sizeof text - end), "0.%03d,", i);
    }
    strcat(text, "]\n");
    refused(configure("%s", text), SW_EINPUT, "found more than 100000 cells");
    refused(configure("workloads:\n- {kind: synthetic, shape: llama-3.2-1b}\n- {kind: synthetic, "
                      "shape: llama-3.2-1b, layers: 4}\n"
                      "axes: {context: 64}\nmethods: [dense]\n"),
            SW_EINPUT, "config.yaml:5: workloads: found the cells of line 4 again");
}

/* --- inputs ----------------------------------------------------------------------------------- */

static void bundles(void **state)
{
    (void)state;
    sw_test_bundle_write(
        sw_test_path("good.h5"),
        (struct sw_test_bundle){
            .layers = 3, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .decode = 5});
    struct sw_config *config = configure("workloads: [{kind: tensors, path: %s}]\naxes: {context: "
                                         "[1, 2], density: 0.5, phase: [prefill, decode]}\n"
                                         "methods: [onehop]\n",
                                         sw_test_path("good.h5"));
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 2); /* the context axis is not for bundles */
    assert_int_equal(plan->cells[0].context, 70);
    assert_int_equal(plan->cells[1].state, SW_CELL_TODO);
    assert_string_equal(sw_cell_model(&plan->cells[0]), "good.h5");
    sw_plan_free(plan);
    sw_config_free(config);

    refused(configure("workloads: [{kind: tensors, path: /nowhere.h5}]\nmethods: [dense]\n"),
            SW_EINPUT, "config.yaml:3: /nowhere.h5: cannot open: No such file or directory");
}

#define TASK                                                                                     \
    "workloads: [{kind: task, model: %s, tasks: [ppl], samples: 2, data: %s}]\naxes: {context: " \
    "%d, density: 0.5}\nmethods: [onehop]\n"

static void tasks(void **state)
{
    (void)state;
    write_model();
    write_dataset("ppl", 256, "abc");
    struct sw_config *config = configure(TASK, sw_test_path("model"), sw_test_path("data"), 256);
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 1);
    assert_string_equal(sw_cell_model(&plan->cells[0]), "model");
    assert_string_equal(sw_cell_task(&plan->cells[0]), "ppl");
    assert_int_equal(plan->cells[0].shape.n_layers, 3);
    char before[33];
    memcpy(before, plan->cells[0].key, 33);
    sw_plan_free(plan);
    sw_test_write("model/model.safetensors", "other weights");
    plan = plan_of(config);
    assert_string_not_equal(plan->cells[0].key, before);
    sw_plan_free(plan);
    sw_config_free(config);

    refused(configure(TASK, sw_test_path("model"), sw_test_path("data"), 128), SW_EINPUT,
            "/data/model/ppl-128-s1-n2.h5: no such dataset; `python datasets/prepare.py");
    refused(configure(TASK, sw_test_path("model"), sw_test_path("data"), 513), SW_EINPUT,
            "axes.context: found 513, expected at most 512");
    refused(configure(TASK, sw_test_path("nothing"), sw_test_path("data"), 256), SW_EINPUT,
            "/nothing: no such model folder");
    refused(configure(TASK, "no-such-model", sw_test_path("data"), 256), SW_EINPUT,
            "datasets/models/no-such-model: no such model folder");
    write_dataset("ppl", 256, "another");
    refused(configure(TASK, sw_test_path("model"), sw_test_path("data"), 256), SW_EINPUT,
            "tokenizer of the dataset differs from the model's");
    write_dataset("ppl", 256, "abc");
    unlink(sw_test_path("model/swbench.json"));
    refused(configure(TASK, sw_test_path("model"), sw_test_path("data"), 256), SW_EINPUT,
            "swbench.json");
    write_model();
    unlink(sw_test_path("model/model.safetensors"));
    refused(configure(TASK, sw_test_path("model"), sw_test_path("data"), 256), SW_EINPUT,
            "no weights");
    write_model();
    sw_test_write("model/config.json", "{");
    refused(configure(TASK, sw_test_path("model"), sw_test_path("data"), 256), SW_EINPUT,
            "config.json");
}

static void first_estimate(const char *measure, double *memory, double *seconds)
{
    struct sw_config *config = configure(TASK "measure: [%s]\n", sw_test_path("model"),
                                         sw_test_path("data"), 256, measure);
    struct sw_plan *plan = plan_of(config);
    *memory = plan->cells[0].memory_bytes;
    *seconds = plan->cells[0].seconds;
    sw_plan_free(plan);
    sw_config_free(config);
}

/* Recovery keeps queries, keys and values of all 3 layers (4 + 2 · 2 heads of 16 fp32 numbers a
 * token), and is not counted where it is not asked for. */
static void estimates_of_recovery(void **state)
{
    (void)state;
    double alone, alone_s, memory, seconds;
    write_model();
    write_dataset("ppl", 256, "abc");
    first_estimate("accuracy", &alone, &alone_s);
    first_estimate("accuracy, output_error", &memory, &seconds);
    assert_true(memory - alone == 3.0 * 256 * (4 + 2 * 2) * 16 * 4 && seconds > alone_s);
}

/* The two look-ups of a bare name: here, then under SWBENCH_DATASETS. */
static void datasets_elsewhere(void **state)
{
    (void)state;
    char *found = NULL;
    mkdir(sw_test_path("models"), 0777);
    mkdir(sw_test_path("models/tiny"), 0777);
    assert_int_equal(sw_input_model_folder("tiny", &found), SW_EINPUT);
    sw_error_clear();
    setenv("SWBENCH_DATASETS", sw_test_folder(), 1);
    ok(sw_input_model_folder("tiny", &found));
    assert_string_equal(found, sw_test_path("models/tiny"));
    free(found);
    unsetenv("SWBENCH_DATASETS");
}

static void done_cells_are_cached(void **state)
{
    (void)state;
    struct sw_config *config =
        configure(SYNTHETIC "axes: {context: 64, density: [0.5, 0.2]}\nmethods: [onehop]\n");
    struct sw_plan *plan = plan_of(config);
    struct sw_cell_writer *writer;
    struct sw_result result = {.status = SW_RESULT_OK};
    ok(sw_store_open_folder(sw_test_path("results")));
    ok(sw_cell_writer_open(sw_test_path("results"), &plan->cells[0], &backend, &writer));
    ok(sw_cell_writer_commit(writer, &result));
    sw_plan_free(plan);
    ok(sw_plan_make(config, &backend, sw_test_path("results"), &plan));
    assert_int_equal(plan->cells[0].state, SW_CELL_CACHED);
    assert_int_equal(plan->cells[1].state, SW_CELL_TODO);
    sw_plan_free(plan);
    sw_config_free(config);
}

/* --- frame ------------------------------------------------------------------------------------ */

static int tear_down(void **state)
{
    sw_inputs_forget();
    return sw_test_folder_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_ignored_axes),
        cmocka_unit_test(what_decides_a_key),
        cmocka_unit_test(files_of_parameters),
        cmocka_unit_test(skipped_with_a_reason),
        cmocka_unit_test(native_budgets_ignore_density),
        cmocka_unit_test(native_budgets_have_published_defaults),
        cmocka_unit_test(budgets_of_every_method),
        cmocka_unit_test(too_many_or_twice),
        cmocka_unit_test(bundles),
        cmocka_unit_test(tasks),
        cmocka_unit_test(estimates_of_recovery),
        cmocka_unit_test(datasets_elsewhere),
        cmocka_unit_test(done_cells_are_cached),
    };
    return cmocka_run_group_tests(tests, sw_test_folder_make, tear_down);
}
