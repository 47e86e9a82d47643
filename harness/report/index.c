/* results.h5: one file that presents all cells of a folder, made anew from them whenever asked. */
#include <hdf5_hl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/store/claim.h"
#include "harness/store/h5_data.h"
#include "harness/store/store.h"

static const char *text_at(const struct sw_tidy *tidy, int64_t row, const struct sw_tidy_column *c)
{
    return *(const char *const *)((const char *)&tidy->rows[row] + c->offset);
}

/* Texts repeat a great deal: fixed width, chunked and deflated they take next to nothing, where
 * variable-length ones would be stored (and read) one by one. */
static hid_t column_type(const struct sw_tidy *tidy, const struct sw_tidy_column *c)
{
    if (c->kind != SW_COLUMN_TEXT)
        return H5Tcopy(c->kind == SW_COLUMN_INT64 ? H5T_NATIVE_INT64
                       : c->kind == SW_COLUMN_INT ? H5T_NATIVE_INT32
                                                  : H5T_NATIVE_DOUBLE);
    size_t width = 1;
    for (int64_t i = 0; i < tidy->count; ++i) {
        size_t length = strlen(text_at(tidy, i, c));
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

static void copy_column(const struct sw_tidy *tidy, const struct sw_tidy_column *c, size_t width,
                        char *to)
{
    for (int64_t i = 0; i < tidy->count; ++i, to += width) {
        if (c->kind == SW_COLUMN_TEXT) {
            const char *text = text_at(tidy, i, c);
            memcpy(to, text, strlen(text)); /* the rest is zero */
        } else {
            memcpy(to, (const char *)&tidy->rows[i] + c->offset, width);
        }
    }
}

static enum sw_status write_column(hid_t group, const struct sw_tidy *tidy,
                                   const struct sw_tidy_column *c)
{
    hid_t type = column_type(tidy, c), dataset = -1;
    size_t width = type < 0 ? 0 : H5Tget_size(type);
    char *values = width ? calloc((size_t)tidy->count + 1, width) : NULL;
    enum sw_status st;
    if (!values) {
        st = SW_FAIL(SW_ENOMEM, "out of memory (column %s of %lld rows)", c->name,
                     (long long)tidy->count);
        goto out;
    }
    copy_column(tidy, c, width, values);
    SW_TRY_GOTO(st, out,
                sw_h5_write(group,
                            &(struct sw_h5_array){.name = c->name,
                                                  .units = c->units,
                                                  .long_name = c->long_name,
                                                  .type = type,
                                                  .rank = 1,
                                                  .dims = {(hsize_t)tidy->count},
                                                  .compress = true,
                                                  .data = values},
                            &dataset));
    if (tidy->count) /* HDF5 has no dimension of length 0 */
        st = sw_h5_attach_bare(group, dataset, 0, "row", (hsize_t)tidy->count);
out:
    free(values);
    sw_h5_close(dataset);
    sw_h5_close(type);
    return st;
}

static enum sw_status write_links(hid_t file, const struct sw_tidy *tidy)
{
    hid_t group;
    SW_TRY(sw_h5_group(file, "cells", &group));
    enum sw_status st = SW_OK;
    for (int64_t i = 0; i < tidy->count && st == SW_OK; ++i) {
        const char *key = tidy->rows[i].cell;
        char target[PATH_MAX];
        if (i > 0 &&
            strcmp(key, tidy->rows[i - 1].cell) == 0) /* a cell's rows follow one another */
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
    for (const struct sw_tidy_column *c = sw_tidy_columns; c->name && st == SW_OK; ++c)
        st = write_column(group, tidy, c);
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
    SW_TRY_GOTO(st, out, sw_tidy_read_intact(folder, &tidy, &damaged));
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
enum sw_status sw_store_write_index(const char *folder)
{
    struct sw_claim claim;
    bool got;
    SW_TRY(sw_claim_wait(folder, "results", PATIENCE_S, &claim, &got));
    enum sw_status st = write_index(folder);
    sw_claim_release(&claim);
    return st;
}
