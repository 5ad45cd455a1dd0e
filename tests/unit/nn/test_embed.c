#include "nn/embed.h"

#include "support/suite.h"

#include <math.h>

/* diffusers get_timestep_embedding(tensor([7.]), 4, flip_sin_to_cos=True, downscale_freq_shift=0):
 * frequencies 1 and 0.01. */
START_TEST(the_timestep_is_cosine_first_when_flipped)
{
    const double t[2] = {0.0, 7.0};
    real y[8];
    embed_timestep(y, t, 2, 4, true, 0.0);
    const double want[8] = {1, 1, 0, 0, cos(7.0), cos(0.07), sin(7.0), sin(0.07)};
    for (size_t i = 0; i < 8; i++)
        ck_assert_msg(fabs((double)y[i] - want[i]) < 1e-7, "y[%zu] = %g", i, (double)y[i]);
}
END_TEST

START_TEST(shift_and_odd_widths_follow_diffusers)
{
    const double t[1] = {3.0};
    real y[5];
    embed_timestep(y, t, 1, 5, false, 1.0);
    /* half 2, shift 1: frequencies 1 and exp(-ln 10000) */
    const double want[5] = {sin(3.0), sin(3e-4), cos(3.0), cos(3e-4), 0.0};
    for (size_t i = 0; i < 5; i++)
        ck_assert_msg(fabs((double)y[i] - want[i]) < 1e-7, "y[%zu] = %g", i, (double)y[i]);
}
END_TEST

START_TEST(tokens_and_positions_add)
{
    const int32_t ids[4] = {2, 0, 1, 1};
    const real token[6] = {1, 2, 10, 20, 100, 200}, position[4] = {0.5f, 0.25f, 0, 1};
    real y[8];
    embed_tokens_forward(y, ids, token, position, 2, 2, 2, 3);
    const real want[8] = {100.5f, 200.25f, 1, 3, 10.5f, 20.25f, 10, 21};
    for (size_t i = 0; i < 8; i++)
        ck_assert(y[i] == want[i]);
}
END_TEST

SUITE("nn/embed", 10, the_timestep_is_cosine_first_when_flipped,
      shift_and_odd_widths_follow_diffusers, tokens_and_positions_add)
