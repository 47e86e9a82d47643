/* swbench show: what methods answered to the same prompt, side by side; or the score of every
 * sample by method, to see where they differ. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model/vocab.h"
#include "core/utf8.h"
#include "harness/inputs/dataset.h"
#include "harness/inputs/inputs.h"
#include "harness/program/cli.h"
#include "harness/program/show_cells.h"
#include "harness/program/show_text.h"
#include "harness/report/table.h"

enum {
    COLUMNS = 96,
    PROMPT_CHARACTERS = 300,
    PROMPT_TOKENS = 2048,
    METHODS_ASIDE = 2,
    TABLE_METHODS = 12
};
static const char indent[] = "  | ";

static void print_place(const struct sw_tidy_row *row)
{
    printf("%s, %s, %lld tokens, %s, seed %lld", row->task, row->model, (long long)row->context,
           row->phase, (long long)row->seed);
}

/* --- all samples ------------------------------------------------------------------------------ */

/* The score of each sample in one cell, or its loss. */
struct column {
    double *values;
    int n;
};

static enum sw_status read_column(const char *results, const struct sw_tidy_row *row,
                                  struct column *out)
{
    struct sw_cell_reader *reader;
    SW_TRY(sw_cell_reader_open(results, row->cell, &reader));
    enum sw_status st = sw_cell_reader_samples(reader, row->metric, &out->values, &out->n);
    sw_cell_reader_close(reader);
    return st;
}

/* "A" … of cell i; the letters are explained below the table. */
static char letter_of(int i) { return (char)('A' + i); }

static enum sw_status add_sample(struct sw_table *table, const struct column *columns, int n,
                                 int sample)
{
    bool differ = false;
    double first = NAN;
    SW_TRY(sw_table_add(table, "%d", sample));
    for (int c = 0; c < n; c++) {
        double value = sample < columns[c].n ? columns[c].values[sample] : NAN;
        differ |= !isnan(first) && !isnan(value) && value != first;
        first = isnan(first) ? value : first;
        SW_TRY(isnan(value) ? sw_table_add(table, "-") : sw_table_add(table, "%.5g", value));
    }
    return sw_table_add(table, differ ? "*" : "");
}

/* One table of at most TABLE_METHODS cells. */
static enum sw_status print_samples(const char *results, const struct sw_show_cell *cells, int n)
{
    struct column columns[TABLE_METHODS] = {{0}};
    char letters[TABLE_METHODS][2], right[TABLE_METHODS + 3] = "r";
    const char *titles[TABLE_METHODS + 2] = {"sample"};
    struct sw_table table = {.columns = n + 2, .titles = titles, .right = right};
    int samples = 0;
    enum sw_status st = SW_OK;
    for (int c = 0; c < n && st == SW_OK; c++) {
        st = read_column(results, cells[c].row, &columns[c]);
        samples = columns[c].n > samples ? columns[c].n : samples;
        letters[c][0] = letter_of(c);
        letters[c][1] = '\0';
        titles[c + 1] = letters[c];
        right[c + 1] = 'r';
    }
    titles[n + 1] = "differ";
    right[n + 1] = 'l';
    for (int s = 0; s < samples && st == SW_OK; s++)
        st = add_sample(&table, columns, n, s);
    if (st == SW_OK) {
        st = sw_table_print(&table, stdout);
        for (int c = 0; c < n; c++)
            printf("%s%c: %s\n", c ? "" : "\n", letter_of(c), cells[c].label);
    }
    sw_table_free(&table);
    for (int c = 0; c < n; c++)
        free(columns[c].values);
    return st;
}

static enum sw_status show_table(const char *results, const struct sw_show_cells *cells)
{
    for (int from = 0, n; from < cells->count; from += n) {
        const struct sw_tidy_row *row = cells->items[from].row;
        n = sw_show_same_place(cells, from);
        if (from > 0)
            putchar('\n');
        print_place(row);
        printf(": %s of each sample\n\n",
               strcmp(row->metric, "nll") == 0 ? "loss (nat/token)" : "score");
        for (int at = 0; at < n; at += TABLE_METHODS) {
            if (at > 0)
                putchar('\n');
            SW_TRY(print_samples(results, cells->items + from + at,
                                 n - at < TABLE_METHODS ? n - at : TABLE_METHODS));
        }
    }
    return SW_OK;
}

/* --- one sample ------------------------------------------------------------------------------- */

/* The end of a prompt as text. Malloc'd. */
static enum sw_status decode_end(const struct sw_answers_source *source,
                                 const struct sw_dataset *dataset, int sample, char **out)
{
    struct sw_vocab *vocab;
    char *bytes = NULL;
    int64_t end = dataset->offsets[sample + 1], begin = dataset->offsets[sample];
    begin = end - begin > PROMPT_TOKENS ? end - PROMPT_TOKENS : begin;
    SW_TRY(sw_vocab_open(source->model_folder, &vocab));
    enum sw_status st = sw_vocab_text(vocab, dataset->ids + begin, (int)(end - begin), &bytes);
    if (st == SW_OK)
        st = sw_utf8_valid(bytes, out);
    free(bytes);
    sw_vocab_close(vocab);
    return st;
}

static enum sw_status read_end(const struct sw_answers_source *source, int sample, char **out)
{
    char hash[33];
    struct sw_dataset *dataset;
    if (!source->dataset || !source->dataset_hash || !source->model_folder)
        return SW_FAIL(SW_EINPUT, "the cell does not say where it was read");
    SW_TRY(sw_input_hash_file(source->dataset, hash));
    if (strcmp(hash, source->dataset_hash) != 0)
        return SW_FAIL(SW_EINPUT, "%s: has changed since the run", source->dataset);
    SW_TRY(sw_dataset_read(source->dataset, &dataset));
    enum sw_status st = sample < dataset->n_samples
                            ? decode_end(source, dataset, sample, out)
                            : SW_FAIL(SW_EINPUT, "%s: has no sample %d", source->dataset, sample);
    sw_dataset_free(dataset);
    return st;
}

/* A prompt that cannot be read any more is no failure: the answers are in the cell. */
static enum sw_status print_prompt(const struct sw_answers_source *source, int sample)
{
    char *text = NULL;
    enum sw_status st = read_end(source, sample, &text);
    if (st != SW_OK) {
        printf("\nprompt not shown: %s\n", sw_error_message());
        sw_error_clear();
        return SW_OK;
    }
    printf("\nprompt, the last %d characters:\n", PROMPT_CHARACTERS);
    st = sw_show_text(stdout, sw_text_tail(text, PROMPT_CHARACTERS), indent,
                      COLUMNS - (int)strlen(indent));
    free(text);
    return st;
}

static enum sw_status print_text(const char *text)
{
    if (!*text)
        printf("  (nothing)\n");
    return sw_show_text(stdout, text, indent, COLUMNS - (int)strlen(indent));
}

/* What does not depend on the method. */
static enum sw_status print_question(const struct sw_tidy_row *row,
                                     const struct sw_answers *answers, int sample)
{
    const struct sw_answer *answer = &answers->items[sample];
    print_place(row);
    printf(": sample %d of 0…%d", sample, answers->count - 1);
    if (!isnan(answer->depth))
        printf(", needle at depth %.2f", answer->depth);
    putchar('\n');
    SW_TRY(print_prompt(&answers->source, sample));
    printf("\nexpected%s:\n", answer->n_references > 1 ? ", any or all of" : "");
    if (answer->n_references == 0)
        printf("  (not stored)\n");
    for (int i = 0; i < answer->n_references; i++)
        SW_TRY(print_text(answer->references[i]));
    return SW_OK;
}

static enum sw_status print_answer(const struct sw_show_cell *cell, const struct sw_answer *answer)
{
    printf("\n%s: score %.5g\n", cell->label, answer->score);
    return print_text(answer->prediction);
}

static enum sw_status print_cell(const char *results, const struct sw_show_cell *cell, int sample,
                                 bool first)
{
    struct sw_cell_reader *reader;
    struct sw_answers answers = {0};
    SW_TRY(sw_cell_reader_open(results, cell->row->cell, &reader));
    enum sw_status st = sw_cell_reader_answers(reader, &answers);
    sw_cell_reader_close(reader);
    if (st == SW_OK && answers.count == 0)
        st = SW_FAIL(SW_EINPUT,
                     "show: --sample: cells of %s hold no answers; without --sample the losses of "
                     "its windows are shown",
                     cell->row->task);
    else if (st == SW_OK && sample >= answers.count)
        st = SW_FAIL(SW_EINPUT, "show: --sample: found %d, expected 0…%d", sample,
                     answers.count - 1);
    if (st == SW_OK && first)
        st = print_question(cell->row, &answers, sample);
    if (st == SW_OK)
        st = print_answer(cell, &answers.items[sample]);
    sw_answers_clear(&answers);
    return st;
}

static enum sw_status show_sample(const char *results, const struct sw_show_cells *cells,
                                  int sample, bool all)
{
    int n = sw_show_same_place(cells, 0), shown = all || n < METHODS_ASIDE ? n : METHODS_ASIDE;
    for (int i = 0; i < shown; i++)
        SW_TRY(print_cell(results, &cells->items[i], sample, i == 0));
    fflush(stdout);
    if (n < cells->count)
        fprintf(stderr, "swbench: the results hold other tasks, contexts or phases too: --task, "
                        "--context, --phase choose\n");
    if (shown < n)
        fprintf(stderr, "swbench: %d more method%s: --method and --density choose\n", n - shown,
                n - shown == 1 ? "" : "s");
    return SW_OK;
}

static enum sw_status show(int argc, char **argv)
{
    struct sw_cli cli;
    struct sw_show_cells cells = {0};
    int sample;
    SW_TRY(sw_cli_parse(argc, argv, 1, 1, &cli));
    SW_TRY(sw_cli_int(&cli, "--sample", 0, 1 << 24, -1, &sample));
    enum sw_status st = sw_show_cells_read(cli.positional[0], &cli, &cells);
    if (st == SW_OK)
        st = sample < 0
                 ? show_table(cli.positional[0], &cells)
                 : show_sample(cli.positional[0], &cells, sample, sw_cli_has(&cli, "--method"));
    sw_show_cells_free(&cells);
    return st;
}

int sw_verb_show(int argc, char **argv)
{
    int code = sw_cli_flush(sw_cli_exit(show(argc, argv)));
    sw_inputs_forget();
    return code;
}
