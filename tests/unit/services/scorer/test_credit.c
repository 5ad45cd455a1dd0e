#include "scorer/credit.h"

#include "support/suite.h"

static struct credit_ledger c;

static struct credit_peer *hello(const char *name, uint64_t item_bytes, int64_t now_ms)
{
    return credit_hello(&c, name, 1, item_bytes, now_ms);
}

START_TEST(grants_stay_within_room_window_and_budget)
{
    credit_init(&c, 100, 1000, 8);
    struct credit_peer *a = hello("a", 100, 0);
    credit_grant(&c, 5);
    ck_assert_uint_eq(a->items_granted, 5); /* room */
    credit_grant(&c, 50);
    ck_assert_uint_eq(a->items_granted, 8); /* window */
    struct credit_peer *b = hello("b", 100, 0);
    credit_grant(&c, 50);
    ck_assert_uint_eq(b->items_granted, 2); /* budget: 10 items of 100 bytes */
    ck_assert_uint_le(credit_bytes_outstanding(&c), 1000);
    credit_grant(&c, 0);
    ck_assert_uint_eq(a->items_granted + b->items_granted, 10); /* never taken back */
}
END_TEST

START_TEST(what_is_held_counts_until_it_is_released)
{
    credit_init(&c, 1, 1000, 100);
    struct credit_peer *a = hello("a", 100, 0);
    credit_grant(&c, 100);
    ck_assert_uint_eq(a->items_granted, 10);
    for (int i = 0; i < 10; i++)
        ck_assert(credit_take(&c, a, 100, 0));
    credit_grant(&c, 100);
    ck_assert_uint_eq(a->items_granted, 10);
    ck_assert(!credit_take(&c, a, 100, 0)); /* beyond the budget: dropped */
    credit_release(&c, 100);
    credit_release(&c, 100);
    credit_grant(&c, 100);
    ck_assert_uint_eq(a->items_granted, 13); /* 11 came, 2 may come */
    ck_assert_uint_eq(credit_items_outstanding(&c), 2);
}
END_TEST

START_TEST(items_smaller_than_announced_leak_no_budget)
{
    credit_init(&c, 1, 1000, 100);
    struct credit_peer *a = hello("a", 100, 0);
    for (int i = 0; i < 1000; i++) {
        credit_grant(&c, 100);
        ck_assert_uint_gt(a->items_granted, a->items_got);
        ck_assert(credit_take(&c, a, 60, 0));
        ck_assert_uint_le(credit_bytes_outstanding(&c) + c.bytes_held, 1000);
        /* the peer may send what its items need */
        ck_assert_uint_ge(a->bytes_granted - a->bytes_got, (a->items_granted - a->items_got) * 100);
        credit_release(&c, 60);
    }
    /* what their grant leaves over is free for others at once */
    credit_init(&c, 1, 1000, 100);
    a = hello("a", 100, 0);
    credit_grant(&c, 100);
    for (int i = 0; i < 5; i++) {
        ck_assert(credit_take(&c, a, 10, 0));
        credit_release(&c, 10);
    }
    ck_assert_uint_eq(credit_bytes_outstanding(&c), 500);
    struct credit_peer *b = hello("b", 100, 0);
    credit_grant(&c, 10);
    ck_assert_uint_eq(a->items_granted - a->items_got + b->items_granted, 10);
    ck_assert_uint_gt(b->items_granted, 0);
}
END_TEST

/* What came beyond the grant is dropped where it does not fit, and is no debt: the next grant counts from what came. */
START_TEST(a_peer_that_sends_more_than_it_was_granted_owes_nothing)
{
    credit_init(&c, 1, 1000, 100);
    struct credit_peer *a = hello("a", 100, 0);
    credit_grant(&c, 2);
    for (int i = 0; i < 5; i++) {
        ck_assert(credit_take(&c, a, 100, 0));
        credit_release(&c, 100);
    }
    ck_assert_uint_eq(credit_items_outstanding(&c), 0);
    credit_grant(&c, 1);
    ck_assert_uint_eq(a->items_granted, 6); /* one that it can use */
    ck_assert_uint_ge(a->bytes_granted - a->bytes_got, 100);
    ck_assert_uint_eq(credit_items_outstanding(&c), 1);
    ck_assert_uint_eq(credit_bytes_outstanding(&c), 100);
}
END_TEST

START_TEST(peers_share_evenly)
{
    credit_init(&c, 1, 1 << 20, 1000);
    struct credit_peer *p[4] = {hello("a", 10, 0), hello("b", 10, 0), hello("c", 10, 0),
                                hello("d", 10, 0)};
    for (int i = 1; i <= 10; i++)
        credit_grant(&c, (uint64_t)i * 6);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(p[i]->items_granted, 15);
}
END_TEST

START_TEST(a_silent_peer_loses_its_credit_and_comes_back_in_a_new_session)
{
    credit_init(&c, 7, 1000, 100);
    struct credit_peer *a = hello("a", 100, 0);
    const uint64_t session = a->session;
    credit_grant(&c, 100);
    ck_assert_uint_eq(credit_expire(&c, 0), 0);
    ck_assert_uint_eq(credit_expire(&c, 1), 1);
    ck_assert_ptr_null(credit_find(&c, "a", 1));
    ck_assert_uint_eq(credit_items_outstanding(&c), 0);
    a = hello("a", 100, 5);
    ck_assert_uint_ne(a->session, session);
    ck_assert_uint_eq(a->items_granted, 0);
    ck_assert(a->tell);
}
END_TEST

START_TEST(a_hello_repeats_the_grant_so_that_a_lost_one_heals)
{
    credit_init(&c, 7, 1000, 100);
    struct credit_peer *a = hello("a", 100, 0);
    credit_grant(&c, 3);
    a->tell = false;
    a = hello("a", 100, 1);
    ck_assert(a->tell);
    ck_assert_uint_eq(a->items_granted, 3);
}
END_TEST

SUITE("scorer/credit", 10, grants_stay_within_room_window_and_budget,
      what_is_held_counts_until_it_is_released, items_smaller_than_announced_leak_no_budget,
      a_peer_that_sends_more_than_it_was_granted_owes_nothing, peers_share_evenly, a_silent_peer_loses_its_credit_and_comes_back_in_a_new_session,
      a_hello_repeats_the_grant_so_that_a_lost_one_heals)
