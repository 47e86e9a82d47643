/* manual.h: everything that `swbench help` knows as a manual page (man(7), for groff and mandoc)
 * and as completion for shells. Made from the same tables, so that neither can fall behind; a build
 * writes them to files that are installed. */
#ifndef SW_MANUAL_H
#define SW_MANUAL_H

#include <stdio.h>

void sw_manual_print(FILE *out);    /* swbench.1 */
void sw_completion_bash(FILE *out); /* needs nothing but bash itself */
void sw_completion_zsh(FILE *out);  /* _swbench of the completion system, compsys */

#endif
