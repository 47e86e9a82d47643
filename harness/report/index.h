/* index.h: results.h5, the one file that presents all cells of a result folder. */
#ifndef SW_INDEX_H
#define SW_INDEX_H

#include "core/status.h"

/* (Re)writes results.h5: /cells/<key>, external links to cells/<key>.h5; /tidy/<column>, the tidy
 * table with derived rows, and /tidy/label, what the row's cell is called (judge/label.h). */
SW_MUST_CHECK enum sw_status sw_index_write(const char *folder);

#endif
