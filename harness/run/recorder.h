/* recorder.h: a decode step as one launch. Its kernels are short, and launched one by one they
 * would wait for the host; a backend that can record a step runs all of them at once. Where there
 * is no such thing, or where a method reads a result back in the middle of a step, kernels are
 * launched one by one. */
#ifndef SW_RECORDER_H
#define SW_RECORDER_H

#include <stdbool.h>

#include "core/backend.h"
#include "harness/store/result.h"

/* What a step queues on the backend. */
struct sw_work {
    enum sw_status (*queue)(void *context);
    void *context;
};

struct sw_recorder {
    struct sw_backend *backend;
    bool active; /* steps are recorded; false on a zeroed one */
};

/* Finds out, in the warm-up, whether such work can be recorded: records it and does not run it. If
 * so the recorder is active from here on; if the method is what prevents it, the result says so. */
SW_MUST_CHECK enum sw_status sw_recorder_try(struct sw_recorder *r, struct sw_work work,
                                             struct sw_result *result);

/* A step is prepared, which takes no part in its time, then launched. */
SW_MUST_CHECK enum sw_status sw_recorder_prepare(struct sw_recorder *r, struct sw_work work);
SW_MUST_CHECK enum sw_status sw_recorder_launch(struct sw_recorder *r, struct sw_work work);

#endif
