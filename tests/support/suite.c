#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int suite_run(const char *name, double seconds, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    for (size_t i = 0; i < count; i++) {
        TCase *tcase = tcase_create(tests[i]->name);
        tcase_set_timeout(tcase, seconds);
        tcase_add_test(tcase, tests[i]);
        suite_add_tcase(suite, tcase);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    const int run = srunner_ntests_run(runner);
    srunner_free(runner);
    return failed == 0 && run > 0 ? 0 : 1;
}

void test_skip(const char *why)
{
    const char *strict = getenv("STRICT");
    printf("skip: %s\n", why);
    fflush(stdout);
    if (strict != NULL && strcmp(strict, "1") == 0)
        ck_abort_msg("skipped under STRICT=1: %s", why);
}
