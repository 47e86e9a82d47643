/* backend.c: time stamps, cold caches, and what a backend says about itself. */
#include "kernels/open.h"
#include "tests/kernels/cases.h"

static void make(struct sw_case *c) { (void)c; }

static enum sw_status run(struct sw_case *c, struct sw_backend *be, void *const *at)
{
    (void)c;
    (void)at;
    bool cpu = strcmp(be->name, "cpu") == 0;
    double ms = -1, most = cpu ? 60000 : 1000;
    SW_TRY(be->mark(be, 0));
    if (!cpu || be->threads == 3) /* it takes seconds there, whatever the threads */
        SW_TRY(be->flush_cache(be));
    SW_TRY(be->sync(be));
    SW_TRY(be->mark(be, SW_TIMER_SLOTS - 1));
    SW_TRY(be->elapsed_ms(be, 0, SW_TIMER_SLOTS - 1, &ms));
    sw_holds(ms > 0 && ms < most, "a flush takes %g ms", ms);
    sw_refused(be->mark(be, SW_TIMER_SLOTS), SW_EINTERNAL);
    sw_refused(be->elapsed_ms(be, -1, 0, &ms), SW_EINTERNAL);
    int mhz = be->clock_mhz ? be->clock_mhz(be) : 0;
    sw_holds(mhz >= 0, "a clock of %d MHz", mhz);
    return SW_OK;
}

static void more(struct sw_backend *be)
{
    sw_holds(strstr(be->details, "isa=") && strstr(be->details, "blas_core="), "details '%s'",
             be->details);
    const char *isa = getenv("SWBENCH_ISA");
    char before[32];
    snprintf(before, sizeof before, "%s", isa ? isa : "");
    setenv("SWBENCH_ISA", "altivec", 1);
    struct sw_backend *none;
    sw_refused(sw_cpu_backend_open(1, &none), SW_EINPUT);
    setenv("SWBENCH_ISA", before, 1);
}

struct nothing {
    int unused;
};
static const struct nothing once[] = {{0}};

SW_CASES(time, .covers = "mark elapsed_ms sync flush_cache clock_mhz", .shapes = SW_SHAPES(once),
         .make = make, .run = run, .more = more);
