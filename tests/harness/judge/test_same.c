/* Which cells belong together: the counterparts of a row, and cells of two folders. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/judge/same.h"

static struct sw_tidy_row row(const char *method, const char *params, const char *conditions,
                              double density, double value)
{
    return (struct sw_tidy_row){.cell = "",
                                .method = method,
                                .params = params,
                                .conditions = conditions,
                                .experiment = "",
                                .metric = "prefill_attention_ms",
                                .status = "ok",
                                .budget = "matched",
                                .baseline = "fastest",
                                .layer = -1,
                                .density = density,
                                .value = value};
}

#define B(n)            "{\"block_size\": " #n "}"
#define ORACLE(n, unit) "{\"block_size\": " #n ", \"unit\": \"" unit "\", \"forced\": \"common\"}"

static struct sw_same *make(struct sw_tidy *tidy)
{
    struct sw_same *same;
    assert_int_equal(sw_same_make(tidy, &same), SW_OK);
    return same;
}

static void counterparts_share_conditions(void **state)
{
    (void)state;
    enum { ONE, TWO, SLOW, FAST, WRONG_DENSITY, HOP, LAYER, HEAD, OTHER, NATIVE, FAILED, N };
    struct sw_tidy_row rows[N] = {
        [ONE] = row("sketchwalk", B(64), "a", 0.25, 1),
        [TWO] = row("sketchwalk", B(64), "b", 0.25, 1),
        [SLOW] = row("dense", B(64), "a", 1, 9),
        [FAST] = row("dense", B(32), "a", 1, 4),
        [WRONG_DENSITY] = row("onehop", B(64), "a", 0.5, 2),
        [HOP] = row("onehop", B(16), "a", 0.25, 2),
        [LAYER] = row("oracle", ORACLE(64, "layer"), "a", 0.25, 3),
        [HEAD] = row("oracle", ORACLE(64, "head"), "a", 0.25, 3),
        [OTHER] = row("oracle", ORACLE(32, "head"), "a", 0.25, 3),
        [NATIVE] = row("quest", B(64), "a", NAN, 3),
        [FAILED] = row("dense", B(16), "a", 1, 1),
    };
    rows[NATIVE].budget = "native";
    rows[FAILED].status = "failed";
    struct sw_tidy tidy = {.rows = rows, .count = N};
    struct sw_same *same = make(&tidy);
    bool kernel;
    assert_ptr_equal(sw_same_dense(same, &rows[ONE]), &rows[SLOW]); /* its own block size */
    assert_ptr_equal(sw_same_baseline(same, &rows[ONE], &kernel), &rows[FAST]);
    assert_ptr_equal(sw_same_baseline(same, &rows[FAST], &kernel), &rows[FAST]);
    assert_ptr_equal(sw_same_one_hop(same, &rows[ONE]), &rows[HOP]);
    assert_ptr_equal(sw_same_oracle(same, &rows[ONE]), &rows[HEAD]);
    assert_ptr_equal(sw_same_baseline(same, &rows[NATIVE], &kernel), &rows[FAST]);
    assert_null(sw_same_one_hop(same, &rows[NATIVE]));
    assert_null(sw_same_dense(same, &rows[TWO])); /* another workload's would do no good */
    assert_null(sw_same_baseline(same, &rows[TWO], &kernel));
    assert_null(sw_same_one_hop(same, &rows[TWO]));
    assert_null(sw_same_oracle(same, &rows[TWO]));
    sw_same_free(same);
}

/* A config may name the kernel whose dense cell is the baseline: of those the fastest; without one,
 * the fastest of all, and the caller is told. */
static void the_baseline_is_a_rule(void **state)
{
    (void)state;
#define K(n, kernel) "{\"block_size\": " #n ", \"kernel\": \"" kernel "\"}"
    enum { FAST, OWN_SLOW, OWN, METHOD, N };
    struct sw_tidy_row rows[N] = {
        [FAST] = row("dense", K(64, "best"), "a", 1, 4),
        [OWN_SLOW] = row("dense", K(64, "own"), "a", 1, 9),
        [OWN] = row("dense", K(32, "own"), "a", 1, 7),
        [METHOD] = row("sketchwalk", B(64), "a", 0.25, 1),
    };
    const struct {
        const char *baseline;
        int expected;
        bool kernel;
    } cases[] = {{"fastest", FAST, false},
                 {"best", FAST, true},
                 {"own", OWN, true},
                 {"library", FAST, false},
                 {"of a later version", FAST, false}};
    struct sw_tidy tidy = {.rows = rows, .count = N};
    struct sw_same *same = make(&tidy);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool kernel;
        rows[METHOD].baseline = cases[i].baseline;
        assert_ptr_equal(sw_same_baseline(same, &rows[METHOD], &kernel), &rows[cases[i].expected]);
        assert_int_equal(kernel, cases[i].kernel);
    }
    sw_same_free(same);
}

/* Of several one-hop cells the partner is the one of the same scores; of a method that has no such
 * parameter, the one-hop method as it is by default. */
static void the_partner_is_of_the_same_variant(void **state)
{
    (void)state;
#define V(name) "{\"block_size\": 64, \"variant\": \"" name "\"}"
    struct sw_tidy_row rows[] = {
        row("onehop", V("arxiv"), "a", 0.25, 1),    row("onehop", V("icml"), "a", 0.25, 1),
        row("onehop", V("softmax"), "a", 0.25, 1),  row("sketchwalk", V("arxiv"), "a", 0.25, 1),
        row("sketchwalk", V("icml"), "a", 0.25, 1), row("sketchwalk", V("softmax"), "a", 0.25, 1),
        row("xattention", B(64), "a", 0.25, 1),
    };
    struct sw_tidy tidy = {.rows = rows, .count = sizeof rows / sizeof *rows};
    struct sw_same *same = make(&tidy);
    for (int i = 0; i < 3; i++)
        assert_string_equal(sw_same_one_hop(same, &rows[3 + i])->params, rows[3 + i].params);
    assert_string_equal(sw_same_one_hop(same, &rows[6])->params, V("icml"));
    sw_same_free(same);
}

/* What is chosen does not depend on the order of the rows, which is that of keys among equals. */
static void the_order_of_rows_does_not_matter(void **state)
{
    (void)state;
    const char *chosen[2];
    for (int turn = 0; turn < 2; turn++) {
        struct sw_tidy_row rows[3] = {row("sketchwalk", B(64), "a", 0.25, 1)};
        rows[1 + turn] = row("dense", B(32), "a", 1, 5);
        rows[2 - turn] = row("dense", B(16), "a", 1, 5);
        struct sw_tidy tidy = {.rows = rows, .count = 3};
        struct sw_same *same = make(&tidy);
        bool kernel;
        assert_string_equal(sw_same_dense(same, &rows[0])->params, B(16));
        chosen[turn] = sw_same_baseline(same, &rows[0], &kernel)->params;
        sw_same_free(same);
    }
    assert_string_equal(chosen[0], chosen[1]);
}

/* A scan of the table for each question would take hours. */
static void many_rows(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct sw_tidy_row *rows = calloc(N, sizeof *rows);
    char(*conditions)[16] = calloc(N, sizeof *conditions);
    for (int i = 0; i < N; i += 2) {
        snprintf(conditions[i], sizeof conditions[i], "%d", i / 2000);
        rows[i] = row("onehop", B(16), conditions[i], i % 2000 / 2000.0, i);
        rows[i + 1] = i % 2000 ? row("sketchwalk", B(16), conditions[i], i % 2000 / 2000.0, i)
                               : row("dense", B(16), conditions[i], 1, i);
    }
    struct sw_tidy tidy = {.rows = rows, .count = N};
    alarm(120);
    struct sw_same *same = make(&tidy);
    for (int i = 0; i < N; i++) {
        bool kernel;
        const struct sw_tidy_row *dense = sw_same_baseline(same, &rows[i], &kernel),
                                 *hop = sw_same_one_hop(same, &rows[i]);
        assert_ptr_equal(dense, &rows[i / 2000 * 2000 + 1]);
        assert_true(rows[i].density == 1 || hop == &rows[i / 2 * 2]);
    }
    alarm(0);
    sw_same_free(same);
    free(conditions);
    free(rows);
}

static void one_experiment_by_other_code(void **state)
{
    (void)state;
#define IDENTITY(code, device, params, density)                                     \
    "{\"code\": \"" code "\", \"device\": \"" device "\", \"method\": \"onehop\", " \
    "\"input\": \"aa\", \"params\": {" params "}, \"density\": " density "}"
    const char *const identities[] = {
        IDENTITY("1", "x", "\"block_size\": 16", "1"),
        IDENTITY("2", "y", "\"block_size\": 16, \"sketch_dim\": 0", "1.0"), /* a default */
        IDENTITY("1", "x", "\"block_size\": 32", "1"),
    };
    char *texts[3], *inputs[3], *none;
    for (int i = 0; i < 3; i++)
        assert_int_equal(sw_same_across_code(identities[i], &texts[i], &inputs[i]), SW_OK);
    assert_string_equal(texts[0], texts[1]);
    assert_string_not_equal(texts[0], texts[2]);
    assert_string_equal(inputs[0], "aa");
    for (int i = 0; i < 3; i++) {
        free(texts[i]);
        free(inputs[i]);
    }
    assert_int_equal(sw_same_across_code("[]", &none, &none), SW_EINPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counterparts_share_conditions),
        cmocka_unit_test(the_baseline_is_a_rule),
        cmocka_unit_test(the_partner_is_of_the_same_variant),
        cmocka_unit_test(the_order_of_rows_does_not_matter),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(one_experiment_by_other_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
