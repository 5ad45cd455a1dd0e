#include "base/buf.h"
#include "base/mem.h"
#include "support/suite.h"

#include <string.h>

START_TEST(text_grows_and_stays_terminated)
{
    struct buf b;
    buf_init(&b, 10000);
    ck_assert_str_eq(buf_text(&b), "");
    for (int i = 0; i < 1000; i++) {
        buf_format(&b, "%03d,", i);
        ck_assert_uint_eq(strlen(buf_text(&b)), b.bytes);
    }
    ck_assert_uint_eq(b.bytes, 4000);
    ck_assert(strncmp(buf_text(&b), "000,001,", 8) == 0);
    buf_clear(&b);
    buf_add_byte(&b, 'x');
    ck_assert_str_eq(buf_text(&b), "x");
    buf_done(&b);
    buf_done(&b);
}
END_TEST

START_TEST(a_long_format_is_whole)
{
    char want[2001];
    memset(want, 'q', 2000);
    want[2000] = 0;
    struct buf b;
    buf_init(&b, 3000);
    buf_format(&b, "%s", want);
    ck_assert_str_eq(buf_text(&b), want);
    buf_format(&b, "%s", want); /* beyond the bound: nothing of it is kept */
    ck_assert_uint_eq(b.bytes, 2000);
    ck_assert(b.overflowed);
    buf_done(&b);
}
END_TEST

START_TEST(the_bound_holds_exactly_and_is_reported_once_asked)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, 5);
    buf_add(&b, "12345", 5);
    buf_add(&b, NULL, 0);
    ck_assert_int_eq(buf_check(&b, "page", &e), 0);
    buf_add_byte(&b, '6');
    ck_assert_str_eq(buf_text(&b), "12345");
    ck_assert_int_eq(buf_check(&b, "page", &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
    ck_assert_str_eq(e.text, "page is larger than its bound of 5 bytes");
    ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX));
    buf_clear(&b);
    ck_assert_int_eq(buf_check(&b, "page", &e), 0);
    buf_done(&b);
}
END_TEST

START_TEST(take_hands_the_memory_over)
{
    struct buf b;
    size_t bytes = 9;
    buf_init(&b, 5);
    char *empty = buf_take(&b, &bytes);
    ck_assert_str_eq(empty, "");
    ck_assert_uint_eq(bytes, 0);
    mem_free(empty);
    buf_add_text(&b, "abc");
    char *text = buf_take(&b, &bytes);
    ck_assert_str_eq(text, "abc");
    ck_assert_uint_eq(bytes, 3);
    ck_assert_uint_eq(b.bytes, 0);
    mem_free(text);
    buf_done(&b);
}
END_TEST

START_TEST(a_word_is_quoted_where_a_shell_would_take_it_apart)
{
    static const struct {
        const char *word, *want;
    } cases[] = {{"runs/a-1.b_c", "runs/a-1.b_c"}, {"", "''"}, {"a run", "'a run'"}, {"$HOME;x", "'$HOME;x'"},
                 {"it's", "'it'\\''s'"},           {"~/x", "'~/x'"}, {"caf\xc3\xa9", "'caf\xc3\xa9'"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b;
        buf_init(&b, 64);
        buf_add_shell_word(&b, cases[i].word);
        ck_assert_str_eq(buf_text(&b), cases[i].want);
        buf_done(&b);
    }
}
END_TEST

SUITE("base/buf", 10, text_grows_and_stays_terminated, a_long_format_is_whole,
      the_bound_holds_exactly_and_is_reported_once_asked, take_hands_the_memory_over,
      a_word_is_quoted_where_a_shell_would_take_it_apart)
