#include "harness/result_args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/param.h"
#include "harness/result.h"
#include "harness/verbs.h"

/* "--name=value" or "--name value": the value, and *i on its last word. NULL: another argument, or (missing) no value. */
static const char *flag_value(int argc, char **argv, int *i, const char *name, bool *missing)
{
    size_t length = strlen(name);
    if (strncmp(argv[*i], name, length) != 0)
        return NULL;
    if (argv[*i][length] == '=')
        return argv[*i] + length + 1;
    if (argv[*i][length] != '\0')
        return NULL;
    *missing = *i + 1 >= argc;
    return *missing ? NULL : argv[++*i];
}

static bool known_format(const char *verb, const char *format, const char *const *formats)
{
    char list[64] = "";
    for (const char *const *f = formats; *f; ++f) {
        if (strcmp(*f, format) == 0)
            return true;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", f == formats ? "" : "|", *f);
    }
    fprintf(stderr, "swbench %s: --format: found '%s', expected %s\n", verb, format, list);
    return false;
}

static bool known_metric(const char *verb, const char *name)
{
    if (sw_metric_find(name))
        return true;
    const struct sw_metric_info *nearest = sw_metric_table;
    for (const struct sw_metric_info *m = sw_metric_table; m->name; ++m)
        if (sw_edit_distance(name, m->name) < sw_edit_distance(name, nearest->name))
            nearest = m;
    fprintf(stderr, "swbench %s: --metric: found '%s', expected a metric's name; did you mean '%s'?\n", verb, name, nearest->name);
    return false;
}

bool sw_result_args(int argc, char **argv, const char *const *formats, bool with_metrics, struct result_args *out)
{
    *out = (struct result_args){.format = formats[0], .metrics = calloc((size_t)argc + 1, sizeof *out->metrics)};
    if (!out->metrics) {
        fprintf(stderr, "swbench: out of memory\n");
        return false;
    }
    bool bad = false;
    for (int i = 1; i < argc && !bad; ++i) {
        bool missing = false;
        const char *value, *flag = argv[i];
        if ((value = flag_value(argc, argv, &i, "--format", &missing))) {
            out->format = value;
        } else if (with_metrics && (value = flag_value(argc, argv, &i, "--metric", &missing))) {
            out->metrics[out->n_metrics++] = value;
            while (i + 1 < argc && argv[i + 1][0] != '-') /* --metric A B C */
                out->metrics[out->n_metrics++] = argv[++i];
        } else if (missing || flag[0] == '-' || out->results) {
            fprintf(stderr, "swbench %s: found '%s'%s, expected RESULTS [--format %s|%s]%s\n", argv[0], flag,
                    missing ? " without a value" : "", formats[0], formats[1], with_metrics ? " [--metric NAME …]" : "");
            bad = true;
        } else {
            out->results = flag;
        }
    }
    if (!bad && !out->results && out->n_metrics > 1) /* --metric A B RESULTS */
        out->results = out->metrics[--out->n_metrics];
    if (!bad && !out->results) {
        fprintf(stderr, "swbench %s: expected a result folder\n", argv[0]);
        bad = true;
    }
    bad = bad || !known_format(argv[0], out->format, formats);
    for (int i = 0; i < out->n_metrics && !bad; ++i)
        bad = !known_metric(argv[0], out->metrics[i]);
    if (bad) {
        free(out->metrics);
        out->metrics = NULL;
    }
    return !bad;
}

int sw_flush_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return SW_EXIT_OK;
    fprintf(stderr, "swbench: cannot write to standard output: %s\n", strerror(errno));
    return SW_EXIT_USAGE;
}
