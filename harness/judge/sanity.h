/* gates.h: sanity gates across the cells of a run: what must hold between methods if the program
 * and the protocol are right. */
#ifndef SW_GATES_H
#define SW_GATES_H

#include <stdio.h>

#include "harness/config/config.h"

/* Reads the result folder and says on `messages` where a method recovers more attention mass than
 * the oracle of its budget. *failures: how many. */
SW_MUST_CHECK enum sw_status sw_gates_check(const char *folder, const struct sw_config *config,
                                            FILE *messages, int *failures);

#endif
