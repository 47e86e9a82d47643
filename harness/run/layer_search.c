/* Searches for the layers that select. */
#include "harness/run/layer_search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/interrupt.h"

static enum sw_status out_of_memory(void)
{
    return SW_FAIL(SW_ENOMEM, "layer search: out of host memory");
}

void sw_layers_found_clear(struct sw_layers_found *found)
{
    free(found->layers);
    free(found->sources);
    *found = (struct sw_layers_found){0};
}

/* --- the dynamic program ---------------------------------------------------------------------- */

/* best[k, e]: the most that k segments give the layers first … e-1; from: where the last begins. */
double sw_layer_search_segments(const double *serves, int L, int first, int count, int *chosen)
{
    size_t width = (size_t)L + 1, cells = ((size_t)count + 1) * width;
    double *best = malloc(cells * sizeof *best), result = NAN;
    int *from = malloc(cells * sizeof *from);
    for (size_t i = 0; best && i < cells; i++)
        best[i] = -INFINITY;
    if (best && from) {
        best[first] = 0;
        for (int k = 1; k <= count; k++)
            for (int a = first; a < L; a++) {
                double sum = best[(size_t)(k - 1) * width + (size_t)a];
                for (int e = a + 1; e <= L; e++) {
                    size_t at = (size_t)k * width + (size_t)e;
                    sum += serves[(size_t)a * (size_t)L + (size_t)(e - 1)];
                    if (sum > best[at]) {
                        best[at] = sum;
                        from[at] = a;
                    }
                }
            }
        result = best[(size_t)count * width + (size_t)L] / (L - first);
        for (int k = count, e = L; k > 0; k--)
            e = chosen[k - 1] = from[(size_t)k * width + (size_t)e];
    }
    free(best);
    free(from);
    return result;
}

/* --- how well layers serve each other --------------------------------------------------------- */

/* One prompt's layers first … L-1: mass of a list's heads [L, units, b, b], and what each list
 * keeps of it. */
struct masses {
    int L, first, units, b;
    float *mass;
    uint8_t *kept;
};

static size_t matrix_at(const struct masses *m, int layer, int unit)
{
    return ((size_t)layer * (size_t)m->units + (size_t)unit) * (size_t)m->b * (size_t)m->b;
}

/* The forced blocks and the best others of a row, as a matched budget keeps them. */
static void keep_best(const float *row, int i, int budget, uint8_t *kept)
{
    int left = budget + 1;
    for (int j = 0; j <= i; j++) {
        kept[j] = sw_forced_has(SW_FORCED_COMMON, i, j);
        left -= kept[j];
    }
    for (; left > 0; left--) {
        int best = -1;
        for (int j = 0; j <= i; j++)
            if (!kept[j] && (best < 0 || row[j] >= row[best]))
                best = j;
        if (best < 0)
            return;
        kept[best] = 1;
    }
}

static void add_layer(struct masses *m, int layer, const float *of_heads, int heads,
                      const int *budget)
{
    int share = heads / m->units, b = m->b;
    size_t plane = (size_t)b * (size_t)b;
    for (int u = 0; u < m->units; u++) {
        float *mass = m->mass + matrix_at(m, layer, u);
        uint8_t *kept = m->kept + matrix_at(m, layer, u);
        for (size_t x = 0; x < plane; x++) {
            float sum = 0;
            for (int h = u * share; h < (u + 1) * share; h++)
                sum += of_heads[(size_t)h * plane + x];
            mass[x] = sum / (float)share;
        }
        for (int i = 0; i < b; i++)
            keep_best(mass + (size_t)i * (size_t)b, i, budget[i], kept + (size_t)i * (size_t)b);
    }
}

static double kept_mass(const float *mass, const uint8_t *kept, int i)
{
    double sum = 0;
    for (int j = 0; j <= i; j++)
        sum += kept[j] ? (double)mass[j] : 0;
    return sum;
}

/* Of list u of layer l, what unit v's list of layer a keeps: the least over rows. */
static double served(const struct masses *m, int a, int v, int l, int u)
{
    double least = 1;
    for (int i = 0; i < m->b; i++) {
        size_t row = (size_t)i * (size_t)m->b;
        const float *mass = m->mass + matrix_at(m, l, u) + row;
        double own = kept_mass(mass, m->kept + matrix_at(m, l, u) + row, i),
               others = kept_mass(mass, m->kept + matrix_at(m, a, v) + row, i);
        if (own > 0 && others / own < least)
            least = others / own;
    }
    return least;
}

/* Adds one prompt to similar [L, L, units, units]: of each list of the later layer, by each of the
 * earlier one's. */
static enum sw_status add_prompt(struct sw_runner *runner, const struct sw_cell *cell, int units,
                                 int prompt, double *similar)
{
    int L = cell->shape.n_layers, block = ((struct sw_method_params *)cell->params)->block_size;
    struct masses m = {.L = L, .first = cell->dense_layers, .units = units};
    int *budget = NULL;
    enum sw_status st = SW_OK;
    for (int l = m.first; l < L; l++) {
        const float *mass;
        int n;
        SW_TRY_GOTO(st, done, sw_interrupt_check());
        SW_TRY_GOTO(st, done, sw_runner_mass(runner, cell, prompt, l, &mass, &n));
        if (!budget) {
            m.b = sw_blocks(n, block);
            budget = malloc((size_t)m.b * sizeof *budget);
            m.mass = malloc(matrix_at(&m, L, 0) * sizeof *m.mass);
            m.kept = calloc(matrix_at(&m, L, 0), 1);
            if (!budget || !m.mass || !m.kept)
                SW_TRY_GOTO(st, done, out_of_memory());
            SW_TRY_GOTO(st, done,
                        sw_budget_rows(n, block, cell->density, SW_FORCED_COMMON, budget, NULL));
        }
        add_layer(&m, l, mass, cell->shape.n_heads, budget);
    }
    for (int a = m.first; a < L; a++)
        for (int l = a; l < L; l++)
            for (int u = 0; u < units; u++)
                for (int v = 0; v < units; v++)
                    similar[(((size_t)a * (size_t)L + (size_t)l) * (size_t)units + (size_t)u) *
                                (size_t)units +
                            (size_t)v] += served(&m, a, v, l, u);
done:
    free(budget);
    free(m.mass);
    free(m.kept);
    return st;
}

/* --- texts of what was found ------------------------------------------------------------------ */

/* Numbers by commas, of `groups` groups by slashes. */
static char *join(const int *numbers, int groups, int each)
{
    char *text = malloc((size_t)groups * (size_t)each * 12 + 1);
    size_t at = 0;
    for (int i = 0; text && i < groups * each; i++)
        at += (size_t)sprintf(text + at, "%s%d",
                              i == 0          ? ""
                              : i % each == 0 ? "/"
                                              : ",",
                              numbers[i]);
    return text;
}

/* The best of the selecting layer's lists for each list of layer l; the earliest of equals. */
static void find_sources(const double *similar, int units, int *sources)
{
    for (int u = 0; u < units; u++) {
        const double *row = similar + (size_t)u * (size_t)units;
        sources[u] = 0;
        for (int v = 1; v < units; v++)
            if (row[v] > row[sources[u]])
                sources[u] = v;
    }
}

static enum sw_status by_mass(struct sw_runner *runner, struct sw_cell *cell,
                              const struct sw_layer_search *search, int count, int prompts,
                              int *chosen, struct sw_layers_found *found)
{
    int L = cell->shape.n_layers, units = search->units, first = cell->dense_layers;
    size_t pairs = (size_t)L * (size_t)L, each = (size_t)units * (size_t)units;
    double *similar = calloc(pairs * each, sizeof *similar),
           *serves = calloc(pairs, sizeof *serves);
    int *sources = calloc((size_t)L * (size_t)units, sizeof *sources);
    enum sw_status st = similar && serves && sources ? SW_OK : out_of_memory();
    for (int p = 0; p < prompts && st == SW_OK; p++)
        st = add_prompt(runner, cell, units, p, similar);
    for (size_t pair = 0; pair < pairs && st == SW_OK; pair++)
        for (int u = 0; u < units; u++) {
            const double *row = similar + pair * each + (size_t)u * (size_t)units;
            double most = row[0];
            for (int v = 1; v < units; v++)
                most = row[v] > most ? row[v] : most;
            serves[pair] += most / prompts / units;
        }
    if (st == SW_OK) {
        found->score = sw_layer_search_segments(serves, L, first, count, chosen);
        for (int l = first, k = 0; l < L; l++) {
            while (k + 1 < count && chosen[k + 1] <= l)
                k++;
            find_sources(similar + ((size_t)chosen[k] * (size_t)L + (size_t)l) * each, units,
                         sources + (size_t)l * (size_t)units);
        }
        found->sources = search->sources ? join(sources, L, units) : NULL;
        st = search->sources && !found->sources ? out_of_memory() : SW_OK;
    }
    free(similar);
    free(serves);
    free(sources);
    return st;
}

/* --- by loss ---------------------------------------------------------------------------------- */

static enum sw_status set_layers(struct sw_cell *cell, const char *name, const int *layers, int n)
{
    char *text = n > 0 ? join(layers, 1, n) : strdup("");
    enum sw_status st =
        text ? sw_param_set(sw_param_find(cell->method->params, name), cell->params, text)
             : out_of_memory();
    free(text);
    return st;
}

static void drop(int *layers, int n, int at)
{
    memmove(layers + at, layers + at + 1, (size_t)(n - at - 1) * sizeof *layers);
}

/* left: all layers at first, `count` in the end; the first one stays. */
static enum sw_status by_loss(struct sw_runner *runner, struct sw_cell *cell, const char *name,
                              int count, int prompts, int *left, struct sw_layers_found *found)
{
    int L = cell->shape.n_layers, n = L - cell->dense_layers;
    int *without = malloc((size_t)L * sizeof *without);
    enum sw_status st = without ? SW_OK : out_of_memory();
    for (int i = 0; i < n; i++)
        left[i] = cell->dense_layers + i;
    found->score = NAN;
    while (st == SW_OK && n > count) {
        int worst = -1;
        double least = INFINITY, loss;
        for (int i = 1; i < n && st == SW_OK; i++) {
            memcpy(without, left, (size_t)n * sizeof *left);
            drop(without, n, i);
            st = sw_interrupt_check();
            if (st == SW_OK)
                st = set_layers(cell, name, without, n - 1);
            if (st == SW_OK)
                st = sw_runner_loss(runner, cell, prompts, &loss);
            if (st == SW_OK && loss < least) {
                least = loss;
                worst = i;
            }
        }
        if (st == SW_OK) {
            drop(left, n--, worst);
            found->score = least;
        }
    }
    if (st == SW_OK && isnan(found->score))
        st = sw_runner_loss(runner, cell, prompts, &found->score);
    free(without);
    return st == SW_OK ? set_layers(cell, name, NULL, 0) : st;
}

enum sw_status sw_layer_search(struct sw_runner *runner, struct sw_cell *cell,
                               const struct sw_layer_search *search, int prompts,
                               struct sw_layers_found *found)
{
    int L = cell->shape.n_layers, seen = L - cell->dense_layers;
    int count = search->count < seen ? search->count : seen;
    *found = (struct sw_layers_found){0};
    if (seen < 1)
        return SW_FAIL(SW_EINPUT, "dense_layers: all %d layers are dense, none can select", L);
    int *chosen = malloc((size_t)L * sizeof *chosen);
    if (!chosen)
        return out_of_memory();
    enum sw_status st = search->kind == SW_SEARCH_MASS
                            ? by_mass(runner, cell, search, count, prompts, chosen, found)
                            : by_loss(runner, cell, search->layers, count, prompts, chosen, found);
    if (st == SW_OK && !(found->layers = join(chosen, 1, count)))
        st = out_of_memory();
    free(chosen);
    if (st != SW_OK)
        sw_layers_found_clear(found);
    return st;
}
