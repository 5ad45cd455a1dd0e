#include "base/clock.h"
#include "support/suite.h"

START_TEST(monotonic_time_never_goes_back)
{
    int64_t last = clock_mono_ns(NULL);
    for (int i = 0; i < 10000; i++) {
        const int64_t now = clock_mono_ns(NULL);
        ck_assert_int_ge(now, last);
        last = now;
    }
    ck_assert_int_gt(clock_wall_ns(NULL), INT64_C(1600000000) * CLOCK_NS_PER_S);
}
END_TEST

START_TEST(a_fake_clock_moves_only_when_told)
{
    struct clock_fake fake = {.mono_ns = 7, .wall_ns = 1000};
    const struct clock c = clock_fake(&fake);
    ck_assert_int_eq(clock_mono_ns(&c), 7);
    ck_assert_int_eq(clock_mono_ns(&c), 7);
    clock_sleep_ns(&c, 3 * CLOCK_NS_PER_S);
    clock_sleep_ns(&c, -5);
    clock_fake_advance(&fake, 1);
    ck_assert_int_eq(clock_mono_ns(&c), 3 * CLOCK_NS_PER_S + 8);
    ck_assert_int_eq(clock_wall_ns(&c), 3 * CLOCK_NS_PER_S + 1001);
    ck_assert_int_eq(clock_mono_ms(&c), 3000);
}
END_TEST

START_TEST(wall_time_prints_as_rfc3339)
{
    static const struct {
        int64_t ns;
        const char *want;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {INT64_C(951827696789000000), "2000-02-29T12:34:56.789Z"},
        {INT64_MAX, "2262-04-11T23:47:16.854Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[CLOCK_TEXT_BYTES];
        clock_format(cases[i].ns, got);
        ck_assert_msg(strcmp(got, cases[i].want) == 0, "case %zu: got %s want %s", i, got, cases[i].want);
    }
}
END_TEST

SUITE("base/clock", 10, monotonic_time_never_goes_back, a_fake_clock_moves_only_when_told,
      wall_time_prints_as_rfc3339)
