/* Tensor bundles, read layer by layer. */
#include "harness/inputs/bundle.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/inputs/bundle_check.h"
#include "harness/store/h5_data.h"

struct sw_bundle {
    char *path;
    hid_t file;
    struct sw_bundle_info info;
};

enum sw_status sw_bundle_open(const char *path, struct sw_bundle **out)
{
    *out = NULL;
    struct sw_bundle *b = calloc(1, sizeof *b);
    if (b)
        b->path = strdup(path);
    if (!b || !b->path) {
        free(b);
        return SW_FAIL(SW_ENOMEM, "%s: out of host memory", path);
    }
    enum sw_status st = sw_bundle_describe(path, &b->info);
    if (st == SW_OK) {
        b->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
        if (b->file < 0)
            st = SW_H5_FAIL(SW_EIO, path);
    }
    if (st != SW_OK) {
        sw_bundle_close(b);
        return st;
    }
    *out = b;
    return SW_OK;
}

void sw_bundle_close(struct sw_bundle *b)
{
    if (!b)
        return;
    if (b->file > 0)
        H5Fclose(b->file);
    free(b->path);
    free(b);
}

const struct sw_shape *sw_bundle_shape(const struct sw_bundle *b) { return &b->info.shape; }
int sw_bundle_tokens(const struct sw_bundle *b) { return b->info.n; }
int sw_bundle_decode_tokens(const struct sw_bundle *b) { return b->info.decode_tokens; }

static enum sw_status read_dataset(struct sw_bundle *b, bool decode, int layer, const char *what,
                                   int tokens, int heads, float *out)
{
    char name[64];
    snprintf(name, sizeof name, "%s/layer_%03d/%s", decode ? "/decode" : "", layer, what);
    hid_t set = H5Dopen2(b->file, name, H5P_DEFAULT);
    herr_t rc = set < 0 ? -1 : H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
    enum sw_status st = rc < 0 ? SW_H5_FAIL(SW_EIO, name) : SW_OK;
    sw_h5_close(set);
    if (st != SW_OK)
        return sw_context(st, "%s", b->path);
    size_t d = (size_t)b->info.shape.head_dim, token = (size_t)heads * d,
           count = (size_t)tokens * token;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return SW_FAIL(SW_EINPUT,
                           "%s: dataset %s holds %s at [%zu, %zu, %zu], expected finite numbers",
                           b->path, name, isnan(out[i]) ? "NaN" : "an infinity", i / token,
                           i % token / d, i % d);
    return SW_OK;
}

enum sw_status sw_bundle_read(struct sw_bundle *b, int layer, float *q, float *k, float *v)
{
    const struct sw_shape *shape = &b->info.shape;
    const struct {
        const char *what;
        int heads;
        float *out;
    } parts[] = {
        {"q", shape->n_heads, q}, {"k", shape->n_kv_heads, k}, {"v", shape->n_kv_heads, v}};
    for (size_t i = 0; i < 3; i++) {
        size_t prompt = (size_t)b->info.n * (size_t)parts[i].heads * (size_t)shape->head_dim;
        SW_TRY(
            read_dataset(b, false, layer, parts[i].what, b->info.n, parts[i].heads, parts[i].out));
        if (b->info.decode_tokens)
            SW_TRY(read_dataset(b, true, layer, parts[i].what, b->info.decode_tokens,
                                parts[i].heads, parts[i].out + prompt));
    }
    return SW_OK;
}
