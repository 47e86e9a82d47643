/* The flag that SIGINT and SIGTERM set. */
#include "harness/run/interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

void sw_interrupt_install(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

enum sw_status sw_interrupt_check(void)
{
    return interrupted ? SW_FAIL(SW_EINTERRUPTED, "interrupted by a signal") : SW_OK;
}
