#include "rewards/rewards.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

static struct image picture;

static void fill(int from, int to, uint8_t r, uint8_t g, uint8_t b)
{
    for (int y = 0; y < picture.height; y++)
        for (int x = from; x < to; x++) {
            uint8_t *p = picture.rgb + (y * picture.width + x) * 3;
            p[0] = r;
            p[1] = g;
            p[2] = b;
        }
}

START_TEST(colourfulness_of_known_pictures)
{
    image_init(&picture, 60, 64);
    fill(0, 60, 128, 128, 128);
    ck_assert_double_eq_tol(reward_colourfulness(&picture), 0.0, 1e-12);
    /* White and 20 % red: rg 0/255, yb 0/127.5; s = 0.4 (255, 127.5), m = 0.2 (255, 127.5):
     * (0.4 + 0.3 x 0.2) x 285.1 = 131.1. */
    fill(0, 60, 255, 255, 255);
    fill(0, 12, 255, 0, 0);
    ck_assert_double_eq_tol(reward_colourfulness(&picture), 0.46 * sqrt(1.25) * 2.55, 1e-9);
    /* Halves of red and blue: rg 255/0, yb 127.5/-255. */
    fill(0, 30, 255, 0, 0);
    fill(30, 60, 0, 0, 255);
    ck_assert_double_eq_tol(
        reward_colourfulness(&picture),
        (sqrt(127.5 * 127.5 + 191.25 * 191.25) + 0.3 * sqrt(127.5 * 127.5 + 63.75 * 63.75)) / 100.0,
        1e-9);
    image_done(&picture);
}
END_TEST

START_TEST(warmth_is_red_less_blue)
{
    double v;
    image_init(&picture, 10, 10);
    fill(0, 10, 255, 99, 0);
    ck_assert_double_eq_tol(reward_hue_warm(&picture), 1.0, 1e-12);
    fill(0, 5, 0, 0, 255);
    ck_assert_double_eq_tol(reward_hue_warm(&picture), 0.0, 1e-12);
    ck_assert_int_eq(reward_of(&v, REWARD_HUE_WARM, &picture, NULL), 0);
    ck_assert_double_eq_tol(v, 0.0, 1e-12);
    image_done(&picture);
}
END_TEST

START_TEST(brightness_is_mean_luma)
{
    double v;
    image_init(&picture, 10, 10);
    fill(0, 10, 255, 255, 255);
    ck_assert_double_eq_tol(reward_brightness(&picture), 1.0, 1e-12);
    fill(0, 5, 0, 0, 255);
    ck_assert_int_eq(reward_of(&v, REWARD_BRIGHTNESS, &picture, NULL), 0);
    ck_assert_double_eq_tol(v, 0.5 + 0.5 * 0.114, 1e-12);
    image_done(&picture);
}
END_TEST

START_TEST(jpeg_rewards_order_flat_circle_and_noise)
{
    double flat, noise, minus;
    uint32_t state = 1;
    image_init(&picture, 64, 64);
    fill(0, 64, 200, 200, 200);
    ck_assert_int_eq(reward_of(&flat, REWARD_JPEG_INCOMPRESSIBILITY, &picture, NULL), 0);
    for (int i = 0; i < 64 * 64 * 3; i++) {
        state = state * 1664525u + 1013904223u;
        picture.rgb[i] = (uint8_t)(state >> 24);
    }
    ck_assert_int_eq(reward_of(&noise, REWARD_JPEG_INCOMPRESSIBILITY, &picture, NULL), 0);
    ck_assert_int_eq(reward_of(&minus, REWARD_JPEG_COMPRESSIBILITY, &picture, NULL), 0);
    /* kB at quality 95: about 0.7 for a flat 64x64 picture, 5.4 for noise. */
    ck_assert_msg(flat > 0.6 && flat < 0.8, "flat %g", flat);
    ck_assert_msg(noise > 4.5 && noise < 6.5, "noise %g", noise);
    ck_assert_double_eq(minus, -noise);
    image_done(&picture);
}
END_TEST

START_TEST(an_unknown_reward_is_refused_with_the_list)
{
    enum reward_kind kind;
    struct err e = {0};
    for (int k = 0; k < REWARD_KIND_COUNT; k++) {
        ck_assert_int_eq(reward_kind_of(&kind, reward_names[k], &e), 0);
        ck_assert_int_eq((int)kind, k);
    }
    ck_assert_int_lt(reward_kind_of(&kind, "beauty", &e), 0);
    ck_assert_ptr_nonnull(
        strstr(e.text, "no built-in reward 'beauty'; there are jpeg_incompressibility"));
}
END_TEST

SUITE("rewards/rewards", 20, colourfulness_of_known_pictures, warmth_is_red_less_blue, brightness_is_mean_luma,
      jpeg_rewards_order_flat_circle_and_noise, an_unknown_reward_is_refused_with_the_list)
