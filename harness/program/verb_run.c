/* swbench run: plans, runs what is not done, saves each cell as it is done. Other processes may do
 * the same in the same folder: each cell is run by who claims it, and what another one finished
 * counts as there. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "harness/inputs/inputs.h"
#include "harness/judge/label.h"
#include "harness/judge/sanity.h"
#include "harness/plan/plan.h"
#include "harness/program/cli.h"
#include "harness/report/index.h"
#include "harness/run/interrupt.h"
#include "harness/run/ranks.h"
#include "harness/run/runner.h"
#include "harness/run/timing.h"
#include "harness/store/claim.h"
#include "harness/store/store.h"
#include "kernels/open.h"

/* A cell to run, and its file as the plan found it: none (inode 0), failed, damaged, or good where
 * everything is run again. */
struct todo {
    const struct sw_cell *cell;
    int input;            /* which one */
    double input_seconds; /* the estimate of the dearest cell of its input */
    ino_t inode;
    struct timespec changed;
    bool over;
};

struct run {
    struct sw_ranks ranks;
    const struct sw_config *config;
    struct sw_backend *backend;
    struct sw_plan *plan;
    struct sw_label *labels; /* of the plan's cells */
    struct sw_runner *runner;
    struct todo *todo;
    int n_todo;
    char folder[PATH_MAX]; /* cells/ */
    bool quiet, strict, fresh;
    int limit; /* cells to run at most; -1: all */
    /* elsewhere: another process did it meanwhile */
    int done, failed, skipped, warnings, elsewhere;
    bool elsewhere_failed;
    double begin;          /* seconds */
    double planned, spent; /* estimated seconds of the cells to run, and of those that are over */
};

/* What the cell is called beside the others of the plan. */
static const char *name_of(const struct run *r, const struct sw_cell *cell)
{
    return r->labels[cell - r->plan->cells].full;
}

/* In front of what one of several ranks has to say; "" where there is only one, or for the first,
 * which speaks for all. */
static const char *speaker(const struct run *r)
{
    static char text[32];
    if (r->ranks.rank > 0)
        snprintf(text, sizeof text, "rank %d: ", r->ranks.rank);
    return text;
}

static void progress(const struct run *r, const struct sw_cell *cell, int at, int total)
{
    if (r->quiet)
        return;
    double elapsed = sw_seconds() - r->begin;
    fprintf(stderr, "[%d/%d] %s", at, total, name_of(r, cell));
    if (r->spent > 0) {
        double left = elapsed * (r->planned - r->spent) / r->spent;
        fprintf(stderr, "  (%.0f s done, about %.0f s to go)", elapsed, left);
    }
    fputc('\n', stderr);
}

static void tell(struct run *r, const struct sw_cell *cell, const struct sw_result *result)
{
    const char *what = name_of(r, cell), *reason = result->reason ? result->reason : "";
    if (result->status == SW_RESULT_FAILED) {
        r->failed++;
        fprintf(stderr, "%sfailed: %s: %s\n", speaker(r), what, reason);
    }
    if (result->status == SW_RESULT_SKIPPED) {
        r->skipped++;
        fprintf(stderr, "%sskipped: %s: %s\n", speaker(r), what, reason);
    }
    for (int i = 0; i < result->n_warnings; i++)
        fprintf(stderr, "%swarning: %s: %s\n", speaker(r), what, result->warnings[i]);
    r->warnings += result->n_warnings;
}

/* --- cells shared with other processes -------------------------------------------------------- */

static void look_at_file(const struct run *r, const char *key, ino_t *inode,
                         struct timespec *changed)
{
    char path[PATH_MAX + 64];
    struct stat info = {0};
    snprintf(path, sizeof path, "%s/%s.h5", r->folder, key);
    bool there = stat(path, &info) == 0;
    *inode = there ? info.st_ino : 0;
    *changed = there ? info.st_mtim : (struct timespec){0};
}

/* Somebody finished the cell since it was planned. A damaged file is said, since it is about to be
 * replaced. */
static bool is_done_elsewhere(struct run *r, const struct todo *t)
{
    ino_t inode;
    struct timespec changed;
    bool failed;
    look_at_file(r, t->cell->key, &inode, &changed);
    if (inode == 0)
        return false;
    bool same = inode == t->inode && changed.tv_sec == t->changed.tv_sec &&
                changed.tv_nsec == t->changed.tv_nsec;
    if (!sw_store_has_cell(r->config->output, t->cell->key, &failed)) {
        fprintf(stderr, "%sdamaged: %s/%s.h5: its checksum does not hold; the cell is run again\n",
                speaker(r), r->folder, t->cell->key);
        return false;
    }
    if (same && (failed || r->fresh))
        return false;
    r->elsewhere_failed |= failed;
    return true;
}

static enum sw_status run_cell(struct run *r, const struct sw_cell *cell)
{
    struct sw_result result = {0};
    enum sw_status st = sw_runner_cell(r->runner, cell, &result);
    if (st == SW_OK) {
        r->done += result.status == SW_RESULT_OK;
        tell(r, cell, &result);
    }
    sw_result_clear(&result);
    return st;
}

/* Runs the cell if it is free and still to be done; otherwise leaves it for later, or counts it. */
static enum sw_status take(struct run *r, struct todo *t, int *at, int total)
{
    struct sw_claim claim;
    bool got;
    SW_TRY(sw_interrupt_check());
    SW_TRY(sw_claim_try(r->folder, t->cell->key, &claim, &got));
    if (!got)
        return SW_OK;
    enum sw_status st = SW_OK;
    if (is_done_elsewhere(r, t)) {
        r->elsewhere++;
    } else {
        progress(r, t->cell, ++*at + r->elsewhere, total);
        st = run_cell(r, t->cell);
    }
    sw_claim_release(&claim);
    t->over = true;
    r->spent += t->cell->seconds;
    return st;
}

/* What others are at is waited for, and run here if they give it up: then the end of any process is
 * the end of the sweep. */
static enum sw_status take_all(struct run *r)
{
    int ran = 0, total = r->limit >= 0 && r->limit < r->n_todo ? r->limit : r->n_todo;
    for (int round = 0;; round++) {
        int left = 0;
        for (int i = 0; i < r->n_todo; i++) {
            if (ran == r->limit)
                return SW_OK;
            if (!r->todo[i].over)
                SW_TRY(take(r, &r->todo[i], &ran, total));
            left += !r->todo[i].over;
        }
        if (left == 0)
            return SW_OK;
        if (round == 0 && !r->quiet && r->ranks.size == 1)
            fprintf(stderr, "waiting for %d cell%s that other processes are running\n", left,
                    left > 1 ? "s" : "");
        nanosleep(&(struct timespec){.tv_nsec = (round < 9 ? round + 1 : 10) * 50000000L}, NULL);
    }
}

/* A planned skip is a row of the results too: what is missing is said, with the reason. */
static enum sw_status record_skip(struct run *r, const struct sw_cell *cell)
{
    struct sw_claim claim;
    bool got, failed;
    r->skipped++;
    if (!r->quiet)
        fprintf(stderr, "skipped: %s: %s\n", name_of(r, cell), cell->reason);
    SW_TRY(sw_claim_try(r->folder, cell->key, &claim, &got));
    if (!got)
        return SW_OK;
    enum sw_status st = SW_OK;
    if (!sw_store_has_cell(r->config->output, cell->key, &failed) || failed || r->fresh) {
        struct sw_cell_writer *writer;
        struct sw_result result = {.status = SW_RESULT_SKIPPED, .reason = cell->reason};
        st = sw_cell_writer_open(r->config->output, cell, r->backend, &writer);
        if (st == SW_OK)
            st = sw_cell_writer_commit(writer, &result);
    }
    sw_claim_release(&claim);
    return st;
}

/* Cells that are there take the config's baseline: it is how they are read. */
static enum sw_status set_baselines(const struct run *r)
{
    const struct sw_config *config = r->config;
    for (int i = 0; i < r->plan->count; i++)
        if (r->plan->cells[i].state == SW_CELL_CACHED)
            SW_TRY(sw_store_set_baseline(config->output, r->plan->cells[i].key, config->baseline));
    return SW_OK;
}

static enum sw_status run_cells(struct run *r)
{
    r->begin = sw_seconds();
    if (r->ranks.rank == 0)
        SW_TRY(set_baselines(r));
    for (int i = 0; r->ranks.rank == 0 && i < r->plan->count; i++)
        if (r->plan->cells[i].state == SW_CELL_SKIPPED)
            SW_TRY(record_skip(r, &r->plan->cells[i]));
    return take_all(r);
}

/* --- before and after ------------------------------------------------------------------------- */

/* Ranks take the dearest cells first, so that they end together; by inputs, since what its cells
 * share (a model, the dense truth) is kept from one to the next. */
static int dearest_first(const void *left, const void *right)
{
    const struct todo *a = left, *b = right;
    if (a->input_seconds != b->input_seconds)
        return a->input_seconds < b->input_seconds ? 1 : -1;
    if (a->input != b->input)
        return a->input < b->input ? -1 : 1;
    if (a->cell->seconds != b->cell->seconds)
        return a->cell->seconds < b->cell->seconds ? 1 : -1;
    return a->cell < b->cell ? -1 : 1;
}

/* What a cell could not replace would end the sweep after it had run. */
static enum sw_status check_place(const struct run *r, const char *key)
{
    char path[PATH_MAX + 64];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s.h5", r->folder, key);
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return SW_FAIL(SW_EINPUT, "%s: found a folder, expected a cell's file or nothing", path);
    return SW_OK;
}

/* The cells of one input follow one another in the plan. */
static enum sw_status list_todo(struct run *r)
{
    r->todo = calloc((size_t)r->plan->count + 1, sizeof *r->todo);
    if (!r->todo)
        return SW_FAIL(SW_ENOMEM, "no memory for the plan");
    int first = 0; /* of its input */
    for (int i = 0; i < r->plan->count; i++) {
        const struct sw_cell *cell = &r->plan->cells[i];
        if (cell->state != SW_CELL_TODO)
            continue;
        SW_TRY(check_place(r, cell->key));
        struct todo *t = &r->todo[r->n_todo];
        *t = (struct todo){.cell = cell};
        look_at_file(r, cell->key, &t->inode, &t->changed);
        r->planned += cell->seconds;
        if (r->todo[first].cell->input != cell->input)
            first = r->n_todo;
        t->input = first;
        r->n_todo++;
        double dearest = fmax(r->todo[first].input_seconds, cell->seconds);
        for (int k = first; k < r->n_todo; k++)
            r->todo[k].input_seconds = dearest;
    }
    if (r->ranks.size > 1)
        qsort(r->todo, (size_t)r->n_todo, sizeof *r->todo, dearest_first);
    return SW_OK;
}

static enum sw_status prepare(struct run *r)
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
    SW_TRY(list_todo(r));
    SW_TRY(sw_runner_new(r->backend, output, &r->runner));
    for (int i = 0; i < r->n_todo; i++)
        /* neighbours share their inputs */
        if (i == 0 || r->todo[i].cell->input != r->todo[i - 1].cell->input)
            SW_TRY(sw_runner_check(r->runner, r->todo[i].cell));
    return sw_store_open_folder(output);
}

static int count_cached(const struct run *r)
{
    int cached = 0;
    for (int i = 0; i < r->plan->count; i++)
        cached += r->plan->cells[i].state == SW_CELL_CACHED;
    return cached;
}

/* The last line: all ranks' cells. What the first rank found done by others is there already,
 * unless they were ranks of this run. */
static void summarise(const struct run *r, const int64_t sums[3], int code)
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
static int finish(struct run *r, enum sw_status st)
{
    int insane = 0, code = SW_EXIT_OK;
    if (st != SW_OK && *speaker(r))
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
static enum sw_status begin(struct run *r, int argc, char **argv, struct sw_config **config)
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
    struct run r = {.limit = -1};
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
        code = finish(&r, run_cells(&r));
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
