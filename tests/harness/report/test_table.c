/* Tables of texts: plain, Markdown, LaTeX; and many rows in time that grows with them alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "harness/report/table.h"

static const char *const titles[] = {"method", "none", "density"};

static struct sw_table small_table(void)
{
    struct sw_table t = {.columns = 3, .titles = titles, .right = "llr"};
    static const char *const cells[] = {"a|b", "", "0.25", "Δ", "", ""};
    for (int i = 0; i < 6; i++)
        assert_int_equal(sw_table_add(&t, "%s", cells[i]), SW_OK);
    return t;
}

static void expect(enum sw_status (*print)(const struct sw_table *, FILE *), const char *wanted)
{
    struct sw_table t = small_table();
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(print(&t, out), SW_OK);
    fclose(out);
    assert_string_equal(text, wanted);
    free(text);
    sw_table_free(&t);
}

static enum sw_status latex(const struct sw_table *t, FILE *out)
{
    return sw_table_latex(t, "50 %", out);
}

static void three_formats(void **state)
{
    (void)state;
    expect(sw_table_print, "method  none  density\n"
                           "a|b              0.25\n"
                           "Δ\n");
    expect(sw_table_markdown, "| method | density |\n"
                              "| ------ | ------: |\n"
                              "| a\\|b   |    0.25 |\n"
                              "| Δ      |       - |\n");
    expect(latex, "\\begin{table}\n\\centering\\small\n\\caption{50 \\%}\n"
                  "\\begin{tabular}{lr}\n\\toprule\nmethod & density \\\\\n\\midrule\n"
                  "a|b & 0.25 \\\\\n$\\Delta$ & -- \\\\\n\\bottomrule\n\\end{tabular}\n"
                  "\\end{table}\n");
}

/* Column widths found anew for every row would take hours. */
static void two_hundred_thousand_rows(void **state)
{
    (void)state;
    struct sw_table t = {.columns = 3, .titles = titles, .right = "llr"};
    for (int i = 0; i < 200000; i++) {
        assert_int_equal(sw_table_add(&t, "method %d", i), SW_OK);
        assert_int_equal(sw_table_add(&t, "%s", ""), SW_OK);
        assert_int_equal(sw_table_add(&t, "%d", i), SW_OK);
    }
    FILE *nowhere = fopen("/dev/null", "w");
    alarm(120);
    assert_int_equal(sw_table_print(&t, nowhere), SW_OK);
    assert_int_equal(sw_table_markdown(&t, nowhere), SW_OK);
    assert_int_equal(latex(&t, nowhere), SW_OK);
    alarm(0);
    fclose(nowhere);
    sw_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(three_formats),
                                       cmocka_unit_test(two_hundred_thousand_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
