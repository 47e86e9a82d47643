/* swbench VERB … : main reads the verb; verbs.c says what each one takes, verb_*.c do them. */
#include <stdio.h>
#include <string.h>

#include "core/method.h"
#include "core/nearest.h"
#include "core/param.h"
#include "harness/config/options.h"
#include "harness/program/cli.h"
#include "harness/store/provenance.h"
#include "kernels/cpu/device/blas_core.h"
#include "sw_version.h"

static int unknown_verb(const char *name)
{
    char shown[80], hint[SW_HINT_SIZE];
    struct sw_nearest nearest = sw_nearest_begin(name);
    for (int i = 0; sw_verbs[i].name; i++)
        sw_nearest_offer(&nearest, sw_verbs[i].name);
    fprintf(stderr, "swbench: unknown verb %s%s; `swbench help` lists them\n",
            sw_quote(name, shown, sizeof shown), sw_nearest_hint(&nearest, hint));
    return SW_EXIT_USAGE;
}

static int version(void)
{
    printf("swbench %s (%s, code %s)\n", SW_VERSION, SW_GIT, SW_CODE_HASH);
    return SW_EXIT_OK;
}

static bool asks_for_help(const char *arg)
{
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

static int dispatch(int argc, char **argv)
{
    char *help[] = {"help", argv[1]};
    if (argc < 2) {
        fprintf(stderr,
                "swbench: found no verb, expected: swbench VERB …; `swbench help` lists them\n");
        return SW_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0)
        return version();
    if (asks_for_help(argv[1]))
        return sw_verb_help(1, help);
    const struct sw_verb *verb = sw_verb_find(argv[1]);
    if (!verb)
        return unknown_verb(argv[1]);
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (asks_for_help(argv[i]))
            return sw_verb_help(2, help);
    return verb->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    sw_cpu_prefer_fast_blas(argv);
    sw_provenance_init(argc, argv);
    if (sw_methods_check(sw_methods) != SW_OK) {
        fprintf(stderr, "swbench: %s\n", sw_error_message());
        return SW_EXIT_USAGE;
    }
    return sw_cli_flush(dispatch(argc, argv));
}
