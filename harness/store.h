/* store.h: result files (HDF5). A cell's file is either whole or absent: temporary file, fsync, rename, fsync of the folder.
 *
 * Layout of cells/<key>.h5 (root attributes: format="swbench-cell", version=1, key, status, reason, workload, model, task, method, params,
 * backend, device, context, density, phase, budget, seed, dense_layers):
 *   /metrics/<name>            scalar float64 dataset; attributes units, long_name, n, lo, hi
 *   /per_layer/<name>          float64 [n_layers], and /per_layer_head/<name> [n_layers, n_heads]; dimension scales /layer, /head
 *   /samples/<name>            float64 raw values; /samples/predictions (prediction, reference, score) where there are any
 *   /layer_NNN/selection/{indptr,indices}  int32, attributes units, block, row0, rows, n (save: selection); whole uint8 where partial blocks exist
 *   /layer_NNN/output          float32 [n, n_heads, head_dim] (save: output); /decode/layer_NNN/{selection,output} for decode steps
 *   /provenance                string attributes: config, argv, identity, git, version, host, cpu, gpu, driver, libraries, seed, started, ended
 *   /warnings                  strings, where a sanity gate did not hold */
#ifndef SW_STORE_H
#define SW_STORE_H

#include <stdbool.h>
#include <stdio.h>

#include "core/selection.h"
#include "harness/plan.h"
#include "harness/result.h"

/* --- writing ------------------------------------------------------------------------------------------------------------------- */

/* Makes the folder and cells/ and proves that they can be written. SW_EINPUT when not. */
SW_MUST_CHECK enum sw_status sw_store_open_folder(const char *folder);

struct sw_cell_writer;
SW_MUST_CHECK enum sw_status sw_cell_writer_open(const char *folder, const struct sw_cell *cell, const struct sw_backend *backend,
                                                 struct sw_cell_writer **out);
/* decode: under /decode/layer_NNN; selection in host memory. rows of several decode steps are appended by the caller beforehand. */
SW_MUST_CHECK enum sw_status sw_cell_writer_selection(struct sw_cell_writer *w, bool decode, int layer, bool dense,
                                                      const struct sw_selection *selection);
SW_MUST_CHECK enum sw_status sw_cell_writer_output(struct sw_cell_writer *w, bool decode, int layer, const float *output, int n, int heads,
                                                   int head_dim);
/* Writes metrics, samples and provenance, and makes the file visible. Frees w, also on failure (then nothing is left behind). */
SW_MUST_CHECK enum sw_status sw_cell_writer_commit(struct sw_cell_writer *w, const struct sw_result *result);
void sw_cell_writer_abort(struct sw_cell_writer *w); /* NULL is fine */

bool sw_store_has_cell(const char *folder, const char *key, bool *failed); /* failed: its status is failed (run tries again) */

/* (Re)writes results.h5: /cells/<key> external links to cells/<key>.h5, and /tidy/<column>, the tidy table. */
SW_MUST_CHECK enum sw_status sw_store_write_index(const char *folder);

/* --- reading ------------------------------------------------------------------------------------------------------------------- */

/* A row of the tidy table; texts belong to the table. layer -1: over all layers. NaN: empty. */
struct sw_tidy_row {
    const char *cell, *workload, *model, *task, *method, *params, *backend, *device, *phase, *metric, *unit, *status, *reason;
    int64_t context, seed, n;
    double density, value, lo, hi;
    int layer;
};
struct sw_tidy { struct sw_tidy_row *rows; int64_t count; struct sw_texts strings; };

/* Reads every cell of a result folder (or of its results.h5's folder, or one cell file), ordered by workload, model, task, context, method,
 * params, density, phase, metric, layer. Damaged cell files: SW_EINPUT naming the file. */
SW_MUST_CHECK enum sw_status sw_tidy_read(const char *results, struct sw_tidy **out);
void sw_tidy_free(struct sw_tidy *tidy);

#endif
