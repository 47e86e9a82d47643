/* Files that say something about each head: what they mean, what methods make of them, and that
 * anything else in them is one line of error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/method.h"
#include "core/methods/shared/head_config.h"
#include "tests/support/backends.h"
#include "tests/support/buffers.h"
#include "tests/support/reference.h"

static char path[] = "/tmp/swbench-heads-XXXXXX";
static const struct sw_shape shape = {.n_layers = 3, .n_heads = 4, .n_kv_heads = 2, .head_dim = 64};

static void write_text(const char *text, size_t size)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static void refuse(enum sw_status st, const char *part)
{
    assert_int_equal(st, SW_EINPUT);
    const char *message = sw_error_message();
    if (!strstr(message, part) || strchr(message, '\n') || strlen(message) > 400)
        fail_msg("'%s' has no '%s', or is long, or not one line", message, part);
    sw_error_clear();
}

static void rules(void **state)
{
    (void)state;
    static const char text[] = "[{\"0\": [\"vertical_and_slash\", 512, 2048, 0.99], \"3\": "
                               "[\"stream_llm\", 100, 800, 12345]},\n"
                               " {\"2\": [\"block_sparse\", 0, 16777216]}]";
    struct sw_head_rule out[12];
    write_text(text, sizeof text - 1);
    assert_int_equal(sw_head_rules_read(path, &shape, NULL), SW_OK);
    assert_int_equal(sw_head_rules_read(path, &shape, out), SW_OK);
    for (int i = 0; i < 12; i++) {
        struct sw_head_rule want = i == 0 ? (struct sw_head_rule){SW_HEAD_VERTICAL_SLASH, 512, 2048}
                                   : i == 3 ? (struct sw_head_rule){SW_HEAD_A_SHAPE, 100, 800}
                                   : i == 6
                                       ? (struct sw_head_rule){SW_HEAD_BLOCK_SPARSE, 0, 16777216}
                                       /* left out, or no such layer */
                                       : (struct sw_head_rule){SW_HEAD_VERTICAL_SLASH, 1000, 6096};
        assert_true(out[i].pattern == want.pattern && out[i].columns == want.columns &&
                    out[i].slashes == want.slashes);
    }
    struct sw_shape first_layer = shape; /* what comes after the shape's layers is of no interest */
    first_layer.n_layers = 1;
    assert_int_equal(sw_head_rules_read(path, &first_layer, out), SW_OK);
    first_layer.n_heads = 3;
    refuse(sw_head_rules_read(path, &first_layer, out), "found head '3', expected 0…2");
}

static void hostile_rules(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", ":1: not JSON"},
        {"[{\"0\"", "not JSON"},
        {"[{\"0\": [\"a\nb\"]}]", "not JSON"},
        {"{}", "expected a list"},
        {"[]", "expected a list"},
        {"7", "not JSON"},
        {"[[1, 2]]", "layer 0: expected an object"},
        {"[{}, null]", "layer 1: expected an object"},
        {"[{\"0\": 1}]", "layer 0, head '0': expected [type"},
        {"[{\"0\": []}]", "expected [type"},
        {"[{\"0\": [\"vertical_and_slash\", 1]}]", "expected [type"},
        {"[{\"0\": [1, 2, 3, 4]}]", "expected [type"},
        {"[{\"0\": [\"slash\", 1, 2, 3]}]",
         "found type 'slash', expected vertical_and_slash, block_sparse or stream_llm"},
        {"[{\"0\": [\"a\\nb\", 1, 2, 3]}]", "found type 'a?b'"},
        {"[{\"0\": [\"stream_llm\", -1, 2, 3]}]", "the second entry is not an integer 0…16777216"},
        {"[{\"0\": [\"stream_llm\", 1, 16777217, 3]}]", "the third entry is not an integer"},
        {"[{\"0\": [\"stream_llm\", 1.5, 2, 3]}]", "the second entry"},
        {"[{\"0\": [\"stream_llm\", 99999999999999999999, 2, 3]}]", "not JSON"},
        {"[{\"4\": [\"stream_llm\", 1, 2, 3]}]", "found head '4', expected 0…3"},
        {"[{\"-1\": [\"stream_llm\", 1, 2, 3]}]", "found head '-1'"},
        {"[{\"01\": [\"stream_llm\", 1, 2, 3]}]", "found head '01'"},
        {"[{\"4294967296\": [\"stream_llm\", 1, 2, 3]}]", "found head"},
        {"[{\"\": [\"stream_llm\", 1, 2, 3]}]", "found head ''"},
        {"[{\"0\": [\"stream_llm\", 1, 2, 3], \"0\": [\"stream_llm\", 1, 2, 3]}]", "not JSON"},
    };
    struct sw_head_rule out[12];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        write_text(cases[c].text, strlen(cases[c].text));
        refuse(sw_head_rules_read(path, &shape, out), cases[c].part);
    }
    char *deep = malloc(1 << 20);
    memset(deep, '[', 1 << 20);
    write_text(deep, 1 << 20);
    refuse(sw_head_rules_read(path, &shape, out), "not JSON");
    free(deep);
    assert_int_equal(truncate(path, 17 << 20), 0);
    refuse(sw_head_rules_read(path, &shape, out), "at most 16 MiB");
    refuse(sw_head_rules_read("/tmp", &shape, out), "found something else");
    refuse(sw_head_rules_read("/dev/zero", &shape, out), "found something else");
    refuse(sw_head_rules_read("/nowhere/at/all", &shape, out), "cannot open");
    char pipe[sizeof path + 8];
    snprintf(pipe, sizeof pipe, "%s.pipe", path);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    /* and does not wait for a writer */
    refuse(sw_head_rules_read(pipe, &shape, out), "found something else");
    unlink(pipe);
}

static void shares(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]", "found 2 layers, expected 3"},
        {"[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0]]", "layer 2: expected a list of 4 numbers"},
        {"[[0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0]]", "layer 1: expected a list of 4 numbers"},
        {"[[0, 0, 0, 1.5], [0, 0, 0, 0], [0, 0, 0, 0]]",
         "layer 0, head 3: expected a number in [0, 1]"},
        {"[[0, \"1\", 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]", "layer 0, head 1"},
        {"[{}, {}, {}]", "layer 0: expected a list"},
    };
    static const char text[] =
        "[[0.5, 1, 0, 0.25], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1], [\"of another model\"]]";
    double out[12];
    write_text(text, sizeof text - 1);
    assert_int_equal(sw_head_shares_read(path, &shape, NULL), SW_OK);
    assert_int_equal(sw_head_shares_read(path, &shape, out), SW_OK);
    assert_true(out[0] == 0.5 && out[1] == 1 && out[3] == 0.25 && out[5] == 0.2 && out[11] == 1);
    for (size_t c = 0; c < sizeof bad / sizeof *bad; c++) {
        write_text(bad[c].text, strlen(bad[c].text));
        refuse(sw_head_shares_read(path, &shape, out), bad[c].part);
    }
}

/* --- methods ---------------------------------------------------------------------------------- */

enum { N = 403, HEADS = 4, KV = 2, D = 64, LAYER = 1 };

/* Pairs (head, t, u) that a method keeps in layer 1, its parameters given as name, value, …,
 * NULL. */
static uint8_t *pairs_of(enum sw_budget_mode mode, const char *name, const char *const *settings)
{
    const struct sw_method *method = sw_method_find(name);
    struct sw_backend *be = sw_test_open(sw_test_isas()[0], 2);
    struct sw_sequence *seq;
    struct sw_selection s = {0};
    void *params = calloc(1, method->params_size);
    sw_test_ok(sw_param_defaults(method->params, params));
    for (; *settings; settings += 2)
        sw_test_ok(sw_param_set(sw_param_find(method->params, settings[0]), params, settings[1]));
    float *q = sw_test_normal(N * HEADS * D, 1), *k = sw_test_normal(N * KV * D, 2);
    sw_test_ok(sw_sequence_begin(&seq, method, params, be, &shape, N, 0.4, mode, 1, 0));
    sw_test_ok(sw_sequence_prefill(
        seq, &(struct sw_layer_input){.layer = LAYER, .n = N, .n_q = N, .q = q, .k = k}, &s));
    sw_test_ok(sw_selection_validate(&s));
    assert_int_equal(s.units, HEADS);
    uint8_t *pairs = malloc(HEADS * N * N);
    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < N; t++)
            for (int u = 0; u < N; u++)
                pairs[(h * N + t) * N + u] = u <= t && sw_reference_sees(&s, h, t, u);
    sw_sequence_end(seq);
    sw_selection_free(&s);
    sw_backend_close(be);
    sw_param_free(method->params, params);
    free(params);
    free(q);
    free(k);
    return pairs;
}

/* Each head of the mixed layer keeps what it keeps where all heads are of its kind. */
static void heads_of_many_patterns(void **state)
{
    (void)state;
    static const char text[] =
        "[{}, {\"0\": [\"block_sparse\", 1, 1, 1], \"1\": [\"vertical_and_slash\", 35, 104, 1],"
        " \"2\": [\"stream_llm\", 20, 50, 1], \"3\": [\"stream_llm\", 5, 70, 1]}]";
    static const char *const alone[HEADS][10] = {
        {"pattern", "block_sparse"},
        {"vertical_size", "35", "slash_size", "104"},
        {"pattern", "a_shape", "init_tokens", "20", "local_tokens", "50"},
        {"pattern", "a_shape", "init_tokens", "5", "local_tokens", "70"}};
    static const char *const common[][9] = {
        {"block_size", "16", "top_blocks", "3"},
        {"block_size", "16", "top_blocks", "3", "token_mask", "true"},
        {"block_size", "16", "top_blocks", "10", "scale", "1.05"}};
    write_text(text, sizeof text - 1);
    for (int mode = 0; mode < 2; mode++)
        for (size_t c = 0; c < sizeof common / sizeof *common; c++) {
            const char *settings[20] = {"head_config", path};
            int shared = 0;
            while (common[c][shared])
                shared++;
            memcpy(settings + 2, common[c], (size_t)shared * sizeof *settings);
            uint8_t *mixed =
                pairs_of(mode ? SW_BUDGET_NATIVE : SW_BUDGET_MATCHED, "minference", settings);
            for (int h = 0; h < HEADS; h++) {
                memcpy(settings, common[c], (size_t)shared * sizeof *settings);
                memcpy(settings + shared, alone[h], sizeof alone[h]);
                uint8_t *own =
                    pairs_of(mode ? SW_BUDGET_NATIVE : SW_BUDGET_MATCHED, "minference", settings);
                long kept = 0;
                for (int e = 0; e < N * N; e++)
                    kept += own[h * N * N + e];
                assert_true(kept > N && kept < (long)N * (N + 1) / 2);
                for (int e = 0; e < N * N; e++)
                    if (mixed[h * N * N + e] != own[h * N * N + e])
                        fail_msg("mode %d case %zu head %d: pair (%d, %d) is %d", mode, c, h, e / N,
                                 e % N, mixed[h * N * N + e]);
                free(own);
                memset(settings, 0, sizeof settings);
            }
            free(mixed);
        }
}

static void heads_of_many_thresholds(void **state)
{
    (void)state;
    static const char text[] = "[[0, 0, 0, 0], [0.3, 0.9, 0, 0.6], [1, 1, 1, 1]]";
    static const char *const alone[HEADS] = {"0.3", "0.9", "0", "0.6"};
    write_text(text, sizeof text - 1);
    uint8_t *mixed = pairs_of(SW_BUDGET_NATIVE, "xattention",
                              (const char *const[]){"block_size", "16", "thresholds", path, NULL});
    for (int h = 0; h < HEADS; h++) {
        uint8_t *own =
            pairs_of(SW_BUDGET_NATIVE, "xattention",
                     (const char *const[]){"block_size", "16", "threshold", alone[h], NULL});
        assert_memory_equal(mixed + h * N * N, own + h * N * N, N * N);
        if (h > 0)
            assert_memory_not_equal(own, mixed, N * N);
        free(own);
    }
    free(mixed);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules), cmocka_unit_test(hostile_rules), cmocka_unit_test(shares),
        cmocka_unit_test(heads_of_many_patterns), cmocka_unit_test(heads_of_many_thresholds)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
