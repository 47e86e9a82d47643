/* swbench merge: joins the results of machines that share nothing. Everything is read and checked
 * before anything is written; each cell then appears in OUT whole or not at all, so an interrupted
 * merge is simply run again. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/judge/verdict.h"
#include "harness/program/cli.h"
#include "harness/report/index.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"

/* Machines of one kind may have other instruction sets: what rounding does is no conflict. */
static const double ROUNDING = 1e-5;

/* A cell file of some folder. */
struct found {
    char *path, *key;
    bool ok;     /* its status */
    int order;   /* folders in the order given, OUT before all */
    bool in_out; /* it lies in OUT already */
};

struct merge {
    struct found *cells;
    int n, copied, there, conflicts;
};

static void clear(struct merge *m)
{
    for (int i = 0; i < m->n; i++) {
        free(m->cells[i].path);
        free(m->cells[i].key);
    }
    free(m->cells);
}

/* Verifies a cell and learns its key, which must be its name: that is where readers look for it. */
static enum sw_status read_cell(const char *path, struct found *out)
{
    hid_t file = -1;
    char *format = NULL, *status = NULL, name[64];
    enum sw_status st;
    *out = (struct found){0};
    SW_TRY(sw_h5_open(path, &file));
    SW_TRY_GOTO(st, out, sw_h5_get_text(file, "format", &format));
    SW_TRY_GOTO(st, out, sw_h5_get_text(file, "key", &out->key));
    SW_TRY_GOTO(st, out, sw_h5_get_text(file, "status", &status));
    const char *slash = strrchr(path, '/');
    snprintf(name, sizeof name, "%.40s.h5", out->key);
    if (strcmp(format, "swbench-cell") != 0)
        st = SW_FAIL(SW_EINPUT, "found another format than swbench-cell");
    else if (strcmp(name, slash ? slash + 1 : path) != 0)
        st = SW_FAIL(SW_EINPUT, "found the cell with key %.40s, expected a file of that name",
                     out->key);
    out->ok = strcmp(status, sw_result_status_names[SW_RESULT_OK]) == 0;
    out->path = strdup(path);
    if (st == SW_OK && !out->path)
        st = SW_FAIL(SW_ENOMEM, "out of memory (%s)", path);
out:
    sw_h5_close(file);
    free(format);
    free(status);
    if (st == SW_OK)
        return st;
    free(out->path);
    free(out->key);
    *out = (struct found){0};
    return sw_context(st, "%s", path);
}

static enum sw_status read_folder(struct merge *m, const char *folder, int order)
{
    struct sw_texts files = {0};
    enum sw_status st = sw_store_list_cells(folder, &files);
    if (st == SW_OK && files.count == 0 && order > 0)
        st = SW_FAIL(SW_EINPUT, "%s: found no cells, expected results of a run", folder);
    struct found *grown =
        st == SW_OK ? realloc(m->cells, ((size_t)m->n + (size_t)files.count + 1) * sizeof *grown)
                    : NULL;
    if (st == SW_OK && !grown)
        st = SW_FAIL(SW_ENOMEM, "out of memory (%d cells)", files.count);
    if (grown)
        m->cells = grown;
    for (int i = 0; i < files.count && st == SW_OK; i++) {
        st = read_cell(files.items[i], &m->cells[m->n]);
        if (st != SW_OK)
            break;
        m->cells[m->n].order = order;
        m->cells[m->n++].in_out = order == 0;
    }
    sw_texts_clear(&files);
    return st;
}

/* --- the same key twice ----------------------------------------------------------------------- */

/* Two runs of one cell never agree in these. */
static bool is_of_the_moment(const struct sw_metric_info *info)
{
    static const char *const units[] = {"ms", "us", "TFLOP/s", "GB/s", "byte"};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(info->unit, units[i]) == 0)
            return true;
    return false;
}

static enum sw_status differs_in(struct sw_cell_reader *a, struct sw_cell_reader *b,
                                 const char *metric, bool *differs)
{
    static const char *const groups[] = {"metrics", "per_layer", "per_layer_head", "samples"};
    *differs = false;
    for (size_t g = 0; g < sizeof groups / sizeof groups[0] && !*differs; g++) {
        double *x = NULL, *y = NULL;
        int n, m;
        enum sw_status st = sw_cell_reader_values(a, groups[g], metric, &x, &n);
        if (st == SW_OK)
            st = sw_cell_reader_values(b, groups[g], metric, &y, &m);
        *differs = st == SW_OK && (n != m || sw_differing(x, y, n, ROUNDING) > 0);
        free(x);
        free(y);
        SW_TRY(st);
    }
    return SW_OK;
}

/* Names of the metrics in which two cells differ, times aside; "" when in none. */
static enum sw_status difference(const char *one, const char *other, char *names, size_t size)
{
    struct sw_cell_reader *a = NULL, *b = NULL;
    enum sw_status st = sw_cell_reader_open(one, "", &a);
    if (st == SW_OK)
        st = sw_cell_reader_open(other, "", &b);
    names[0] = '\0';
    for (const struct sw_metric_info *info = sw_metric_table; info->name && st == SW_OK; info++) {
        bool differs = false;
        if (!is_of_the_moment(info))
            st = differs_in(a, b, info->name, &differs);
        if (differs)
            snprintf(names + strlen(names), size - strlen(names), "%s%s", *names ? ", " : "",
                     info->name);
    }
    sw_cell_reader_close(a);
    sw_cell_reader_close(b);
    return st;
}

static bool same_file(const char *one, const char *other)
{
    struct stat a, b;
    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* --- merging ---------------------------------------------------------------------------------- */

/* Cells of a key together; those that are ok before others, then in the order of the folders. */
static int by_key(const void *left, const void *right)
{
    const struct found *a = left, *b = right;
    int c = strcmp(a->key, b->key);
    c = c ? c : (int)b->ok - (int)a->ok;
    return c ? c : a->order - b->order;
}

/* Cells first … last-1 have one key: the first is kept. Says where an ok one disagrees with it. */
static enum sw_status settle(struct merge *m, int first, int last)
{
    const struct found *kept = &m->cells[first];
    for (int i = first + 1; i < last; i++) {
        const struct found *other = &m->cells[i];
        char names[1024];
        if (!other->ok || same_file(kept->path, other->path))
            continue;
        SW_TRY(difference(kept->path, other->path, names, sizeof names));
        if (!*names)
            continue;
        fprintf(stderr, "conflict: %s and %s differ in %s; the first is kept\n", kept->path,
                other->path, names);
        m->conflicts++;
    }
    return SW_OK;
}

static int end_of_key(const struct merge *m, int first)
{
    int last = first + 1;
    while (last < m->n && strcmp(m->cells[last].key, m->cells[first].key) == 0)
        ++last;
    return last;
}

static enum sw_status merge(struct merge *m, const char *out)
{
    char cells[PATH_MAX];
    if (snprintf(cells, sizeof cells, "%s/cells", out) >= (int)sizeof cells)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", out);
    qsort(m->cells, (size_t)m->n, sizeof *m->cells, by_key);
    for (int first = 0, last; first < m->n; first = last) {
        last = end_of_key(m, first);
        SW_TRY(settle(m, first, last));
    }
    SW_TRY(sw_store_open_folder(out));
    for (int first = 0, last; first < m->n; first = last) {
        const struct found *kept = &m->cells[first];
        last = end_of_key(m, first);
        m->there += kept->in_out;
        m->copied += !kept->in_out;
        if (!kept->in_out)
            SW_TRY(sw_h5_copy(kept->path, cells, kept->key));
    }
    return sw_index_write(out);
}

static bool has_cells(const char *folder)
{
    char path[PATH_MAX];
    struct stat info;
    return snprintf(path, sizeof path, "%s/cells", folder) < (int)sizeof path &&
           stat(path, &info) == 0;
}

static enum sw_status merge_folders(const struct sw_cli *cli, struct merge *m)
{
    const char *out = cli->positional[0];
    struct stat info;
    if (stat(out, &info) == 0 && !S_ISDIR(info.st_mode))
        return SW_FAIL(SW_EINPUT, "%s: found a file, expected a result folder to merge into", out);
    if (has_cells(out))
        SW_TRY(read_folder(m, out, 0));
    for (int i = 1; i < cli->n_positional; i++)
        SW_TRY(read_folder(m, cli->positional[i], i));
    return merge(m, out);
}

int sw_verb_merge(int argc, char **argv)
{
    struct sw_cli cli;
    struct merge m = {0};
    enum sw_status st = sw_cli_parse(argc, argv, 2, SW_CLI_MAX, &cli);
    if (st == SW_OK)
        st = merge_folders(&cli, &m);
    if (st == SW_OK)
        fprintf(stderr, "%s: %d cells: %d copied, %d there already, %d conflicts\n",
                cli.positional[0], m.copied + m.there, m.copied, m.there, m.conflicts);
    int code = sw_cli_exit(st);
    if (st == SW_EIO)
        code = SW_EXIT_FAILED_CELLS; /* a full disk: what was copied before is good */
    if (code == SW_EXIT_OK && m.conflicts)
        code = SW_EXIT_INCONCLUSIVE;
    clear(&m);
    return code;
}
