/* A cell: its names, and what it owns. */
#include "harness/config/cell.h"

#include <stdlib.h>

const char *sw_cell_workload(const struct sw_cell *cell)
{
    return sw_workload_kind_names[cell->workload->kind];
}

const char *sw_cell_model(const struct sw_cell *cell) { return sw_workload_model(cell->workload); }

const char *sw_cell_task(const struct sw_cell *cell)
{
    if (cell->workload->kind == SW_WORKLOAD_SYNTHETIC)
        return sw_generator_names[cell->workload->generator];
    return cell->task ? cell->task : "";
}

int sw_cell_recovery_samples(const struct sw_cell *cell)
{
    unsigned asked = SW_MEASURE_RECOVERY | SW_MEASURE_OUTPUT_ERROR;
    int n = cell->config->measure & asked ? cell->workload->recovery_samples : 0;
    return n == 0 && cell->config->save ? 1 : n;
}

void sw_cell_clear(struct sw_cell *cell)
{
    if (cell->params)
        sw_param_free(cell->method->params, cell->params);
    free(cell->params);
    free(cell->params_json);
    sw_texts_clear(&cell->param_files);
    free(cell->identity);
    free(cell->reason);
    *cell = (struct sw_cell){0};
}
