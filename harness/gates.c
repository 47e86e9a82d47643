#include "harness/gates.h"

#include <stdlib.h>
#include <string.h>

#include "harness/store.h"

static bool is_mass(const struct sw_tidy_row *row)
{
    return row->layer < 0 && strcmp(row->metric, "mass_recall") == 0 && strcmp(row->status, "ok") == 0;
}

/* Same inputs, same budget, same block size: then the head oracle's mass is the most that any list can recover. */
static bool comparable(const struct sw_tidy_row *a, const struct sw_tidy_row *b)
{
    const char *block_a = strstr(a->params, "\"block_size\""), *block_b = strstr(b->params, "\"block_size\"");
    return a->context == b->context && a->density == b->density && strcmp(a->workload, b->workload) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->task, b->task) == 0 && strcmp(a->phase, b->phase) == 0 && strcmp(a->backend, b->backend) == 0 && a->seed == b->seed &&
           block_a && block_b && atoi(block_a + strlen("\"block_size\":")) == atoi(block_b + strlen("\"block_size\":"));
}

enum sw_status sw_gates_check(const char *folder, const struct sw_config *config, FILE *messages, int *failures)
{
    *failures = 0;
    if (config->budget != SW_BUDGET_MATCHED)
        return SW_OK;
    struct sw_tidy *tidy;
    SW_TRY(sw_tidy_read(folder, &tidy));
    for (int64_t i = 0; i < tidy->count; i++) {
        const struct sw_tidy_row *oracle = &tidy->rows[i];
        if (!is_mass(oracle) || strcmp(oracle->method, "oracle") != 0 || !strstr(oracle->params, "\"head\"") ||
            !strstr(oracle->params, "\"common\""))
            continue;
        for (int64_t j = 0; j < tidy->count; j++) {
            const struct sw_tidy_row *row = &tidy->rows[j];
            if (j == i || !is_mass(row) || !comparable(oracle, row) || row->value <= oracle->value + 1e-5)
                continue;
            fprintf(messages, "gate: %s (cell %s) recovers mass %.6f at density %g, more than the oracle's %.6f\n", row->method, row->cell,
                    row->value, row->density, oracle->value);
            (*failures)++;
        }
    }
    sw_tidy_free(tidy);
    return SW_OK;
}
