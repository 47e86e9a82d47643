/* Threads that share the iterations of one loop. */
#include "kernels/cpu/device/workers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Sleeping and waking costs about 50 µs, a decode step runs hundreds of loops: workers look for the
 * next loop this often first. */
enum { SPINS = 4000 };

struct worker {
    struct sw_workers *of;
    int index;
    pthread_t thread;
};

struct sw_workers {
    int threads;
    struct worker *list; /* [threads - 1] */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_uint round; /* one more for every loop */
    atomic_int busy;   /* workers that have not finished the round */
    atomic_long next;
    atomic_bool stop;
    /* The loop, written before `round` moves and read after. */
    long n;
    void (*fn)(void *, long, int);
    void *ctx;
};

static inline void pause_a_little(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work(struct sw_workers *w, int index)
{
    for (;;) {
        long i = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (i >= w->n)
            return;
        w->fn(w->ctx, i, index);
    }
}

static void *worker_main(void *arg)
{
    struct worker *me = arg;
    struct sw_workers *w = me->of;
    unsigned seen = 0;
    for (;;) {
        for (int s = 0; s < SPINS && atomic_load_explicit(&w->round, memory_order_acquire) == seen;
             s++)
            pause_a_little();
        if (atomic_load_explicit(&w->round, memory_order_acquire) == seen) {
            pthread_mutex_lock(&w->lock);
            while (atomic_load_explicit(&w->round, memory_order_acquire) == seen)
                pthread_cond_wait(&w->wake, &w->lock);
            pthread_mutex_unlock(&w->lock);
        }
        seen++;
        if (atomic_load_explicit(&w->stop, memory_order_relaxed))
            return NULL;
        work(w, me->index);
        if (atomic_fetch_sub_explicit(&w->busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&w->lock);
            pthread_cond_signal(&w->done);
            pthread_mutex_unlock(&w->lock);
        }
    }
}

static void start_round(struct sw_workers *w)
{
    pthread_mutex_lock(&w->lock);
    atomic_store_explicit(&w->busy, w->threads - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->round, 1, memory_order_release);
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

void sw_workers_run(struct sw_workers *w, long n, void (*fn)(void *, long, int), void *ctx)
{
    if (w->threads == 1 || n <= 1) {
        for (long i = 0; i < n; i++)
            fn(ctx, i, 0);
        return;
    }
    w->n = n;
    w->fn = fn;
    w->ctx = ctx;
    atomic_store_explicit(&w->next, 0, memory_order_relaxed);
    start_round(w);
    work(w, 0);
    for (int s = 0; s < SPINS && atomic_load_explicit(&w->busy, memory_order_acquire); s++)
        pause_a_little();
    if (atomic_load_explicit(&w->busy, memory_order_acquire)) {
        pthread_mutex_lock(&w->lock);
        while (atomic_load_explicit(&w->busy, memory_order_acquire))
            pthread_cond_wait(&w->done, &w->lock);
        pthread_mutex_unlock(&w->lock);
    }
}

enum sw_status sw_workers_open(int threads, struct sw_workers **out)
{
    struct sw_workers *w = calloc(1, sizeof *w);
    struct worker *list = calloc((size_t)threads, sizeof *list);
    if (!w || !list) {
        free(w);
        free(list);
        return SW_FAIL(SW_ENOMEM, "no memory for %d threads", threads);
    }
    w->list = list;
    w->threads = 1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    pthread_cond_init(&w->done, NULL);
    for (int i = 1; i < threads; i++) {
        struct worker *me = &w->list[i - 1];
        *me = (struct worker){.of = w, .index = i};
        int err = pthread_create(&me->thread, NULL, worker_main, me);
        if (err) {
            sw_workers_close(w);
            return SW_FAIL(SW_ENOMEM, "cannot start thread %d of %d: %s", i + 1, threads,
                           strerror(err));
        }
        w->threads++;
    }
    *out = w;
    return SW_OK;
}

void sw_workers_close(struct sw_workers *w)
{
    if (!w)
        return;
    atomic_store_explicit(&w->stop, true, memory_order_relaxed);
    start_round(w);
    for (int i = 0; i < w->threads - 1; i++)
        pthread_join(w->list[i].thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    free(w->list);
    free(w);
}
