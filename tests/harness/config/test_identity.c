/* Which cells are the same: what each hash of an identity depends on, and on what it does not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/config/identity.h"
#include "harness/config/param_json.h"

/* Everything that an identity is made of. */
struct made {
    struct sw_named_shape shape, other_shape;
    struct sw_workload workload;
    struct sw_config config;
    struct sw_backend backend;
    struct sw_cell cell;
};

static char text_a[] = "models/a", text_b[] = "models/b", bundle_a[] = "a.h5", bundle_b[] = "b.h5";

static void make(struct made *m, enum sw_workload_kind kind)
{
    *m = (struct made){
        .shape = {.name = "one"},
        .other_shape = {.name = "other"},
        .workload = {.kind = kind,
                     .model = text_a,
                     .path = bundle_a,
                     .samples = 8,
                     .recovery_samples = 1,
                     .decode_tokens = 16},
        .config =
            {.measure = SW_MEASURE_ACCURACY | SW_MEASURE_LATENCY,
             .timing = {.warmup_ms = 25, .min_runs = 3, .max_seconds = 15, .target_error = 0.005}},
        .backend = {.name = "cpu", .device = "A Processor", .variant = "isa=avx2"},
        .cell = {.task = kind == SW_WORKLOAD_TASK ? "ppl" : NULL,
                 .shape = {.n_layers = 4},
                 .input_hash = "0123456789abcdef0123456789abcdef",
                 .method = sw_method_find("xattention"),
                 .context = 1024,
                 .density = 0.2,
                 .budget = SW_BUDGET_MATCHED,
                 .dense_layers = 2,
                 .seed = 1},
    };
    m->workload.shape = &m->shape;
    m->cell.config = &m->config;
    m->cell.workload = &m->workload;
    m->cell.params = calloc(1, m->cell.method->params_size);
    assert_non_null(m->cell.params);
    assert_int_equal(sw_param_defaults(m->cell.method->params, m->cell.params), SW_OK);
}

static void set_param(struct made *m, const char *name, const char *value)
{
    const struct sw_param *param = sw_param_find(m->cell.method->params, name);
    assert_non_null(param);
    assert_int_equal(sw_param_set(param, m->cell.params, value), SW_OK);
}

static void add_file(struct made *m, const char *hash)
{
    assert_int_equal(sw_texts_add(&m->cell.param_files, "thresholds"), SW_OK);
    assert_int_equal(sw_texts_add(&m->cell.param_files, hash), SW_OK);
}

/* --- one change a row ------------------------------------------------------------------------- */

#define CHANGE(name, ...) \
    static void name(struct made *m) { __VA_ARGS__; }
CHANGE(nothing, (void)m)
CHANGE(backend, m->backend.name = "cuda")
CHANGE(device, m->backend.device[0] = 'B')
CHANGE(variant, snprintf(m->backend.variant, sizeof m->backend.variant, "isa=sse2"))
CHANGE(model, m->workload.model = text_b)
CHANGE(bundle, m->workload.path = bundle_b)
CHANGE(shape, m->workload.shape = &m->other_shape)
CHANGE(task, m->cell.task = "niah_single_1")
CHANGE(samples, m->workload.samples = 9)
CHANGE(recovery_samples, m->workload.recovery_samples = 2)
CHANGE(generator, m->workload.generator = SW_GENERATOR_GAUSSIAN)
CHANGE(layers, m->cell.shape.n_layers = 5)
CHANGE(decode_tokens, m->workload.decode_tokens = 17)
CHANGE(whole_model, m->workload.whole_model = true)
CHANGE(input, m->cell.input_hash[31] = '0')
CHANGE(context, m->cell.context = 1025)
CHANGE(phase, m->cell.phase = SW_PHASE_BOTH)
CHANGE(dense_layers, m->cell.dense_layers = 0)
CHANGE(seed, m->cell.seed = INT64_MAX)
CHANGE(seed_nearby, m->cell.seed = INT64_MAX - 1)
CHANGE(measure, m->config.measure |= SW_MEASURE_RECOVERY)
CHANGE(no_latency, m->config.measure = SW_MEASURE_ACCURACY)
CHANGE(save, m->config.save = SW_SAVE_OUTPUT)
CHANGE(threads, m->config.threads = 1)
CHANGE(warmup_ms, m->config.timing.warmup_ms = 25.5)
CHANGE(min_runs, m->config.timing.min_runs = 4)
CHANGE(max_seconds, m->config.timing.max_seconds = 16)
CHANGE(target_error, m->config.timing.target_error = 0.01)
CHANGE(method, m->cell.method = sw_method_find("oracle"))
CHANGE(block_size, set_param(m, "block_size", "32"))
CHANGE(threshold, set_param(m, "threshold", "0.8"))
CHANGE(threshold_nearby, set_param(m, "threshold", "0.80000000000000016"))
CHANGE(file, add_file(m, "aa"))
CHANGE(other_file, add_file(m, "ab"))
CHANGE(density, m->cell.density = 0.20000000000000004)
CHANGE(native, m->cell.density = NAN)
CHANGE(budget, m->cell.budget = SW_BUDGET_NATIVE)
CHANGE(baseline, m->config.baseline = SW_BASELINE_OWN)

enum { TASK = 1, TENSORS = 2, SYNTHETIC = 4, ALL = 7 };
static const struct row {
    void (*change)(struct made *m);
    int kinds;   /* of workloads that have this */
    bool shared; /* by the cells that a cell is compared with */
} rows[] = {
    {nothing, ALL, true},
    {backend, ALL, true},
    {device, ALL, true},
    {variant, ALL, true},
    {model, TASK, true},
    {bundle, TENSORS, true},
    {shape, SYNTHETIC, true},
    {task, TASK, true},
    {samples, TASK, true},
    {recovery_samples, TASK, true},
    {generator, SYNTHETIC, true},
    {layers, SYNTHETIC, true},
    {decode_tokens, SYNTHETIC, true},
    {whole_model, SYNTHETIC, true},
    {input, ALL, true},
    {context, ALL, true},
    {phase, ALL, true},
    {dense_layers, ALL, true},
    {seed, ALL, true},
    {seed_nearby, ALL, true},
    {measure, ALL, true},
    {no_latency, ALL, true},
    {save, ALL, true},
    {threads, ALL, true},
    {warmup_ms, ALL, true},
    {min_runs, ALL, true},
    {max_seconds, ALL, true},
    {target_error, ALL, true},
    {method, ALL, false},
    {block_size, ALL, false},
    {threshold, ALL, false},
    {threshold_nearby, ALL, false},
    {file, ALL, false},
    {other_file, ALL, false},
    {density, ALL, false},
    {native, ALL, false},
    {budget, ALL, false},
};
enum { ROWS = sizeof rows / sizeof *rows };

static struct sw_identity_hashes hashes_of(const struct row *row, int kind)
{
    struct made m;
    struct sw_identity_hashes out, again;
    make(&m, (enum sw_workload_kind)kind);
    const struct sw_method *table = m.cell.method; /* of the parameters, whatever the name */
    row->change(&m);
    assert_int_equal(sw_param_json(table->params, m.cell.params, &m.cell.params_json), SW_OK);
    assert_int_equal(sw_identify(&m.cell, &m.backend), SW_OK);
    memcpy(out.key, m.cell.key, sizeof out.key);
    memcpy(out.experiment, m.cell.experiment, sizeof out.experiment);
    memcpy(out.conditions, m.cell.conditions, sizeof out.conditions);
    /* A reader makes the same of the stored text. */
    assert_int_equal(sw_identity_hash(m.cell.identity, &again), SW_OK);
    assert_memory_equal(&out, &again, sizeof out);
    m.cell.method = table;
    sw_cell_clear(&m.cell);
    return out;
}

static void each_change_counts(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct sw_identity_hashes all[ROWS];
        for (int i = 0; i < ROWS; i++) {
            if (!(rows[i].kinds & 1 << kind))
                continue;
            all[i] = hashes_of(&rows[i], kind);
            assert_int_equal(strlen(all[i].key), SW_HASH_SIZE - 1);
            assert_int_equal(strspn(all[i].experiment, "0123456789abcdef"), SW_HASH_SIZE - 1);
            bool same = strcmp(all[i].conditions, all[0].conditions) == 0;
            if (i > 0 && same == rows[i].shared)
                fail_msg("row %d, kind %d: conditions", i, kind);
            for (int j = 0; j < i; j++)
                if (rows[j].kinds & 1 << kind &&
                    (strcmp(all[i].key, all[j].key) == 0 ||
                     strcmp(all[i].experiment, all[j].experiment) == 0))
                    fail_msg("rows %d and %d, kind %d: the same hash", i, j, kind);
        }
    }
}

/* --- what does not count ---------------------------------------------------------------------- */

static const char stored[] =
    "{\"version\": 1, \"code\": \"aa\", \"method\": \"onehop\", \"params\": {\"block_size\": 32}, "
    "\"density\": 1, \"list\": [1, \"a\", null], \"seed\": 9223372036854775807}";

static void hash(const char *identity, struct sw_identity_hashes *out)
{
    assert_int_equal(sw_identity_hash(identity, out), SW_OK);
}

static void spelling_does_not_count(void **state)
{
    (void)state;
    struct sw_identity_hashes a, b;
    hash(stored, &a);
    hash("{\"code\":\"aa\",\"version\":1.0, \"seed\": 9223372036854775807, \"list\": [1.0e0, "
         "\"\\u0061\", null], \"density\": 1.0, \"method\": \"onehop\", \"params\": "
         "{\"block_size\": 32.0}}",
         &b);
    assert_memory_equal(&a, &b, sizeof a);
    hash("{\"version\": 1, \"code\": \"aa\", \"method\": \"onehop\", \"params\": {\"block_size\": "
         "32}, \"density\": 1, \"list\": [\"a\", 1, null], \"seed\": 9223372036854775807}",
         &b);
    assert_string_not_equal(a.experiment, b.experiment); /* the order of a list does */
}

static void code_is_in_the_key_alone(void **state)
{
    (void)state;
    struct sw_identity_hashes a, b;
    char other[sizeof stored];
    strcpy(other, stored);
    strstr(other, "\"aa\"")[1] = 'b';
    hash(stored, &a);
    hash(other, &b);
    assert_string_not_equal(a.key, b.key);
    assert_string_equal(a.experiment, b.experiment);
    assert_string_equal(a.conditions, b.conditions);
}

/* Threads that the environment asks for are as good as the config's; a config's own count goes
 * first. */
static void threads_of_the_environment(void **state)
{
    (void)state;
    const struct row plain = {nothing, ALL, true}, one = {threads, ALL, true};
    struct sw_identity_hashes all = hashes_of(&plain, SW_WORKLOAD_SYNTHETIC),
                              by_config = hashes_of(&one, SW_WORKLOAD_SYNTHETIC);
    setenv("SWBENCH_THREADS", "1", true);
    struct sw_identity_hashes by_environment = hashes_of(&plain, SW_WORKLOAD_SYNTHETIC);
    setenv("SWBENCH_THREADS", "2", true);
    struct sw_identity_hashes by_both = hashes_of(&one, SW_WORKLOAD_SYNTHETIC);
    unsetenv("SWBENCH_THREADS");
    assert_string_not_equal(by_environment.key, all.key);
    assert_string_equal(by_environment.key, by_config.key);
    assert_string_equal(by_both.key, by_config.key);
}

/* How results are read decides no figure: no cell is run again for it. */
static void the_baseline_does_not_count(void **state)
{
    (void)state;
    const struct row plain = {nothing, ALL, true}, other = {baseline, ALL, true};
    struct sw_identity_hashes a = hashes_of(&plain, SW_WORKLOAD_SYNTHETIC),
                              b = hashes_of(&other, SW_WORKLOAD_SYNTHETIC);
    assert_memory_equal(&a, &b, sizeof a);
}

/* A parameter that older code did not have, at the value that the older code had built in. */
static void new_parameters_at_their_default(void **state)
{
    (void)state;
    struct sw_identity_hashes old, new, other;
    hash("{\"code\": \"aa\", \"method\": \"dense\", \"params\": {}}", &old);
    hash("{\"code\": \"bb\", \"method\": \"dense\", \"params\": {\"kernel\": \"best\"}}", &new);
    hash("{\"code\": \"bb\", \"method\": \"dense\", \"params\": {\"kernel\": \"own\"}}", &other);
    assert_string_equal(old.experiment, new.experiment);
    assert_string_not_equal(old.experiment, other.experiment);
    assert_string_not_equal(old.key, new.key);
}

static void what_is_no_identity(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{", "[]", "{}", "{\"code\": 1}", "{\"cell\": \"x\"}"};
    struct sw_identity_hashes out;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(sw_identity_hash(texts[i], &out), SW_EINPUT);
        sw_error_clear();
    }
}

int main(void)
{
    unsetenv("SWBENCH_THREADS"); /* of whoever runs the tests */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_counts),
        cmocka_unit_test(spelling_does_not_count),
        cmocka_unit_test(code_is_in_the_key_alone),
        cmocka_unit_test(threads_of_the_environment),
        cmocka_unit_test(the_baseline_does_not_count),
        cmocka_unit_test(new_parameters_at_their_default),
        cmocka_unit_test(what_is_no_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
