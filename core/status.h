/* status.h: how functions report failure.
 *
 * Every fallible function returns enum sw_status and must be checked. The first cause is kept, per
 * thread, with the place it was found and any context added on the way up; nothing in core/ or
 * kernels/ prints or exits. */
#ifndef SW_STATUS_H
#define SW_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

enum sw_status {
    SW_OK = 0,
    SW_EINPUT, /* the user's config, file or argument is wrong: exit 2 */
    /* valid, but not by this build, backend or method: a skipped cell, with the reason */
    SW_EUNSUPPORTED,
    /* host or device memory: a failed cell; the message says bytes asked and free */
    SW_ENOMEM,
    SW_EIO,          /* reading or writing failed */
    SW_EDEVICE,      /* the device is lost (sticky error): save what is done, stop */
    SW_EINTERRUPTED, /* SIGINT/SIGTERM */
    SW_EINTERNAL,    /* a broken invariant: our bug */
};

#define SW_MUST_CHECK __attribute__((warn_unused_result))

/* Records a failure (keeping an earlier, uncleared one as the cause) and returns code. Use
 * SW_FAIL. */
SW_MUST_CHECK enum sw_status sw_fail_at(const char *file, int line, enum sw_status code,
                                        const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Puts "context: " in front of this thread's message; returns code, so that `return sw_context(st,
 * "layer %d", l)` reads well. */
SW_MUST_CHECK enum sw_status sw_context(enum sw_status code, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

const char *sw_error_message(
    void); /* "" when there is none; valid until the next failure on this thread */
const char *sw_error_place(void); /* "file.c:123" of the first cause */
/* control characters become ?: names out of files may hold anything */
void sw_one_line(char *text);
void sw_error_clear(void);
const char *sw_status_name(enum sw_status code); /* "input", "unsupported", "memory", … */

#define SW_FAIL(code, ...) sw_fail_at(__FILE__, __LINE__, (code), __VA_ARGS__)
#define SW_TRY(expr)                            \
    do {                                        \
        enum sw_status sw_try_status_ = (expr); \
        if (sw_try_status_ != SW_OK)            \
            return sw_try_status_;              \
    } while (0)
/* The same for functions that must clean up: sets `st` and jumps. */
#define SW_TRY_GOTO(st, label, expr) \
    do {                             \
        (st) = (expr);               \
        if ((st) != SW_OK)           \
            goto label;              \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
