/* Writing one cell: cells/<key>.h5. docs/formats.md has the layout. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/store/cell_parts.h"
#include "harness/store/provenance.h"

enum sw_status sw_cell_writer_open(const char *folder, const struct sw_cell *cell,
                                   const struct sw_backend *backend, struct sw_cell_writer **out)
{
    char cells[PATH_MAX];
    *out = NULL;
    if (snprintf(cells, sizeof cells, "%s/cells", folder) >= (int)sizeof cells)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", folder);
    struct sw_cell_writer *w = calloc(1, sizeof *w);
    if (!w)
        return SW_FAIL(SW_ENOMEM, "cell writer: out of host memory");
    w->cell = cell;
    w->backend = backend;
    w->layers = w->heads = -1;
    sw_utc_now(w->started);
    enum sw_status st = sw_h5_create(cells, cell->key, &w->file);
    if (st != SW_OK) {
        free(w);
        return st;
    }
    *out = w;
    return SW_OK;
}

void sw_cell_writer_abort(struct sw_cell_writer *w)
{
    if (!w)
        return;
    sw_h5_close(w->layers);
    sw_h5_close(w->heads);
    sw_h5_discard(&w->file);
    free(w);
}

/* --- attributes ------------------------------------------------------------------------------- */

enum sw_status sw_cell_set_attributes(hid_t object, const struct sw_text_attribute *texts,
                                      const struct sw_int_attribute *ints)
{
    for (; texts->name; texts++)
        SW_TRY(sw_h5_set_text(object, texts->name, texts->value));
    for (; ints->name; ints++)
        SW_TRY(sw_h5_set_int(object, ints->name, ints->value));
    return SW_OK;
}

/* --- what the cell is, and how it came to be -------------------------------------------------- */

static enum sw_status write_root(struct sw_cell_writer *w, const struct sw_result *result)
{
    const struct sw_cell *cell = w->cell;
    const struct sw_text_attribute texts[] = {
        {"format", "swbench-cell"},
        {"key", cell->key},
        {"status", sw_result_status_names[result->status]},
        {"reason", result->reason},
        {"workload", sw_cell_workload(cell)},
        {"model", sw_cell_model(cell)},
        {"task", sw_cell_task(cell)},
        {"method", cell->method->name},
        {"params", cell->params_json},
        {"backend", w->backend ? w->backend->name : ""},
        {"device", w->backend ? w->backend->device : ""},
        {"phase", sw_phase_names[cell->phase]},
        {"budget", sw_budget_mode_names[cell->budget]},
        {"experiment", cell->experiment},
        {"conditions", cell->conditions},
        {"baseline", sw_baseline_names[cell->config->baseline]},
        {NULL, NULL},
    };
    const struct sw_int_attribute ints[] = {
        {"version", 1},
        {"context", cell->context},
        {"seed", (int64_t)cell->seed},
        {"dense_layers", cell->dense_layers},
        {NULL, 0},
    };
    SW_TRY(sw_cell_set_attributes(w->file.id, texts, ints));
    return sw_h5_set_real(w->file.id, "density", cell->density);
}

static enum sw_status write_warnings(struct sw_cell_writer *w, const struct sw_result *result)
{
    if (result->n_warnings == 0)
        return SW_OK;
    hid_t dataset;
    SW_TRY(sw_h5_write_texts(w->file.id, "warnings", "sanity checks that failed",
                             (const char *const *)result->warnings, result->n_warnings, &dataset));
    enum sw_status st =
        sw_h5_attach_bare(w->file.id, dataset, 0, "warning", (hsize_t)result->n_warnings);
    sw_h5_close(dataset);
    return st;
}

static enum sw_status write_provenance(struct sw_cell_writer *w)
{
    const struct sw_provenance *p = sw_provenance();
    const struct sw_backend *be = w->backend;
    const char *gpu = sw_provenance_gpu(be);
    char ended[32];
    const struct sw_text_attribute texts[] = {
        {"config", w->cell->config->text},
        {"config_name", w->cell->config->name},
        {"argv", p->argv},
        {"identity", w->cell->identity},
        {"git", p->git},
        {"version", p->version},
        {"code", p->code},
        {"build", p->build},
        {"host", p->host},
        {"os", p->os},
        {"cpu", p->cpu},
        {"gpu", gpu},
        {"driver", *gpu ? be->details : ""},
        {"backend", be ? be->details : ""},
        {"variant", be ? be->variant : ""},
        {"libraries", p->libraries},
        {"started", w->started},
        {"ended", sw_utc_now(ended)},
        {NULL, NULL},
    };
    const struct sw_int_attribute ints[] = {
        {"seed", (int64_t)w->cell->seed},  {"cpus", p->cpus}, {"threads", be ? be->threads : 0},
        {"memory_bytes", p->memory_bytes}, {NULL, 0},
    };
    hid_t group;
    SW_TRY(sw_h5_group(w->file.id, "provenance", &group));
    enum sw_status st = sw_cell_set_attributes(group, texts, ints);
    sw_h5_close(group);
    return st;
}

enum sw_status sw_cell_writer_commit(struct sw_cell_writer *w, const struct sw_result *result)
{
    enum sw_status st;
    SW_TRY_GOTO(st, out, write_root(w, result));
    SW_TRY_GOTO(st, out, sw_cell_write_metrics(w, result));
    SW_TRY_GOTO(st, out, sw_cell_write_predictions(w, result));
    SW_TRY_GOTO(st, out, write_warnings(w, result));
    SW_TRY_GOTO(st, out, write_provenance(w));
out:
    if (st != SW_OK)
        st = sw_context(st, "%s", w->file.path);
    sw_h5_close(w->layers);
    sw_h5_close(w->heads);
    w->layers = w->heads = -1;
    if (st == SW_OK)
        st = sw_h5_publish(&w->file);
    sw_cell_writer_abort(w); /* frees; after publish there is nothing left to remove */
    return st;
}
