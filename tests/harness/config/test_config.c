/* Configs: what is read, what is refused and with which words, overrides, and input made to
 * hurt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/method.h"
#include "harness/config/config.h"
#include "harness/config/yaml_tree.h"

static char file[] = "/tmp/swbench-config-XXXXXX";

static void write_file(const char *text, size_t size)
{
    FILE *out = fopen(file, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

/* Reads `text`; returns the messages (malloc'd) and the config, if any. */
static char *read_messages(const char *text, size_t size, const char *const *sets, int n_sets,
                           struct sw_config **config)
{
    char *messages = NULL;
    size_t length = 0;
    write_file(text, size);
    FILE *out = open_memstream(&messages, &length);
    assert_non_null(out);
    enum sw_status st = sw_config_read(file, sets, n_sets, out, config);
    assert_int_equal(fclose(out), 0);
    if (st == SW_OK) {
        assert_string_equal(messages, "");
    } else {
        assert_int_equal(st, SW_EINPUT);
        assert_null(*config);
        assert_true(length > 0);
        assert_string_not_equal(sw_error_message(), "");
        sw_error_clear();
    }
    return messages;
}

static struct sw_config *good(const char *text, const char *set)
{
    struct sw_config *config = NULL;
    char *messages = read_messages(text, strlen(text), &set, set != NULL, &config);
    if (!config)
        fail_msg("refused: %s", messages);
    free(messages);
    return config;
}

/* `text` is refused, and one line of the messages is "FILE<expected>", or, for a --set, `expected`
 * itself. */
static void bad(const char *text, const char *set, const char *expected)
{
    struct sw_config *config = NULL;
    char *messages = read_messages(text, strlen(text), &set, set != NULL, &config), line[600];
    if (config)
        fail_msg("accepted, expected: %s", expected);
    snprintf(line, sizeof line, "%s%s\n", set ? "" : file, expected);
    if (!strstr(messages, line))
        fail_msg("expected %sfound %s", line, messages);
    free(messages);
}

#define HEAD      "version: 1\nname: t\n"
#define SYNTHETIC "workloads:\n- {kind: synthetic, shape: llama-3.2-1b}\n"
#define AXES      "axes: {context: 64, density: 0.5}\n"
#define METHODS   "methods: [dense, onehop]\n"
#define SMALL     HEAD SYNTHETIC AXES METHODS

static void defaults(void **state)
{
    (void)state;
    struct sw_config *c = good(SMALL, NULL);
    assert_string_equal(c->name, "t");
    assert_string_equal(c->backend, "auto");
    assert_true(c->seed == 1);
    assert_null(c->output);
    assert_int_equal(c->n_contexts, 1);
    assert_int_equal(c->contexts[0], 64);
    assert_true(c->n_densities == 1 && c->densities[0] == 0.5);
    assert_true(c->n_phases == 1 && c->phases[0] == SW_PHASE_PREFILL);
    assert_int_equal(c->budget, SW_BUDGET_MATCHED);
    assert_int_equal(c->dense_layers, 2);
    assert_int_equal(c->baseline, SW_BASELINE_FASTEST);
    assert_int_equal(c->measure, 15);
    assert_int_equal(c->save, 0);
    assert_true(c->timing.warmup_ms == 25 && c->timing.min_runs == 3 &&
                c->timing.max_seconds == 15 && c->timing.target_error == 0.005);
    const struct sw_workload *w = &c->workloads[0];
    assert_int_equal(w->kind, SW_WORKLOAD_SYNTHETIC);
    assert_string_equal(w->shape->name, "llama-3.2-1b");
    assert_true(w->generator == SW_GENERATOR_PLANTED && w->layers == 0 && w->decode_tokens == 16 &&
                !w->whole_model);
    assert_int_equal(c->n_methods, 2);
    assert_string_equal(c->methods[1].method->name, "onehop");
    assert_int_equal(c->methods[1].values[0].count, 1);
    assert_string_equal(c->methods[1].values[0].items[0], "64");
    assert_string_equal(c->text, SMALL);
    sw_config_free(c);
}

static void everything_is_read(void **state)
{
    (void)state;
    struct sw_config *c =
        good(HEAD "seed: 9223372036854775807\nbackend: cpu\nthreads: 2\noutput: results/x\n"
                  "workloads:\n"
                  "  - {kind: task, model: some/model/, tasks: [a, b], samples: 4, "
                  "recovery_samples: 2, data: d}\n"
                  "  - kind: tensors\n    path: x.h5\n"
                  "axes: {context: [1024, 2048], density: [1e-3, 1], phase: [both, decode]}\n"
                  "methods:\n  - name: sketchwalk\n    params: {variant: [arxiv, icml], "
                  "block_size: [16, 32], exponent: 8.0}\n"
                  "budget: native\ndense_layers: 0\nmeasure: recovery\nsave: [output, "
                  "selection]\nstrict: true\n"
                  "timing: {min_runs: 7}\nbaseline: library\n"
                  "calibration: c.json\n",
             NULL);
    assert_int_equal(c->baseline, SW_BASELINE_LIBRARY);
    assert_string_equal(c->calibration, "c.json"); /* and freed: the leak check sees it */
    assert_true(c->seed == INT64_MAX && c->threads == 2 && c->strict);
    assert_string_equal(c->output, "results/x");
    assert_string_equal(c->workloads[0].model, "some/model");
    assert_int_equal(c->workloads[0].tasks.count, 2);
    assert_int_equal(c->workloads[0].recovery_samples, 2);
    assert_string_equal(c->workloads[1].path, "x.h5");
    assert_int_equal(c->workloads[1].line, 9);
    assert_true(c->densities[0] == 0.001 && c->densities[1] == 1);
    assert_true(c->phases[0] == SW_PHASE_BOTH && c->phases[1] == SW_PHASE_DECODE);
    assert_true(c->measure == SW_MEASURE_RECOVERY &&
                c->save == (SW_SAVE_SELECTION | SW_SAVE_OUTPUT));
    assert_true(c->budget == SW_BUDGET_NATIVE && c->dense_layers == 0 && c->timing.min_runs == 7);
    const struct sw_param *params = c->methods[0].method->params;
    const struct sw_param *exponent = sw_param_find(params, "exponent");
    assert_int_equal(c->methods[0].values[0].count, 2);
    assert_string_equal(c->methods[0].values[exponent - params].items[0], "8");
    sw_config_free(c);
}

static void overrides(void **state)
{
    (void)state;
    struct sw_config *c = good(SMALL, "axes.density=[0.2, 0.4]");
    assert_true(c->n_densities == 2 && c->densities[1] == 0.4);
    assert_string_equal(c->text, SMALL "# --set axes.density=[0.2, 0.4]\n");
    sw_config_free(c);
    c = good(SMALL, "timing.min_runs=9"); /* the section was not there */
    assert_int_equal(c->timing.min_runs, 9);
    sw_config_free(c);
    c = good(SMALL, "methods[1]={name: oracle, params: {block_size: 32}}");
    assert_string_equal(c->methods[1].method->name, "oracle");
    sw_config_free(c);
    c = good(HEAD SYNTHETIC AXES "methods:\n- name: onehop\n", "methods.0.params.block_size=32");
    assert_string_equal(c->methods[0].values[0].items[0], "32");
    sw_config_free(c);
    bad(SMALL, "axes.density=2",
        "--set 'axes.density=2': axes.density: found '2', expected a number in (0, 1]");
    bad(SMALL, "axes.densty=0.2",
        "--set 'axes.densty=0.2': axes.densty: unknown key; did you mean 'density'?");
    bad(SMALL, "methods.7=dense", "--set 'methods.7=dense': found '7', expected an index below 2");
    bad(SMALL, "name.x=1", "--set 'name.x=1': found 't' one step up, expected a list or mapping");
    bad(SMALL, "seed", "--set 'seed': expected KEY=VALUE");
    bad(SMALL, "=3", "--set '=3': expected KEY=VALUE");
    bad(SMALL, "a..b=3", "--set 'a..b=3': an empty step in the key, expected KEY.KEY=VALUE");
    bad(SMALL, "seed=[",
        "--set 'seed=[': not valid YAML: while parsing a flow node, did not find expected node "
        "content");
    bad(SMALL, "name=", "--set 'name=': name: found nothing, expected a text");
}

static void unknown_keys(void **state)
{
    (void)state;
    bad(SMALL "sead: 3\n", NULL, ":7: sead: unknown key; did you mean 'seed'?");
    bad(SMALL "context: 3\n", NULL, ":7: context: unknown key; it belongs in axes");
    bad(SMALL "zebra: 3\n", NULL, ":7: zebra: unknown key; `swbench help config` lists them");
    bad(HEAD SYNTHETIC AXES
        "methods:\n- name: dense\n- name: onehop\n  params:\n    blocksize: 3\n",
        NULL, ":10: methods[1].params.blocksize: unknown key; did you mean 'block_size'?");
    char names[400] = "", expected[500];
    for (int i = 0; sw_methods[i]; i++) {
        strcat(names, i ? ", " : "");
        strcat(names, sw_methods[i]->name);
    }
    snprintf(expected, sizeof expected,
             ":6: methods[0]: found 'onehpo', expected a method: %s; did you mean 'onehop'?",
             names);
    bad(HEAD SYNTHETIC AXES "methods: [onehpo]\n", NULL, expected);
    bad(HEAD "workloads:\n- kind: synthetic\n  shape: llama-3.1-8b\n  samples: 3\n" AXES METHODS,
        NULL, ":6: workloads[0].samples: workloads of kind synthetic have no such key");
}

static void wrong_values(void **state)
{
    (void)state;
    bad("version: 2\nname: t\n" SYNTHETIC AXES METHODS, NULL, ":1: version: found '2', expected 1");
    bad("version: 1\nname: a/b\n" SYNTHETIC AXES METHODS, NULL,
        ":2: name: found 'a/b', expected a file name of at most 100 bytes, without '/', not "
        "starting with '.' or '-'");
    bad(SMALL "seed: 9223372036854775808\n", NULL,
        ":7: seed: found '9223372036854775808', expected an integer 0…9223372036854775807");
    bad(SMALL "seed: -1\n", NULL,
        ":7: seed: found '-1', expected an integer 0…9223372036854775807");
    bad(SMALL "backend: gpu\n", NULL, ":7: backend: found 'gpu', expected auto|cpu|cuda");
    bad(SMALL "strict: yes\n", NULL, ":7: strict: found 'yes', expected true|false");
    bad(SMALL "threads: '2'\n", NULL,
        ":7: threads: found '2', expected an integer 0…4096 without quotes");
    bad(SMALL "measure: [acuracy]\n", NULL,
        ":7: measure: found 'acuracy', expected a list of accuracy|recovery|output_error|latency");
    bad(SMALL "timing: 3\n", NULL, ":7: timing: found '3', expected a mapping");
    bad(SMALL "output: [a]\n", NULL, ":7: output: found a list, expected a text");
    bad(HEAD SYNTHETIC METHODS "axes: {context: [1, 1], density: 1}\n", NULL,
        ":6: axes.context: '1' is there twice");
    bad(HEAD SYNTHETIC METHODS "axes: {context: 0, density: 1}\n", NULL,
        ":6: axes.context: found '0', expected an integer 1…16777216");
    bad(HEAD SYNTHETIC METHODS "axes: {context: 1, density: [0]}\n", NULL,
        ":6: axes.density: found '0', expected a number in (0, 1]");
    bad(HEAD SYNTHETIC METHODS "axes: {context: 1, density: .nan}\n", NULL,
        ":6: axes.density: found '.nan', expected a number in (0, 1]");
    bad(HEAD SYNTHETIC METHODS "axes: {context: 1, density: [1e-3, 0.001]}\n", NULL,
        ":6: axes.density: '0.001' is there twice");
    bad(HEAD SYNTHETIC METHODS "axes: {context: [], density: 1}\n", NULL,
        ":6: axes.context: found an empty list, expected an integer 1…16777216");
    bad(HEAD AXES METHODS "workloads:\n- {kind: task, model: m, tasks: [../x]}\n", NULL,
        ":6: workloads[0].tasks: found '../x', expected a name that can be a part of a file name");
    bad(HEAD AXES METHODS
        "workloads:\n- {kind: task, model: m, tasks: a, samples: 2, recovery_samples: 3}\n",
        NULL, ":6: workloads[0].recovery_samples: found 3, expected at most samples (2)");
    bad(HEAD AXES METHODS "workloads:\n- {kind: tensor, path: m}\n", NULL,
        ":6: workloads[0].kind: found 'tensor', expected task|tensors|synthetic");
    bad(HEAD AXES METHODS "workloads: []\n", NULL,
        ":5: workloads: found a list, expected a list of at least one workload");
}

static void missing_and_doubled(void **state)
{
    (void)state;
    bad(HEAD SYNTHETIC METHODS, NULL,
        ":1: axes.context: missing, expected an integer 1…16777216, or a list of these");
    bad(HEAD SYNTHETIC METHODS "axes: {context: 5}\n", NULL,
        ":6: axes.density: missing, expected a number in (0, 1], or a list of these");
    bad("version: 1\n" SYNTHETIC AXES METHODS, NULL, ":1: name: missing, expected a text");
    bad(HEAD AXES METHODS "workloads:\n- kind: task\n  tasks: a\n", NULL,
        ":6: workloads[0].model: missing, expected a text");
    bad(HEAD SYNTHETIC AXES "methods: [dense, {name: dense}]\n", NULL,
        ":6: methods[1]: the same method with the same parameters as methods[0]");
    bad(HEAD SYNTHETIC AXES
        "methods:\n- {name: onehop, params: {block_size: [32, 64]}}\n- onehop\n",
        NULL, ":8: methods[1]: the same method with the same parameters as methods[0]");
    sw_config_free(good(HEAD SYNTHETIC AXES
                        "methods:\n- {name: onehop, params: {block_size: [32, 16]}}\n- onehop\n",
                        NULL));
    /* where nothing depends on an axis, it may be missing */
    sw_config_free(good(HEAD SYNTHETIC "axes: {context: 5}\nmethods: dense\n"
                                       "budget: matched\n",
                        "methods=[dense]"));
    sw_config_free(
        good(HEAD METHODS "budget: native\nworkloads: [{kind: tensors, path: x.h5}]\n", NULL));
}

static void all_problems_are_listed(void **state)
{
    (void)state;
    struct sw_config *config = NULL;
    static const char text[] = "version: 3\nsead: 1\nworkloads: 3\nmethods: [nothing_like_it]\n";
    char *messages = read_messages(text, strlen(text), NULL, 0, &config);
    int lines = 0;
    for (const char *p = messages; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 5); /* version, sead, workloads, methods[0], and no name */
    free(messages);
}

static void hostile(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "~",
        "3",
        "[1]",
        "a: &x 1\nb: *x\n",
        "a: !!str 3\n",
        "a: 1\na: 2\n",
        "{a: 1}\n---\n{b: 2}\n",
        "? [a]\n: b\n",
        "a: \"x\\0y\"\n",
        "\"a\\0b\": 1\n",
        "a: [",
        "\t",
        "<<: {a: 1}\n",
        "\xff\xfe",
        "a: \x01\n",
        "{? : ? }",
        "- - - - - - - - - - - - - - - - 1",
        "a:\n - b\nc",
        "%YAML 9.9\n---\na: 1\n",
        SMALL "name: again\n",
        SMALL "output: \"a\\nb\"\n",
        SMALL
        "? very_long_key_very_long_key_very_long_key_very_long_key_very_long_key_very_long_key\n: "
        "1\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sw_config *config = NULL;
        char *messages = read_messages(texts[i], strlen(texts[i]), NULL, 0, &config);
        if (config)
            fail_msg("accepted: %s", texts[i]);
        free(messages);
    }
}

static void every_truncation_is_survived(void **state)
{
    (void)state;
    static const char text[] = SMALL "seed: 12\nmeasure: [recovery]\n";
    for (size_t size = 0; size < sizeof text; size++) {
        struct sw_config *config = NULL;
        free(read_messages(text, size, NULL, 0, &config));
        sw_config_free(config);
    }
    for (size_t at = 0; at + 1 < sizeof text; at++) /* and every byte turned into something else */
        for (const char *c = "\"[{:&\n "; *c; c++) {
            char changed[sizeof text];
            struct sw_config *config = NULL;
            memcpy(changed, text, sizeof text);
            changed[at] = *c;
            free(read_messages(changed, sizeof text - 1, NULL, 0, &config));
            sw_config_free(config);
        }
}

static void big_input_is_bounded(void **state)
{
    (void)state;
    enum { SIZE = (1 << 20) + 1 };
    char *text = malloc(SIZE);
    struct sw_config *config = NULL;
    assert_non_null(text);
    static const char fill[] = {'[', 'x', '-', '{', '\n', ' ', '"', '#', ':', '\t'};
    for (size_t i = 0; i < sizeof fill; i++) {
        memset(text, fill[i], SIZE);
        free(read_messages(text, SIZE, NULL, 0, &config));
        free(read_messages(text, SIZE - 1, NULL, 0, &config));
    }
    for (int i = 0; i + 3 <= SIZE; i += 3)
        memcpy(text + i, i == 0 ? "[a," : "a, ", 3);
    char *messages = read_messages(text, SIZE - 1, NULL, 0, &config);
    assert_non_null(strstr(messages, "found more than 10000 values, expected a config"));
    free(messages);
    free(text);
}

static void no_such_file(void **state)
{
    (void)state;
    struct sw_config *config = NULL;
    assert_int_equal(sw_config_read("/nowhere/at/all.yaml", NULL, 0, NULL, &config), SW_EINPUT);
    assert_string_equal(sw_error_message(),
                        "/nowhere/at/all.yaml: cannot open: No such file or directory");
    sw_error_clear();
    assert_int_equal(sw_config_read("/tmp", NULL, 0, NULL, &config), SW_EINPUT);
    sw_error_clear();
}

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(file);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(everything_is_read),
        cmocka_unit_test(overrides),
        cmocka_unit_test(unknown_keys),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(missing_and_doubled),
        cmocka_unit_test(all_problems_are_listed),
        cmocka_unit_test(hostile),
        cmocka_unit_test(every_truncation_is_survived),
        cmocka_unit_test(big_input_is_bounded),
        cmocka_unit_test(no_such_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
