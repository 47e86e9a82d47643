/* What cells are called: the shortest words that tell those of one set apart. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness/judge/label.h"

#define SYNTHETIC(layers)                                                                    \
    "\"workload\": {\"kind\": \"synthetic\", \"model\": \"m\", \"generator\": \"planted\", " \
    "\"layers\": " #layers "}"
#define REST(density) \
    "\"context\": 1024, \"density\": " density ", \"phase\": \"prefill\", \"code\": \"c0de\""
#define CELL(workload, method, params, density) \
    "{" workload ", \"method\": \"" method "\", \"params\": {" params "}, " REST(density) "}"

static void expect(const char *const *identities, const char *const *names, int n)
{
    struct sw_label *labels;
    assert_int_equal(sw_labels_make(identities, n, &labels), SW_OK);
    for (int i = 0; i < n; i++)
        assert_string_equal(labels[i].name, names[i]);
    sw_labels_free(labels, n);
}

static void one_cell_needs_no_words(void **state)
{
    (void)state;
    const char *cells[] = {
        CELL(SYNTHETIC(6), "sketchwalk", "\"block_size\": 32, \"variant\": \"icml\"", "0.25"),
        CELL(SYNTHETIC(6), "dense", "\"block_size\": 32", "1"),
        CELL(SYNTHETIC(6), "quest", "\"block_size\": 32", "null")};
    struct sw_label *labels;
    assert_int_equal(sw_labels_make(cells, 3, &labels), SW_OK);
    assert_string_equal(labels[0].name, "sketchwalk");
    assert_string_equal(labels[0].options, "");
    assert_string_equal(labels[0].full, "m planted n=1024 prefill sketchwalk density 0.25");
    assert_string_equal(labels[1].full, "m planted n=1024 prefill dense");
    assert_string_equal(labels[2].full, "m planted n=1024 prefill quest density native");
    sw_labels_free(labels, 3);
}

static void parameters_tell_variants_apart(void **state)
{
    (void)state;
#define VARIANT(block, variant, walk)                                                        \
    CELL(SYNTHETIC(6), "sketchwalk",                                                         \
         "\"block_size\": " #block ", \"variant\": \"" variant "\", \"walk\": \"" walk "\"", \
         "0.25")
    const char *cells[] = {VARIANT(32, "icml", "on"), VARIANT(64, "icml", "on"),
                           VARIANT(64, "arxiv", "none"),
                           CELL(SYNTHETIC(6), "onehop", "\"block_size\": 32", "0.25")};
    const char *names[] = {"sketchwalk B=32 icml", "sketchwalk B=64 icml", "sketchwalk arxiv",
                           "onehop"};
    expect(cells, names, 4);
    const char *head[] = {
        CELL(SYNTHETIC(6), "oracle", "\"unit\": \"head\", \"forced\": \"common\"", "0.5"),
        CELL(SYNTHETIC(6), "oracle", "\"unit\": \"layer\", \"forced\": \"common\"", "0.5")};
    const char *units[] = {"oracle head", "oracle layer"};
    expect(head, units, 2);
}

/* A parameter is said where it tells something apart, not beside every other variant too. */
static void what_another_word_tells_is_not_said(void **state)
{
    (void)state;
#define SIGNED(variant, sign) \
    CELL(SYNTHETIC(6), "sketchwalk", "\"variant\": \"" variant "\", \"signed\": " sign, "0.25")
    const char *cells[] = {SIGNED("arxiv", "false"), SIGNED("arxiv", "true"),
                           SIGNED("icml", "false"), SIGNED("softmax", "false")};
    const char *names[] = {"sketchwalk arxiv signed=false", "sketchwalk arxiv signed=true",
                           "sketchwalk icml", "sketchwalk softmax"};
    expect(cells, names, 4);
}

/* One parameter at a time around the defaults: each cell is called by the one that was changed. */
static void an_ablation_names_what_it_changes(void **state)
{
    (void)state;
#define ABLATION(block, dim, exponent) \
    CELL(SYNTHETIC(6), "sketchwalk",   \
         "\"block_size\": " #block ", \"sketch_dim\": " #dim ", \"exponent\": " #exponent, "0.25")
    const char *cells[] = {ABLATION(64, 0, 8), ABLATION(32, 0, 8), ABLATION(64, 16, 8),
                           ABLATION(64, 0, 2.5), ABLATION(32, 16, 8)};
    const char *names[] = {"sketchwalk B=64", "sketchwalk B=32", "sketchwalk sketch_dim=16",
                           "sketchwalk exponent=2.5", "sketchwalk B=32 sketch_dim=16"};
    expect(cells, names, 5);
}

/* Nobody set what a native budget brings along. */
static void native_defaults_are_not_said(void **state)
{
    (void)state;
#define NATIVE(budget, block, chunk)                                \
    CELL(SYNTHETIC(6) ", \"budget\": \"" budget "\"", "xattention", \
         "\"block_size\": " #block ", \"first_chunk\": \"" chunk "\"", "null")
    const char *native[] = {NATIVE("native", 128, "released"), NATIVE("native", 64, "released"),
                            NATIVE("native", 128, "intended")};
    const char *names[] = {"xattention released", "xattention B=64 released",
                           "xattention intended"};
    expect(native, names, 3);
    const char *sizes[] = {NATIVE("native", 128, "released"), NATIVE("native", 64, "released")};
    const char *by_size[] = {"xattention", "xattention B=64"};
    expect(sizes, by_size, 2);
    const char *matched[] = {NATIVE("matched", 128, "intended"), NATIVE("matched", 64, "intended")};
    const char *both[] = {"xattention B=128", "xattention B=64"};
    expect(matched, both, 2);
}

/* A threshold that was calibrated for each density is no variant: density says it. */
static void what_the_table_shows_is_not_said_again(void **state)
{
    (void)state;
    const char *cells[] = {CELL(SYNTHETIC(6), "twilight", "\"p\": 0.8", "0.25"),
                           CELL(SYNTHETIC(6), "twilight", "\"p\": 0.9", "0.5")};
    const char *names[] = {"twilight", "twilight"};
    expect(cells, names, 2);
}

static void options_tell_workloads_apart(void **state)
{
    (void)state;
    const char *cells[] = {CELL(SYNTHETIC(1), "dense", "\"block_size\": 16", "1"),
                           CELL(SYNTHETIC(6), "dense", "\"block_size\": 16", "1"),
                           CELL(SYNTHETIC(6), "onehop", "\"block_size\": 16", "0.5")};
    const char *names[] = {"dense layers=1", "dense layers=6", "onehop layers=6"};
    expect(cells, names, 3);
}

static void the_content_of_inputs_comes_last(void **state)
{
    (void)state;
#define READ(hash, layers) \
    "{" SYNTHETIC(layers) ", \"method\": \"onehop\", \"input\": \"" hash "\", " REST("0.5") "}"
    const char *two[] = {READ("aa", 1), READ("bb", 6)};
    const char *by_layers[] = {"onehop layers=1", "onehop layers=6"};
    expect(two, by_layers, 2);
    const char *same[] = {READ("aa", 1), READ("bb", 1), READ("bb", 6)};
    const char *by_both[] = {"onehop layers=1 input=aa", "onehop layers=1 input=bb",
                             "onehop layers=6 input=bb"};
    expect(same, by_both, 3);
}

static void damaged_identities_have_a_name(void **state)
{
    (void)state;
    const char *cells[] = {"", "[1]", "{\"method\": {}}", "{"};
    const char *names[] = {"unknown", "unknown", "unknown", "unknown"};
    expect(cells, names, 4);
    expect(NULL, NULL, 0);
    /* a text that is empty, and one that is not there */
    const char *empty[] = {CELL(SYNTHETIC(6), "m", "\"a\": \"\"", "1"),
                           CELL(SYNTHETIC(6), "m", "", "1")};
    const char *same[] = {"m", "m"};
    expect(empty, same, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cell_needs_no_words),
        cmocka_unit_test(parameters_tell_variants_apart),
        cmocka_unit_test(what_another_word_tells_is_not_said),
        cmocka_unit_test(an_ablation_names_what_it_changes),
        cmocka_unit_test(native_defaults_are_not_said),
        cmocka_unit_test(what_the_table_shows_is_not_said_again),
        cmocka_unit_test(options_tell_workloads_apart),
        cmocka_unit_test(the_content_of_inputs_comes_last),
        cmocka_unit_test(damaged_identities_have_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
