/* What a cell will need: which of its parts make it dearer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/method.h"
#include "harness/inputs/inputs.h"
#include "harness/plan/estimate.h"

static const struct sw_backend backend = {.act = SW_F32, .flops = 1e9, .bytes_per_second = 1e9};

/* A task of a small model, at density 0.25 on two of four layers. */
struct made {
    struct sw_config config;
    struct sw_workload workload;
    struct sw_input input;
    struct sw_method_params params;
    struct sw_cell cell;
};

static void make(struct made *m)
{
    *m = (struct made){
        .config = {.measure = SW_MEASURE_ACCURACY,
                   .timing = {.warmup_ms = 25, .min_runs = 3, .max_seconds = 15}},
        .workload = {.kind = SW_WORKLOAD_TASK, .samples = 2, .recovery_samples = 1},
        .input = {.parameters = 1e6, .scored_tokens = 16},
        .params = {.block_size = 64},
        .cell = {.method = sw_method_find("onehop"),
                 .shape = {.n_layers = 4, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16},
                 .context = 4096,
                 .density = 0.25,
                 .dense_layers = 2}};
    m->cell.config = &m->config;
    m->cell.workload = &m->workload;
    m->cell.input = &m->input;
    m->cell.params = &m->params;
}

static void a_pass_is_its_operations(void **state)
{
    (void)state;
    struct made m;
    make(&m);
    sw_estimate(&m.cell, &backend);
    double attention = 2.0 * 4 * 16 * 4096 * 4096, weights = 2 * 1e6 * 4096;
    double pass = (weights + (2 + 2 * 0.25) * attention) / 1e9;
    assert_true(m.cell.seconds > 0.999 * 2 * pass && m.cell.seconds < 1.001 * 2 * pass);
}

static void recovery(struct made *m) { m->config.measure |= SW_MEASURE_RECOVERY; }
static void latency(struct made *m) { m->config.measure |= SW_MEASURE_LATENCY; }
static void samples(struct made *m) { m->workload.samples = 3; }
static void density(struct made *m) { m->cell.density = 0.5; }
static void dense_method(struct made *m) { m->cell.method = sw_method_find("dense"); }
static void dense_layers(struct made *m) { m->cell.dense_layers = 3; }
static void longer(struct made *m) { m->cell.context = 8192; }
static void larger(struct made *m) { m->input.parameters = 2e6; }
static void steps(struct made *m) { m->cell.phase = SW_PHASE_BOTH; }

static void what_makes_it_dearer(void **state)
{
    (void)state;
    static const struct {
        void (*change)(struct made *m);
        bool time, memory;
    } cases[] = {{recovery, true, true}, {latency, true, false},      {samples, true, false},
                 {density, true, false}, {dense_method, true, false}, {dense_layers, true, false},
                 {longer, true, true},   {larger, true, true},        {steps, true, false}};
    struct made plain, other;
    make(&plain);
    sw_estimate(&plain.cell, &backend);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make(&other);
        cases[i].change(&other);
        sw_estimate(&other.cell, &backend);
        if ((other.cell.seconds > plain.cell.seconds) != cases[i].time ||
            (other.cell.memory_bytes > plain.cell.memory_bytes) != cases[i].memory)
            fail_msg("case %zu: %g s, %g bytes; plain %g s, %g bytes", i, other.cell.seconds,
                     other.cell.memory_bytes, plain.cell.seconds, plain.cell.memory_bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_pass_is_its_operations),
                                       cmocka_unit_test(what_makes_it_dearer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
