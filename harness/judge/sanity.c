#include "harness/judge/sanity.h"

#include <jansson.h>
#include <string.h>

#include "harness/store/store.h"

static bool is_mass(const struct sw_tidy_row *row)
{
    return row->layer < 0 && strcmp(row->metric, "mass_recall") == 0 &&
           strcmp(row->status, "ok") == 0;
}

/* What of a cell's parameters decides whether its mass can be compared: read from their JSON. */
struct terms {
    json_int_t block;
    bool head_oracle; /* per head, under the common forced set */
};

static struct terms terms_of(const struct sw_tidy_row *row)
{
    json_t *params = json_loads(row->params, 0, NULL);
    const char *unit = json_string_value(json_object_get(params, "unit")),
               *forced = json_string_value(json_object_get(params, "forced"));
    struct terms t = {.block = json_integer_value(json_object_get(params, "block_size")),
                      .head_oracle = strcmp(row->method, "oracle") == 0 && unit &&
                                     strcmp(unit, "head") == 0 && forced &&
                                     strcmp(forced, "common") == 0};
    json_decref(params);
    return t;
}

/* Same inputs, same budget, same block size: then the head oracle's mass is the most that any list
 * can recover. */
static bool comparable(const struct sw_tidy_row *a, const struct sw_tidy_row *b)
{
    return a->context == b->context && a->density == b->density &&
           strcmp(a->workload, b->workload) == 0 && strcmp(a->model, b->model) == 0 &&
           strcmp(a->task, b->task) == 0 && strcmp(a->phase, b->phase) == 0 &&
           strcmp(a->backend, b->backend) == 0 && a->seed == b->seed &&
           terms_of(a).block == terms_of(b).block;
}

enum sw_status sw_gates_check(const char *folder, const struct sw_config *config, FILE *messages,
                              int *failures)
{
    *failures = 0;
    if (config->budget != SW_BUDGET_MATCHED)
        return SW_OK;
    struct sw_tidy *tidy;
    SW_TRY(sw_tidy_read(folder, &tidy));
    for (int64_t i = 0; i < tidy->count; i++) {
        const struct sw_tidy_row *oracle = &tidy->rows[i];
        if (!is_mass(oracle) || !terms_of(oracle).head_oracle)
            continue;
        for (int64_t j = 0; j < tidy->count; j++) {
            const struct sw_tidy_row *row = &tidy->rows[j];
            if (j == i || !is_mass(row) || !comparable(oracle, row) ||
                row->value <= oracle->value + 1e-5)
                continue;
            fprintf(messages,
                    "gate: %s (cell %s) recovers mass %.6f at density %g, more than the oracle's "
                    "%.6f\n",
                    row->method, row->cell, row->value, row->density, oracle->value);
            (*failures)++;
        }
    }
    sw_tidy_free(tidy);
    return SW_OK;
}
