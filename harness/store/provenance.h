/* provenance.h: where, when and by what a result was made. */
#ifndef SW_PROVENANCE_H
#define SW_PROVENANCE_H

#include <stdint.h>

#include "core/backend.h"
#include "core/status.h"

/* Keeps the command line; main calls it once, before anything else. Without it, argv is "". */
void sw_provenance_init(int argc, char **argv);

/* Texts that hold for the whole process; never NULL. */
struct sw_provenance {
    const char *argv; /* shell-quoted */
    const char *version, *code, *git, *build;
    const char *host, *os, *cpu;
    const char *libraries; /* name and version, comma-separated */
    int cpus;              /* that this process may use */
    int64_t memory_bytes;  /* of the machine */
};
const struct sw_provenance *sw_provenance(void);

/* GPU and driver of a backend ("" for cpu). */
const char *sw_provenance_gpu(const struct sw_backend *backend);

/* Now, as 2026-11-23T18:40:50Z. Returns text. */
const char *sw_utc_now(char text[32]);

#endif
