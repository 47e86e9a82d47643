/* swbench run: plans, runs what is not done, saves each cell as it is done. */
#include <stdio.h>
#include <stdlib.h>

#include "harness/inputs/inputs.h"
#include "harness/judge/sanity.h"
#include "harness/program/cli.h"
#include "harness/program/run_cells.h"
#include "harness/report/index.h"
#include "harness/run/interrupt.h"
#include "harness/store/store.h"
#include "kernels/open.h"

/* --- before and after ------------------------------------------------------------------------- */

static enum sw_status prepare(struct sw_run *r)
{
    const char *output = r->config->output;
    bool shared = r->ranks.threads > 0 && r->config->threads <= 0 && !getenv("SWBENCH_THREADS");
    if (snprintf(r->folder, sizeof r->folder, "%s/cells", output) >= (int)sizeof r->folder)
        return SW_FAIL(SW_EINPUT, "%s: the folder's name is too long", output);
    SW_TRY(sw_backend_open(r->config->backend, shared ? r->ranks.threads : r->config->threads,
                           &r->backend));
    SW_TRY(sw_plan_make(r->config, r->backend, output, &r->plan));
    SW_TRY(sw_label_plan(r->plan, &r->labels));
    if (r->fresh)
        for (int i = 0; i < r->plan->count; i++)
            if (r->plan->cells[i].state == SW_CELL_CACHED)
                r->plan->cells[i].state = SW_CELL_TODO;
    SW_TRY(sw_run_list(r));
    SW_TRY(sw_runner_new(r->backend, output, &r->runner));
    for (int i = 0; i < r->n_todo; i++)
        /* neighbours share their inputs */
        if (i == 0 || r->todo[i].cell->input != r->todo[i - 1].cell->input)
            SW_TRY(sw_runner_check(r->runner, r->todo[i].cell));
    return sw_store_open_folder(output);
}

static int count_cached(const struct sw_run *r)
{
    int cached = 0;
    for (int i = 0; i < r->plan->count; i++)
        cached += r->plan->cells[i].state == SW_CELL_CACHED;
    return cached;
}

/* The last line: all ranks' cells. What the first rank found done by others is there already,
 * unless they were ranks of this run. */
static void summarise(const struct sw_run *r, const int64_t sums[3], int code)
{
    int64_t others = sums[0] - r->done + sums[1] - r->failed + sums[2] - r->skipped;
    int64_t there = count_cached(r) + (r->elsewhere > others ? r->elsewhere - others : 0);
    if (!r->quiet || code != SW_EXIT_OK || sums[1])
        fprintf(
            stderr,
            "%s: %lld cells done, %lld there already, %lld skipped, %lld failed; results in %s\n",
            r->config->name, (long long)sums[0], (long long)there, (long long)sums[2],
            (long long)sums[1], r->config->output);
}

/* On a full disk what was saved before is good. */
static int exit_of(enum sw_status st)
{
    int code = sw_cli_exit(st);
    return st == SW_EIO ? SW_EXIT_FAILED_CELLS : code;
}

/* The exit code of how the run ended, after what is done was presented in results.h5. Ranks that
 * meet let the first one do that. */
static int finish(struct sw_run *r, enum sw_status st)
{
    int insane = 0, code = SW_EXIT_OK;
    if (st != SW_OK && *sw_run_speaker(r))
        st = sw_context(st, "rank %d", r->ranks.rank);
    code = exit_of(st);
    sw_error_clear();
    int64_t sums[] = {r->done, r->failed, r->skipped, r->warnings};
    sw_ranks_sum(&r->ranks, sums, 4);
    code = sw_ranks_meet(&r->ranks, code);
    if (r->ranks.rank > 0 && r->ranks.joined)
        return sw_ranks_meet(&r->ranks, code);
    enum sw_status after = sw_index_write(r->config->output);
    if (after == SW_OK && code == SW_EXIT_OK && r->ranks.rank == 0)
        after = sw_sanity_check(r->config->output, stderr, &insane);
    if (after != SW_OK && code == SW_EXIT_OK)
        code = exit_of(after);
    summarise(r, sums, code);
    if (code == SW_EXIT_OK &&
        (sums[1] || r->elsewhere_failed || (r->strict && (insane || sums[3]))))
        code = SW_EXIT_FAILED_CELLS;
    return sw_ranks_meet(&r->ranks, code);
}

/* From the command line to the first cell. */
static enum sw_status begin(struct sw_run *r, int argc, char **argv, struct sw_config **config)
{
    struct sw_cli cli;
    int limit;
    SW_TRY(sw_cli_parse(argc, argv, 1, 1, &cli));
    SW_TRY(sw_cli_int(&cli, "--limit", 0, 1 << 30, -1, &limit));
    SW_TRY(sw_cli_config(&cli, config));
    r->config = *config;
    r->quiet = sw_cli_has(&cli, "-q") || r->ranks.rank > 0;
    r->strict = r->config->strict || sw_cli_has(&cli, "--strict");
    r->fresh = sw_cli_has(&cli, "--fresh");
    r->limit = limit < 0 ? -1 : limit / r->ranks.size + (r->ranks.rank < limit % r->ranks.size);
    sw_interrupt_install();
    return prepare(r);
}

int sw_verb_run(int argc, char **argv)
{
    struct sw_run r = {.limit = -1};
    struct sw_config *config = NULL;
    sw_ranks_begin(&r.ranks);
    /* The first rank goes ahead: what is wrong with the config or an input is then said once. */
    int code = SW_EXIT_OK;
    if (r.ranks.rank == 0 || !r.ranks.joined)
        code = sw_cli_exit(begin(&r, argc, argv, &config));
    code = sw_ranks_meet(&r.ranks, code);
    if (code == SW_EXIT_OK && r.ranks.joined) {
        if (r.ranks.rank > 0)
            code = sw_cli_exit(begin(&r, argc, argv, &config));
        code = sw_ranks_meet(&r.ranks, code);
    }
    if (code == SW_EXIT_OK)
        code = finish(&r, sw_run_cells(&r));
    sw_runner_free(r.runner);
    sw_labels_free(r.labels, r.plan ? r.plan->count : 0);
    sw_plan_free(r.plan);
    free(r.todo);
    sw_backend_close(r.backend);
    sw_config_free(config);
    sw_inputs_forget();
    sw_ranks_end(&r.ranks);
    return code;
}
