/* What a reader of the tables must know beside them: cells without a result, warnings, provenance.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/method.h"
#include "harness/config/param_json.h"
#include "harness/report/report_cells.h"
#include "harness/store/result.h"

void sw_report_missing(struct sw_report *r)
{
    bool any = false;
    for (int i = 0; i < r->n_cells && r->status == SW_OK; i++) {
        const struct sw_tidy_row *row = r->cells[i].row;
        if (sw_report_is_ok(&r->cells[i]))
            continue;
        if (!any)
            sw_report_heading(r, "Cells without a result");
        any = true;
        const char *line =
            sw_report_text(r, "%s: %s: %s", r->cells[i].label->full, row->status, row->reason);
        sw_report_line(r, "- ", line);
    }
    if (any)
        putchar('\n');
}

/* --- what the cells say about themselves ------------------------------------------------------ */

enum { CODE, DEVICE, THREADS, HOST, CONFIG, LIBRARIES, PARAMETERS, FACTS };
static const char *const fact_names[FACTS] = {"code",   "device",    "threads",   "host",
                                              "config", "libraries", "parameters"};

/* Distinct values each; warnings with how many cells have them. */
struct origins {
    struct sw_texts facts[FACTS], warnings;
    int *warned;
    char *first, *last; /* earliest start, latest end */
};

static void clear_origins(struct origins *o)
{
    for (int f = 0; f < FACTS; f++)
        sw_texts_clear(&o->facts[f]);
    sw_texts_clear(&o->warnings);
    free(o->warned);
    free(o->first);
    free(o->last);
}

static enum sw_status add_fact(struct origins *o, int fact, const char *value)
{
    return !*value || sw_texts_have(&o->facts[fact], value) ? SW_OK
                                                            : sw_texts_add(&o->facts[fact], value);
}

/* What an attribute of /provenance says, as a text of the report. */
static const char *provenance(struct sw_report *r, struct sw_cell_reader *reader, const char *name)
{
    char *value = NULL;
    if (r->status == SW_OK)
        r->status = sw_cell_reader_provenance(reader, name, &value);
    const char *text = value ? sw_report_text(r, "%s", value) : "";
    free(value);
    return text;
}

/* "sketchwalk icml B=64: variant=icml block_size=64": the parameters that are not as they are by
 * themselves; labels have only what tells rows apart. */
static const char *parameters(struct sw_report *r, const struct sw_report_cell *cell)
{
    const struct sw_method *method = sw_method_find(cell->row->method);
    json_t *params = json_loads(cell->row->params, 0, NULL), *value;
    const char *name, *text = "";
    if (method)
        sw_param_json_drop_unset(method->params, params, strcmp(cell->row->budget, "native") == 0);
    json_object_foreach(params, name, value)
    {
        char *shown = sw_param_json_text(value);
        text = sw_report_text(r, "%s %s=%s", text, name, shown ? shown : "?");
        free(shown);
    }
    json_decref(params);
    return *text ? sw_report_text(r, "%s:%s", cell->label->method, text) : "";
}

static enum sw_status add_facts(struct sw_report *r, const struct sw_report_cell *cell,
                                struct sw_cell_reader *reader, struct origins *o)
{
    const char *code =
        sw_report_text(r, "swbench %s, code %s, git %s", provenance(r, reader, "version"),
                       provenance(r, reader, "code"), provenance(r, reader, "git"));
    /* the instruction set, or the attention that the environment asks for */
    const char *variant = provenance(r, reader, "variant");
    const char *device = sw_report_text(r, "%s: %s%s%s", cell->row->backend, cell->row->device,
                                        *variant ? ", " : "", variant);
    int64_t threads; /* what the machine, the config or SWBENCH_THREADS made of it */
    SW_TRY(sw_cell_reader_threads(reader, &threads));
    const char *const values[FACTS] = {
        [CODE] = code,
        [DEVICE] = cell->row->device[0] ? device : "",
        [THREADS] = threads > 0 ? sw_report_text(r, "%lld", (long long)threads) : "",
        [HOST] = provenance(r, reader, "host"),
        [CONFIG] = provenance(r, reader, "config_name"),
        [LIBRARIES] = provenance(r, reader, "libraries"),
        [PARAMETERS] = parameters(r, cell),
    };
    SW_TRY(r->status);
    for (int f = 0; f < FACTS; f++)
        SW_TRY(add_fact(o, f, values[f]));
    return SW_OK;
}

/* Keeps the earlier (sign -1) or later (+1) of two times; ISO 8601 sorts as text. */
static void keep_time(char **kept, char *time, int sign)
{
    int order = time && *kept ? strcmp(time, *kept) : 0;
    bool beats = time && (!*kept || (sign < 0 ? order < 0 : order > 0));
    char *other = beats ? *kept : time;
    if (beats)
        *kept = time;
    free(other);
}

static enum sw_status add_times(struct sw_cell_reader *reader, struct origins *o)
{
    char *started, *ended;
    SW_TRY(sw_cell_reader_provenance(reader, "started", &started));
    keep_time(&o->first, started, -1);
    SW_TRY(sw_cell_reader_provenance(reader, "ended", &ended));
    keep_time(&o->last, ended, +1);
    return SW_OK;
}

static enum sw_status add_warning(struct origins *o, const char *warning)
{
    int at = 0;
    while (at < o->warnings.count && strcmp(o->warnings.items[at], warning) != 0)
        at++;
    if (at == o->warnings.count) {
        int *grown = realloc(o->warned, ((size_t)at + 1) * sizeof *grown);
        if (!grown)
            return SW_FAIL(SW_ENOMEM, "out of memory (warnings)");
        o->warned = grown;
        o->warned[at] = 0;
        SW_TRY(sw_texts_add(&o->warnings, warning));
    }
    o->warned[at]++;
    return SW_OK;
}

static enum sw_status read_cell(struct sw_report *r, const struct sw_report_cell *cell,
                                struct origins *o)
{
    struct sw_cell_reader *reader;
    struct sw_texts warnings = {0};
    SW_TRY(sw_cell_reader_open(r->results, cell->row->cell, &reader));
    enum sw_status st;
    SW_TRY_GOTO(st, out, add_facts(r, cell, reader, o));
    SW_TRY_GOTO(st, out, add_times(reader, o));
    SW_TRY_GOTO(st, out, sw_cell_reader_warnings(reader, &warnings));
    for (int i = 0; i < warnings.count; i++)
        SW_TRY_GOTO(st, out, add_warning(o, warnings.items[i]));
out:
    sw_texts_clear(&warnings);
    sw_cell_reader_close(reader);
    return st;
}

/* --- printing --------------------------------------------------------------------------------- */

static void print_warnings(struct sw_report *r, const struct origins *o)
{
    if (!o->warnings.count && o->facts[CODE].count <= 1 && o->facts[DEVICE].count <= 1)
        return;
    sw_report_heading(r, "Warnings");
    if (o->facts[CODE].count > 1)
        sw_report_line(r, "- ",
                       "results of different code versions are mixed here (see below); their "
                       "figures may not be comparable");
    if (o->facts[DEVICE].count > 1)
        sw_report_line(r, "- ",
                       "results of different devices are mixed here (see below); their times are "
                       "not comparable");
    for (int i = 0; i < o->warnings.count; i++)
        sw_report_line(r, "- ",
                       sw_report_text(r, "%s (%d cell%s)", o->warnings.items[i], o->warned[i],
                                      o->warned[i] == 1 ? "" : "s"));
    putchar('\n');
}

static void print_provenance(struct sw_report *r, const struct origins *o)
{
    int counts[3] = {0};
    bool several_seeds = false;
    for (int i = 0; i < r->n_cells; i++) {
        for (int s = 0; s < 3; s++)
            counts[s] += strcmp(r->cells[i].row->status, sw_result_status_names[s]) == 0;
        several_seeds |= r->cells[i].row->seed != r->cells[0].row->seed;
    }
    sw_report_heading(r, "Provenance");
    for (int f = 0; f < FACTS; f++)
        for (int i = 0; i < o->facts[f].count; i++)
            sw_report_line(r, "- ",
                           sw_report_text(r, "%s: %s", fact_names[f], o->facts[f].items[i]));
    sw_report_line(
        r, "- ",
        sw_report_text(r, "seed %lld%s; %d cells ok, %d failed, %d skipped; run from %s to %s",
                       (long long)r->cells[0].row->seed, several_seeds ? " and others" : "",
                       counts[SW_RESULT_OK], counts[SW_RESULT_FAILED], counts[SW_RESULT_SKIPPED],
                       o->first ? o->first : "?", o->last ? o->last : "?"));
}

void sw_report_origins(struct sw_report *r)
{
    struct origins o = {0};
    for (int i = 0; i < r->n_cells && r->status == SW_OK; i++)
        r->status = read_cell(r, &r->cells[i], &o);
    if (r->status == SW_OK) {
        print_warnings(r, &o);
        print_provenance(r, &o);
    }
    clear_origins(&o);
}
