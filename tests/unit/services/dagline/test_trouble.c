#include "dagline/trouble.h"

#include "support/folder.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE(second, level, event) \
    "{\"time\":\"2026-01-01T00:00:0" second ".000Z\",\"level\":\"" level "\",\"service\":\"s\",\"event\":\"" event \
    "\",\"tries\":2,\"reason\":\"is away\"}\n"

static struct trouble since(const char *second)
{
    struct trouble t = {0};
    snprintf(t.since, sizeof t.since, "2026-01-01T00:00:0%s.000Z", second);
    return t;
}

START_TEST(the_newest_warning_is_told_in_words)
{
    put_in_test_folder("log", LINE("1", "warn", "old_one") LINE("3", "error", "reward_service_waiting") "no json\n"
                                  LINE("4", "info", "fine"));
    struct trouble t = since("0");
    ck_assert(trouble_take(&t, in_test_folder("log")));
    ck_assert_str_eq(t.words, "reward service waiting: tries=2 reason=\"is away\"");
    ck_assert_str_eq(t.since, "2026-01-01T00:00:03.000Z");
    put_in_test_folder("other", LINE("2", "warn", "older"));
    ck_assert(!trouble_take(&t, in_test_folder("other"))); /* than what another service said */
}
END_TEST

START_TEST(what_came_before_does_not_count)
{
    put_in_test_folder("log", LINE("3", "error", "away"));
    struct trouble t = since("3");
    ck_assert(!trouble_take(&t, in_test_folder("log")));
    ck_assert(!trouble_take(&t, in_test_folder("missing")));
    put_in_test_folder("log", "");
    ck_assert(!trouble_take(&t, in_test_folder("log")));
}
END_TEST

START_TEST(only_the_end_of_a_long_log_is_read)
{
    const char last[] = LINE("5", "warn", "last"), line[] = LINE("1", "info", "filler");
    const size_t lines = 10000, n = strlen(line);
    char *text = malloc(lines * n + sizeof last);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < lines; i++)
        memcpy(text + i * n, line, n);
    memcpy(text + lines * n, last, sizeof last);
    put_in_test_folder("log", text);
    free(text);
    struct trouble t = since("0");
    ck_assert(trouble_take(&t, in_test_folder("log")));
    ck_assert_str_eq(t.words, "last: tries=2 reason=\"is away\"");
}
END_TEST

SUITE("dagline/trouble", 20, the_newest_warning_is_told_in_words, what_came_before_does_not_count,
      only_the_end_of_a_long_log_is_read)
