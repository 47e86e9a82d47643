/* Scores against those of the published Python scorers (tests/fixtures/scores.jsonl, made by
 * make_scores.py), and what those cannot say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/answers/score.h"

enum { REFERENCES = 8, CLASSES = 64 };

/* A text of the fixture: as it stands, or pieces to be repeated. Malloc'd. */
static char *text_of(const json_t *value)
{
    if (json_is_string(value))
        return strdup(json_string_value(value));
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    for (size_t i = 0; i < json_array_size(value); i++)
        for (json_int_t times = json_integer_value(json_array_get(json_array_get(value, i), 1));
             times > 0; times--)
            fputs(json_string_value(json_array_get(json_array_get(value, i), 0)), out);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* Returns the difference from the published score. */
static double compare(const json_t *line, int number)
{
    char *answer = text_of(json_object_get(line, "answer")), *references[REFERENCES];
    const char *classes[CLASSES];
    const json_t *listed = json_object_get(line, "references"),
                 *labels = json_object_get(line, "classes");
    const struct sw_scorer *scorer =
        sw_scorer_find(json_string_value(json_object_get(line, "score")));
    double score = -1, expected = json_number_value(json_object_get(line, "value"));
    struct sw_expected to = {(const char *const *)references, (int)json_array_size(listed), classes,
                             (int)json_array_size(labels)};
    assert_non_null(scorer);
    assert_true(to.n > 0 && to.n <= REFERENCES && to.n_classes <= CLASSES);
    for (int i = 0; i < to.n; i++)
        references[i] = text_of(json_array_get(listed, (size_t)i));
    for (int i = 0; i < to.n_classes; i++)
        classes[i] = json_string_value(json_array_get(labels, (size_t)i));
    if (json_object_get(line, "first_line"))
        sw_score_first_line(answer);
    assert_int_equal(sw_score(scorer, answer, &to, &score), SW_OK);
    if (!(fabs(score - expected) <= 1e-9))
        print_error("line %d, %s: %.17g, published %.17g: \"%.200s\" for \"%.200s\"\n", number,
                    scorer->name, score, expected, answer, references[0]);
    free(answer);
    for (int i = 0; i < to.n; i++)
        free(references[i]);
    return fabs(score - expected);
}

static void test_published_scores(void **state)
{
    (void)state;
    FILE *in = fopen("tests/fixtures/scores.jsonl", "r");
    assert_non_null(in);
    char *text = NULL;
    size_t size = 0;
    int number = 0, pairs = 0, wrong = 0, partial = 0;
    while (getline(&text, &size, in) > 0) {
        json_error_t error;
        json_t *line = json_loads(text, 0, &error);
        number++;
        if (!line)
            fail_msg("line %d: %s", number, error.text);
        if (json_object_get(line, "score")) {
            double value = json_number_value(json_object_get(line, "value"));
            wrong += !(compare(line, number) <= 1e-9);
            partial += value > 0 && value < 100;
            pairs++;
        } else {
            assert_int_equal(number, 1); /* what the fixture was made with */
        }
        json_decref(line);
    }
    free(text);
    fclose(in);
    assert_int_equal(wrong, 0);
    assert_true(pairs >= 1000 && partial >= 300);
}

static double score_of(const char *name, const char *answer, const char *reference)
{
    const char *const classes[] = {"x", "reference x"};
    double score = -1;
    assert_int_equal(sw_score(sw_scorer_find(name), answer,
                              &(struct sw_expected){&reference, 1, classes, 2}, &score),
                     SW_OK);
    return score;
}

/* By hand: what the fixture would not notice if it were made anew from something wrong. */
static void test_by_hand(void **state)
{
    (void)state;
    /* 2 of 3 words and 2 of 4: P = 2/3, R = 1/2, F = 4/7 */
    assert_true(fabs(score_of("f1", "The Cat, sat: there", "a cat sat on mats") - 100 * 4.0 / 7) <
                1e-12);
    /* words {cat, sat} in common, 3 and 4 different: P = 2/3, R = 2/4 */
    assert_true(fabs(score_of("rouge_l", "cat sat there", "the cat has sat") -
                     100 * 2 * (1.0 / 3) / (2.0 / 3 + 0.5 + 1e-8)) < 1e-12);
    assert_true(score_of("number", "7, 8 or 7", "7") == 100 * (2.0 / 3));
    assert_true(score_of("retrieval", "Paragraph 12", "Paragraph 12") == 100);
    assert_true(score_of("classification", "it is reference x", "reference x") == 100);
    assert_true(score_of("code", "```\nx = 1\n", "x = 2") == 80);
    /* {oak, lion} of {oak, lion, swan, they}: 2 * 2 / (2 + 4) */
    assert_true(fabs(score_of("set_f1", "They: Oak, swan, oak and the lion.", "lion oak") -
                     100 * 4.0 / 6) < 1e-12);
    assert_true(score_of("all", "THE ÉTÉ", "été") == 100);
}

static void test_all_and_part(void **state)
{
    (void)state;
    const char *const references[] = {"One", "two", "three"};
    double score;
    assert_int_equal(sw_score(sw_scorer_find("all"), "one and TWO",
                              &(struct sw_expected){references, 3, NULL, 0}, &score),
                     SW_OK);
    assert_true(fabs(score - 200.0 / 3) < 1e-12);
    assert_int_equal(sw_score(sw_scorer_find("part"), "one and TWO",
                              &(struct sw_expected){references, 3, NULL, 0}, &score),
                     SW_OK);
    assert_true(score == 100);
    assert_int_equal(
        sw_score(sw_scorer_find("all"), "x", &(struct sw_expected){references, 0, NULL, 0}, &score),
        SW_OK);
    assert_true(score == 0);
}

static void test_what_comes_before(void **state)
{
    (void)state;
    char ruler[] = " \t a\x01"
                   "b\nc \x1f",
         line[] = "\n\n first \nsecond", none[] = "\n\n";
    sw_score_clean(ruler);
    assert_string_equal(ruler, "a\nb\nc");
    sw_score_first_line(line);
    assert_string_equal(line, " first ");
    sw_score_first_line(none);
    assert_string_equal(none, "");
}

/* Bytes that are no UTF-8, in answer and reference, for every scorer: a score, and no reading
 * beyond the text. */
static void test_broken_text(void **state)
{
    (void)state;
    static const char *const texts[] = {"\xff",           "\xe2\x82",       "a\xf0\x9f\x98", "\xc3",
                                        "\xed\xa0\x80 x", "Paragraph \xd9", "12\xd9\xa3\xd9"};
    for (const struct sw_scorer *s = sw_scorers; s->name; s++)
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
                char *answer = strdup(texts[i]), *reference = strdup(texts[k]);
                double score = score_of(s->name, answer, reference);
                assert_true(score >= 0 && score <= 100);
                free(answer);
                free(reference);
            }
}

static void test_usable_references(void **state)
{
    (void)state;
    const struct sw_scorer *s = sw_scorer_find("retrieval");
    assert_true(s->usable("Paragraph 3") && s->usable("Paragraph x Paragraph 3"));
    assert_false(s->usable("Paragraph") || s->usable("paragraph 3") || s->usable("Paragraph  3") ||
                 s->usable("3"));
    assert_null(sw_scorer_find("ppl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_scores), cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_all_and_part),     cmocka_unit_test(test_what_comes_before),
        cmocka_unit_test(test_broken_text),      cmocka_unit_test(test_usable_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
