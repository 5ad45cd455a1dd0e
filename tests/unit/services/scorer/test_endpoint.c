/* One endpoint's health: the learnt limit, the breaker, the quantiles. */
#include "scorer/endpoint.h"
#include "support/suite.h"

static void one(struct endpoint *p, enum endpoint_outcome outcome, int64_t latency_ms, int64_t now_ms)
{
    endpoint_begin(p, now_ms);
    endpoint_end(p, outcome, latency_ms, now_ms);
}

START_TEST(overload_halves_and_answers_grow_the_limit)
{
    struct endpoint p;
    endpoint_init(&p, 8);
    ck_assert_uint_eq(endpoint_room(&p, 0), 8);
    one(&p, ENDPOINT_BUSY, 0, 0);
    ck_assert_uint_eq(endpoint_room(&p, 0), 4);
    endpoint_begin(&p, 0);
    ck_assert_uint_eq(endpoint_room(&p, 0), 3);
    endpoint_end(&p, ENDPOINT_FAULT, 0, 0); /* failing is not being overloaded */
    ck_assert_uint_eq(endpoint_room(&p, 0), 4);
    for (int i = 0; i < 10; i++)
        one(&p, ENDPOINT_BUSY, 0, 0);
    ck_assert_uint_eq(endpoint_room(&p, 0), 1);
    for (int i = 0; i < 100; i++)
        one(&p, ENDPOINT_ANSWERED, 5, 0);
    ck_assert_uint_eq(endpoint_room(&p, 0), 8);
    ck_assert_int_eq(p.breaker, ENDPOINT_CLOSED); /* 429 is an answer: no breaker for it */
}
END_TEST

START_TEST(faults_open_the_breaker_and_one_probe_closes_it)
{
    struct endpoint p;
    endpoint_init(&p, 4);
    for (int i = 0; i < ENDPOINT_FAULTS_MAX - 1; i++)
        one(&p, ENDPOINT_FAULT, 0, 100);
    one(&p, ENDPOINT_ANSWERED, 1, 100); /* an answer between them: they are not in a row */
    for (int i = 0; i < ENDPOINT_FAULTS_MAX - 1; i++)
        one(&p, ENDPOINT_FAULT, 0, 100);
    ck_assert_uint_eq(endpoint_room(&p, 100), 4);
    ck_assert_int_eq(endpoint_opens_ms(&p), INT64_MAX);
    one(&p, ENDPOINT_FAULT, 0, 100);
    ck_assert_uint_eq(endpoint_room(&p, 100), 0);
    ck_assert_int_eq(endpoint_opens_ms(&p), 100 + ENDPOINT_PAUSE_MS);
    ck_assert_uint_eq(endpoint_room(&p, 99 + ENDPOINT_PAUSE_MS), 0);
    /* half open: one call, no more */
    int64_t now = 100 + ENDPOINT_PAUSE_MS;
    ck_assert_uint_eq(endpoint_room(&p, now), 1);
    endpoint_begin(&p, now);
    ck_assert_uint_eq(endpoint_room(&p, now), 0);
    endpoint_end(&p, ENDPOINT_LOST, 0, now);
    /* twice as long */
    ck_assert_int_eq(endpoint_opens_ms(&p), now + 2 * ENDPOINT_PAUSE_MS);
    now += 2 * ENDPOINT_PAUSE_MS;
    /* a probe that is given up lets another one through */
    one(&p, ENDPOINT_CANCELLED, 0, now);
    ck_assert_uint_eq(endpoint_room(&p, now), 1);
    one(&p, ENDPOINT_ANSWERED, 1, now);
    ck_assert_int_eq(p.breaker, ENDPOINT_CLOSED);
    ck_assert_uint_gt(endpoint_room(&p, now), 1);
    /* and the next pause is a first one again */
    for (int i = 0; i < ENDPOINT_FAULTS_MAX; i++)
        one(&p, ENDPOINT_FAULT, 0, now);
    ck_assert_int_eq(endpoint_opens_ms(&p), now + ENDPOINT_PAUSE_MS);
}
END_TEST

/* There is no time to wake for before the last of them has ended: room comes with that end, not with the clock. */
START_TEST(an_open_breaker_waits_for_the_calls_under_way)
{
    struct endpoint p;
    endpoint_init(&p, 8);
    endpoint_begin(&p, 0);
    for (int i = 0; i < ENDPOINT_FAULTS_MAX; i++)
        one(&p, ENDPOINT_FAULT, 0, 100);
    ck_assert_uint_eq(endpoint_room(&p, 100 + ENDPOINT_PAUSE_MS), 0);
    ck_assert_int_eq(endpoint_opens_ms(&p), INT64_MAX);
    endpoint_end(&p, ENDPOINT_LOST, 0, 30000);
    ck_assert_uint_eq(endpoint_room(&p, 30000), 1);
    ck_assert_int_eq(endpoint_opens_ms(&p), 100 + ENDPOINT_PAUSE_MS);
}
END_TEST

START_TEST(the_pause_has_a_bound)
{
    struct endpoint p;
    int64_t now = 0;
    endpoint_init(&p, 4);
    for (int i = 0; i < ENDPOINT_FAULTS_MAX; i++)
        one(&p, ENDPOINT_FAULT, 0, now);
    for (int i = 0; i < 20; i++) {
        now = endpoint_opens_ms(&p);
        one(&p, ENDPOINT_FAULT, 0, now);
        ck_assert_int_le(endpoint_opens_ms(&p) - now, ENDPOINT_PAUSE_MS_MAX);
    }
    ck_assert_int_eq(endpoint_opens_ms(&p) - now, ENDPOINT_PAUSE_MS_MAX);
}
END_TEST

START_TEST(quantiles_are_of_the_last_latencies)
{
    struct endpoint p;
    endpoint_init(&p, 4);
    for (int i = 0; i < ENDPOINT_LATENCIES_LEAST - 1; i++)
        one(&p, ENDPOINT_ANSWERED, 1000, 0);
    ck_assert_int_eq(endpoint_latency_ms(&p, 0.95), -1);
    for (int i = 1; i <= ENDPOINT_LATENCIES; i++) /* 1..64 push the others out */
        one(&p, ENDPOINT_ANSWERED, i, 0);
    one(&p, ENDPOINT_FAULT, 5000, 0); /* does not count */
    ck_assert_int_eq(endpoint_latency_ms(&p, 0.0), 1);
    ck_assert_int_eq(endpoint_latency_ms(&p, 0.5), 32);
    ck_assert_int_eq(endpoint_latency_ms(&p, 0.95), 60);
    ck_assert_int_eq(endpoint_latency_ms(&p, 1.0), 64);
}
END_TEST

SUITE("scorer/endpoint", 30, overload_halves_and_answers_grow_the_limit,
      faults_open_the_breaker_and_one_probe_closes_it, an_open_breaker_waits_for_the_calls_under_way, the_pause_has_a_bound,
      quantiles_are_of_the_last_latencies)
