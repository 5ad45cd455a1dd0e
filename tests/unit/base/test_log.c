#include "base/log.h"
#include "support/suite.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char last[8192];
static int lines;

static void keep(const char *line, void *arg)
{
    (void)arg;
    snprintf(last, sizeof last, "%s", line);
    lines++;
}

/* The line after its time: `{"time":"..."` is 35 bytes with the comma, a human time 13. */
static const char *body(void)
{
    return last[0] == '{' ? last + 35 : last + 13;
}

START_TEST(json_lines_have_typed_values)
{
    const char *volatile nothing = NULL;
    log_open("svc", LOG_INFO, LOG_JSON);
    log_sink(keep, NULL);
    log_event(LOG_INFO, "applied", "version=%llu digest=%s ratio=%.3f ok=%d size=%zu bad=%g wait=%dms kind=plain", 7ULL,
              "ab cd", 0.25, -1, (size_t)9, (double)NAN, 5);
    ck_assert_str_eq(body(), "\"level\":\"info\",\"service\":\"svc\",\"event\":\"applied\",\"version\":7,\"digest\":\"ab cd\","
                             "\"ratio\":0.250,\"ok\":-1,\"size\":9,\"bad\":\"nan\",\"wait\":\"5ms\",\"kind\":\"plain\"}");
    log_event(LOG_WARN, "odd", "id=%016llx width=%5d cut=%.*s plus=%+d none=%s", 0x2aULL, 3, 2, "abcdef", 4, nothing);
    ck_assert_str_eq(body(), "\"level\":\"warn\",\"service\":\"svc\",\"event\":\"odd\",\"id\":\"000000000000002a\",\"width\":\"    "
                             "3\",\"cut\":\"ab\",\"plus\":\"+4\",\"none\":\"(null)\"}");
}
END_TEST

START_TEST(human_lines_quote_only_what_needs_it)
{
    log_open("svc", LOG_INFO, LOG_HUMAN);
    log_sink(keep, NULL);
    log_event(LOG_ERROR, "failed", "a=%s b=%s c=%s d=%d", "plain", "two words", "", 5);
    ck_assert_str_eq(body(), "error svc failed a=plain b=\"two words\" c=\"\" d=5");
}
END_TEST

START_TEST(foreign_text_cannot_steer_a_terminal_or_a_parser)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a\nb\tc", "\"a\\nb\\tc\""},
        {"\x1b[31mred", "\"\\u001b[31mred\""},
        {"say \"hi\" \\ ", "\"say \\\"hi\\\" \\\\ \""},
        {"\xe2\x80\xae""evil\xe2\x81\xa6", "\"\\u202eevil\\u2066\""},
        {"\xc2\x9b""31m", "\"\\u009b31m\""},
        {"\xff\xc0\xaf", "\"\\\\xff\\\\xc0\\\\xaf\""},
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\xed\xa0\x80", "\"\\\\xed\\\\xa0\\\\x80\""},
    };
    log_open("svc", LOG_INFO, LOG_JSON);
    log_sink(keep, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        log_event(LOG_INFO, "e", "v=%s", cases[i].text);
        const char *got = strstr(last, "\"v\":") + 4;
        ck_assert_msg(strncmp(got, cases[i].want, strlen(cases[i].want)) == 0 && got[strlen(cases[i].want)] == '}',
                      "case %zu: got %s want %s", i, got, cases[i].want);
    }
}
END_TEST

START_TEST(long_values_and_long_lines_are_cut_and_stay_valid)
{
    char big[5000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    log_open("svc", LOG_INFO, LOG_JSON);
    log_sink(keep, NULL);
    log_event(LOG_INFO, "e", "v=%s", big);
    ck_assert_ptr_nonnull(strstr(last, "xxx...\"}"));
    ck_assert_uint_lt(strlen(last), 400);
    char control[300];
    memset(control, 1, sizeof control - 1);
    control[sizeof control - 1] = 0;
    log_event(LOG_INFO, "e", "a=%s b=%s c=%s d=%s", control, control, control, control);
    ck_assert_uint_lt(strlen(last), 4096);
    ck_assert_int_eq(last[strlen(last) - 1], '}');
}
END_TEST

START_TEST(levels_below_the_chosen_one_are_silent)
{
    log_open("svc", LOG_WARN, LOG_JSON);
    log_sink(keep, NULL);
    log_event(LOG_INFO, "e", "a=%d", 1);
    ck_assert_int_eq(lines, 0);
    log_event(LOG_WARN, "e", "a=%d", 1);
    struct err e = {0};
    err_set(&e, ERR_STALE, "token 3 is older than 5");
    log_err("refused", &e);
    ck_assert_int_eq(lines, 2);
    ck_assert_ptr_nonnull(strstr(last, "\"event\":\"refused\",\"code\":\"stale\",\"error\":\"token 3 is older than 5\"}"));
}
END_TEST

START_TEST(a_flood_of_one_warning_is_cut_and_counted)
{
    log_open("svc", LOG_DEBUG, LOG_HUMAN);
    log_sink(keep, NULL);
    for (int i = 0; i < LOG_ALIKE_MAX + 7; i++) {
        log_event(LOG_WARN, "flood", "i=%d", i);
        log_event(LOG_INFO, "progress", "i=%d", i);
    }
    ck_assert_int_eq(lines, 2 * LOG_ALIKE_MAX + 7);
    log_event(LOG_ERROR, "flood", "i=%d", -1);
    ck_assert_int_eq(lines, 2 * LOG_ALIKE_MAX + 7);
    log_event(LOG_ERROR, "another", "i=%d", 0);
    ck_assert_str_eq(body(), "error svc another i=0");
    log_window(1);
    const struct timespec moment = {.tv_nsec = 2000000};
    nanosleep(&moment, NULL);
    log_event(LOG_WARN, "flood", "i=%d", 1);
    ck_assert_str_eq(body(), "warn  svc flood i=1 alike_left_out=8");
    log_window(60000);
    log_event(LOG_WARN, "flood", "i=%d", 2);
    ck_assert_str_eq(body(), "warn  svc flood i=2");
}
END_TEST

START_TEST(a_reader_that_stops_holds_nobody_up_and_is_told_what_it_missed)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    log_open("svc", LOG_INFO, LOG_AUTO); /* a pipe is not a terminal: JSON */
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < 5000; i++)
        log_event(LOG_INFO, "flood", "i=%d", i);
    clock_gettime(CLOCK_MONOTONIC, &to);
    ck_assert_int_lt(to.tv_sec - from.tv_sec, 3); /* one patience, not five thousand */
    static char text[1 << 20];
    ck_assert_int_gt(read(ends[0], text, sizeof text), 60000);
    log_event(LOG_INFO, "after", "a=%d", 1);
    const ssize_t n = read(ends[0], text, sizeof text - 1);
    ck_assert_int_gt(n, 0);
    text[n] = 0;
    ck_assert_msg(strstr(text, "\"event\":\"after\",\"a\":1,\"log_lines_dropped\":") != NULL, "%s", text);
    log_event(LOG_INFO, "later", "a=%d", 1);
    text[read(ends[0], text, sizeof text - 1)] = 0;
    ck_assert_ptr_null(strstr(text, "dropped"));
}
END_TEST

static void *write_many(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_event(LOG_INFO, "thread", "who=%d i=%d text=%s", *(const int *)arg, i, "some words here");
    return NULL;
}

START_TEST(lines_of_threads_do_not_mix)
{
    char path[] = "/tmp/dagline-log-XXXXXX";
    const int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    unlink(path);
    dup2(fd, STDERR_FILENO);
    log_open("svc", LOG_INFO, LOG_JSON);
    pthread_t id[4];
    int who[4] = {0, 1, 2, 3};
    for (int t = 0; t < 4; t++)
        ck_assert_int_eq(pthread_create(&id[t], NULL, write_many, &who[t]), 0);
    for (int t = 0; t < 4; t++)
        pthread_join(id[t], NULL);
    lseek(fd, 0, SEEK_SET);
    FILE *f = fdopen(fd, "r");
    char line[4096];
    int count = 0;
    while (fgets(line, sizeof line, f) != NULL) {
        ck_assert_msg(line[0] == '{' && strcmp(line + strlen(line) - 2, "}\n") == 0, "%s", line);
        count++;
    }
    ck_assert_int_eq(count, 2000);
    fclose(f);
}
END_TEST

SUITE("base/log", 20, json_lines_have_typed_values, human_lines_quote_only_what_needs_it,
      foreign_text_cannot_steer_a_terminal_or_a_parser, long_values_and_long_lines_are_cut_and_stay_valid,
      levels_below_the_chosen_one_are_silent, a_flood_of_one_warning_is_cut_and_counted, a_reader_that_stops_holds_nobody_up_and_is_told_what_it_missed,
      lines_of_threads_do_not_mix)
