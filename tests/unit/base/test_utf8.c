#include "base/utf8.h"
#include "support/suite.h"

#include <string.h>

START_TEST(valid_characters_have_their_length_and_code)
{
    static const struct {
        const char *text;
        size_t bytes;
        uint32_t code;
    } cases[] = {{"a", 1, 'a'}, {"\xc3\xa9", 2, 0xe9}, {"\xe2\x82\xac", 3, 0x20ac}, {"\xf0\x9f\x98\x80", 4, 0x1f600},
                 {"\xf4\x8f\xbf\xbf", 4, 0x10ffff}, {"\xed\x9f\xbf", 3, 0xd7ff}, {"", 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t code = 1;
        ck_assert_uint_eq(utf8_next(cases[i].text, cases[i].bytes, &code), cases[i].bytes);
        ck_assert_uint_eq(code, cases[i].code);
    }
}
END_TEST

START_TEST(invalid_bytes_are_refused)
{
    static const char *const cases[] = {"\x80", "\xc3", "\xc3(", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                        "\xf8\x88\x80\x80\x80", "\xff", "ok\xe2\x82"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(!utf8_valid(cases[i], strlen(cases[i])), "case %zu", i);
    ck_assert(utf8_valid("caf\xc3\xa9", 5));
    ck_assert(utf8_valid("", 0));
}
END_TEST

START_TEST(text_is_cut_between_characters)
{
    static const char text[] = "a\xc3\xa9\xe2\x82\xac"; /* a, e acute, the euro sign */
    static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6};
    for (size_t max = 0; max < sizeof want / sizeof *want; max++)
        ck_assert_uint_eq(utf8_fit(text, max), want[max]);
}
END_TEST

START_TEST(characters_that_steer_a_terminal_are_known)
{
    static const uint32_t bad[] = {0x1b, 0x7f, 0x9b, 0x202e, 0x2066, 0x2028, 0xfeff, '\n'}, good[] = {' ', 'a', 0xe9, 0x20ac};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert(utf8_is_control(bad[i]));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert(!utf8_is_control(good[i]));
}
END_TEST

SUITE("base/utf8", 5, valid_characters_have_their_length_and_code, invalid_bytes_are_refused, text_is_cut_between_characters,
      characters_that_steer_a_terminal_are_known)
