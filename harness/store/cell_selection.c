/* A cell's lists and outputs: /layer_NNN and /decode/layer_NNN. */
#include <hdf5_hl.h>
#include <stdio.h>

#include "harness/store/cell_parts.h"

static enum sw_status open_layer(struct sw_cell_writer *w, bool decode, int layer, hid_t *out)
{
    char name[64];
    snprintf(name, sizeof name, "%slayer_%03d", decode ? "decode/" : "", layer);
    return sw_h5_group(w->file.id, name, out);
}

/* In a cell that only decodes, /layer_NNN/<what> is /decode/layer_NNN/<what>. */
static enum sw_status link_decode(struct sw_cell_writer *w, hid_t from, int layer, const char *what)
{
    hid_t to;
    if (w->cell->phase != SW_PHASE_DECODE)
        return SW_OK;
    SW_TRY(open_layer(w, false, layer, &to));
    enum sw_status st = H5Lcreate_hard(from, what, to, what, H5P_DEFAULT, H5P_DEFAULT) < 0
                            ? SW_H5_FAIL(SW_EIO, what)
                            : SW_OK;
    sw_h5_close(to);
    return st;
}

/* in_part: the selection's window and sink are those of all rows. */
static enum sw_status set_selection_facts(hid_t object, const struct sw_selection *s, bool dense,
                                          bool in_part)
{
    SW_TRY(sw_h5_set_int(object, "units", s->units));
    SW_TRY(sw_h5_set_int(object, "block", s->block));
    SW_TRY(sw_h5_set_int(object, "row0", s->row0));
    SW_TRY(sw_h5_set_int(object, "rows", s->rows));
    SW_TRY(sw_h5_set_int(object, "n", s->n));
    SW_TRY(sw_h5_set_int(object, "n_q", s->n_q));
    SW_TRY(sw_h5_set_int(object, "dense", dense));
    if (!in_part)
        return SW_OK;
    SW_TRY(sw_h5_set_int(object, "window", s->window));
    return sw_h5_set_int(object, "sink", s->sink);
}

static hsize_t words_of(const struct sw_selection *s) { return (hsize_t)sw_query_words(s->block); }

/* A bit for each token of a block, entry by entry: array's name, long name, dims and data. */
static enum sw_status write_bits(hid_t file, hid_t group, hid_t indices,
                                 const struct sw_h5_array *array)
{
    struct sw_h5_array bits = *array;
    bits.units = "1";
    bits.type = H5T_NATIVE_UINT64;
    bits.rank = 2;
    bits.compress = true;
    hid_t dataset;
    SW_TRY(sw_h5_write(group, &bits, &dataset));
    enum sw_status st = sw_h5_attach(dataset, indices, 0);
    if (st == SW_OK)
        st = sw_h5_attach_bare(file, dataset, 1, "word", bits.dims[1]);
    sw_h5_close(dataset);
    return st;
}

static enum sw_status write_keys(hid_t file, hid_t group, hid_t indices,
                                 const struct sw_selection *s, const uint64_t *keys,
                                 hsize_t entries)
{
    return write_bits(file, group, indices,
                      &(struct sw_h5_array){.name = "keys",
                                            .long_name =
                                                "bit u mod block, lowest first: a block that is "
                                                "not whole keeps key u [entry, word]",
                                            .dims = {entries, words_of(s)},
                                            .data = keys});
}

/* Token masks beside the lists: what is there of columns, slashes [units, n] and queries [entries,
 * words]. */
static enum sw_status write_masks(hid_t file, hid_t group, const struct sw_selection *s,
                                  hid_t indices, hsize_t entries)
{
    const struct {
        const char *name, *axis, *long_name;
        const uint8_t *data;
    } lines[] = {
        {"columns", "token",
         "1: blocks that are not whole keep the pairs with this key [unit, token]", s->columns},
        {"slashes", "offset",
         "1: blocks that are not whole keep the pairs this far apart, t - u [unit, offset]",
         s->slashes}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!lines[i].data)
            continue;
        hid_t dataset = -1;
        enum sw_status st =
            sw_h5_write(group,
                        &(struct sw_h5_array){.name = lines[i].name,
                                              .units = "1",
                                              .long_name = lines[i].long_name,
                                              .type = H5T_NATIVE_UINT8,
                                              .rank = 2,
                                              .dims = {(hsize_t)s->units, (hsize_t)s->mask_ld},
                                              .compress = true,
                                              .data = lines[i].data},
                        &dataset);
        if (st == SW_OK)
            st = sw_h5_attach_bare(file, dataset, 0, "unit", (hsize_t)s->units);
        if (st == SW_OK)
            st = sw_h5_attach_bare(file, dataset, 1, lines[i].axis, (hsize_t)s->mask_ld);
        sw_h5_close(dataset);
        SW_TRY(st);
    }
    if (s->keys)
        return write_keys(file, group, indices, s, s->keys, entries);
    if (!s->queries)
        return SW_OK;
    return write_bits(file, group, indices,
                      &(struct sw_h5_array){.name = "queries",
                                            .long_name =
                                                "bit t mod block, lowest first: a block that is "
                                                "not whole keeps the pairs of query t [entry, "
                                                "word]",
                                            .dims = {entries, words_of(s)},
                                            .data = s->queries});
}

/* What each decode step keeps of partial blocks. */
static enum sw_status write_steps(hid_t file, hid_t group, const struct sw_selection *s,
                                  const struct sw_kept_in_part *parts, hid_t indices,
                                  hsize_t entries)
{
    const struct {
        const char *name, *long_name;
        const int32_t *data;
    } tokens[] = {
        {"window", "blocks that are not whole keep the last so many keys [step]", parts->window},
        {"sink", "blocks that are not whole keep the first so many keys [step]", parts->sink}};
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        hid_t dataset;
        SW_TRY(sw_h5_write(group,
                           &(struct sw_h5_array){.name = tokens[i].name,
                                                 .units = "token",
                                                 .long_name = tokens[i].long_name,
                                                 .type = H5T_NATIVE_INT32,
                                                 .rank = 1,
                                                 .dims = {(hsize_t)s->rows},
                                                 .data = tokens[i].data},
                           &dataset));
        enum sw_status st = sw_h5_attach_bare(file, dataset, 0, "step", (hsize_t)s->rows);
        sw_h5_close(dataset);
        SW_TRY(st);
    }
    if (!parts->keys)
        return SW_OK;
    return write_keys(file, group, indices, s, parts->keys, entries);
}

/* Which kept blocks are whole, and what says which tokens are kept of the others. */
static enum sw_status write_partial_blocks(hid_t file, hid_t group, const struct sw_selection *s,
                                           const struct sw_kept_in_part *parts, hid_t indices,
                                           hsize_t entries)
{
    const struct sw_h5_array array = {
        .name = "whole",
        .units = "1",
        .long_name = "1: kept whole; 0: only pairs with t - u < window or u < sink, and those of "
                     "columns, slashes, queries and keys",
        .type = H5T_NATIVE_UINT8,
        .rank = 1,
        .dims = {entries},
        .compress = true,
        .data = s->whole};
    hid_t whole;
    SW_TRY(sw_h5_write(group, &array, &whole));
    enum sw_status st = sw_h5_attach(whole, indices, 0);
    sw_h5_close(whole);
    SW_TRY(st);
    return parts ? write_steps(file, group, s, parts, indices, entries)
                 : write_masks(file, group, s, indices, entries);
}

static enum sw_status write_selection(hid_t file, hid_t group, const struct sw_selection *s,
                                      bool dense, const struct sw_kept_in_part *parts)
{
    bool in_part = s->whole && !parts;
    hsize_t rows = (hsize_t)s->units * (hsize_t)s->rows + 1, entries = (hsize_t)s->indptr[rows - 1];
    hid_t indptr = -1, indices = -1;
    enum sw_status st;
    SW_TRY_GOTO(st, out, set_selection_facts(group, s, dense, in_part));
    /* `units` of these two is the number of head units; each is its own dimension. */
    SW_TRY_GOTO(st, out,
                sw_h5_write(group,
                            &(struct sw_h5_array){
                                .name = "indptr",
                                .long_name = "row (u, i) holds entries indptr[u*rows + i - row0] "
                                             "... next: unit-major, then query blocks",
                                .type = H5T_NATIVE_INT32,
                                .rank = 1,
                                .dims = {rows},
                                .compress = true,
                                .data = s->indptr},
                            &indptr));
    SW_TRY_GOTO(
        st, out,
        sw_h5_write(group,
                    &(struct sw_h5_array){.name = "indices",
                                          .long_name = "kept key blocks, ascending in each row",
                                          .type = H5T_NATIVE_INT32,
                                          .rank = 1,
                                          .dims = {entries},
                                          .compress = true,
                                          .data = s->indices},
                    &indices));
    SW_TRY_GOTO(st, out, set_selection_facts(indptr, s, dense, in_part));
    SW_TRY_GOTO(st, out, set_selection_facts(indices, s, dense, in_part));
    if (H5DSset_scale(indptr, "indptr") < 0 || H5DSset_scale(indices, "indices") < 0) {
        st = SW_H5_FAIL(SW_EIO, "cannot write a dimension");
        goto out;
    }
    if (s->whole)
        st = write_partial_blocks(file, group, s, parts, indices, entries);
out:
    sw_h5_close(indptr);
    sw_h5_close(indices);
    return st;
}

enum sw_status sw_cell_writer_selection(struct sw_cell_writer *w, bool decode, int layer,
                                        bool dense, const struct sw_selection *selection,
                                        const struct sw_kept_in_part *parts)
{
    hid_t parent, group = -1;
    enum sw_status st = open_layer(w, decode, layer, &parent);
    if (st == SW_OK)
        st = sw_h5_group(parent, "selection", &group);
    if (st == SW_OK)
        st = write_selection(w->file.id, group, selection, dense, parts);
    if (st == SW_OK && decode)
        st = link_decode(w, parent, layer, "selection");
    sw_h5_close(group);
    sw_h5_close(parent);
    return st == SW_OK ? st : sw_context(st, "%s: selection of layer %d", w->file.path, layer);
}

enum sw_status sw_cell_writer_output(struct sw_cell_writer *w, bool decode, int layer,
                                     const float *output, int n, int heads, int head_dim)
{
    hid_t parent, dataset = -1;
    enum sw_status st = open_layer(w, decode, layer, &parent);
    if (st == SW_OK)
        st = sw_h5_write(
            parent,
            &(struct sw_h5_array){
                .name = "output",
                .units = "1",
                .long_name = "attention output before the output projection [n, n_heads, head_dim]",
                .type = H5T_NATIVE_FLOAT,
                .rank = 3,
                .dims = {(hsize_t)n, (hsize_t)heads, (hsize_t)head_dim},
                .data = output},
            &dataset);
    /* Dimensions at the root: they must lie above both places that a decode output is found at. */
    if (st == SW_OK)
        st = sw_h5_attach_bare(w->file.id, dataset, 0, "token", (hsize_t)n);
    if (st == SW_OK)
        st = sw_h5_attach_bare(w->file.id, dataset, 1, "head", (hsize_t)heads);
    if (st == SW_OK)
        st = sw_h5_attach_bare(w->file.id, dataset, 2, "head_dim", (hsize_t)head_dim);
    if (st == SW_OK && decode)
        st = link_decode(w, parent, layer, "output");
    sw_h5_close(dataset);
    sw_h5_close(parent);
    return st == SW_OK ? st : sw_context(st, "%s: output of layer %d", w->file.path, layer);
}
