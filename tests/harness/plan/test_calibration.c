/* Calibrated thresholds: which cell finds which one, in a file that is written and read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/method.h"
#include "harness/plan/calibration.h"
#include "tests/support/backends.h"
#include "tests/support/folder.h"

static const struct sw_named_shape shape = {.name = "smollm2-135m"};
static char params[] = "{\"block_size\": 64, \"threshold\": 0.9}",
            other_params[] = "{\"block_size\": 32, \"threshold\": 0.5}";

struct made {
    struct sw_workload workload;
    struct sw_cell cell;
};

static void make(struct made *m)
{
    *m = (struct made){.workload = {.kind = SW_WORKLOAD_SYNTHETIC, .shape = &shape},
                       .cell = {.method = sw_method_find("xattention"),
                                .params_json = params,
                                .shape = {.n_layers = 4},
                                .context = 1024,
                                .dense_layers = 2,
                                .density = 0.2}};
    m->cell.workload = &m->workload;
}

static void write_one(const struct made *m, const char *name)
{
    const struct sw_calibrated found = {
        .cell = &m->cell, .parameter = "threshold", .value = 0.75, .achieved = 0.21, .prompts = 3};
    sw_test_ok(sw_calibration_write(sw_test_path(name), &found, 1, true));
}

static bool finds(const char *name, const struct made *m)
{
    struct sw_calibration *c;
    sw_test_ok(sw_calibration_read(sw_test_path(name), &c));
    char *value = sw_calibration_find(c, &m->cell, "threshold"),
         *other = sw_calibration_find(c, &m->cell, "block_size");
    sw_calibration_free(c);
    bool found = value != NULL;
    assert_true(!found || strtod(value, NULL) == 0.75);
    assert_null(other);
    free(value);
    return found;
}

/* Each of these asks for a threshold of its own; the threshold that the cell has by now does not.
 */
static void a_threshold_is_of_one_experiment(void **state)
{
    (void)state;
    enum { SAME, THRESHOLD, CONTEXT, DENSE, DENSITY, PARAMS, LAYERS, WHOLE, GENERATOR, N };
    struct made made, others[N];
    make(&made);
    write_one(&made, "one.json");
    for (int i = 0; i < N; i++) {
        make(&others[i]);
        others[i].cell.workload = &others[i].workload;
    }
    others[THRESHOLD].cell.params_json = strdup("{\"threshold\": 0.1, \"block_size\": 64}");
    others[CONTEXT].cell.context = 2048;
    others[DENSE].cell.dense_layers = 0;
    others[DENSITY].cell.density = 0.3;
    others[PARAMS].cell.params_json = other_params;
    others[LAYERS].cell.shape.n_layers = 6;
    others[WHOLE].workload.whole_model = true;
    others[GENERATOR].workload.generator = SW_GENERATOR_GAUSSIAN;
    for (int i = 0; i < N; i++)
        if (finds("one.json", &others[i]) != (i <= THRESHOLD))
            fail_msg("cell %d", i);
    free(others[THRESHOLD].cell.params_json);
}

/* As 0.1 wrote it: without layers it is for any. */
static void an_entry_of_before(void **state)
{
    (void)state;
    struct made m;
    make(&m);
    sw_test_write("old.json",
                  "{\"format\": \"swbench-calibration\", \"version\": 1, \"entries\": [{\"model\": "
                  "\"smollm2-135m\", \"task\": \"planted\", \"context\": 1024, \"dense_layers\": "
                  "2, \"method\": \"xattention\", \"params\": {\"block_size\": 64}, \"density\": "
                  "0.2, \"parameter\": \"threshold\", \"value\": 0.75}]}");
    assert_true(finds("old.json", &m));
    m.cell.shape.n_layers = 6;
    assert_true(finds("old.json", &m));
    m.cell.context = 512;
    assert_false(finds("old.json", &m));
}

static void what_is_no_calibration(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[", "bad.json:1: "},
        {"{}", "found no format \"swbench-calibration\""},
        {"{\"format\": \"swbench-calibration\", \"version\": 2}", "of version 1"},
        {"{\"format\": \"swbench-calibration\", \"version\": 1}", "entries: expected a list"},
        {"{\"format\": \"swbench-calibration\", \"version\": 1, \"entries\": [{\"model\": 1}]}",
         "entries[0].model: expected a text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sw_calibration *c;
        sw_test_write("bad.json", cases[i].text);
        assert_int_equal(sw_calibration_read(sw_test_path("bad.json"), &c), SW_EINPUT);
        assert_non_null(strstr(sw_error_message(), cases[i].message));
        sw_error_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_threshold_is_of_one_experiment),
                                       cmocka_unit_test(an_entry_of_before),
                                       cmocka_unit_test(what_is_no_calibration)};
    return cmocka_run_group_tests(tests, sw_test_folder_make, sw_test_folder_remove);
}
