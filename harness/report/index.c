/* results.h5: one file that presents all cells of a folder, made anew from them whenever asked. */
#include "harness/report/index.h"

#include <hdf5_hl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/judge/derived.h"
#include "harness/judge/label.h"
#include "harness/store/claim.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"

/* Texts repeat a great deal: fixed width, chunked and deflated they take next to nothing, where
 * variable-length ones would be stored (and read) one by one. */
static hid_t text_type(const char *const *texts, int64_t n)
{
    size_t width = 1;
    for (int64_t i = 0; i < n; i++) {
        size_t length = strlen(texts[i]);
        width = length > width ? length : width;
    }
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, width) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0 ||
                      H5Tset_strpad(type, H5T_STR_NULLPAD) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* A column of n values of `type`; takes the type, -1 where it could not be made. */
static enum sw_status write_values(hid_t group, const struct sw_tidy_column *c, hid_t type,
                                   int64_t n, const void *values)
{
    hid_t dataset = -1;
    enum sw_status st;
    if (type < 0)
        SW_TRY_GOTO(st, out, SW_H5_FAIL(SW_EIO, c->name));
    SW_TRY_GOTO(st, out,
                sw_h5_write(group,
                            &(struct sw_h5_array){.name = c->name,
                                                  .units = c->units,
                                                  .long_name = c->long_name,
                                                  .type = type,
                                                  .rank = 1,
                                                  .dims = {(hsize_t)n},
                                                  .compress = true,
                                                  .data = values},
                            &dataset));
    if (n) /* HDF5 has no dimension of length 0 */
        st = sw_h5_attach_bare(group, dataset, 0, "row", (hsize_t)n);
out:
    sw_h5_close(dataset);
    sw_h5_close(type);
    return st;
}

static enum sw_status no_memory(const struct sw_tidy_column *c, int64_t n)
{
    return SW_FAIL(SW_ENOMEM, "out of memory (column %s of %lld rows)", c->name, (long long)n);
}

static enum sw_status write_texts(hid_t group, const struct sw_tidy_column *c,
                                  const char *const *texts, int64_t n)
{
    hid_t type = text_type(texts, n);
    size_t width = type < 0 ? 1 : H5Tget_size(type);
    char *values = calloc((size_t)n + 1, width);
    for (int64_t i = 0; values && i < n; i++)
        memcpy(values + (size_t)i * width, texts[i], strlen(texts[i])); /* the rest is zero */
    enum sw_status st = values ? write_values(group, c, type, n, values) : no_memory(c, n);
    if (!values)
        sw_h5_close(type);
    free(values);
    return st;
}

static enum sw_status write_numbers(hid_t group, const struct sw_tidy *tidy,
                                    const struct sw_tidy_column *c)
{
    hid_t type = H5Tcopy(c->kind == SW_COLUMN_INT64 ? H5T_NATIVE_INT64
                         : c->kind == SW_COLUMN_INT ? H5T_NATIVE_INT32
                                                    : H5T_NATIVE_DOUBLE);
    size_t width = type < 0 ? 1 : H5Tget_size(type);
    char *values = calloc((size_t)tidy->count + 1, width);
    for (int64_t i = 0; values && type >= 0 && i < tidy->count; i++)
        memcpy(values + (size_t)i * width, (const char *)&tidy->rows[i] + c->offset, width);
    enum sw_status st =
        values ? write_values(group, c, type, tidy->count, values) : no_memory(c, tidy->count);
    if (!values)
        sw_h5_close(type);
    free(values);
    return st;
}

static enum sw_status write_column(hid_t group, const struct sw_tidy *tidy,
                                   const struct sw_tidy_column *c)
{
    if (c->kind != SW_COLUMN_TEXT)
        return write_numbers(group, tidy, c);
    const char **texts = malloc(((size_t)tidy->count + 1) * sizeof *texts);
    if (!texts)
        return no_memory(c, tidy->count);
    for (int64_t i = 0; i < tidy->count; i++)
        texts[i] = *(const char *const *)((const char *)&tidy->rows[i] + c->offset);
    enum sw_status st = write_texts(group, c, texts, tidy->count);
    free(texts);
    return st;
}

/* A row of a cell other than the row before's: a cell's rows follow one another. */
static bool begins_cell(const struct sw_tidy *tidy, int64_t row)
{
    return row == 0 || strcmp(tidy->rows[row].cell, tidy->rows[row - 1].cell) != 0;
}

/* The label of each row's cell, as a last column. */
static enum sw_status write_labels(hid_t group, const struct sw_tidy *tidy)
{
    static const struct sw_tidy_column column = {
        .name = "label", .units = "", .long_name = "what the cell is called beside the others"};
    const char **texts = calloc((size_t)tidy->count + 1, sizeof *texts);
    struct sw_label *labels = NULL;
    int n = 0;
    enum sw_status st = texts ? SW_OK : no_memory(&column, tidy->count);
    for (int64_t i = 0; i < tidy->count && st == SW_OK; i++)
        if (begins_cell(tidy, i))
            texts[n++] = tidy->rows[i].identity;
    if (st == SW_OK)
        st = sw_labels_make(texts, n, &labels);
    int cell = -1;
    for (int64_t i = 0; i < tidy->count && st == SW_OK; i++) {
        cell += begins_cell(tidy, i);
        texts[i] = labels[cell].name;
    }
    if (st == SW_OK)
        st = write_texts(group, &column, texts, tidy->count);
    sw_labels_free(labels, n);
    free(texts);
    return st;
}

static enum sw_status write_links(hid_t file, const struct sw_tidy *tidy)
{
    hid_t group;
    SW_TRY(sw_h5_group(file, "cells", &group));
    enum sw_status st = SW_OK;
    for (int64_t i = 0; i < tidy->count && st == SW_OK; i++) {
        const char *key = tidy->rows[i].cell;
        char target[PATH_MAX];
        if (!begins_cell(tidy, i))
            continue;
        snprintf(target, sizeof target, "cells/%s.h5", key);
        if (H5Lcreate_external(target, "/", group, key, H5P_DEFAULT, H5P_DEFAULT) < 0)
            st = SW_H5_FAIL(SW_EIO, key);
    }
    sw_h5_close(group);
    return st;
}

static enum sw_status write_tidy(hid_t file, const struct sw_tidy *tidy)
{
    hid_t group;
    SW_TRY(sw_h5_group(file, "tidy", &group));
    enum sw_status st = SW_OK;
    for (const struct sw_tidy_column *c = sw_tidy_columns; c->name && st == SW_OK; c++)
        st = write_column(group, tidy, c);
    if (st == SW_OK)
        st = write_labels(group, tidy);
    sw_h5_close(group);
    return st;
}

enum { PATIENCE_S = 60 };

static enum sw_status write_index(const char *folder)
{
    struct sw_texts damaged = {0};
    struct sw_tidy *tidy = NULL;
    struct sw_h5_file file = {.id = -1, .fd = -1};
    enum sw_status st;
    SW_TRY_GOTO(st, out, sw_derived_read(folder, &tidy, &damaged));
    SW_TRY_GOTO(st, out, sw_h5_create(folder, "results", &file));
    SW_TRY_GOTO(st, out, sw_h5_set_text(file.id, "format", "swbench-results"));
    SW_TRY_GOTO(st, out, sw_h5_set_int(file.id, "version", 1));
    SW_TRY_GOTO(st, out, write_links(file.id, tidy));
    SW_TRY_GOTO(st, out, write_tidy(file.id, tidy));
    SW_TRY_GOTO(st, out, sw_h5_publish(&file));
    if (damaged.count) /* the rest is presented all the same */
        st = SW_FAIL(SW_EINPUT, "%s%s", damaged.items[0], damaged.count > 1 ? " (and others)" : "");
out:
    sw_h5_discard(&file);
    sw_texts_clear(&damaged);
    sw_tidy_free(tidy);
    return st;
}

/* One process at a time, so that the last to write has read every cell. One that is stuck does not
 * hold up the others for ever. */
enum sw_status sw_index_write(const char *folder)
{
    struct sw_claim claim;
    bool got;
    SW_TRY(sw_claim_wait(folder, "results", PATIENCE_S, &claim, &got));
    enum sw_status st = write_index(folder);
    sw_claim_release(&claim);
    return st;
}
