#include "base/version.h"
#include "support/suite.h"

#include <string.h>

START_TEST(the_line_names_product_version_and_commit)
{
    ck_assert(strncmp(version_line(), "dagline " VERSION_TEXT, strlen("dagline " VERSION_TEXT)) == 0);
    ck_assert_uint_ge(strlen(version_git()), 7);
    if (strcmp(version_git(), "unknown") != 0)
        ck_assert_ptr_nonnull(strstr(version_line(), version_git()));
}
END_TEST

START_TEST(the_libraries_of_the_build_are_listed)
{
    ck_assert_ptr_nonnull(strstr(version_libraries(), "libzmq 4."));
    ck_assert_ptr_nonnull(strstr(version_libraries(), ", hiredis "));
}
END_TEST

SUITE("base/version", 5, the_line_names_product_version_and_commit, the_libraries_of_the_build_are_listed)
