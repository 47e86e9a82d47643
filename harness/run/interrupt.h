/* interrupt.h: SIGINT and SIGTERM end a run between two steps, with what is done saved. */
#ifndef SW_INTERRUPT_H
#define SW_INTERRUPT_H

#include "core/status.h"

void sw_interrupt_install(void);
/* SW_EINTERRUPTED once a signal came; every long loop asks */
SW_MUST_CHECK enum sw_status sw_interrupt_check(void);

#endif
