/* The cells of a run: which are to be run, in which order, and by whom. Other processes may be at
 * the same folder: each cell is run by who claims it, and what another one finished counts as
 * there. */
#include "harness/program/run_cells.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "harness/run/interrupt.h"
#include "harness/run/timing.h"
#include "harness/store/claim.h"
#include "harness/store/store.h"

/* --- what is said ----------------------------------------------------------------------------- */

/* What the cell is called beside the others of the plan. */
static const char *name_of(const struct sw_run *r, const struct sw_cell *cell)
{
    return r->labels[cell - r->plan->cells].full;
}

const char *sw_run_speaker(const struct sw_run *r)
{
    static char text[32];
    if (r->ranks.rank > 0)
        snprintf(text, sizeof text, "rank %d: ", r->ranks.rank);
    return text;
}

static void progress(const struct sw_run *r, const struct sw_cell *cell, int at, int total)
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

static void tell(struct sw_run *r, const struct sw_cell *cell, const struct sw_result *result)
{
    const char *what = name_of(r, cell), *reason = result->reason ? result->reason : "";
    if (result->status == SW_RESULT_FAILED) {
        r->failed++;
        fprintf(stderr, "%sfailed: %s: %s\n", sw_run_speaker(r), what, reason);
    }
    if (result->status == SW_RESULT_SKIPPED) {
        r->skipped++;
        fprintf(stderr, "%sskipped: %s: %s\n", sw_run_speaker(r), what, reason);
    }
    for (int i = 0; i < result->n_warnings; i++)
        fprintf(stderr, "%swarning: %s: %s\n", sw_run_speaker(r), what, result->warnings[i]);
    r->warnings += result->n_warnings;
}

/* --- what is to be run ------------------------------------------------------------------------ */

static void look_at_file(const struct sw_run *r, const char *key, ino_t *inode,
                         struct timespec *changed)
{
    char path[PATH_MAX + 64];
    struct stat info = {0};
    snprintf(path, sizeof path, "%s/%s.h5", r->folder, key);
    bool there = stat(path, &info) == 0;
    *inode = there ? info.st_ino : 0;
    *changed = there ? info.st_mtim : (struct timespec){0};
}

/* Ranks take the dearest cells first, so that they end together; by inputs, since what its cells
 * share (a model, the dense truth) is kept from one to the next. */
static int dearest_first(const void *left, const void *right)
{
    const struct sw_todo *a = left, *b = right;
    if (a->input_seconds != b->input_seconds)
        return a->input_seconds < b->input_seconds ? 1 : -1;
    if (a->input != b->input)
        return a->input < b->input ? -1 : 1;
    if (a->cell->seconds != b->cell->seconds)
        return a->cell->seconds < b->cell->seconds ? 1 : -1;
    return a->cell < b->cell ? -1 : 1;
}

/* What a cell could not replace would end the sweep after it had run. */
static enum sw_status check_place(const struct sw_run *r, const char *key)
{
    char path[PATH_MAX + 64];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s.h5", r->folder, key);
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return SW_FAIL(SW_EINPUT, "%s: found a folder, expected a cell's file or nothing", path);
    return SW_OK;
}

/* The cells of one input follow one another in the plan. */
enum sw_status sw_run_list(struct sw_run *r)
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
        struct sw_todo *t = &r->todo[r->n_todo];
        *t = (struct sw_todo){.cell = cell};
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

/* --- cells shared with other processes -------------------------------------------------------- */

/* Somebody finished the cell since it was planned. A damaged file is said, since it is about to be
 * replaced. */
static bool is_done_elsewhere(struct sw_run *r, const struct sw_todo *t)
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
                sw_run_speaker(r), r->folder, t->cell->key);
        return false;
    }
    if (same && (failed || r->fresh))
        return false;
    r->elsewhere_failed |= failed;
    return true;
}

static enum sw_status run_cell(struct sw_run *r, const struct sw_cell *cell)
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
static enum sw_status take(struct sw_run *r, struct sw_todo *t, int *at, int total)
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
static enum sw_status take_all(struct sw_run *r)
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
static enum sw_status record_skip(struct sw_run *r, const struct sw_cell *cell)
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
static enum sw_status set_baselines(const struct sw_run *r)
{
    const struct sw_config *config = r->config;
    for (int i = 0; i < r->plan->count; i++)
        if (r->plan->cells[i].state == SW_CELL_CACHED)
            SW_TRY(sw_store_set_baseline(config->output, r->plan->cells[i].key, config->baseline));
    return SW_OK;
}

enum sw_status sw_run_cells(struct sw_run *r)
{
    r->begin = sw_seconds();
    if (r->ranks.rank == 0)
        SW_TRY(set_baselines(r));
    for (int i = 0; r->ranks.rank == 0 && i < r->plan->count; i++)
        if (r->plan->cells[i].state == SW_CELL_SKIPPED)
            SW_TRY(record_skip(r, &r->plan->cells[i]));
    return take_all(r);
}
