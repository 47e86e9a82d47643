/* store.h: result files (HDF5). A cell's file is either whole or absent: temporary file, checksum,
 * fsync, rename, fsync of the folder. h5_file.h says how damage is found. cell_writer.c and what
 * cell_parts.h names write cells, tidy.c and cell_reader.c read them, report/index.c makes
 * results.h5. docs/formats.md has the layout. */
#ifndef SW_STORE_H
#define SW_STORE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/selection.h"
#include "harness/config/cell.h"
#include "harness/store/result.h"

/* --- writing ---------------------------------------------------------------------------------- */

/* Makes the folder and cells/ and proves that they can be written. SW_EINPUT when not. */
SW_MUST_CHECK enum sw_status sw_store_open_folder(const char *folder);

struct sw_cell_writer;
SW_MUST_CHECK enum sw_status sw_cell_writer_open(const char *folder, const struct sw_cell *cell,
                                                 const struct sw_backend *backend,
                                                 struct sw_cell_writer **out);
/* What decode steps keep of the blocks that they keep in part. A selection has one window and one
 * sink, but each step has its own. */
struct sw_kept_in_part {
    const int32_t *window, *sink; /* [steps] tokens */
    /* NULL, or [entries, ceil(B / 64)]: bit u mod B, the step keeps key u; windows and sinks too */
    const uint64_t *keys;
};
/* selection in host memory. decode: under /decode/layer_NNN, and rows are steps, which the caller
 * has joined (run/step_lists.h); parts says what they keep of partial blocks, NULL in a prompt. */
SW_MUST_CHECK enum sw_status sw_cell_writer_selection(struct sw_cell_writer *w, bool decode,
                                                      int layer, bool dense,
                                                      const struct sw_selection *selection,
                                                      const struct sw_kept_in_part *parts);
SW_MUST_CHECK enum sw_status sw_cell_writer_output(struct sw_cell_writer *w, bool decode, int layer,
                                                   const float *output, int n, int heads,
                                                   int head_dim);
/* Writes metrics, samples and provenance, and makes the file visible. Frees w, also on failure
 * (then nothing is left behind). */
SW_MUST_CHECK enum sw_status sw_cell_writer_commit(struct sw_cell_writer *w,
                                                   const struct sw_result *result);
void sw_cell_writer_abort(struct sw_cell_writer *w); /* NULL is fine */

/* failed: its status is failed (run tries again) */
bool sw_store_has_cell(const char *folder, const char *key, bool *failed);

/* Makes a cell that is there say that its speed-ups are over this baseline: how it is read, so that
 * it is not run again. Its file is replaced if it said another one. */
SW_MUST_CHECK enum sw_status sw_store_set_baseline(const char *folder, const char *key,
                                                   enum sw_baseline baseline);

/* --- reading ---------------------------------------------------------------------------------- */

/* A row of the tidy table; texts belong to the table. layer -1: over all layers. NaN: empty. */
struct sw_tidy_row {
    const char *cell, *workload, *model, *task, *method, *params, *backend, *device, *phase,
        *metric, *unit, *status, *reason, *budget;
    /* 32 hex digits each (identity.h): rows of one experiment differ in the code's version alone;
     * rows of the same conditions may be compared across methods, parameters, densities and
     * budgets. Of a cell whose identity is not known both are its key. */
    const char *experiment, *conditions;
    const char *baseline; /* a word of sw_baseline_names */
    const char *identity; /* what they are made of, "" where it is not known; no column */
    int64_t context, seed, n, dense_layers;
    double density, value, lo, hi;
    int layer;
};
/* Its columns, as exported; a new one goes to the end. Ends with name NULL. */
enum sw_column_kind { SW_COLUMN_TEXT, SW_COLUMN_INT64, SW_COLUMN_INT, SW_COLUMN_REAL };
struct sw_tidy_column {
    const char *name, *units, *long_name;
    enum sw_column_kind kind;
    size_t offset; /* in struct sw_tidy_row */
};
extern const struct sw_tidy_column sw_tidy_columns[];

struct sw_tidy {
    struct sw_tidy_row *rows;
    int64_t count;
    struct sw_texts strings;
};

/* Paths of the cell files of a result folder (or of its results.h5's folder, or one cell file), in
 * ascending order. SW_EINPUT. */
SW_MUST_CHECK enum sw_status sw_store_list_cells(const char *results, struct sw_texts *files);

/* Reads every cell of a result folder (or of its results.h5's folder, or one cell file), ordered by
 * workload, model, task, context, method, params, density, phase, metric, layer. Of cells of
 * one experiment the newest counts. Damaged cell files: SW_EINPUT naming the
 * file. */
SW_MUST_CHECK enum sw_status sw_tidy_read(const char *results, struct sw_tidy **out);
/* The same, passing over damaged cells: one message each is added to `damaged`. */
SW_MUST_CHECK enum sw_status sw_tidy_read_intact(const char *results, struct sw_tidy **out,
                                                 struct sw_texts *damaged);
void sw_tidy_sort(struct sw_tidy *tidy); /* into that order, after rows were added */
void sw_tidy_free(struct sw_tidy *tidy);

/* What there is beyond the tidy table, of one cell of `results` (as in sw_tidy_read). */
struct sw_cell_reader;
SW_MUST_CHECK enum sw_status sw_cell_reader_open(const char *results, const char *key,
                                                 struct sw_cell_reader **out);
/* NULL, 0: none */
SW_MUST_CHECK enum sw_status sw_cell_reader_samples(struct sw_cell_reader *r, const char *metric,
                                                    double **values, int *n);

/* Predictions of a cell, in the order of its prompts. Texts belong to it; source has NULLs where
 * the cell does not say. */
struct sw_answers {
    struct sw_answer *items;
    int count;
    struct sw_answers_source source;
    struct sw_texts predictions, references;
};
/* count 0: none */
SW_MUST_CHECK enum sw_status sw_cell_reader_answers(struct sw_cell_reader *r,
                                                    struct sw_answers *out);
void sw_answers_clear(struct sw_answers *answers);

/* All values of a metric in a group (per_layer, per_layer_head), flat. NULL, 0: none. */
SW_MUST_CHECK enum sw_status sw_cell_reader_values(struct sw_cell_reader *r, const char *group,
                                                   const char *metric, double **values, int *n);
SW_MUST_CHECK enum sw_status sw_cell_reader_threads(struct sw_cell_reader *r, int64_t *threads);
/* An attribute of /provenance, malloc'd; "" where the version that wrote the cell had none. */
SW_MUST_CHECK enum sw_status sw_cell_reader_provenance(struct sw_cell_reader *r, const char *name,
                                                       char **text);
/* The caller frees them with sw_texts_clear. */
SW_MUST_CHECK enum sw_status sw_cell_reader_warnings(struct sw_cell_reader *r,
                                                     struct sw_texts *out);
void sw_cell_reader_close(struct sw_cell_reader *r); /* NULL is fine */

#endif
