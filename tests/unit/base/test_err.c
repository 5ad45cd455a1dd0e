#include "base/err.h"
#include "support/suite.h"

#include <errno.h>
#include <string.h>

START_TEST(wrap_prepends_and_keeps_the_code)
{
    struct err e;
    ck_assert_int_eq(err_set(&e, ERR_SHAPE, "weight %s is %d", "w", 3), -1);
    ck_assert_int_eq(err_wrap(&e, "loading %s", "unet"), -1);
    ck_assert_str_eq(e.text, "loading unet: weight w is 3");
    ck_assert_int_eq(e.code, ERR_SHAPE);
}
END_TEST

START_TEST(a_message_is_one_line_whatever_it_quotes)
{
    struct err e;
    err_set(&e, ERR_INVALID, "name 'a\nb\x1b[1m'");
    ck_assert_ptr_null(strchr(e.text, '\n'));
    ck_assert_ptr_null(strchr(e.text, 0x1b));
}
END_TEST

START_TEST(sys_appends_the_reason)
{
    struct err e;
    err_sys(&e, ENOENT, "open %s", "x");
    ck_assert_str_eq(e.text, "open x: No such file or directory");
    ck_assert_int_eq(e.code, ERR_IO);
}
END_TEST

START_TEST(overlong_messages_are_cut_not_overrun)
{
    struct err e;
    err_set(&e, ERR_INVALID, "%2000d", 7);
    err_wrap(&e, "context");
    ck_assert_uint_lt(strlen(e.text), ERR_TEXT_BYTES_MAX);
    ck_assert_int_eq(strncmp(e.text, "context: ", 9), 0);
}
END_TEST

SUITE("base/err", 10, wrap_prepends_and_keeps_the_code, a_message_is_one_line_whatever_it_quotes,
      sys_appends_the_reason, overlong_messages_are_cut_not_overrun)
