/* Reading all cells of a folder: the tidy table. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/config/identity.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"

/* --- where cells are -------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Cell files of a folder with cells/, in ascending order. */
static enum sw_status list_folder(const char *folder, struct sw_texts *files)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/cells", folder) >= (int)sizeof path)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", folder);
    DIR *dir = opendir(path);
    if (!dir)
        return SW_FAIL(SW_EINPUT, "%s: found no cells/ in it, expected a result folder: %s", folder,
                       strerror(errno));
    enum sw_status st = SW_OK;
    for (struct dirent *entry; st == SW_OK && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || !ends_with(entry->d_name, ".h5"))
            continue;
        char file[PATH_MAX];
        if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) < (int)sizeof file)
            st = sw_texts_add(files, file);
    }
    closedir(dir);
    if (files->count)
        qsort(files->items, (size_t)files->count, sizeof *files->items, by_name);
    return st;
}

enum sw_status sw_store_list_cells(const char *results, struct sw_texts *files)
{
    struct stat info;
    if (stat(results, &info) != 0)
        return SW_FAIL(SW_EINPUT, "%s: %s; expected a result folder", results, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return list_folder(results, files);
    const char *slash = strrchr(results, '/');
    if (strcmp(slash ? slash + 1 : results, "results.h5") != 0)
        return sw_texts_add(files, results);
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - results) : 1,
             slash ? results : ".");
    return list_folder(folder[0] ? folder : "/", files);
}

/* --- the tidy table --------------------------------------------------------------------------- */

const struct sw_tidy_column sw_tidy_columns[] = {
#define COLUMN(field, units, text, kind) \
    {#field, units, text, kind, offsetof(struct sw_tidy_row, field)}
    COLUMN(cell, "", "key of the cell; /cells/<key> is its file", SW_COLUMN_TEXT),
    COLUMN(workload, "", "task, tensors or synthetic", SW_COLUMN_TEXT),
    COLUMN(model, "", "model, tensor bundle or shape", SW_COLUMN_TEXT),
    COLUMN(task, "", "task or generator", SW_COLUMN_TEXT),
    COLUMN(method, "", "method", SW_COLUMN_TEXT),
    COLUMN(params, "", "parameters of the method (JSON)", SW_COLUMN_TEXT),
    COLUMN(backend, "", "backend", SW_COLUMN_TEXT),
    COLUMN(device, "", "processor or GPU", SW_COLUMN_TEXT),
    COLUMN(context, "token", "context length", SW_COLUMN_INT64),
    COLUMN(density, "1", "density asked for", SW_COLUMN_REAL),
    COLUMN(phase, "", "prefill, decode or both", SW_COLUMN_TEXT),
    COLUMN(seed, "1", "seed", SW_COLUMN_INT64),
    COLUMN(metric, "", "metric; empty where a cell has none", SW_COLUMN_TEXT),
    COLUMN(layer, "1", "layer; -1: over all layers", SW_COLUMN_INT),
    COLUMN(value, "see unit", "value of the metric", SW_COLUMN_REAL),
    COLUMN(unit, "", "unit of value, lo and hi", SW_COLUMN_TEXT),
    COLUMN(n, "1", "values behind it; 0: not counted", SW_COLUMN_INT64),
    COLUMN(lo, "see unit", "lower end of the 95 % interval", SW_COLUMN_REAL),
    COLUMN(hi, "see unit", "upper end of the 95 % interval", SW_COLUMN_REAL),
    COLUMN(status, "", "ok, failed or skipped", SW_COLUMN_TEXT),
    COLUMN(reason, "", "why failed or skipped", SW_COLUMN_TEXT),
    COLUMN(budget, "", "matched, calibrated or native", SW_COLUMN_TEXT),
    COLUMN(dense_layers, "1", "first layers that stay dense", SW_COLUMN_INT64),
    COLUMN(experiment, "", "hash of all that decides the cell but the code", SW_COLUMN_TEXT),
    COLUMN(conditions, "", "hash of what it shares with the cells it is compared with",
           SW_COLUMN_TEXT),
    COLUMN(baseline, "", "dense cell of its speed-ups: fastest, or its kernel", SW_COLUMN_TEXT),
    {.name = NULL},
#undef COLUMN
};

struct reader {
    struct sw_tidy *tidy;
    int64_t capacity;
    struct sw_tidy_row common; /* what the rows of the current cell share */
};

/* Hands a malloc'd text to the table; NULL is one that there was no memory for. */
static enum sw_status keep(struct reader *r, char *text, const char **out)
{
    if (!text)
        return SW_FAIL(SW_ENOMEM, "out of memory (tidy table)");
    enum sw_status st = sw_texts_add(&r->tidy->strings, text);
    free(text);
    if (st == SW_OK)
        *out = r->tidy->strings.items[r->tidy->strings.count - 1];
    return st;
}

static enum sw_status keep_attribute(struct reader *r, hid_t object, const char *name,
                                     const char **out)
{
    char *text;
    SW_TRY(sw_h5_get_text(object, name, &text));
    return keep(r, text, out);
}

static enum sw_status add_row(struct reader *r, const struct sw_tidy_row *row)
{
    struct sw_tidy *tidy = r->tidy;
    if (tidy->count == r->capacity) {
        int64_t capacity = r->capacity ? 2 * r->capacity : 256;
        struct sw_tidy_row *rows = realloc(tidy->rows, (size_t)capacity * sizeof *rows);
        if (!rows)
            return SW_FAIL(SW_ENOMEM, "out of memory (%lld rows)", (long long)capacity);
        tidy->rows = rows;
        r->capacity = capacity;
    }
    tidy->rows[tidy->count++] = *row;
    return SW_OK;
}

/* /metrics/<name>: one row over all layers. */
static enum sw_status read_value(struct reader *r, hid_t file, const char *name,
                                 struct sw_tidy_row *row)
{
    char path[256];
    double *value = NULL;
    hsize_t dims[3];
    int rank;
    snprintf(path, sizeof path, "metrics/%s", name);
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
    enum sw_status st;
    if (dataset < 0)
        return SW_FAIL(SW_EINPUT, "%s is not a dataset", path);
    *row = r->common;
    SW_TRY_GOTO(st, out, keep(r, strdup(name), &row->metric));
    SW_TRY_GOTO(st, out, keep_attribute(r, dataset, "units", &row->unit));
    SW_TRY_GOTO(st, out, sw_h5_get_int(dataset, "n", &row->n));
    SW_TRY_GOTO(st, out, sw_h5_get_real(dataset, "lo", &row->lo));
    SW_TRY_GOTO(st, out, sw_h5_get_real(dataset, "hi", &row->hi));
    SW_TRY_GOTO(st, out, sw_h5_read_reals(file, path, &value, dims, &rank));
    if (rank != 0) {
        st = SW_FAIL(SW_EINPUT, "%s: found %d dimensions, expected a scalar", path, rank);
        goto out;
    }
    row->value = value[0];
    st = add_row(r, row);
out:
    free(value);
    sw_h5_close(dataset);
    return st == SW_OK ? st : sw_context(st, "%s", path);
}

/* /per_layer/<name>: a row per layer that has a value (dense layers have none). */
static enum sw_status read_layers(struct reader *r, hid_t file, const char *name,
                                  const struct sw_tidy_row *overall)
{
    char path[256];
    double *values;
    hsize_t dims[3];
    int rank;
    snprintf(path, sizeof path, "per_layer/%s", name);
    if (H5Lexists(file, "per_layer", H5P_DEFAULT) <= 0 || H5Lexists(file, path, H5P_DEFAULT) <= 0)
        return SW_OK;
    SW_TRY(sw_h5_read_reals(file, path, &values, dims, &rank));
    enum sw_status st =
        rank == 1 ? SW_OK : SW_FAIL(SW_EINPUT, "%s: found %d dimensions, expected 1", path, rank);
    struct sw_tidy_row row = *overall;
    row.lo = row.hi = NAN;
    row.n = 0;
    for (hsize_t l = 0; st == SW_OK && l < dims[0]; l++) {
        row.layer = (int)l;
        row.value = values[l];
        if (!isnan(row.value))
            st = add_row(r, &row);
    }
    free(values);
    return st;
}

static enum sw_status read_root(struct reader *r, hid_t file)
{
    struct sw_tidy_row *c = &r->common;
    *c = (struct sw_tidy_row){
        .metric = "", .unit = "", .value = NAN, .lo = NAN, .hi = NAN, .layer = -1};
    const struct {
        const char *name, **to;
    } texts[] = {
        {"key", &c->cell},        {"workload", &c->workload}, {"model", &c->model},
        {"task", &c->task},       {"method", &c->method},     {"params", &c->params},
        {"backend", &c->backend}, {"device", &c->device},     {"phase", &c->phase},
        {"status", &c->status},   {"reason", &c->reason},     {"budget", &c->budget},
    };
    char *format;
    SW_TRY(sw_h5_get_text(file, "format", &format));
    bool known = strcmp(format, "swbench-cell") == 0;
    free(format);
    if (!known)
        return SW_FAIL(SW_EINPUT, "found another format than swbench-cell");
    int64_t version;
    SW_TRY(sw_h5_get_int(file, "version", &version));
    if (version != 1)
        return SW_FAIL(SW_EINPUT, "found version %lld, expected 1", (long long)version);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        SW_TRY(keep_attribute(r, file, texts[i].name, texts[i].to));
    SW_TRY(sw_h5_get_int(file, "context", &c->context));
    SW_TRY(sw_h5_get_int(file, "seed", &c->seed));
    SW_TRY(sw_h5_get_int(file, "dense_layers", &c->dense_layers));
    c->baseline = sw_baseline_names[SW_BASELINE_FASTEST]; /* of cells before 0.2 */
    if (H5Aexists(file, "baseline") > 0)
        SW_TRY(keep_attribute(r, file, "baseline", &c->baseline));
    return sw_h5_get_real(file, "density", &c->density);
}

/* --- which cells are the same ----------------------------------------------------------------- */

struct source {
    const char *experiment; /* belongs to the table */
    char *ended;            /* NULL: not known */
    int64_t from, to;       /* its rows */
};

/* Cells written before these attributes have the identity that they are made of. */
static enum sw_status hash_identity(struct reader *r)
{
    struct sw_identity_hashes hashes;
    enum sw_status st = sw_identity_hash(r->common.identity, &hashes);
    if (st == SW_EINPUT) { /* then it is like no other cell */
        sw_error_clear();
        r->common.experiment = r->common.conditions = r->common.cell;
        return SW_OK;
    }
    SW_TRY(st);
    SW_TRY(keep(r, strdup(hashes.experiment), &r->common.experiment));
    return keep(r, strdup(hashes.conditions), &r->common.conditions);
}

static enum sw_status read_identity(struct reader *r, hid_t file, hid_t provenance)
{
    r->common.identity = "";
    if (provenance >= 0 && H5Aexists(provenance, "identity") > 0)
        SW_TRY(keep_attribute(r, provenance, "identity", &r->common.identity));
    if (H5Aexists(file, "experiment") <= 0 || H5Aexists(file, "conditions") <= 0)
        return hash_identity(r);
    SW_TRY(keep_attribute(r, file, "experiment", &r->common.experiment));
    return keep_attribute(r, file, "conditions", &r->common.conditions);
}

static enum sw_status read_source(struct reader *r, hid_t file, struct source *source)
{
    bool there = H5Lexists(file, "provenance", H5P_DEFAULT) > 0;
    hid_t provenance = there ? H5Gopen2(file, "provenance", H5P_DEFAULT) : -1;
    enum sw_status st = read_identity(r, file, provenance);
    if (st == SW_OK && provenance >= 0 && H5Aexists(provenance, "ended") > 0)
        st = sw_h5_get_text(provenance, "ended", &source->ended);
    sw_h5_close(provenance);
    source->experiment = r->common.experiment;
    return st;
}

static int newest_last(const void *left, const void *right)
{
    const struct source *a = left, *b = right;
    int c = strcmp(a->experiment, b->experiment);
    /* UTC in ISO 8601 sorts as text */
    return c || !a->ended || !b->ended ? c : strcmp(a->ended, b->ended);
}

/* A folder that outlives an update of the program holds cells of both versions, since the code is a
 * part of a key. Their figures side by side would be taken for a comparison; the table has the
 * newest and leaves the others in their files. */
static void drop_superseded(struct sw_tidy *tidy, struct source *sources, int n)
{
    qsort(sources, (size_t)n, sizeof *sources, newest_last);
    for (int i = 0; i + 1 < n; i++)
        if (strcmp(sources[i].experiment, sources[i + 1].experiment) == 0)
            for (int64_t row = sources[i].from; row < sources[i].to; row++)
                tidy->rows[row].metric = NULL; /* marked */
    int64_t kept = 0;
    for (int64_t row = 0; row < tidy->count; row++)
        if (tidy->rows[row].metric)
            tidy->rows[kept++] = tidy->rows[row];
    tidy->count = kept;
}

static enum sw_status read_cell(struct reader *r, const char *path, struct source *source)
{
    hid_t file;
    struct sw_texts names = {0};
    SW_TRY(sw_h5_open(path, &file));
    enum sw_status st;
    SW_TRY_GOTO(st, out, read_root(r, file));
    source->from = r->tidy->count;
    SW_TRY_GOTO(st, out, read_source(r, file, source));
    SW_TRY_GOTO(st, out, sw_h5_members(file, "metrics", &names));
    if (names.count == 0) /* failed or skipped: one row says so */
        SW_TRY_GOTO(st, out, add_row(r, &r->common));
    for (int i = 0; i < names.count; i++) {
        struct sw_tidy_row row;
        SW_TRY_GOTO(st, out, read_value(r, file, names.items[i], &row));
        SW_TRY_GOTO(st, out, read_layers(r, file, names.items[i], &row));
    }
    source->to = r->tidy->count;
out:
    sw_texts_clear(&names);
    sw_h5_close(file);
    return st == SW_OK ? st : sw_context(st, "%s", path);
}

static int compare_int(int64_t a, int64_t b) { return (a > b) - (a < b); }
static int compare_real(double a, double b) /* NaN (native density) last */
{
    return isnan(a) || isnan(b) ? (isnan(a) != 0) - (isnan(b) != 0) : (a > b) - (a < b);
}

static int by_what(const void *left, const void *right)
{
    const struct sw_tidy_row *a = left, *b = right;
    int c = strcmp(a->workload, b->workload);
    c = c ? c : strcmp(a->model, b->model);
    c = c ? c : strcmp(a->task, b->task);
    c = c ? c : compare_int(a->context, b->context);
    c = c ? c : strcmp(a->method, b->method);
    c = c ? c : strcmp(a->params, b->params);
    c = c ? c : compare_real(a->density, b->density);
    c = c ? c : strcmp(a->phase, b->phase);
    c = c ? c : compare_int(a->seed, b->seed);
    c = c ? c : strcmp(a->cell, b->cell);
    c = c ? c : strcmp(a->metric, b->metric);
    return c ? c : compare_int(a->layer, b->layer);
}

void sw_tidy_sort(struct sw_tidy *tidy)
{
    if (tidy->count)
        qsort(tidy->rows, (size_t)tidy->count, sizeof *tidy->rows, by_what);
}

enum sw_status sw_tidy_read_intact(const char *results, struct sw_tidy **out,
                                   struct sw_texts *damaged)
{
    *out = NULL;
    struct sw_texts files = {0};
    struct source *sources = NULL;
    int n_sources = 0;
    struct reader r = {.tidy = calloc(1, sizeof *r.tidy)};
    enum sw_status st;
    if (!r.tidy) {
        st = SW_FAIL(SW_ENOMEM, "out of memory (tidy table)");
        goto out;
    }
    SW_TRY_GOTO(st, out, sw_store_list_cells(results, &files));
    sources = calloc((size_t)files.count + 1, sizeof *sources);
    if (!sources)
        SW_TRY_GOTO(st, out, SW_FAIL(SW_ENOMEM, "out of memory (tidy table)"));
    for (int i = 0; i < files.count && st == SW_OK; i++) {
        int64_t before = r.tidy->count;
        st = read_cell(&r, files.items[i], &sources[n_sources++]);
        if (st == SW_EINPUT && damaged) {
            r.tidy->count = before;
            struct source *bad = &sources[--n_sources];
            free(bad->ended);
            *bad = (struct source){0};
            st = sw_texts_add(damaged, sw_error_message());
            sw_error_clear();
        }
    }
    if (st == SW_OK) {
        drop_superseded(r.tidy, sources, n_sources);
        sw_tidy_sort(r.tidy);
    }
out:
    sw_texts_clear(&files);
    for (int i = 0; i < n_sources; i++)
        free(sources[i].ended);
    free(sources);
    if (st == SW_OK)
        *out = r.tidy;
    else
        sw_tidy_free(r.tidy);
    return st;
}

enum sw_status sw_tidy_read(const char *results, struct sw_tidy **out)
{
    return sw_tidy_read_intact(results, out, NULL);
}

void sw_tidy_free(struct sw_tidy *tidy)
{
    if (!tidy)
        return;
    sw_texts_clear(&tidy->strings);
    free(tidy->rows);
    free(tidy);
}
