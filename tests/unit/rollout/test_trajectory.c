#include "rollout/trajectory.h"

#include "base/hash.h"
#include "base/mem.h"
#include "support/suite.h"
#include "support/trajectories.h"

#include <math.h>
#include <string.h>

START_TEST(an_id_is_a_function_of_run_slot_and_counter)
{
    uint8_t a[16], b[16];
    char hex[33];
    trajectory_id(a, "0123456789abcdef", 1, 2);
    hash_hex(hex, a, 16);
    ck_assert_str_eq(hex, "4afd518c5a36128444044447aa9fc5e7");
    static const struct {
        const char *run;
        uint32_t slot;
        uint64_t counter;
    } others[] = {{"0123456789abcdef", 2, 1},
                  {"0123456789abcdef", 1, 3},
                  {"0123456789abcdeg", 1, 2},
                  {"0123456789abcde", 1, 2},
                  {"", 1, 2},
                  {"0123456789abcdef", 1, (uint64_t)2 << 32},
                  {"0123456789abcdef", 1, (uint64_t)1 << 32 | 2}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        trajectory_id(b, others[i].run, others[i].slot, others[i].counter);
        ck_assert_msg(memcmp(a, b, sizeof a) != 0, "case %zu has the same id", i);
    }
    trajectory_id(b, "0123456789abcdeffedcba9876543210", 1, 2); /* the folder's half */
    ck_assert_mem_eq(a, b, sizeof a);
}
END_TEST

START_TEST(a_fraction_of_the_steps_is_spread_and_holds_the_last_trainable_one)
{
    static const struct {
        uint32_t steps, trainable;
        double fraction;
        uint32_t count;
    } cases[] = {{20, 19, 1.0, 19}, {20, 19, 0.5, 10}, {10, 10, 0.3, 3}, {10, 10, 0.001, 2}, {10, 9, 0.5, 5},
                 {1, 1, 1.0, 1},    {50, 49, 0.1, 5},  {10, 10, 0.31, 4}, {2, 2, 0.1, 2}};
    enum { DRAWS = 1000 };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint32_t times[64] = {0};
        for (int draw = 0; draw <= DRAWS; draw++) {
            bool keep[64];
            double u[64];
            for (int i = 0; i < 64; i++)
                u[i] = draw == DRAWS ? nextafter(1.0, 0.0) : (draw + 0.5) / DRAWS;
            const uint32_t n =
                trajectory_choose(keep, cases[c].steps, cases[c].trainable, cases[c].fraction, u);
            uint32_t kept = 0;
            for (uint32_t k = 0; k < cases[c].steps; k++) {
                kept += keep[k];
                times[k] += keep[k];
                ck_assert(!keep[k] || k < cases[c].trainable);
            }
            ck_assert_msg(n == cases[c].count && kept == n, "case %zu draw %d: %u, kept %u", c,
                          draw, n, kept);
            ck_assert(keep[cases[c].trainable - 1]);
        }
        /* every step has its turn, as often as its stratum's size says; the strata are all of the steps */
        uint32_t next = 0;
        for (uint32_t i = 0; i < cases[c].count; i++) {
            uint32_t first;
            const uint32_t width = trajectory_stratum(cases[c].trainable, cases[c].count, i, &first);
            ck_assert_uint_eq(first, next);
            for (uint32_t k = first; k < first + width; k++)
                ck_assert_msg(fabs((double)times[k] - (double)DRAWS / width) <= 2.0, "case %zu: step %u kept %u times", c, k,
                              times[k]);
            next = first + width;
        }
        ck_assert_uint_eq(next, cases[c].trainable);
    }
}
END_TEST

START_TEST(a_scored_trajectory_needs_finite_rewards)
{
    struct err e;
    struct trajectory *t = trajectories_make_scored(1, 2, NULL);
    ck_assert_msg(trajectory_check(t, true, &e) == 0, "%s", e.text);
    t->states[1].reward = (double)NAN;
    ck_assert_int_eq(trajectory_check(t, false, &e), 0);
    ck_assert_int_eq(trajectory_check(t, true, &e), -1);
    ck_assert_int_eq(e.code, ERR_NONFINITE);
    ck_assert_ptr_nonnull(strstr(e.text, "states[1].reward"));
    t->states[1].reward = 0.0;
    t->reward = (double)INFINITY;
    ck_assert_int_eq(trajectory_check(t, true, &e), -1);
    t->reward = 1.0;
    t->component_count = TRAJECTORY_COMPONENTS_MAX + 1;
    ck_assert_int_eq(trajectory_check(t, true, &e), -1);
    t->component_count = 1;
    memset(t->components[0].name, 'x', sizeof t->components[0].name);
    ck_assert_int_eq(trajectory_check(t, true, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "components[0]"));
    trajectory_free(t);
    trajectory_free(NULL);
}
END_TEST

/* The scorer rests on it: what is known of the states' steps holds for the transitions'. */
START_TEST(a_transition_joins_two_steps_that_follow)
{
    struct err e;
    struct trajectory *t = trajectories_make(1, 2, NULL);
    const struct trajectory_transition good = t->transitions[0];
    ck_assert_msg(trajectory_check(t, false, &e) == 0, "%s", e.text);
    for (int i = 0; i < 3; i++) {
        t->transitions[0] = good;
        t->transitions[0].to += i == 0;
        t->transitions[0].to -= i == 1;
        t->transitions[0].from += i == 2;
        ck_assert_int_eq(trajectory_check(t, false, &e), -1);
        ck_assert_ptr_nonnull(strstr(e.text, "joins states of steps"));
    }
    trajectory_free(t);
}
END_TEST

START_TEST(latents_that_came_in_the_place_of_pictures_are_finite)
{
    struct err e;
    struct trajectory *t = trajectories_make(1, 2, NULL);
    const size_t D = trajectory_latent_elements(t), images = trajectory_image_count(t);
    const float nan = NAN;
    t->undecoded = true;
    mem_free(t->images);
    mem_free(t->final_image);
    t->images = mem_new(images * D, sizeof nan);
    t->final_image = mem_new(D, sizeof nan);
    ck_assert_msg(trajectory_check(t, false, &e) == 0, "%s", e.text);
    uint8_t *const last[] = {t->images + (images * D - 1) * sizeof nan, t->final_image + (D - 1) * sizeof nan};
    for (size_t i = 0; i < 2; i++) {
        memcpy(last[i], &nan, sizeof nan);
        ck_assert_int_eq(trajectory_check(t, false, &e), -1);
        ck_assert_int_eq(e.code, ERR_NONFINITE);
        memset(last[i], 0, sizeof nan);
    }
    trajectory_free(t);
}
END_TEST

START_TEST(prompts_must_be_utf8)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"", true},
                 {"plain", true},
                 {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x99\x82", true},
                 {"\xc0\x80", false},
                 {"\xe0\x80\x80", false},
                 {"\xed\xa0\x80", false},
                 {"\xf4\x90\x80\x80", false},
                 {"\xf8\x88\x80\x80\x80", false},
                 {"cut \xe2\x82", false},
                 {"\x80", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        struct trajectory *t =
            trajectories_make(1, 1, &(struct trajectory_shape){.prompt = cases[i].text});
        ck_assert_msg((trajectory_check(t, false, &e) == 0) == cases[i].good, "case %zu", i);
        trajectory_free(t);
    }
}
END_TEST

SUITE("rollout/trajectory", 20, an_id_is_a_function_of_run_slot_and_counter,
      a_fraction_of_the_steps_is_spread_and_holds_the_last_trainable_one,
      a_scored_trajectory_needs_finite_rewards, a_transition_joins_two_steps_that_follow, latents_that_came_in_the_place_of_pictures_are_finite, prompts_must_be_utf8)
