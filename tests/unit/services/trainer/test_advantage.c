#include "trainer/advantage.h"

#include "base/mem.h"
#include "support/suite.h"

#include <math.h>

START_TEST(a_prompt_with_few_rewards_is_measured_by_the_batch)
{
    struct advantage *a = advantage_new();
    static const double reward[] = {1.0, 3.0, 5.0, 7.0};
    static const uint32_t prompt[] = {70000, 2, 2, 9};
    double out[4];
    advantage_batch(a, out, reward, prompt, 4);
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(out[i], (reward[i] - 4.0) / sqrt(5.0), 1e-6);
    advantage_free(a);
}
END_TEST

/* 16 rewards are enough; the window forgets all but the last 32. */
START_TEST(a_prompt_with_enough_rewards_is_measured_by_its_own_last_ones)
{
    struct advantage *a = advantage_new();
    double out[16], reward[16];
    uint32_t prompt[16];
    for (int batch = 0; batch < 6; batch++) {
        for (int i = 0; i < 16; i++) {
            prompt[i] = i < 8 ? 1 : 2;
            reward[i] = (i < 8 ? 10.0 : 0.0) + (i % 2) + (batch < 2 ? 100.0 : 0.0);
        }
        advantage_batch(a, out, reward, prompt, 16);
    }
    for (int i = 0; i < 16; i++)
        ck_assert_double_eq_tol(out[i], i % 2 == 0 ? -1.0 : 1.0, 1e-5);
    advantage_free(a);
}
END_TEST

START_TEST(sixteen_rewards_of_a_prompt_are_enough_and_fifteen_are_not)
{
    ck_assert_int_eq(ADVANTAGE_REWARDS_MIN, 16);
    for (int before = 14; before <= 15; before++) {
        struct advantage *a = advantage_new();
        double out[2], reward[2] = {0.0, 0.0};
        static const uint32_t prompt[] = {1, 2};
        for (int i = 0; i < before; i++)
            advantage_batch(a, out, reward, prompt, 1);
        reward[0] = 1.0;
        reward[1] = 9.0;
        advantage_batch(a, out, reward, prompt, 2);
        /* the batch's mean is 5, deviation 4; its own are 1/16 and sqrt(15)/16 */
        ck_assert_double_eq_tol(out[0], before == 14 ? -1.0 : sqrt(15.0), 1e-5);
        ck_assert_double_eq_tol(out[1], 1.0, 1e-6);
        advantage_free(a);
    }
}
END_TEST

START_TEST(what_is_remembered_comes_back_and_nonsense_does_not)
{
    struct advantage *a = advantage_new(), *b = advantage_new();
    struct err e;
    size_t rows, again;
    double x[3], y[3];
    static const double reward[] = {0.5, -2.0, 0.25};
    static const uint32_t prompt[] = {4000000000u, 7, 65536};
    for (int i = 0; i < 20; i++)
        advantage_batch(a, x, reward, prompt, 3);
    float *state = advantage_save(a, &rows);
    ck_assert_uint_eq(rows, 3);
    ck_assert_msg(advantage_restore(b, state, rows, &e) == 0, "%s", e.text);
    advantage_batch(a, x, reward, prompt, 3);
    advantage_batch(b, y, reward, prompt, 3);
    ck_assert_mem_eq(x, y, sizeof x);
    state[ADVANTAGE_ROW + 2] = 0.5f;
    ck_assert_int_eq(advantage_restore(b, state, rows, &e), -1);
    state[ADVANTAGE_ROW + 2] = 1.0f;
    state[5] = NAN;
    ck_assert_int_eq(advantage_restore(b, state, rows, &e), -1);
    float *none = advantage_save(b, &again);
    ck_assert_uint_eq(again, 0);
    mem_free(none);
    mem_free(state);
    advantage_free(a);
    advantage_free(b);
}
END_TEST

SUITE("trainer/advantage", 20, a_prompt_with_few_rewards_is_measured_by_the_batch,
      a_prompt_with_enough_rewards_is_measured_by_its_own_last_ones,
      sixteen_rewards_of_a_prompt_are_enough_and_fifteen_are_not, what_is_remembered_comes_back_and_nonsense_does_not)
