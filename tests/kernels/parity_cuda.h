/* parity_cuda.h: what the files of the CUDA parity test share. Data are random from counters; every
 * value that goes in is a bf16 value, so that both backends start from the same numbers. */
#ifndef PARITY_CUDA_H
#define PARITY_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/backend.h"

struct parity {
    struct sw_backend *cpu, *cuda;
    bool quick;
    int checks, failures;
    const char *only; /* run groups whose name holds this; NULL: all */
};

/* Counts a check; prints it when it fails. */
void check(struct parity *p, bool ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* For calls that must succeed: prints the message and ends the program with 1. */
void must(enum sw_status st, const char *what);

float bf16_round(float x);
float *random_values(uint64_t seed, size_t count, float scale); /* bf16 values, normal */
void *on_device(struct sw_backend *be, const void *host, size_t bytes);
void *acts_on_device(struct sw_backend *be, const float *host, size_t count);
float *floats_from(struct sw_backend *be, const float *device, size_t count);
void *need(size_t bytes); /* malloc or exit */
/* Frobenius; NaN gives infinity */
double relative_error(const float *x, const float *reference, size_t count);
double largest_error(const float *x, const float *reference, size_t count);

/* Copies a host selection into `be`'s memory. */
void selection_on_device(struct sw_backend *be, const struct sw_selection *host,
                         struct sw_selection *out);

void parity_attend(struct parity *p);
void parity_mass(struct parity *p);
void parity_model(struct parity *p);
void parity_scores(struct parity *p);
void parity_select(struct parity *p);
void parity_prompt(struct parity *p);
void parity_device(struct parity *p);
void parity_baselines(struct parity *p);
void parity_bench(struct parity *p);
void parity_bench_model(struct parity *p, int n);

#endif
