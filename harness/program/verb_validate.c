/* swbench validate: what a file is, and everything that is wrong with it. Problems go to stderr,
 * one line each with their place; a good file is one line on stdout. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/model/model.h"
#include "harness/inputs/bundle_check.h"
#include "harness/inputs/dataset.h"
#include "harness/inputs/dataset_check.h"
#include "harness/program/cli.h"
#include "harness/store/store.h"

static bool has_file(const char *folder, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        return false;
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static enum sw_status validate_config(const char *path)
{
    struct sw_config *config;
    SW_TRY(sw_config_read(path, NULL, 0, stderr, &config));
    printf("%s: good: config '%s', %d workload%s, %d method%s\n", path, config->name,
           config->n_workloads, config->n_workloads == 1 ? "" : "s", config->n_methods,
           config->n_methods == 1 ? "" : "s");
    sw_config_free(config);
    return SW_OK;
}

static enum sw_status validate_bundle(const char *path)
{
    struct sw_bundle_info info;
    SW_TRY(sw_bundle_check(path, stderr, &info));
    printf("%s: good: tensor bundle, %d layers, %d heads, %d KV heads, head_dim %d, %d tokens and "
           "%d of decode\n",
           path, info.shape.n_layers, info.shape.n_heads, info.shape.n_kv_heads,
           info.shape.head_dim, info.n, info.decode_tokens);
    return SW_OK;
}

static enum sw_status validate_dataset(const char *path)
{
    struct sw_dataset_info info;
    struct sw_dataset *dataset;
    SW_TRY(sw_dataset_check(path, stderr, &info));
    /* as a run does: what it still finds comes one at a time */
    enum sw_status st = sw_dataset_read(path, &dataset);
    if (st == SW_EINPUT)
        fprintf(stderr, "%s\n", sw_error_message());
    if (st != SW_OK)
        return st;
    sw_dataset_free(dataset);
    printf("%s: good: dataset, %d samples at context %d, score %s\n", path, info.samples,
           info.context, info.scorer ? info.scorer->name : "ppl");
    return SW_OK;
}

static enum sw_status validate_model(const char *path)
{
    SW_TRY(sw_model_check(path, stderr));
    printf("%s: good: model folder\n", path);
    return SW_OK;
}

/* The first damaged cell is the problem. */
static enum sw_status validate_result(const char *path)
{
    struct sw_tidy *tidy;
    enum sw_status st = sw_tidy_read(path, &tidy);
    if (st == SW_EINPUT)
        fprintf(stderr, "%s\n", sw_error_message());
    if (st != SW_OK)
        return st;
    printf("%s: good: result, %lld rows\n", path, (long long)tidy->count);
    sw_tidy_free(tidy);
    return SW_OK;
}

static enum sw_status unknown_kind(const char *path, const char *found)
{
    fprintf(stderr,
            "%s: found %s, expected a config, tensor bundle, dataset, model folder or result\n",
            path, found);
    return SW_FAIL(SW_EINPUT, "%s: found %s", path, found);
}

static enum sw_status validate_folder(const char *path)
{
    if (has_file(path, "config.json"))
        return validate_model(path);
    if (has_file(path, "cells") || has_file(path, "results.h5"))
        return validate_result(path);
    return unknown_kind(path, "a folder without config.json, cells or results.h5");
}

/* By content, not by name. */
static enum sw_status validate(const char *path)
{
    struct stat about;
    char format[64];
    bool is_hdf5;
    if (stat(path, &about) != 0) {
        fprintf(stderr, "%s: cannot open: %s\n", path, strerror(errno));
        return SW_FAIL(SW_EINPUT, "%s: cannot open", path);
    }
    if (S_ISDIR(about.st_mode))
        return validate_folder(path);
    enum sw_status st = sw_hdf5_format(path, &is_hdf5, format, sizeof format);
    if (st == SW_EINPUT)
        fprintf(stderr, "%s\n", sw_error_message());
    if (st != SW_OK)
        return st;
    if (!is_hdf5)
        return validate_config(path);
    if (strcmp(format, "swbench-tensors") == 0)
        return validate_bundle(path);
    if (strcmp(format, "swbench-dataset") == 0)
        return validate_dataset(path);
    if (strcmp(format, "swbench-cell") == 0 || strcmp(format, "swbench-results") == 0)
        return validate_result(path);
    return unknown_kind(path, *format ? "an HDF5 file of another format"
                                      : "an HDF5 file without a readable attribute 'format'");
}

int sw_verb_validate(int argc, char **argv)
{
    struct sw_cli cli;
    enum sw_status worst = sw_cli_parse(argc, argv, 1, SW_CLI_MAX, &cli);
    if (worst != SW_OK)
        return sw_cli_exit(worst);
    for (int i = 0; i < cli.n_positional; i++) {
        enum sw_status st = validate(cli.positional[i]);
        if (st == SW_EINPUT)
            sw_error_clear(); /* its lines are out */
        else
            (void)sw_cli_exit(st); /* says it now, before the next file's trouble */
        if (st == SW_OK)
            continue;
        if (worst == SW_OK || worst == SW_EINPUT)
            worst = st;
    }
    return sw_cli_exit(worst);
}
