/* check_ops.c: the CPU's operations against double precision, with every instruction set and with
 * 1, 2 and 3 threads, whose results must be the same to the bit.
 *
 *   check_ops [NAME]       NAME: part of a kernel's file or an operation's name; none: all
 *   check_ops --every-op   every operation of core/operations.h has a case */
#include <stdio.h>

#include "tests/kernels/cases.h"
#include "tests/support/backends.h"

enum { MOST_ISAS = 4, MOST_THREADS = 3 };

static struct sw_backend *backends[MOST_ISAS][MOST_THREADS];
static const char *const *isas;
static int isa_count;

static void check(struct sw_case *c)
{
    for (int i = 0; i < isa_count; i++) {
        struct sw_result first = {0};
        for (int threads = 1; threads <= MOST_THREADS; threads++) {
            struct sw_backend *be = backends[i][threads - 1];
            sw_say_where("%s, %d threads", isas[i], threads);
            struct sw_result r = sw_case_run(c, be);
            if (r.none) /* a failure, said already */
                break;
            sw_compare_expected(c, &r);
            if (c->of->check)
                c->of->check(c, be, &r);
            if (threads == 1) {
                first = r;
                continue;
            }
            sw_compare_bits(c, &first, &r);
            sw_result_free(&r);
        }
        sw_result_free(&first);
    }
}

static void check_all_of(const struct sw_cases *of)
{
    int checks = sw_checks, failures = sw_failures;
    sw_cases_each(of, SW_CHECK, false, check);
    for (int i = 0; of->more && i < isa_count; i++) {
        sw_say_where("%s, 2 threads", isas[i]);
        of->more(backends[i][1]);
    }
    printf("%-45s %7d checks, %d failed\n", sw_cases_title(of), sw_checks - checks,
           sw_failures - failures);
}

/* Is `op` among the words that a case covers? */
static bool covers(const struct sw_cases *of, const char *op)
{
    size_t length = strlen(op);
    if (!of->covers)
        return strcmp(of->name, op) == 0;
    for (const char *at = of->covers; (at = strstr(at, op)); at += length)
        if ((at == of->covers || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

static const char *const operations[] = {
#define SW_OPERATION(need, name, parameters)      #name,
#define SW_FUNCTION(need, type, name, parameters) #name,
#include "core/operations.h"
};

static void check_every_op(void)
{
    sw_say_where("core/operations.h");
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        bool found = false;
        for (size_t k = 0; sw_all_cases[k]; k++)
            found = found || covers(sw_all_cases[k], operations[i]);
        sw_holds(found,
                 "operation '%s' has no case: add one below tests/kernels/cases, as "
                 "tests/kernels/cases.h says",
                 operations[i]);
    }
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    bool found = false;
    if (only && strcmp(only, "--every-op") == 0) {
        check_every_op();
        return sw_failures != 0;
    }
    isas = sw_test_isas();
    for (; isas[isa_count]; isa_count++)
        for (int threads = 1; threads <= MOST_THREADS; threads++)
            backends[isa_count][threads - 1] = sw_test_open(isas[isa_count], threads);
    for (size_t i = 0; sw_all_cases[i]; i++)
        if (sw_cases_match(sw_all_cases[i], only)) {
            found = true;
            check_all_of(sw_all_cases[i]);
        }
    for (int i = 0; i < isa_count; i++)
        for (int t = 0; t < MOST_THREADS; t++)
            sw_backend_close(backends[i][t]);
    if (!found)
        printf("FAIL found no cases of '%s', expected part of a line above\n", only);
    return !found || sw_failures != 0;
}
