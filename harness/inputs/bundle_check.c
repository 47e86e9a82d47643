/* Tensor bundles, checked without being loaded. */
#include "harness/inputs/bundle_check.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "harness/config/yaml_tree.h"
#include "harness/inputs/foreign.h"
#include "harness/store/h5_data.h"

enum {
    LAYERS_MAX = 1000,
    HEADS_MAX = 4096,
    HEAD_DIM_MAX = 1024,
    TOKENS_MAX = 1 << 24,
    SCAN_FLOATS = 1 << 20
};

struct check {
    struct sw_problems problems;
    hid_t file;
    bool scan;
    float *buffer; /* [SCAN_FLOATS] or one token's values, when scanning */
    struct sw_bundle_info info;
};

/* --- attributes ------------------------------------------------------------------------------- */

static void close_type(hid_t type)
{
    if (type >= 0)
        H5Tclose(type);
}

static void close_space(hid_t space)
{
    if (space >= 0)
        H5Sclose(space);
}

/* A text of any of HDF5's kinds (fixed or variable length) into `text`; false when it is missing,
 * too long or something else. */
static bool read_text(hid_t object, const char *name, char *text, size_t size)
{
    if (H5Aexists(object, name) <= 0)
        return false;
    bool good = false;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0)
        return false;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    if (type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING &&
        H5Sget_simple_extent_npoints(space) == 1) {
        hid_t memory = H5Tcopy(H5T_C_S1);
        H5Tset_cset(memory, H5Tget_cset(type));
        if (H5Tis_variable_str(type) > 0) {
            char *value = NULL;
            H5Tset_size(memory, H5T_VARIABLE);
            if (H5Aread(attribute, memory, &value) >= 0 && value)
                good = (size_t)snprintf(text, size, "%s", value) < size;
            H5free_memory(value);
        } else if (H5Tget_size(type) < size) {
            H5Tset_size(memory, H5Tget_size(type) + 1);
            good = H5Aread(attribute, memory, text) >= 0;
        }
        close_type(memory);
    }
    close_type(type);
    close_space(space);
    H5Aclose(attribute);
    return good;
}

/* One integer of any width, or an array of one. */
static bool read_int(hid_t object, const char *name, int64_t *out)
{
    hid_t attribute = H5Aexists(object, name) > 0 ? H5Aopen(object, name, H5P_DEFAULT) : -1;
    if (attribute < 0)
        return false;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool good = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_INTEGER &&
                H5Sget_simple_extent_npoints(space) == 1 &&
                H5Aread(attribute, H5T_NATIVE_INT64, out) >= 0;
    close_type(type);
    close_space(space);
    H5Aclose(attribute);
    return good;
}

static int check_int(struct check *c, const char *name, int low, int high)
{
    char place[64];
    int64_t value;
    snprintf(place, sizeof place, "attribute %s", name);
    if (!read_int(c->file, name, &value))
        sw_problem(&c->problems, NULL, place, "found none, expected an integer %d…%d", low, high);
    else if (value < low || value > high)
        sw_problem(&c->problems, NULL, place, "found %lld, expected %d…%d", (long long)value, low,
                   high);
    else
        return (int)value;
    return 0;
}

static void check_attributes(struct check *c)
{
    char format[64];
    int64_t version;
    if (!read_text(c->file, "format", format, sizeof format) ||
        strcmp(format, "swbench-tensors") != 0)
        sw_problem(&c->problems, NULL, "attribute format", "expected the text \"swbench-tensors\"");
    if (!read_int(c->file, "version", &version) || version != 1)
        sw_problem(&c->problems, NULL, "attribute version", "expected the integer 1");
    struct sw_shape *s = &c->info.shape;
    s->n_layers = check_int(c, "n_layers", 1, LAYERS_MAX);
    s->n_heads = check_int(c, "n_heads", 1, HEADS_MAX);
    s->n_kv_heads = check_int(c, "n_kv_heads", 1, HEADS_MAX);
    s->head_dim = check_int(c, "head_dim", 1, HEAD_DIM_MAX);
    if (s->n_heads && s->n_kv_heads && s->n_heads % s->n_kv_heads != 0)
        sw_problem(&c->problems, NULL, "attribute n_heads",
                   "found %d, expected a multiple of n_kv_heads (%d)", s->n_heads, s->n_kv_heads);
}

/* --- datasets --------------------------------------------------------------------------------- */

/* Whether every step of an absolute path is there. */
static bool path_exists(hid_t file, const char *path)
{
    char part[64];
    for (const char *p = path + 1;; p++)
        if (*p == '/' || *p == '\0') {
            snprintf(part, sizeof part, "%.*s", (int)(p - path), path);
            if (H5Lexists(file, part, H5P_DEFAULT) <= 0)
                return false;
            if (*p == '\0')
                return true;
        }
}

static bool is_float16_or_32(hid_t type)
{
    if (type < 0 || H5Tget_class(type) != H5T_FLOAT)
        return false;
    size_t sign, exponent_at, exponent, mantissa_at, mantissa;
    if (H5Tget_fields(type, &sign, &exponent_at, &exponent, &mantissa_at, &mantissa) < 0)
        return false;
    size_t size = H5Tget_size(type);
    return (size == 4 && exponent == 8 && mantissa == 23) ||
           (size == 2 && exponent == 5 && mantissa == 10);
}

static const char *describe_type(hid_t type, char *text, size_t size)
{
    static const char *const classes[] = {"integer",  "float",  "time",     "string",
                                          "bitfield", "opaque", "compound", "reference",
                                          "enum",     "vlen",   "array"};
    H5T_class_t class = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
    if (class < 0 || class >= H5T_NCLASSES)
        snprintf(text, size, "an unknown type");
    else if (class == H5T_FLOAT && H5Tget_size(type) == 2)
        snprintf(text, size, "a 16-bit float that is not IEEE half");
    else
        snprintf(text, size, "%s%zu", classes[class], 8 * H5Tget_size(type));
    return text;
}

/* Reads all values, a piece at a time; the first that is no number is the problem. */
static void scan_values(struct check *c, hid_t dataset, const char *path, const hsize_t dims[3])
{
    hsize_t row = dims[1] * dims[2], step = SCAN_FLOATS / row ? SCAN_FLOATS / row : 1;
    hid_t space = H5Dget_space(dataset);
    int64_t bad = 0;
    hsize_t first[3] = {0};
    float first_value = 0;
    for (hsize_t t = 0; t < dims[0]; t += step) {
        hsize_t start[3] = {t, 0, 0},
                count[3] = {dims[0] - t < step ? dims[0] - t : step, dims[1], dims[2]};
        hid_t memory = H5Screate_simple(3, count, NULL);
        bool good = memory >= 0 &&
                    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                    H5Dread(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, c->buffer) >= 0;
        close_space(memory);
        if (!good) {
            sw_problem(&c->problems, NULL, path,
                       "cannot be read from token %llu on (damaged or truncated file)",
                       (unsigned long long)t);
            break;
        }
        for (hsize_t e = 0; e < count[0] * row; e++)
            if (!isfinite(c->buffer[e]) && bad++ == 0) {
                first[0] = t + e / row;
                first[1] = e % row / dims[2];
                first[2] = e % dims[2];
                first_value = c->buffer[e];
            }
    }
    close_space(space);
    if (bad > 0)
        sw_problem(&c->problems, NULL, path,
                   "found %s at [%llu, %llu, %llu]%s, expected finite numbers",
                   isnan(first_value) ? "NaN" : "infinity", (unsigned long long)first[0],
                   (unsigned long long)first[1], (unsigned long long)first[2],
                   bad > 1 ? " and in more places" : "");
}

/* One of q, k, v. *n: its tokens; 0 on entry when no dataset has told yet. */
static void check_dataset(struct check *c, const char *path, int heads, int *n)
{
    hid_t dataset = path_exists(c->file, path) ? H5Oopen(c->file, path, H5P_DEFAULT) : -1;
    if (dataset < 0 || H5Iget_type(dataset) != H5I_DATASET) {
        sw_problem(&c->problems, NULL, path, "%s, expected a dataset",
                   dataset < 0 ? "missing" : "found something else");
        if (dataset >= 0)
            H5Oclose(dataset);
        return;
    }
    char found[64];
    const struct sw_shape *s = &c->info.shape;
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    hsize_t dims[3] = {0};
    int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (rank == 3)
        H5Sget_simple_extent_dims(space, dims, NULL);
    bool good = false;
    if (!is_float16_or_32(type))
        sw_problem(&c->problems, NULL, path, "found %s, expected float32 or float16",
                   describe_type(type, found, sizeof found));
    else if (rank != 3)
        sw_problem(&c->problems, NULL, path, "found %d dimensions, expected 3: [tokens, %d, %d]",
                   rank, heads, s->head_dim);
    else if (dims[1] != (hsize_t)heads || dims[2] != (hsize_t)s->head_dim)
        sw_problem(&c->problems, NULL, path, "found [%llu, %llu, %llu], expected [tokens, %d, %d]",
                   (unsigned long long)dims[0], (unsigned long long)dims[1],
                   (unsigned long long)dims[2], heads, s->head_dim);
    else if (dims[0] < 1 || dims[0] > TOKENS_MAX)
        sw_problem(&c->problems, NULL, path, "found %llu tokens, expected 1…%d",
                   (unsigned long long)dims[0], TOKENS_MAX);
    else if (*n && dims[0] != (hsize_t)*n)
        sw_problem(&c->problems, NULL, path,
                   "found %llu tokens, expected %d as in the first dataset",
                   (unsigned long long)dims[0], *n);
    else if (!sw_h5_is_stored(dataset))
        sw_problem(&c->problems, NULL, path, "claims more values than are stored");
    else
        good = true;
    if (good)
        *n = (int)dims[0];
    if (good && c->scan)
        scan_values(c, dataset, path, dims);
    close_type(type);
    close_space(space);
    H5Oclose(dataset);
}

static void check_layers(struct check *c, const char *prefix, int *n)
{
    const struct sw_shape *s = &c->info.shape;
    for (int layer = 0; layer < s->n_layers; layer++) {
        char path[64];
        snprintf(path, sizeof path, "%s/layer_%03d", prefix, layer);
        if (!path_exists(c->file, path)) {
            sw_problem(&c->problems, NULL, path, "missing, expected %d layers", s->n_layers);
            return;
        }
        for (const char *name = "qkv"; *name; name++) {
            snprintf(path, sizeof path, "%s/layer_%03d/%c", prefix, layer, *name);
            check_dataset(c, path, *name == 'q' ? s->n_heads : s->n_kv_heads, n);
        }
    }
}

static enum sw_status check_file(struct check *c)
{
    check_attributes(c);
    if (c->problems.count > 0)
        return SW_OK; /* without a shape, the datasets cannot be judged */
    const struct sw_shape *s = &c->info.shape;
    size_t token = (size_t)s->n_heads * (size_t)s->head_dim,
           floats = token > SCAN_FLOATS ? token : SCAN_FLOATS;
    if (c->scan && !(c->buffer = malloc(floats * sizeof *c->buffer)))
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory (%zu bytes)", c->problems.file,
                       floats * sizeof *c->buffer);
    check_layers(c, "", &c->info.n);
    if (path_exists(c->file, "/decode"))
        check_layers(c, "/decode", &c->info.decode_tokens);
    free(c->buffer);
    return SW_OK;
}

static enum sw_status check_bundle(const char *path, FILE *messages, bool scan,
                                   struct sw_bundle_info *out)
{
    struct check c = {.problems = {.out = messages, .file = path}, .scan = scan};
    *out = c.info;
    enum sw_status st = sw_foreign_open(path, &c.file);
    if (st != SW_OK) {
        fprintf(messages, "%s\n", sw_error_message());
        return st;
    }
    st = check_file(&c);
    H5Fclose(c.file);
    *out = c.info;
    if (st == SW_OK && c.problems.count > 0)
        st = SW_FAIL(SW_EINPUT, "%s: %d problem%s", path, c.problems.count,
                     c.problems.count == 1 ? "" : "s");
    return st;
}

/* The first problem as the error. */
static enum sw_status first_problem(const char *path, bool scan, struct sw_bundle_info *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    if (!lines)
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    enum sw_status st = check_bundle(path, lines, scan, out);
    if (fclose(lines) != 0 && st == SW_OK)
        st = SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    if (st == SW_EINPUT && text && *text) { /* its first line says more than their count */
        sw_error_clear();
        st = SW_FAIL(SW_EINPUT, "%.*s", (int)strcspn(text, "\n"), text);
    }
    free(text);
    return st;
}

enum sw_status sw_bundle_describe(const char *path, struct sw_bundle_info *out)
{
    return first_problem(path, false, out);
}

enum sw_status sw_bundle_check(const char *path, FILE *messages, struct sw_bundle_info *out)
{
    return messages ? check_bundle(path, messages, true, out) : first_problem(path, true, out);
}

enum sw_status sw_hdf5_format(const char *path, bool *is_hdf5, char *format, size_t size)
{
    struct stat about;
    hid_t file;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    format[0] = '\0';
    *is_hdf5 = stat(path, &about) == 0 && S_ISREG(about.st_mode) && H5Fis_hdf5(path) > 0;
    if (!*is_hdf5)
        return SW_OK;
    SW_TRY(sw_foreign_open(path, &file));
    if (!read_text(file, "format", format, size))
        format[0] = '\0';
    H5Fclose(file);
    return SW_OK;
}
