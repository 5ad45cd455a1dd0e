#include "dagline/process.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "support/folder.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct process shell(const char *script)
{
    static char log[128];
    struct process p;
    snprintf(log, sizeof log, "%s/log", test_folder());
    const char *const arguments[] = {"/bin/sh", "-c", script, NULL};
    process_init(&p, "shell", log, arguments);
    return p;
}

/* Watches until the process has ended `ends` times or 5 s are over; returns how often it ended. */
static int watch(struct process *p, int ends)
{
    int n = 0;
    for (int i = 0; i < 1000 && n < ends; i++) {
        n += process_watch(p, clock_mono_ms(NULL));
        clock_sleep_ns(NULL, 5 * CLOCK_NS_PER_MS);
    }
    return n;
}

START_TEST(output_goes_to_the_log_and_the_status_is_kept)
{
    struct err e;
    struct process p = shell("echo out; echo err >&2; exit 7");
    ck_assert_int_eq(process_start(&p, &e), 0);
    p.wanted = false;
    ck_assert_int_eq(watch(&p, 1), 1);
    ck_assert_int_eq(p.exit_status, 7);
    char *text;
    size_t n;
    ck_assert_int_eq(file_read_all(p.log, 100, &text, &n, &e), 0);
    ck_assert_msg(n == 8 && memcmp(text, "out\nerr\n", 8) == 0, "%.*s", (int)n, text);
    mem_free(text);
    process_done(&p);
}
END_TEST

START_TEST(processor_time_is_that_of_all_lives)
{
    struct err e;
    struct process p = shell("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done");
    ck_assert_double_eq(process_cpu_s(&p), 0.0);
    ck_assert_int_eq(process_start(&p, &e), 0);
    ck_assert_int_eq(watch(&p, 1), 1);
    const double once = process_cpu_s(&p);
    ck_assert_double_gt(once, 0.01); /* a hundred thousand turns of a shell's loop */
    ck_assert_int_eq(watch(&p, 1), 1);
    p.wanted = false;
    ck_assert_double_gt(process_cpu_s(&p), once + 0.01);
    process_end(&p);
    process_wait_gone(&p, 2000);
    process_done(&p);
}
END_TEST

START_TEST(a_killed_process_is_started_again_later_each_time)
{
    struct err e;
    struct process p = shell("kill -9 $$");
    ck_assert_int_eq(process_start(&p, &e), 0);
    const int64_t from = clock_mono_ms(NULL);
    ck_assert_int_eq(watch(&p, 3), 3);
    ck_assert_int_eq(p.exit_status, 128 + SIGKILL);
    ck_assert_uint_ge(p.restarts, 2);
    ck_assert_uint_eq(p.ends_in_a_row, 3);
    ck_assert_int_ge(clock_mono_ms(NULL) - from, PROCESS_BACKOFF_MS_MIN + 2 * PROCESS_BACKOFF_MS_MIN);
    process_end(&p);
    process_wait_gone(&p, 1000);
    process_done(&p);
}
END_TEST

START_TEST(ending_asks_first_and_then_kills)
{
    struct err e;
    struct process deaf = shell("trap '' TERM; while :; do sleep 0.05; done");
    ck_assert_int_eq(process_start(&deaf, &e), 0);
    clock_sleep_ns(NULL, 200 * CLOCK_NS_PER_MS); /* until the trap is set */
    process_end(&deaf);
    process_wait_gone(&deaf, 300);
    ck_assert_int_eq(deaf.pid, 0);
    ck_assert(!process_watch(&deaf, clock_mono_ms(NULL)));
    ck_assert_int_eq(deaf.pid, 0);
    process_done(&deaf);
}
END_TEST

START_TEST(a_missing_binary_ends_with_127_and_says_so)
{
    struct err e;
    char log[128];
    snprintf(log, sizeof log, "%s/log", test_folder());
    struct process p;
    const char *const arguments[] = {"/nonexistent/binary", NULL};
    process_init(&p, "missing", log, arguments);
    ck_assert_int_eq(process_start(&p, &e), 0);
    p.wanted = false;
    ck_assert_int_eq(watch(&p, 1), 1);
    ck_assert_int_eq(p.exit_status, 127);
    process_done(&p);
}
END_TEST

START_TEST(the_last_words_of_a_service_are_its_error)
{
    static const char *const says[][2] = {
        {"one", "one"},
        {"[1]", "[1]"},
        {"{\"event\":\"ready\"}", "{\"event\":\"ready\"}"},
        {"{\"level\":\"error\",\"event\":\"failed\",\"error\":\"no model\"}", "no model"}};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        char script[128], words[64];
        struct err e;
        snprintf(script, sizeof script, "echo before; echo '%s'; echo", says[i][0]);
        struct process p = shell(script);
        ck_assert_int_eq(process_start(&p, &e), 0);
        p.wanted = false;
        ck_assert_int_eq(watch(&p, 1), 1);
        process_last_line(&p, words, sizeof words);
        ck_assert_str_eq(words, says[i][1]);
        process_done(&p);
    }
}
END_TEST

SUITE("dagline/process", 20, output_goes_to_the_log_and_the_status_is_kept, processor_time_is_that_of_all_lives,
      a_killed_process_is_started_again_later_each_time, ending_asks_first_and_then_kills,
      a_missing_binary_ends_with_127_and_says_so, the_last_words_of_a_service_are_its_error)
