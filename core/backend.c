/* backend.c: whether a backend has what the list of operations says. */
#include "core/backend.h"

enum need { REQUIRED, OPTIONAL, RECORDING };

enum sw_status sw_backend_check(const struct sw_backend *be)
{
    const struct {
        const char *name;
        enum need need;
        bool there;
    } rows[] = {
#define SW_OPERATION(need, name, parameters)      {#name, need, be->name != NULL},
#define SW_FUNCTION(need, type, name, parameters) {#name, need, be->name != NULL},
#include "core/operations.h"
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool needed = rows[i].need == REQUIRED || (rows[i].need == RECORDING && be->record_begin);
        if (needed && !rows[i].there)
            return SW_FAIL(SW_EINTERNAL, "backend '%s' lacks the operation '%s'", be->name,
                           rows[i].name);
        if (rows[i].need == RECORDING && rows[i].there && !be->record_begin)
            return SW_FAIL(SW_EINTERNAL, "backend '%s' has '%s' without 'record_begin'", be->name,
                           rows[i].name);
    }
    return SW_OK;
}
