/* Where a number stands among the last ones. */
#include "scorer/window.h"
#include "support/suite.h"

START_TEST(the_last_values_count_and_no_others)
{
    struct window w;
    window_init(&w, 4);
    ck_assert_double_eq(window_zscore(&w, 3.0), 0.0);
    ck_assert_double_eq(window_share(&w, 3.0), 0.5);
    window_add(&w, 1000.0);
    ck_assert_double_eq(window_zscore(&w, 3.0), 0.0); /* of one value nothing follows */
    for (int i = 1; i <= 4; i++)
        window_add(&w, i); /* 1 2 3 4: 1000 is out */
    ck_assert_uint_eq(w.count, 4);
    ck_assert_double_eq_tol(window_zscore(&w, 2.5), 0.0, 1e-12);
    ck_assert_double_eq_tol(window_zscore(&w, 4.0), 1.5 / 1.118033988749895, 1e-12);
    ck_assert_double_eq(window_share(&w, 0.0), 0.0);
    ck_assert_double_eq(window_share(&w, 2.0), 0.375);
    ck_assert_double_eq(window_share(&w, 9.0), 1.0);
    window_add(&w, 10.0);
    window_add(&w, 11.0); /* 3 4 10 11: the oldest go, one after the other */
    ck_assert_double_eq_tol(window_zscore(&w, 7.0), 0.0, 1e-12);
    ck_assert_double_eq(window_share(&w, 2.5), 0.0);
    window_done(&w);
}
END_TEST

START_TEST(values_that_are_all_the_same_have_no_deviation)
{
    struct window w;
    window_init(&w, 100);
    for (int i = 0; i < 50; i++)
        window_add(&w, 0.1);
    ck_assert_double_eq(window_zscore(&w, 0.1), 0.0);
    ck_assert_double_eq(window_share(&w, 0.1), 0.5);
    window_done(&w);
}
END_TEST

SUITE("scorer/window", 30, the_last_values_count_and_no_others, values_that_are_all_the_same_have_no_deviation)
