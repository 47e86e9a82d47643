/* sanity.h: what must hold between the cells of a run if the program and the protocol are right. */
#ifndef SW_SANITY_H
#define SW_SANITY_H

#include <stdio.h>

#include "core/status.h"

/* Reads the result folder and says on `messages` where a method of a matched budget recovers more
 * attention mass than the oracle beside it (same.h). *failures: how many. */
SW_MUST_CHECK enum sw_status sw_sanity_check(const char *folder, FILE *messages, int *failures);

#endif
