/* swbench plan: the cells that `run` would run, and what is known about them beforehand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/inputs/inputs.h"
#include "harness/judge/label.h"
#include "harness/plan/plan.h"
#include "harness/program/cli.h"
#include "harness/report/table.h"
#include "kernels/open.h"

static const char *bytes_text(double bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    for (; bytes >= 1024 && u < 4; u++)
        bytes /= 1024;
    snprintf(text, 32, bytes < 10 && u > 0 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return text;
}

static const char *seconds_text(double seconds, char text[32])
{
    if (seconds < 90)
        snprintf(text, 32, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
    else if (seconds < 5400)
        snprintf(text, 32, "%.0f min", seconds / 60);
    else
        snprintf(text, 32, "%.1f h", seconds / 3600);
    return text;
}

static enum sw_status add_row(struct sw_table *table, const struct sw_cell *cell,
                              const struct sw_label *label)
{
    static const char *const states[] = {"todo", "cached", "skipped"};
    char density[SW_DENSITY_TEXT], memory[32], time[32];
    bool todo = cell->state == SW_CELL_TODO;
    SW_TRY(sw_table_add(table, "%s", states[cell->state]));
    SW_TRY(sw_table_add(table, "%s", sw_cell_model(cell)));
    SW_TRY(sw_table_add(table, "%s", sw_cell_task(cell)));
    SW_TRY(sw_table_add(table, "%d", cell->context));
    SW_TRY(sw_table_add(table, "%s", label->name));
    SW_TRY(sw_table_add(table, "%s", sw_density_text(cell->density, density)));
    SW_TRY(sw_table_add(table, "%s", sw_phase_names[cell->phase]));
    SW_TRY(sw_table_add(table, "%s", todo ? bytes_text(cell->memory_bytes, memory) : ""));
    SW_TRY(sw_table_add(table, "%s", todo ? seconds_text(cell->seconds, time) : ""));
    return sw_table_add(table, "%s", cell->reason ? cell->reason : "");
}

/* What the cells that are to do take together, and at most at once. */
static void print_summary(const struct sw_plan *plan, const char *output)
{
    int count[3] = {0};
    double seconds = 0, memory = 0;
    char peak[32], time[32];
    for (int i = 0; i < plan->count; i++) {
        const struct sw_cell *cell = &plan->cells[i];
        count[cell->state]++;
        if (cell->state != SW_CELL_TODO)
            continue;
        seconds += cell->seconds;
        memory = fmax(memory, cell->memory_bytes);
    }
    printf("%d cell%s: %d to do, %d cached, %d skipped; about %s, %s at most; results in %s\n",
           plan->count, plan->count == 1 ? "" : "s", count[SW_CELL_TODO], count[SW_CELL_CACHED],
           count[SW_CELL_SKIPPED], seconds_text(seconds, time), bytes_text(memory, peak), output);
}

static enum sw_status print_plan(const struct sw_plan *plan, const char *output)
{
    static const char *const titles[] = {"state",   "model", "task",   "context", "method",
                                         "density", "phase", "memory", "time",    "reason"};
    struct sw_table table = {.columns = 10, .titles = titles, .right = "lllrlrlrrl"};
    struct sw_label *labels = NULL;
    enum sw_status st = sw_label_plan(plan, &labels);
    for (int i = 0; i < plan->count && st == SW_OK; i++)
        st = add_row(&table, &plan->cells[i], &labels[i]);
    if (st == SW_OK)
        st = sw_table_print(&table, stdout);
    if (st == SW_OK)
        print_summary(plan, output);
    sw_labels_free(labels, plan->count);
    sw_table_free(&table);
    return st;
}

/* Said once a model: with all layers dense, every method is dense attention. */
static void note_all_dense(const struct sw_plan *plan)
{
    const char *last = "";
    for (int i = 0; i < plan->count; i++) {
        const struct sw_cell *cell = &plan->cells[i];
        if (cell->dense_layers >= cell->shape.n_layers && strcmp(sw_cell_model(cell), last) != 0) {
            fprintf(stderr,
                    "swbench: note: dense_layers %d covers all %d layers of %s: all layers are "
                    "dense, methods do nothing\n",
                    cell->dense_layers, cell->shape.n_layers, sw_cell_model(cell));
            last = sw_cell_model(cell);
        }
    }
}

static enum sw_status show(const struct sw_config *config)
{
    struct sw_backend *backend;
    struct sw_plan *plan = NULL;
    SW_TRY(sw_backend_open(config->backend, config->threads, &backend));
    enum sw_status st = sw_plan_make(config, backend, config->output, &plan);
    if (st == SW_OK)
        st = print_plan(plan, config->output);
    if (st == SW_OK)
        note_all_dense(plan);
    sw_plan_free(plan);
    sw_backend_close(backend);
    return st;
}

int sw_verb_plan(int argc, char **argv)
{
    struct sw_cli cli;
    struct sw_config *config = NULL;
    enum sw_status st = sw_cli_parse(argc, argv, 1, 1, &cli);
    if (st == SW_OK)
        st = sw_cli_config(&cli, &config);
    if (st == SW_OK)
        st = show(config);
    sw_config_free(config);
    sw_inputs_forget();
    return sw_cli_exit(st);
}
