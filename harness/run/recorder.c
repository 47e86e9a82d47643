/* Decode steps, recorded where they can be. */
#include "harness/run/recorder.h"

static enum sw_status record(struct sw_backend *be, struct sw_work work)
{
    SW_TRY(be->record_begin(be));
    enum sw_status st = work.queue(work.context);
    if (st == SW_OK)
        st = be->record_end(be);
    if (st != SW_OK)
        be->record_drop(be);
    return st;
}

enum sw_status sw_recorder_try(struct sw_recorder *r, struct sw_work work, struct sw_result *result)
{
    struct sw_backend *be = r->backend;
    r->active = false;
    if (!be->record_begin)
        return SW_OK;
    enum sw_status st = record(be, work);
    if (st == SW_EUNSUPPORTED) {
        st = sw_result_warn(result, "decode steps were timed launch by launch: %s",
                            sw_error_message());
        sw_error_clear();
        return st;
    }
    SW_TRY(st);
    be->record_drop(be);
    r->active = true;
    return SW_OK;
}

enum sw_status sw_recorder_prepare(struct sw_recorder *r, struct sw_work work)
{
    return r->active ? record(r->backend, work) : SW_OK;
}

enum sw_status sw_recorder_launch(struct sw_recorder *r, struct sw_work work)
{
    return r->active ? r->backend->record_run(r->backend) : work.queue(work.context);
}
