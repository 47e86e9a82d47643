/* folder.h: a folder of its own for a test program, and small files in it. */
#ifndef SW_TEST_FOLDER_H
#define SW_TEST_FOLDER_H

/* cmocka's fixtures for a group or a test. */
int sw_test_folder_make(void **state);
int sw_test_folder_remove(void **state);
const char *sw_test_folder(void);
/* The path of `name` there; four of them at a time. */
const char *sw_test_path(const char *name);
void sw_test_write(const char *name, const char *text);

#endif
