#define _GNU_SOURCE /* sched_setaffinity */
#include "base/cpu.h"
#include "support/folder.h"
#include "support/suite.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(a_containers_quota_is_read_from_either_version_and_rounded_up)
{
    static const struct {
        const char *max, *quota, *period; /* NULL: no such file */
        size_t want;
    } cases[] = {
        {"150000 100000\n", NULL, NULL, 2},
        {"100000 100000\n", NULL, NULL, 1},
        {"1000 100000\n", NULL, NULL, 1},
        {"6400000 100000\n", NULL, NULL, 64},
        {"max 100000\n", NULL, NULL, 0},
        {"", NULL, NULL, 0},
        {"100000 0\n", NULL, NULL, 0},
        {NULL, "250000\n", "100000\n", 3},
        {NULL, "-1\n", "100000\n", 0},
        {NULL, "250000\n", NULL, 0},
        {NULL, NULL, NULL, 0},
    };
    ck_assert_int_eq(mkdir(in_test_folder("cpu"), 0700), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct {
            const char *name, *text;
        } files[] = {{"cpu.max", cases[i].max}, {"cpu/cpu.cfs_quota_us", cases[i].quota}, {"cpu/cpu.cfs_period_us", cases[i].period}};
        for (size_t k = 0; k < 3; k++) {
            unlink(in_test_folder(files[k].name));
            if (files[k].text != NULL)
                put_in_test_folder(files[k].name, files[k].text);
        }
        ck_assert_msg(cpu_quota(test_folder(), "") == cases[i].want, "case %zu: %zu", i, cpu_quota(test_folder(), ""));
    }
}
END_TEST

START_TEST(the_smallest_quota_around_a_group_counts)
{
    ck_assert_int_eq(mkdir(in_test_folder("a"), 0700), 0);
    ck_assert_int_eq(mkdir(in_test_folder("a/b"), 0700), 0);
    put_in_test_folder("a/b/cpu.max", "700000 100000\n");
    ck_assert_uint_eq(cpu_quota(test_folder(), "/a/b"), 7);
    ck_assert_uint_eq(cpu_quota(test_folder(), "/a"), 0);
    put_in_test_folder("a/cpu.max", "300000 100000\n");
    ck_assert_uint_eq(cpu_quota(test_folder(), "/a/b"), 3);
    ck_assert_uint_eq(cpu_quota(test_folder(), "/a/elsewhere"), 3);
    put_in_test_folder("cpu.max", "200000 100000\n");
    ck_assert_uint_eq(cpu_quota(test_folder(), "/a/b"), 2);
    ck_assert_uint_eq(cpu_quota(test_folder(), "/"), 2);
    put_in_test_folder("a/b/cpu.max", "100000 100000\n");
    ck_assert_uint_eq(cpu_quota(test_folder(), "/a/b"), 1);
}
END_TEST

START_TEST(only_the_cpus_that_the_process_may_run_on_are_counted)
{
    cpu_set_t mine, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof mine, &mine), 0);
    ck_assert(cpu_count() >= 1 && cpu_count() <= (size_t)CPU_COUNT(&mine));
    CPU_ZERO(&one);
    for (size_t i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &mine))
            CPU_SET(i, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_uint_eq(cpu_count(), 1);
}
END_TEST

SUITE("base/cpu", 5, a_containers_quota_is_read_from_either_version_and_rounded_up,
      the_smallest_quota_around_a_group_counts, only_the_cpus_that_the_process_may_run_on_are_counted)
