#include "sampler/flight.h"
#include "support/suite.h"

#include <string.h>

static void add(struct flight *f, uint8_t id, uint64_t bytes)
{
    struct trajectory *t = trajectory_new();
    t->id[0] = id;
    flight_add(f, &t, bytes);
    ck_assert_ptr_null(t);
}

static void grant(struct flight *f, uint64_t session, uint64_t items, uint64_t bytes)
{
    flight_credit(f, &(struct credit){.session = session, .items = items, .bytes = bytes});
}

static int send_all(struct flight *f, int64_t now)
{
    int n = 0;
    for (struct flight_item *i; (i = flight_next(f, now, 1000)) != NULL; n++)
        flight_sent(f, i, now);
    return n;
}

START_TEST(nothing_is_sent_without_credit_in_both_items_and_bytes)
{
    struct flight f = {0};
    for (uint8_t i = 0; i < 5; i++)
        add(&f, i, 100);
    ck_assert_int_eq(send_all(&f, 0), 0);
    grant(&f, 7, 3, 350);
    ck_assert_int_eq(send_all(&f, 0), 3); /* as many items */
    grant(&f, 7, 10, 400);
    ck_assert_int_eq(send_all(&f, 0), 1); /* as many bytes */
    grant(&f, 7, 3, 300); /* an older grant arrives late: cumulative counts never shrink */
    ck_assert_uint_eq(f.items_granted, 10);
    grant(&f, 7, 10, 500);
    ck_assert_int_eq(send_all(&f, 0), 1);
    flight_done(&f);
}
END_TEST

START_TEST(a_new_session_sends_everything_unacknowledged_again)
{
    struct flight f = {0};
    grant(&f, 1, 100, 100000);
    for (uint8_t i = 0; i < 4; i++)
        add(&f, i, 10);
    ck_assert_int_eq(send_all(&f, 0), 4);
    const uint8_t second[TRAJECTORY_ID_BYTES] = {1};
    ck_assert(flight_ack(&f, second));
    ck_assert(!flight_ack(&f, second));
    ck_assert_int_eq(send_all(&f, 1), 0);
    grant(&f, 2, 2, 100000);
    ck_assert_int_eq(send_all(&f, 2), 2);
    grant(&f, 2, 3, 100000);
    ck_assert_int_eq(send_all(&f, 3), 1);
    ck_assert_uint_eq(f.count, 3);
    flight_done(&f);
}
END_TEST

START_TEST(an_unacknowledged_item_is_sent_again_after_its_time_and_costs_credit)
{
    struct flight f = {0};
    grant(&f, 1, 2, 1000);
    add(&f, 1, 10);
    ck_assert_int_eq(send_all(&f, 0), 1);
    ck_assert_int_eq(send_all(&f, 1000), 0);
    ck_assert_int_eq(send_all(&f, 1001), 1);
    ck_assert_int_eq(send_all(&f, 5000), 0); /* the grant is used up */
    flight_done(&f);
}
END_TEST

START_TEST(spare_credit_counts_what_waits_to_be_sent)
{
    struct flight f = {0};
    ck_assert_uint_eq(flight_spare(&f, 10), 0);
    grant(&f, 1, 8, 100);
    ck_assert_uint_eq(flight_spare(&f, 10), 8);
    ck_assert_uint_eq(flight_spare(&f, 30), 3);
    add(&f, 1, 40);
    ck_assert_uint_eq(flight_spare(&f, 10), 6);
    send_all(&f, 0);
    ck_assert_uint_eq(flight_spare(&f, 10), 6);
    add(&f, 2, 70);
    ck_assert_uint_eq(flight_spare(&f, 10), 0);
    flight_done(&f);
}
END_TEST

SUITE("sampler/flight", 10, nothing_is_sent_without_credit_in_both_items_and_bytes,
      a_new_session_sends_everything_unacknowledged_again,
      an_unacknowledged_item_is_sent_again_after_its_time_and_costs_credit, spare_credit_counts_what_waits_to_be_sent)
