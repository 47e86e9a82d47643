/* backends.h: opening the CPU backend in every way that must give the same answers. */
#ifndef SW_TEST_BACKENDS_H
#define SW_TEST_BACKENDS_H

#include "core/backend.h"

/* Fails the test with the recorded message unless st is SW_OK. */
void sw_test_ok(enum sw_status st);
/* Expects `code`, and clears the recorded failure. */
void sw_test_fails(enum sw_status st, enum sw_status code);

/* Instruction sets that this machine runs, worst first; ends with NULL. */
const char *const *sw_test_isas(void);
struct sw_backend *sw_test_open(const char *isa, int threads);

#endif
