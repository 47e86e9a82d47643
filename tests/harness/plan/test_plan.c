/* Plans: which cells there are and in which order, what is skipped and why, what decides a key, and
 * inputs that cannot be used. */
#include <ftw.h>
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

#include "harness/inputs/bundle_check.h"
#include "harness/inputs/inputs.h"
#include "harness/plan/plan.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"

static char folder[] = "/tmp/swbench-plan-XXXXXX";
static struct sw_backend backend = {.name = "cpu",
                                    .device = "A Processor",
                                    .variant = "isa=avx2",
                                    .act = SW_F32,
                                    .flops = 1e11,
                                    .bytes_per_second = 1e10,
                                    .threads = 2};

/* --- small files ------------------------------------------------------------------------------ */

static const char *in_folder(const char *name)
{
    static char paths[4][200];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text)
{
    FILE *out = fopen(in_folder(name), "wb");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void ok(enum sw_status st)
{
    if (st != SW_OK)
        fail_msg("%s", sw_error_message());
}

struct bundle_made {
    int layers, heads, kv_heads, d, n, decode;
    float bad;
    hid_t type;
    int lie;
};
enum { LIE_NONE, LIE_HEADS, LIE_RANK, LIE_TOKENS, LIE_LAYER, LIE_FORMAT, LIE_RATIO };

static void put(hid_t file, const char *path, hsize_t n, hsize_t heads, hsize_t d, int rank,
                float bad, hid_t type)
{
    hsize_t dims[3] = {n, heads, d}, flat[2] = {n, heads * d};
    float *values = calloc(n * heads * d, sizeof *values);
    assert_non_null(values);
    values[n * heads * d - 2] = bad;
    hid_t space = rank == 3 ? H5Screate_simple(3, dims, NULL) : H5Screate_simple(2, flat, NULL),
          links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t set = H5Dcreate2(file, path, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0 &&
                H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
    H5Pclose(links);
    H5Sclose(space);
    free(values);
}

static void write_bundle(const char *name, struct bundle_made b)
{
    hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    ok(sw_h5_set_text(file, "format", b.lie == LIE_FORMAT ? "other" : "swbench-tensors"));
    ok(sw_h5_set_int(file, "version", 1));
    ok(sw_h5_set_int(file, "n_layers", b.layers));
    ok(sw_h5_set_int(file, "n_heads", b.lie == LIE_RATIO ? b.heads + 1 : b.heads));
    ok(sw_h5_set_int(file, "n_kv_heads", b.kv_heads));
    ok(sw_h5_set_int(file, "head_dim", b.d));
    for (int part = 0; part < (b.decode ? 2 : 1); part++)
        for (int layer = 0; layer < (b.lie == LIE_LAYER ? b.layers - 1 : b.layers); layer++)
            for (const char *q = "qkv"; *q; q++) {
                char path[64];
                bool last = layer == b.layers - 1 && *q == 'v' && part == 0;
                int heads = *q == 'q' ? b.heads : b.kv_heads, n = part ? b.decode : b.n;
                snprintf(path, sizeof path, "%s/layer_%03d/%c", part ? "/decode" : "", layer, *q);
                put(file, path, (hsize_t)(last && b.lie == LIE_TOKENS ? n - 1 : n),
                    (hsize_t)(last && b.lie == LIE_HEADS ? heads + 1 : heads), (hsize_t)b.d,
                    last && b.lie == LIE_RANK ? 2 : 3, last ? b.bad : 0,
                    b.type ? b.type : H5T_IEEE_F32LE);
            }
    assert_true(H5Fclose(file) >= 0);
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
    mkdir(in_folder("model"), 0777);
    write_text("model/config.json", model_config);
    write_text("model/model.safetensors", "not looked into by a plan");
    write_text("model/swbench.json",
               "{\"files\": {\"tokenizer.safetensors\": \"abc\", \"tokenizer.json\": \"def\"}}");
}

static void write_dataset(const char *task, int context, const char *tokenizer)
{
    char name[100];
    mkdir(in_folder("data"), 0777);
    mkdir(in_folder("data/model"), 0777);
    snprintf(name, sizeof name, "data/model/%s-%d-s1-n2.h5", task, context);
    hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
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
    write_text("config.yaml", text);
    ok(sw_config_read(in_folder("config.yaml"), NULL, 0, stderr, &config));
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
             in_folder("heads.json"));
    write_text("heads.json", "[{\"0\": [\"vertical_and_slash\", 30, 800, 1]}]");
    key_of(first, text);
    key_of(key, text);
    assert_string_equal(key, first);
    write_text("heads.json", "[{\"0\": [\"vertical_and_slash\", 31, 800, 1]}]");
    key_of(key, text);
    assert_string_not_equal(key, first);
    /* of another size, so that its hash is not the kept one */
    write_text("heads.json", "[{\"0\": [\"vertical_and_slash\", 30, 800, 1]}] ");
    key_of(key, text);
    assert_string_not_equal(key, first);
    write_text("heads.json", "[{\"0\": [\"diagonal\", 30, 800, 1]}]");
    refused(configure("%s", text), SW_EINPUT, "config.yaml:5: minference: ");
    unlink(in_folder("heads.json"));
    refused(configure("%s", text), SW_EINPUT, "heads.json: cannot open: No such file");
    refused(configure(SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [{name: xattention, "
                                "params: {stride: 24}}]\n"),
            SW_EINPUT, "stride: found 24, expected a divisor of block_size 64");
    refused(configure(SYNTHETIC "axes: {context: 64, density: 0.5}\nmethods: [{name: flexprefill, "
                                "params: {min_budget: 65, max_budget: 64}}]\n"),
            SW_EINPUT, "max_budget: found 64, expected 0 or at least min_budget 65");
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
    write_bundle("prompt.h5",
                 (struct bundle_made){.layers = 3, .heads = 4, .kv_heads = 2, .d = 16, .n = 70});
    expect_skipped(configure("workloads: [{kind: tensors, path: %s}]\naxes: {density: 0.5, phase: "
                             "decode}\nmethods: [onehop]\n",
                             in_folder("prompt.h5")),
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
    write_bundle("good.h5",
                 (struct bundle_made){
                     .layers = 3, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .decode = 5});
    struct sw_config *config = configure("workloads: [{kind: tensors, path: %s}]\naxes: {context: "
                                         "[1, 2], density: 0.5, phase: [prefill, decode]}\n"
                                         "methods: [onehop]\n",
                                         in_folder("good.h5"));
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 2); /* the context axis is not for bundles */
    assert_int_equal(plan->cells[0].context, 70);
    assert_int_equal(plan->cells[1].state, SW_CELL_TODO);
    assert_string_equal(sw_cell_model(&plan->cells[0]), "good.h5");
    sw_plan_free(plan);
    sw_config_free(config);

    static const struct {
        int lie;
        const char *message;
    } lies[] = {
        {LIE_HEADS, "/layer_001/v: found [70, 3, 16], expected [tokens, 2, 16]"},
        {LIE_RANK, "/layer_001/v: found 2 dimensions, expected 3"},
        {LIE_TOKENS, "/layer_001/v: found 69 tokens, expected 70"},
        {LIE_LAYER, "/layer_001: missing, expected 2 layers"},
        {LIE_FORMAT, "attribute format: expected the text"},
        {LIE_RATIO, "attribute n_heads: found 5, expected a multiple of n_kv_heads (2)"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        write_bundle(
            "lie.h5",
            (struct bundle_made){
                .layers = 2, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .lie = lies[i].lie});
        refused(configure("workloads: [{kind: tensors, path: %s}]\nmethods: [dense]\n",
                          in_folder("lie.h5")),
                SW_EINPUT, lies[i].message);
    }
    write_bundle(
        "double.h5",
        (struct bundle_made){
            .layers = 2, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .type = H5T_IEEE_F64LE});
    refused(configure("workloads: [{kind: tensors, path: %s}]\nmethods: [dense]\n",
                      in_folder("double.h5")),
            SW_EINPUT, "found float64, expected float32 or float16");
    write_text("text.h5", "no HDF5 at all");
    refused(configure("workloads: [{kind: tensors, path: %s}]\nmethods: [dense]\n",
                      in_folder("text.h5")),
            SW_EINPUT, "not a readable HDF5 file");
    refused(configure("workloads: [{kind: tensors, path: /nowhere.h5}]\nmethods: [dense]\n"),
            SW_EINPUT, "config.yaml:3: /nowhere.h5: cannot open: No such file or directory");
}

static void values_that_are_no_numbers(void **state)
{
    (void)state;
    static const float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        char *messages = NULL;
        size_t size;
        struct sw_bundle_info info;
        write_bundle(
            "nan.h5",
            (struct bundle_made){
                .layers = 2, .heads = 4, .kv_heads = 2, .d = 16, .n = 70, .bad = values[i]});
        FILE *out = open_memstream(&messages, &size);
        assert_int_equal(sw_bundle_check(in_folder("nan.h5"), out, &info), SW_EINPUT);
        fclose(out);
        assert_non_null(strstr(
            messages,
            i == 0 ? "/layer_001/v: found NaN at [69, 1, 14], expected finite numbers"
                   : "/layer_001/v: found infinity at [69, 1, 14], expected finite numbers"));
        free(messages);
        sw_error_clear();
        ok(sw_bundle_describe(in_folder("nan.h5"), &info)); /* the values are not its business */
    }
}

/* A truncated or changed file is refused or read, never a crash. */
static void damaged_bundles(void **state)
{
    (void)state;
    char bytes[20000];
    write_bundle("whole.h5",
                 (struct bundle_made){.layers = 1, .heads = 2, .kv_heads = 1, .d = 16, .n = 3});
    FILE *in = fopen(in_folder("whole.h5"), "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    assert_true(size > 0 && size < sizeof bytes);
    for (size_t cut = 0; cut < size; cut += size / 40 + 1) {
        struct sw_bundle_info info;
        FILE *out = fopen(in_folder("cut.h5"), "wb");
        assert_int_equal(fwrite(bytes, 1, cut, out), cut);
        fclose(out);
        assert_int_equal(sw_bundle_describe(in_folder("cut.h5"), &info), SW_EINPUT);
        sw_error_clear();
    }
}

#define TASK                                                                                     \
    "workloads: [{kind: task, model: %s, tasks: [ppl], samples: 2, data: %s}]\naxes: {context: " \
    "%d, density: 0.5}\nmethods: [onehop]\n"

static void tasks(void **state)
{
    (void)state;
    write_model();
    write_dataset("ppl", 256, "abc");
    struct sw_config *config = configure(TASK, in_folder("model"), in_folder("data"), 256);
    struct sw_plan *plan = plan_of(config);
    assert_int_equal(plan->count, 1);
    assert_string_equal(sw_cell_model(&plan->cells[0]), "model");
    assert_string_equal(sw_cell_task(&plan->cells[0]), "ppl");
    assert_int_equal(plan->cells[0].shape.n_layers, 3);
    char before[33];
    memcpy(before, plan->cells[0].key, 33);
    sw_plan_free(plan);
    write_text("model/model.safetensors", "other weights");
    plan = plan_of(config);
    assert_string_not_equal(plan->cells[0].key, before);
    sw_plan_free(plan);
    sw_config_free(config);

    refused(configure(TASK, in_folder("model"), in_folder("data"), 128), SW_EINPUT,
            "/data/model/ppl-128-s1-n2.h5: no such dataset; `python datasets/prepare.py");
    refused(configure(TASK, in_folder("model"), in_folder("data"), 513), SW_EINPUT,
            "axes.context: found 513, expected at most 512");
    refused(configure(TASK, in_folder("nothing"), in_folder("data"), 256), SW_EINPUT,
            "/nothing: no such model folder");
    refused(configure(TASK, "no-such-model", in_folder("data"), 256), SW_EINPUT,
            "datasets/models/no-such-model: no such model folder");
    write_dataset("ppl", 256, "another");
    refused(configure(TASK, in_folder("model"), in_folder("data"), 256), SW_EINPUT,
            "tokenizer of the dataset differs from the model's");
    write_dataset("ppl", 256, "abc");
    unlink(in_folder("model/swbench.json"));
    refused(configure(TASK, in_folder("model"), in_folder("data"), 256), SW_EINPUT, "swbench.json");
    write_model();
    unlink(in_folder("model/model.safetensors"));
    refused(configure(TASK, in_folder("model"), in_folder("data"), 256), SW_EINPUT, "no weights");
    write_model();
    write_text("model/config.json", "{");
    refused(configure(TASK, in_folder("model"), in_folder("data"), 256), SW_EINPUT, "config.json");
}

static void first_estimate(const char *measure, double *memory, double *seconds)
{
    struct sw_config *config =
        configure(TASK "measure: [%s]\n", in_folder("model"), in_folder("data"), 256, measure);
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
    mkdir(in_folder("models"), 0777);
    mkdir(in_folder("models/tiny"), 0777);
    assert_int_equal(sw_input_model_folder("tiny", &found), SW_EINPUT);
    sw_error_clear();
    setenv("SWBENCH_DATASETS", folder, 1);
    ok(sw_input_model_folder("tiny", &found));
    assert_string_equal(found, in_folder("models/tiny"));
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
    ok(sw_store_open_folder(in_folder("results")));
    ok(sw_cell_writer_open(in_folder("results"), &plan->cells[0], &backend, &writer));
    ok(sw_cell_writer_commit(writer, &result));
    sw_plan_free(plan);
    ok(sw_plan_make(config, &backend, in_folder("results"), &plan));
    assert_int_equal(plan->cells[0].state, SW_CELL_CACHED);
    assert_int_equal(plan->cells[1].state, SW_CELL_TODO);
    sw_plan_free(plan);
    sw_config_free(config);
}

/* --- frame ------------------------------------------------------------------------------------ */

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    sw_inputs_forget();
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_ignored_axes),
        cmocka_unit_test(what_decides_a_key),
        cmocka_unit_test(files_of_parameters),
        cmocka_unit_test(skipped_with_a_reason),
        cmocka_unit_test(native_budgets_ignore_density),
        cmocka_unit_test(budgets_of_every_method),
        cmocka_unit_test(too_many_or_twice),
        cmocka_unit_test(bundles),
        cmocka_unit_test(values_that_are_no_numbers),
        cmocka_unit_test(damaged_bundles),
        cmocka_unit_test(tasks),
        cmocka_unit_test(estimates_of_recovery),
        cmocka_unit_test(datasets_elsewhere),
        cmocka_unit_test(done_cells_are_cached),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
