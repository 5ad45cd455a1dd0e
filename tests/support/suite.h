/* A test file is a list of claims over Check:
 *
 *     START_TEST(rejects_a_hole_between_tensors) { ... } END_TEST
 *     SUITE("io/safetensors", 20, rejects_a_hole_between_tensors, ...)
 *
 * SUITE defines main(): each claim runs in its own process with a limit of `seconds`
 * (x CK_TIMEOUT_MULTIPLIER).  Check has no skip: test_skip prints a counted line; with STRICT=1 it is a failure. */
#ifndef DAGLINE_TESTS_SUITE_H
#define DAGLINE_TESTS_SUITE_H

#include <check.h>
#include <stddef.h>

int suite_run(const char *name, double seconds, const TTest *const *tests, size_t count);

/* Prints "skip: why"; the caller returns. Fails the test under STRICT=1. */
void test_skip(const char *why);

#define SUITE(name, seconds, ...)                                                                  \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return suite_run(name, seconds, tests, sizeof tests / sizeof *tests);                      \
    }

#endif
