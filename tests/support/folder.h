/* A folder of the test's own, below /tmp.  Each test is a process of its own (support/suite.h), so there is one: it is made
 * when it is first asked for and removed, with all that is in it, when the process ends. */
#ifndef DAGLINE_TESTS_FOLDER_H
#define DAGLINE_TESTS_FOLDER_H

const char *test_folder(void);

/* The path of a name in it; good until the eighth call after this one. */
const char *in_test_folder(const char *name);

/* Writes a text file there, whose folders must exist. */
void put_in_test_folder(const char *name, const char *text);

#endif
