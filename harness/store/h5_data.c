/* Attributes, groups and datasets of HDF5 files, with units and long_name. */
#include "harness/store/h5_data.h"

#include <hdf5_hl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

enum { COMPACT_BYTES = 8192, CHUNK_ENTRIES = 16384 };

/* --- texts ------------------------------------------------------------------------------------ */

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* --- attributes ------------------------------------------------------------------------------- */

static enum sw_status set_attribute(hid_t object, const char *name, hid_t file_type,
                                    hid_t memory_type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute =
        space < 0 ? -1 : H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attribute >= 0 && H5Awrite(attribute, memory_type, value) >= 0;
    enum sw_status st = ok ? SW_OK : SW_H5_FAIL(SW_EIO, name);
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    return st;
}

enum sw_status sw_h5_set_text(hid_t object, const char *name, const char *value)
{
    char *text;
    SW_TRY(sw_utf8_valid(value ? value : "", &text));
    hid_t type = text_type();
    enum sw_status st =
        type < 0 ? SW_H5_FAIL(SW_EIO, name) : set_attribute(object, name, type, type, &text);
    sw_h5_close(type);
    free(text);
    return st;
}

enum sw_status sw_h5_set_int(hid_t object, const char *name, int64_t value)
{
    return set_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

enum sw_status sw_h5_set_real(hid_t object, const char *name, double value)
{
    return set_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

/* Opens a scalar attribute of class `class`. */
static enum sw_status open_attribute(hid_t object, const char *name, H5T_class_t class, hid_t *out)
{
    *out = -1;
    if (H5Aexists(object, name) <= 0)
        return SW_FAIL(SW_EINPUT, "attribute %s is missing", name);
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return SW_H5_FAIL(SW_EINPUT, name);
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == class &&
              H5Sget_simple_extent_npoints(space) == 1 &&
              (class != H5T_STRING || H5Tis_variable_str(type) > 0);
    if (space >= 0)
        H5Sclose(space);
    sw_h5_close(type);
    if (!ok) {
        H5Aclose(attribute);
        return SW_FAIL(SW_EINPUT, "attribute %s is of another type than expected", name);
    }
    *out = attribute;
    return SW_OK;
}

enum sw_status sw_h5_get_text(hid_t object, const char *name, char **out)
{
    hid_t attribute;
    *out = NULL;
    SW_TRY(open_attribute(object, name, H5T_STRING, &attribute));
    hid_t type = text_type();
    char *text = NULL;
    enum sw_status st = SW_OK;
    if (type < 0 || H5Aread(attribute, type, &text) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    else
        /* another program may have written it, and JSON and XML can hold nothing else */
        st = sw_utf8_valid(text ? text : "", out);
    H5free_memory(text);
    sw_h5_close(type);
    H5Aclose(attribute);
    return st;
}

enum sw_status sw_h5_get_int(hid_t object, const char *name, int64_t *out)
{
    hid_t attribute;
    SW_TRY(open_attribute(object, name, H5T_INTEGER, &attribute));
    enum sw_status st =
        H5Aread(attribute, H5T_NATIVE_INT64, out) < 0 ? SW_H5_FAIL(SW_EINPUT, name) : SW_OK;
    H5Aclose(attribute);
    return st;
}

enum sw_status sw_h5_get_real(hid_t object, const char *name, double *out)
{
    hid_t attribute;
    SW_TRY(open_attribute(object, name, H5T_FLOAT, &attribute));
    enum sw_status st =
        H5Aread(attribute, H5T_NATIVE_DOUBLE, out) < 0 ? SW_H5_FAIL(SW_EINPUT, name) : SW_OK;
    H5Aclose(attribute);
    return st;
}

/* --- groups and datasets ---------------------------------------------------------------------- */

void sw_h5_close(hid_t object)
{
    if (object <= 0)
        return;
    switch (H5Iget_type(object)) {
    case H5I_DATASET:
        H5Dclose(object);
        break;
    case H5I_GROUP:
        H5Gclose(object);
        break;
    case H5I_DATATYPE:
        H5Tclose(object);
        break;
    case H5I_FILE:
        H5Fclose(object);
        break;
    default:
        break;
    }
}

enum sw_status sw_h5_group(hid_t parent, const char *name, hid_t *out)
{
    hid_t current = H5Gopen2(parent, ".", H5P_DEFAULT);
    char part[256];
    for (const char *at = name; current >= 0 && *at;) {
        size_t length = strcspn(at, "/");
        snprintf(part, sizeof part, "%.*s", (int)length, at);
        at += length + (at[length] == '/');
        if (length == 0)
            continue;
        hid_t next = H5Lexists(current, part, H5P_DEFAULT) > 0
                         ? H5Gopen2(current, part, H5P_DEFAULT)
                         : H5Gcreate2(current, part, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Gclose(current);
        current = next;
    }
    *out = current;
    return current < 0 ? SW_H5_FAIL(SW_EIO, name) : SW_OK;
}

static hid_t file_type(hid_t type)
{
    if (H5Tequal(type, H5T_NATIVE_DOUBLE) > 0)
        return H5T_IEEE_F64LE;
    if (H5Tequal(type, H5T_NATIVE_FLOAT) > 0)
        return H5T_IEEE_F32LE;
    if (H5Tequal(type, H5T_NATIVE_INT32) > 0)
        return H5T_STD_I32LE;
    if (H5Tequal(type, H5T_NATIVE_INT64) > 0)
        return H5T_STD_I64LE;
    if (H5Tequal(type, H5T_NATIVE_UINT64) > 0)
        return H5T_STD_U64LE;
    return type; /* bytes and texts are the same everywhere */
}

/* A chunk of at most CHUNK_ENTRIES values that lie side by side: whole rows where they fit. */
static void choose_chunk(const struct sw_h5_array *a, hsize_t chunk[3])
{
    hsize_t room = CHUNK_ENTRIES;
    for (int axis = a->rank - 1; axis >= 0; axis--) {
        chunk[axis] = a->dims[axis] < room ? a->dims[axis] : room;
        room /= chunk[axis];
    }
}

static bool set_layout(hid_t create, const struct sw_h5_array *a, hsize_t elements)
{
    if (a->compress && elements * H5Tget_size(a->type) > COMPACT_BYTES) {
        hsize_t chunk[3];
        choose_chunk(a, chunk);
        return H5Pset_chunk(create, a->rank, chunk) >= 0 && H5Pset_shuffle(create) >= 0 &&
               H5Pset_deflate(create, 4) >= 0;
    }
    if (a->data && elements * H5Tget_size(a->type) <= COMPACT_BYTES &&
        H5Tis_variable_str(a->type) <= 0)
        return H5Pset_layout(create, H5D_COMPACT) >= 0;
    return true;
}

enum sw_status sw_h5_write(hid_t group, const struct sw_h5_array *a, hid_t *out)
{
    hsize_t elements = 1;
    for (int i = 0; i < a->rank; i++)
        elements *= a->dims[i];
    hid_t space = a->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(a->rank, a->dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    bool ok = space >= 0 && create >= 0 && set_layout(create, a, elements);
    if (ok)
        dataset =
            H5Dcreate2(group, a->name, file_type(a->type), space, H5P_DEFAULT, create, H5P_DEFAULT);
    ok = dataset >= 0 && (!a->data || elements == 0 ||
                          H5Dwrite(dataset, a->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->data) >= 0);
    enum sw_status st = ok ? SW_OK : SW_H5_FAIL(SW_EIO, "cannot write");
    if (st != SW_OK)
        st = sw_context(st, "%s", a->name);
    H5Pclose(create);
    H5Sclose(space);
    if (st == SW_OK && a->units)
        st = sw_h5_set_text(dataset, "units", a->units);
    if (st == SW_OK && a->long_name)
        st = sw_h5_set_text(dataset, "long_name", a->long_name);
    if (st == SW_OK && out)
        *out = dataset;
    else
        sw_h5_close(dataset);
    return st;
}

enum sw_status sw_h5_write_texts(hid_t group, const char *name, const char *long_name,
                                 const char *const *texts, int n, hid_t *out)
{
    char **valid = calloc((size_t)n + 1, sizeof *valid);
    hid_t type = text_type();
    enum sw_status st = SW_OK;
    if (!valid || type < 0)
        st = SW_FAIL(SW_ENOMEM, "%d texts of %s: out of host memory", n, name);
    for (int i = 0; i < n && st == SW_OK; i++)
        st = sw_utf8_valid(texts[i] ? texts[i] : "", &valid[i]);
    if (st == SW_OK)
        st = sw_h5_write(group,
                         &(struct sw_h5_array){.name = name,
                                               .units = "",
                                               .long_name = long_name,
                                               .type = type,
                                               .rank = 1,
                                               .dims = {(hsize_t)n},
                                               .data = valid},
                         out);
    for (int i = 0; valid && i < n; i++)
        free(valid[i]);
    free(valid);
    sw_h5_close(type);
    return st;
}

enum sw_status sw_h5_attach(hid_t dataset, hid_t scale, int axis)
{
    return H5DSattach_scale(dataset, scale, (unsigned)axis) < 0
               ? SW_H5_FAIL(SW_EIO, "cannot attach a dimension")
               : SW_OK;
}

enum sw_status sw_h5_attach_bare(hid_t group, hid_t dataset, int axis, const char *stem,
                                 hsize_t length)
{
    char name[64], mark[80];
    snprintf(name, sizeof name, "%s_%llu", stem, (unsigned long long)length);
    hid_t scale = -1;
    enum sw_status st = SW_OK;
    if (H5Lexists(group, name, H5P_DEFAULT) > 0) {
        scale = H5Dopen2(group, name, H5P_DEFAULT);
        if (scale < 0)
            st = SW_H5_FAIL(SW_EIO, name);
    } else {
        /* The words by which netCDF readers know a dimension without values. */
        snprintf(mark, sizeof mark, "This is a netCDF dimension but not a netCDF variable.%10llu",
                 (unsigned long long)length);
        st = sw_h5_write(group,
                         &(struct sw_h5_array){.name = name,
                                               .units = "",
                                               .long_name = "a dimension, no values",
                                               .type = H5T_NATIVE_FLOAT,
                                               .rank = 1,
                                               .dims = {length}},
                         &scale);
        if (st == SW_OK && H5DSset_scale(scale, mark) < 0)
            st = SW_H5_FAIL(SW_EIO, name);
    }
    if (st == SW_OK)
        st = sw_h5_attach(dataset, scale, axis);
    sw_h5_close(scale);
    return st;
}

/* --- reading ---------------------------------------------------------------------------------- */

bool sw_h5_is_stored(hid_t dataset)
{
    enum { RATIO = 2048 };
    hsize_t dims[H5S_MAX_RANK], bytes = 1;
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_dims(space, dims, NULL);
    size_t size = type < 0 ? 0 : H5Tget_size(type);
    bool fits = rank >= 0 && size > 0 && !__builtin_mul_overflow(bytes, (hsize_t)size, &bytes),
         empty = false;
    for (int i = 0; i < rank; i++) {
        empty = empty || dims[i] == 0;
        fits = fits && !__builtin_mul_overflow(bytes, dims[i], &bytes);
    }
    sw_h5_close(type);
    if (space >= 0)
        H5Sclose(space);
    return empty ? rank >= 0
                 : fits && bytes / RATIO <= H5Dget_storage_size(dataset) &&
                       H5Dget_storage_size(dataset) > 0;
}

static enum sw_status open_dataset(hid_t group, const char *name, H5T_class_t class, hid_t *out,
                                   hsize_t dims[3], int *rank)
{
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    if (dataset < 0)
        return SW_FAIL(SW_EINPUT, "dataset %s is missing", name);
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    *rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    bool ok = type >= 0 && H5Tget_class(type) == class && *rank >= 0 && *rank <= 3 &&
              (class != H5T_STRING || H5Tis_variable_str(type) > 0) &&
              H5Sget_simple_extent_dims(space, dims, NULL) >= 0;
    sw_h5_close(type);
    if (space >= 0)
        H5Sclose(space);
    if (!ok) {
        sw_h5_close(dataset);
        return SW_FAIL(SW_EINPUT, "dataset %s is of another type than expected", name);
    }
    if (!sw_h5_is_stored(dataset)) {
        sw_h5_close(dataset);
        return SW_FAIL(SW_EINPUT, "dataset %s claims more values than are stored", name);
    }
    *out = dataset;
    return SW_OK;
}

enum sw_status sw_h5_read_reals(hid_t group, const char *name, double **out, hsize_t dims[3],
                                int *rank)
{
    hid_t dataset;
    *out = NULL;
    SW_TRY(open_dataset(group, name, H5T_FLOAT, &dataset, dims, rank));
    size_t count = 1;
    for (int i = 0; i < *rank; i++)
        count *= dims[i];
    enum sw_status st = SW_OK;
    double *values = malloc((count ? count : 1) * sizeof *values);
    if (!values)
        st = SW_FAIL(SW_ENOMEM, "%zu values of %s: out of host memory", count, name);
    else if (count &&
             H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    if (st == SW_OK)
        *out = values;
    else
        free(values);
    sw_h5_close(dataset);
    return st;
}

enum sw_status sw_h5_read_ints(hid_t group, const char *name, int64_t **out, int64_t *n)
{
    hid_t dataset;
    hsize_t dims[3] = {0};
    int rank;
    *out = NULL;
    *n = 0;
    SW_TRY(open_dataset(group, name, H5T_INTEGER, &dataset, dims, &rank));
    enum sw_status st =
        rank == 1 ? SW_OK : SW_FAIL(SW_EINPUT, "dataset %s is of another type than expected", name);
    int64_t *values = st == SW_OK && dims[0] < SIZE_MAX / sizeof *values
                          ? malloc(((size_t)dims[0] + 1) * sizeof *values)
                          : NULL;
    if (st == SW_OK && !values)
        st = SW_FAIL(SW_ENOMEM, "%llu values of %s: out of host memory",
                     (unsigned long long)dims[0], name);
    if (st == SW_OK && dims[0] &&
        H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    sw_h5_close(dataset);
    if (st != SW_OK) {
        free(values);
        return st;
    }
    *out = values;
    *n = (int64_t)dims[0];
    return SW_OK;
}

enum sw_status sw_h5_read_texts(hid_t group, const char *name, struct sw_texts *out)
{
    hid_t dataset;
    hsize_t dims[3] = {0};
    int rank;
    *out = (struct sw_texts){0};
    SW_TRY(open_dataset(group, name, H5T_STRING, &dataset, dims, &rank));
    size_t count = rank == 1 ? dims[0] : 0;
    hid_t type = text_type();
    char **texts = calloc(count + 1, sizeof *texts);
    enum sw_status st = SW_OK;
    if (!texts || type < 0)
        st = SW_FAIL(SW_ENOMEM, "%zu texts of %s: out of host memory", count, name);
    else if (count && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts) < 0)
        st = SW_H5_FAIL(SW_EINPUT, name);
    for (size_t i = 0; i < count && st == SW_OK; i++)
        st = sw_texts_add(out, texts[i]);
    for (size_t i = 0; texts && i < count; i++)
        H5free_memory(texts[i]);
    if (st != SW_OK)
        sw_texts_clear(out);
    free(texts);
    sw_h5_close(type);
    sw_h5_close(dataset);
    return st;
}

struct listing {
    struct sw_texts *texts;
    enum sw_status status;
};

static herr_t add_member(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    (void)group, (void)info;
    struct listing *listing = data;
    listing->status = sw_texts_add(listing->texts, name);
    return listing->status == SW_OK ? 0 : -1;
}

enum sw_status sw_h5_members(hid_t file, const char *name, struct sw_texts *out)
{
    struct listing listing = {out, SW_OK};
    *out = (struct sw_texts){0};
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
        return SW_OK;
    hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    if (group < 0)
        return SW_H5_FAIL(SW_EINPUT, name);
    enum sw_status st = SW_OK;
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, add_member, &listing) < 0)
        st = listing.status != SW_OK ? listing.status : SW_H5_FAIL(SW_EINPUT, name);
    sw_h5_close(group);
    if (st != SW_OK)
        sw_texts_clear(out);
    return st;
}
