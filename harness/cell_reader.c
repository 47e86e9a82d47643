/* One stored cell at a time: raw samples, provenance, warnings. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/hdf5_util.h"
#include "harness/store.h"

struct sw_cell_reader { hid_t file; char path[PATH_MAX]; };

enum sw_status sw_cell_reader_open(const char *results, const char *key, struct sw_cell_reader **out)
{
    *out = NULL;
    struct sw_cell_reader *r = calloc(1, sizeof *r);
    if (!r)
        return SW_FAIL(SW_ENOMEM, "out of memory (cell reader)");
    r->file = -1;
    /* A folder's cell is where its key says; a single file is itself. */
    struct stat info;
    const char *slash = strrchr(results, '/');
    bool folder = stat(results, &info) == 0 && S_ISDIR(info.st_mode);
    bool index = strcmp(slash ? slash + 1 : results, "results.h5") == 0;
    if (folder)
        snprintf(r->path, sizeof r->path, "%s/cells/%s.h5", results, key);
    else if (index)
        snprintf(r->path, sizeof r->path, "%.*scells/%s.h5", slash ? (int)(slash + 1 - results) : 0, results, key);
    else
        snprintf(r->path, sizeof r->path, "%s", results);
    enum sw_status st = sw_h5_open(r->path, &r->file);
    if (st == SW_OK)
        *out = r;
    else
        free(r);
    return st;
}

enum sw_status sw_cell_reader_values(struct sw_cell_reader *r, const char *group, const char *metric, double **values, int *n)
{
    char path[256];
    hsize_t dims[3];
    int rank;
    *values = NULL;
    *n = 0;
    snprintf(path, sizeof path, "%s/%s", group, metric);
    if (H5Lexists(r->file, group, H5P_DEFAULT) <= 0 || H5Lexists(r->file, path, H5P_DEFAULT) <= 0)
        return SW_OK;
    enum sw_status st = sw_h5_read_reals(r->file, path, values, dims, &rank);
    if (st != SW_OK)
        return sw_context(st, "%s", r->path);
    size_t count = 1;
    for (int i = 0; i < rank; ++i)
        count *= dims[i];
    if (count <= INT_MAX) {
        *n = (int)count;
        return SW_OK;
    }
    free(*values);
    *values = NULL;
    return SW_FAIL(SW_EINPUT, "%s: %s has %zu values, expected at most %d", r->path, path, count, INT_MAX);
}

enum sw_status sw_cell_reader_samples(struct sw_cell_reader *r, const char *metric, double **values, int *n)
{
    return sw_cell_reader_values(r, "samples", metric, values, n);
}

enum sw_status sw_cell_reader_threads(struct sw_cell_reader *r, int64_t *threads)
{
    hid_t group = H5Gopen2(r->file, "provenance", H5P_DEFAULT);
    if (group < 0)
        return SW_FAIL(SW_EINPUT, "%s: /provenance is missing", r->path);
    enum sw_status st = sw_h5_get_int(group, "threads", threads);
    sw_h5_close(group);
    return st == SW_OK ? st : sw_context(st, "%s: /provenance", r->path);
}

enum sw_status sw_cell_reader_provenance(struct sw_cell_reader *r, const char *name, char **text)
{
    *text = NULL;
    hid_t group = H5Gopen2(r->file, "provenance", H5P_DEFAULT);
    if (group < 0)
        return SW_FAIL(SW_EINPUT, "%s: /provenance is missing", r->path);
    enum sw_status st = sw_h5_get_text(group, name, text);
    sw_h5_close(group);
    return st == SW_OK ? st : sw_context(st, "%s: /provenance", r->path);
}

enum sw_status sw_cell_reader_warnings(struct sw_cell_reader *r, struct sw_texts *out)
{
    *out = (struct sw_texts){0};
    if (H5Lexists(r->file, "warnings", H5P_DEFAULT) <= 0)
        return SW_OK;
    enum sw_status st = sw_h5_read_texts(r->file, "warnings", out);
    return st == SW_OK ? st : sw_context(st, "%s", r->path);
}

void sw_cell_reader_close(struct sw_cell_reader *r)
{
    if (!r)
        return;
    sw_h5_close(r->file);
    free(r);
}
