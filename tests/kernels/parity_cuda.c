/* parity_cuda.c: the same cases on the CPU and on CUDA, from the same bf16 numbers.
 *
 *   parity_cuda [--quick] [NAME]
 *
 * --quick: only the shapes that the CPU's check has too, for compute-sanitizer. NAME: part of a
 * kernel's file or an operation's name (attention, walk_step, …). Exit 77 without a GPU, 1 when
 * anything differs. */
#include <stdio.h>

#include "kernels/open.h"
#include "tests/kernels/cases.h"

static struct sw_backend *cpu, *cuda;
static int not_taken; /* shapes that CUDA says it does not support */

static void compare(struct sw_case *c)
{
    const struct sw_cases *of = c->of;
    sw_say_where("CUDA");
    struct sw_result ours = sw_case_run(c, cuda);
    if (ours.none) {
        not_taken++;
        return;
    }
    if (of->repeatable) {
        struct sw_result again = sw_case_run(c, cuda);
        sw_compare_bits(c, &ours, &again);
        sw_result_free(&again);
    }
    if (of->check)
        of->check(c, cuda, &ours);
    if (!of->cuda_alone) {
        struct sw_result theirs = sw_case_run(c, cpu);
        if (!theirs.none)
            sw_compare_bounds(c, &theirs, &ours);
        if (!theirs.none && of->compare)
            of->compare(c, &theirs, &ours);
        sw_result_free(&theirs);
    }
    sw_result_free(&ours);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool quick = false, found = false;
    const char *only = NULL;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else
            only = argv[i];
    enum sw_status st = sw_backend_open("cuda", 0, &cuda);
    if (st == SW_EINPUT) {
        printf("skipped: %s\n", sw_error_message());
        return 77;
    }
    sw_must(st, "sw_backend_open");
    sw_must(sw_backend_open("cpu", 0, &cpu), "sw_backend_open");
    printf("%s; %s\n", cuda->device, cuda->details);
    for (size_t i = 0; sw_all_cases[i]; i++) {
        const struct sw_cases *of = sw_all_cases[i];
        int checks = sw_checks, failures = sw_failures;
        if (!sw_cases_match(of, only))
            continue;
        found = true;
        sw_cases_each(of, SW_PARITY, !quick, compare);
        printf("%-45s %7d checks, %d failed, %d shapes not taken\n", sw_cases_title(of),
               sw_checks - checks, sw_failures - failures, not_taken);
        not_taken = 0;
    }
    sw_backend_close(cuda);
    sw_backend_close(cpu);
    if (!found)
        printf("FAIL found no cases of '%s', expected part of a kernel's file or operation\n",
               only);
    printf("%s: %d checks, %d failed\n", sw_failures ? "FAIL" : "ok", sw_checks, sw_failures);
    return !found || sw_failures ? 1 : 0;
}
