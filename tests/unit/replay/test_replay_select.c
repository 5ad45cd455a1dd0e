#include "replay/replay_select.h"

#include "support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N 64
#define COUNT 8
#define DRAWS 4000

static uint8_t ids[N + 1][TRAJECTORY_ID_BYTES];

static void make_ids(void)
{
    for (size_t i = 0; i <= N; i++) {
        memset(ids[i], 0, sizeof ids[i]);
        ids[i][3] = (uint8_t)(i * 7);
        ids[i][9] = (uint8_t)i;
    }
}

static void choose(size_t chosen[COUNT], size_t n, enum replay_selector s, uint64_t step)
{
    replay_select(chosen, COUNT, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, n, s, 0.1, 42, step);
}

START_TEST(a_batch_holds_each_candidate_at_most_once)
{
    make_ids();
    for (int s = REPLAY_UNIFORM; s <= REPLAY_RANK_REWARD; s++)
        for (uint64_t step = 1; step < 50; step++) {
            size_t chosen[COUNT];
            bool seen[N] = {false};
            choose(chosen, N, (enum replay_selector)s, step);
            for (size_t i = 0; i < COUNT; i++) {
                ck_assert_uint_lt(chosen[i], N);
                ck_assert_msg(!seen[chosen[i]], "%s step %d took %zu twice",
                              replay_selector_name((enum replay_selector)s), (int)step, chosen[i]);
                seen[chosen[i]] = true;
            }
        }
}
END_TEST

START_TEST(the_choice_is_a_function_of_seed_step_and_candidates)
{
    make_ids();
    size_t a[COUNT], b[COUNT], c[COUNT];
    choose(a, N, REPLAY_UNIFORM, 7);
    choose(b, N, REPLAY_UNIFORM, 7);
    choose(c, N, REPLAY_UNIFORM, 8);
    ck_assert_mem_eq(a, b, sizeof a);
    ck_assert_int_ne(memcmp(a, c, sizeof a), 0);
}
END_TEST

START_TEST(one_more_candidate_changes_at_most_one_place_of_a_uniform_batch)
{
    make_ids();
    for (uint64_t step = 1; step < 100; step++) {
        size_t a[COUNT], b[COUNT];
        choose(a, N, REPLAY_UNIFORM, step);
        choose(b, N + 1, REPLAY_UNIFORM, step);
        size_t kept = 0;
        for (size_t i = 0; i < COUNT; i++)
            for (size_t k = 0; k < COUNT; k++)
                kept += a[i] == b[k];
        ck_assert_uint_ge(kept, COUNT - 1);
    }
}
END_TEST

static void frequencies(double f[N], enum replay_selector s)
{
    memset(f, 0, N * sizeof *f);
    for (uint64_t step = 1; step <= DRAWS; step++) {
        size_t chosen[COUNT];
        choose(chosen, N, s, step);
        for (size_t i = 0; i < COUNT; i++)
            f[chosen[i]] += 1.0 / DRAWS;
    }
}

START_TEST(uniform_takes_every_candidate_equally_often)
{
    make_ids();
    double f[N];
    frequencies(f, REPLAY_UNIFORM);
    const double want = (double)COUNT / N, sd = sqrt(want * (1.0 - want) / DRAWS);
    for (size_t i = 0; i < N; i++)
        ck_assert_msg(fabs(f[i] - want) < 5.0 * sd, "candidate %zu: %g, want %g", i, f[i], want);
}
END_TEST

START_TEST(rank_prefers_by_one_over_kn_plus_rank)
{
    make_ids();
    double f[N], first[N] = {0};
    frequencies(f, REPLAY_RANK_DELTA);
    for (size_t i = 8; i < N; i += 8)
        ck_assert_msg(f[i - 8] > f[i], "rank %zu: %g, rank %zu: %g", i - 8, f[i - 8], i, f[i]);
    /* The first drawn follows the weights exactly. */
    for (uint64_t step = 1; step <= DRAWS; step++) {
        size_t one;
        replay_select(&one, 1, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, N, REPLAY_RANK_REWARD,
                      0.1, 9, step);
        first[one] += 1.0 / DRAWS;
    }
    double total = 0.0;
    for (size_t i = 0; i < N; i++)
        total += 1.0 / (0.1 * N + (double)i + 1.0);
    for (size_t i = 0; i < N; i++) {
        const double want = 1.0 / (0.1 * N + (double)i + 1.0) / total, sd = sqrt(want / DRAWS);
        ck_assert_msg(fabs(first[i] - want) < 5.0 * sd, "rank %zu: %g, want %g", i, first[i], want);
    }
}
END_TEST

START_TEST(recent_falls_geometrically_and_fifo_takes_the_head)
{
    make_ids();
    double f[N];
    frequencies(f, REPLAY_RECENT);
    ck_assert_double_gt(f[0], 2.0 * f[32]);
    ck_assert_double_gt(f[0], f[16]);
    ck_assert_double_gt(f[16], f[48]);
    /* The first drawn follows the weights exactly: half of the mass within about 1.4 batches. */
    double first[N] = {0}, total = 0.0;
    for (uint64_t step = 1; step <= DRAWS; step++) {
        size_t some[COUNT];
        choose(some, N, REPLAY_RECENT, step);
        first[some[0]] += 1.0 / DRAWS;
    }
    for (size_t i = 0; i < N; i++)
        total += pow(1.0 - 1.0 / (2.0 * COUNT), (double)i);
    for (size_t i = 0; i < N; i++) {
        const double want = pow(1.0 - 1.0 / (2.0 * COUNT), (double)i) / total, sd = sqrt(want / DRAWS);
        ck_assert_msg(fabs(first[i] - want) < 5.0 * sd, "rank %zu: %g, want %g", i, first[i], want);
    }
    size_t chosen[COUNT];
    choose(chosen, N, REPLAY_FIFO, 3);
    for (size_t i = 0; i < COUNT; i++)
        ck_assert_uint_eq(chosen[i], i);
}
END_TEST

START_TEST(selector_names_round_trip_and_others_are_refused)
{
    struct err e;
    for (int s = REPLAY_UNIFORM; s <= REPLAY_RANK_REWARD; s++) {
        enum replay_selector got;
        ck_assert_int_eq(
            replay_selector_parse(&got, replay_selector_name((enum replay_selector)s), &e), 0);
        ck_assert_int_eq(got, s);
    }
    enum replay_selector got;
    ck_assert_int_eq(replay_selector_parse(&got, "priority", &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "rank-delta"));
}
END_TEST

START_TEST(pace_follows_samples_and_never_starves_a_waiting_batch)
{
    static const struct {
        struct replay_pace p;
        uint64_t want;
    } cases[] = {
        {{.samples_per_insert = 0.0, .inserted = 1000}, UINT32_MAX},
        {{.samples_per_insert = 1.0, .items_min = 8, .ahead = 4}, 12},
        {{.samples_per_insert = 1.0, .items_min = 8, .ahead = 4, .inserted = 12}, 0},
        {{.samples_per_insert = 1.0, .items_min = 8, .ahead = 4, .inserted = 12, .sampled = 8}, 8},
        {{.samples_per_insert = 4.0, .items_min = 8, .ahead = 4, .inserted = 12, .sampled = 8}, 2},
        {{.samples_per_insert = 0.5, .items_min = 8, .ahead = 4, .inserted = 12, .sampled = 8}, 16},
        /* what was evicted unused is made again */
        {{.samples_per_insert = 1.0,
          .items_min = 8,
          .ahead = 4,
          .inserted = 12,
          .evicted_unused = 5},
         5},
        /* a batch that waits for 3 more gets them whatever the pace says */
        {{.samples_per_insert = 1.0, .items_min = 8, .ahead = 4, .inserted = 20, .need = 23}, 3},
        {{.samples_per_insert = 1.0, .items_min = 8, .ahead = 4, .inserted = 20, .need = 15}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(replay_pace_room(&cases[i].p) == cases[i].want, "case %zu: %llu, want %llu",
                      i, (unsigned long long)replay_pace_room(&cases[i].p),
                      (unsigned long long)cases[i].want);
}
END_TEST

SUITE("replay/select", 20, a_batch_holds_each_candidate_at_most_once,
      the_choice_is_a_function_of_seed_step_and_candidates,
      one_more_candidate_changes_at_most_one_place_of_a_uniform_batch,
      uniform_takes_every_candidate_equally_often, rank_prefers_by_one_over_kn_plus_rank,
      recent_falls_geometrically_and_fifo_takes_the_head,
      selector_names_round_trip_and_others_are_refused,
      pace_follows_samples_and_never_starves_a_waiting_batch)
