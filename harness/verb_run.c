/* swbench run: plans, runs what is not done, saves each cell as it is done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/cli.h"
#include "harness/gates.h"
#include "harness/inputs.h"
#include "harness/interrupt.h"
#include "harness/measure.h"
#include "harness/plan.h"
#include "harness/runner.h"
#include "harness/store.h"

struct run {
    const struct sw_config *config;
    struct sw_backend *backend;
    struct sw_plan *plan;
    struct sw_runner *runner;
    bool ready; /* inputs are good, the folder is there */
    bool quiet, strict;
    int limit;      /* cells to run at most; -1: all */
    int done, failed, skipped, warnings;
    double begin;   /* seconds */
    double planned, spent; /* estimated seconds of the cells to run, and of those that are over */
};

static void describe(const struct sw_cell *cell, char *text, size_t size)
{
    const char *task = sw_cell_task(cell);
    snprintf(text, size, "%s%s%s n=%d %s %s density %g", sw_cell_model(cell), *task ? " " : "", task, cell->context, cell->method->name,
             sw_phase_names[cell->phase], cell->density);
}

static void progress(const struct run *r, const struct sw_cell *cell, int at, int total)
{
    char what[256];
    if (r->quiet)
        return;
    describe(cell, what, sizeof what);
    double elapsed = sw_seconds() - r->begin;
    fprintf(stderr, "[%d/%d] %s", at, total, what);
    if (r->spent > 0) {
        double left = elapsed * (r->planned - r->spent) / r->spent;
        fprintf(stderr, "  (%.0f s done, about %.0f s to go)", elapsed, left);
    }
    fputc('\n', stderr);
}

static void tell(struct run *r, const struct sw_cell *cell, const struct sw_result *result)
{
    char what[256];
    describe(cell, what, sizeof what);
    if (result->status == SW_RESULT_FAILED) {
        r->failed++;
        fprintf(stderr, "failed: %s: %s\n", what, result->reason ? result->reason : "");
    }
    if (result->status == SW_RESULT_SKIPPED) {
        r->skipped++;
        fprintf(stderr, "skipped: %s: %s\n", what, result->reason ? result->reason : "");
    }
    for (int i = 0; i < result->n_warnings; i++)
        fprintf(stderr, "gate: %s: %s\n", what, result->warnings[i]);
    r->warnings += result->n_warnings;
}

/* A planned skip is a row of the results too: what is missing is said, with the reason. */
static enum sw_status record_skip(const struct run *r, const struct sw_cell *cell)
{
    struct sw_cell_writer *writer;
    struct sw_result result = {.status = SW_RESULT_SKIPPED, .reason = cell->reason};
    SW_TRY(sw_cell_writer_open(r->config->output, cell, r->backend, &writer));
    return sw_cell_writer_commit(writer, &result);
}

static enum sw_status run_cells(struct run *r)
{
    int total = 0, at = 0;
    for (int i = 0; i < r->plan->count; i++)
        if (r->plan->cells[i].state == SW_CELL_TODO) {
            total++;
            r->planned += r->plan->cells[i].seconds;
        }
    if (r->limit >= 0 && r->limit < total)
        total = r->limit;
    r->begin = sw_seconds();
    for (int i = 0; i < r->plan->count; i++) {
        const struct sw_cell *cell = &r->plan->cells[i];
        if (cell->state == SW_CELL_SKIPPED) {
            char what[256];
            describe(cell, what, sizeof what);
            r->skipped++;
            if (!r->quiet)
                fprintf(stderr, "skipped: %s: %s\n", what, cell->reason);
            SW_TRY(record_skip(r, cell));
        }
        if (cell->state != SW_CELL_TODO || at == total)
            continue;
        progress(r, cell, ++at, total);
        struct sw_result result = {0};
        enum sw_status st = sw_interrupt_check();
        if (st == SW_OK)
            st = sw_runner_cell(r->runner, cell, &result);
        if (st == SW_OK) {
            r->done += result.status == SW_RESULT_OK;
            tell(r, cell, &result);
        }
        r->spent += cell->seconds;
        sw_result_clear(&result);
        SW_TRY(st);
    }
    return SW_OK;
}

static enum sw_status prepare(struct run *r, bool fresh)
{
    SW_TRY(sw_backend_open(r->config->backend, r->config->threads, &r->backend));
    SW_TRY(sw_plan_make(r->config, r->backend, r->config->output, &r->plan));
    if (fresh)
        for (int i = 0; i < r->plan->count; i++)
            if (r->plan->cells[i].state == SW_CELL_CACHED)
                r->plan->cells[i].state = SW_CELL_TODO;
    SW_TRY(sw_runner_new(r->backend, r->config->output, &r->runner));
    const struct sw_cell *checked = NULL; /* neighbours share their inputs */
    for (int i = 0; i < r->plan->count; i++) {
        const struct sw_cell *cell = &r->plan->cells[i];
        bool same = checked && checked->workload == cell->workload && checked->task == cell->task && checked->context == cell->context;
        if (cell->state != SW_CELL_TODO || same)
            continue;
        SW_TRY(sw_runner_check(r->runner, cell));
        checked = cell;
    }
    SW_TRY(sw_store_open_folder(r->config->output));
    r->ready = true;
    return SW_OK;
}

/* The exit code of how the run ended, after what is done was presented in results.h5. */
static int finish(struct run *r, enum sw_status st)
{
    int gates = 0, cached = 0;
    for (int i = 0; i < r->plan->count; i++)
        cached += r->plan->cells[i].state == SW_CELL_CACHED;
    int code = sw_cli_exit(st);
    if (st == SW_EIO)
        code = SW_EXIT_FAILED_CELLS; /* a full disk: what was saved before is good */
    sw_error_clear();
    enum sw_status after = sw_store_write_index(r->config->output);
    if (after == SW_OK && st == SW_OK)
        after = sw_gates_check(r->config->output, r->config, stderr, &gates);
    if (after != SW_OK && code == SW_EXIT_OK)
        code = sw_cli_exit(after);
    if (!r->quiet || code != SW_EXIT_OK || r->failed)
        fprintf(stderr, "%s: %d cells done, %d there already, %d skipped, %d failed; results in %s\n", r->config->name, r->done, cached,
                r->skipped, r->failed, r->config->output);
    if (code == SW_EXIT_OK && (r->failed || (r->strict && (gates || r->warnings))))
        code = SW_EXIT_FAILED_CELLS;
    return code;
}

int sw_verb_run(int argc, char **argv)
{
    struct sw_cli cli;
    struct sw_config *config = NULL;
    struct run r = {.limit = -1};
    int code;
    enum sw_status st = sw_cli_parse(argc, argv, 1, 1, &cli);
    if (st == SW_OK)
        st = sw_cli_int(&cli, "--limit", 0, 1 << 30, -1, &r.limit);
    if (st == SW_OK)
        st = sw_cli_config(&cli, &config);
    if (st == SW_OK) {
        r.config = config;
        r.quiet = sw_cli_has(&cli, "-q");
        r.strict = config->strict || sw_cli_has(&cli, "--strict");
        sw_interrupt_install();
        st = prepare(&r, sw_cli_has(&cli, "--fresh"));
    }
    if (r.ready)
        code = finish(&r, run_cells(&r));
    else
        code = sw_cli_exit(st);
    sw_runner_free(r.runner);
    sw_plan_free(r.plan);
    sw_backend_close(r.backend);
    sw_config_free(config);
    sw_inputs_forget();
    return code;
}
