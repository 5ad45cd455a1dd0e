#include "support/folder.h"

#include "base/file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 512
#define PATHS 8

static char folder[64];
static pid_t owner; /* children that a test forks leave it alone */

static void clean_up(void)
{
    struct err e;
    if (getpid() == owner && file_remove_tree(folder, &e) < 0)
        fprintf(stderr, "%s\n", e.text);
}

const char *test_folder(void)
{
    if (folder[0] == 0) {
        snprintf(folder, sizeof folder, "/tmp/dagline-test-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
        owner = getpid();
        ck_assert_int_eq(atexit(clean_up), 0);
    }
    return folder;
}

const char *in_test_folder(const char *name)
{
    static char path[PATHS][PATH_BYTES];
    static int next;
    char *const p = path[next++ % PATHS];
    const int n = snprintf(p, PATH_BYTES, "%s/%s", test_folder(), name);
    ck_assert_int_lt(n, PATH_BYTES);
    return p;
}

void put_in_test_folder(const char *name, const char *text)
{
    struct err e;
    ck_assert_msg(file_replace(in_test_folder(name), text, strlen(text), 0644, &e) == 0, "%s", e.text);
}
