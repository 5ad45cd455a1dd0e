#include "shapes/diversity.h"
#include "support/suite.h"

#include <math.h>

static bool seen[DIVERSITY_SAMPLES_MAX];
static struct judge_attributes samples[DIVERSITY_SAMPLES_MAX];

static void near(double got, double want, const char *what)
{
    ck_assert_msg(fabs(got - want) < 1e-9, "%s: got %.12g want %.12g", what, got, want);
}

START_TEST(uniform_attributes_give_their_logarithm)
{
    const size_t n =
        8 * 9 * 12; /* all tuples of colour, place and (background, texture, size) apart */
    struct diversity d;
    for (size_t i = 0; i < n; i++) {
        const int r = (int)(i / 72);
        samples[i] = (struct judge_attributes){SHAPE_STAR,       (int)(i % 8), r % 3,
                                               (int)(i / 8 % 9), r % 6,        r % 4};
        seen[i] = true;
    }
    diversity_of(&d, samples, seen, n);
    near(d.colour_bits, 3.0, "colour");
    near(d.place_bits, log2(9.0), "place");
    near(d.size_bits, log2(3.0), "size");
    near(d.background_bits, log2(6.0), "background");
    near(d.texture_bits, 2.0, "texture");
    near(d.total_bits, 5.0 + log2(9.0) + log2(3.0) + log2(6.0), "total");
    near(d.seen, 1.0, "seen");
    near(d.distinct, 64.0, "distinct");
}
END_TEST

START_TEST(one_picture_over_and_over_has_no_diversity)
{
    struct diversity d;
    for (int i = 0; i < 64; i++) {
        samples[i] = (struct judge_attributes){1, 2, 1, 3, 4, 0};
        seen[i] = true;
    }
    diversity_of(&d, samples, seen, 64);
    near(d.total_bits, 0.0, "total");
    near(d.distinct, 1.0, "distinct");
}
END_TEST

START_TEST(distinct_tuples_do_not_depend_on_how_many_pictures_were_taken)
{
    /* Two tuples, half and half: in a random 64 of 128, both with near certainty; the rare one of
     * 128 with probability one half. */
    struct diversity d;
    for (int i = 0; i < 128; i++) {
        samples[i] = (struct judge_attributes){0, i % 2, 0, 0, 0, 0};
        seen[i] = true;
    }
    diversity_of(&d, samples, seen, 128);
    near(d.distinct, 2.0, "half and half");
    for (int i = 0; i < 128; i++)
        samples[i].colour = i == 5;
    diversity_of(&d, samples, seen, 128);
    near(d.distinct, 1.5, "one of 128");
}
END_TEST

START_TEST(pictures_without_an_object_are_left_out_and_counted)
{
    struct diversity d;
    for (int i = 0; i < 10; i++) {
        samples[i] = (struct judge_attributes){0, i < 5 ? i % 2 : 99, 0, 0, 0, 0};
        seen[i] = i < 4;
    }
    diversity_of(&d, samples, seen, 10);
    near(d.colour_bits, 1.0, "colour");
    near(d.seen, 0.4, "seen");
    near(d.distinct, 2.0, "distinct");
    for (int i = 0; i < 10; i++)
        seen[i] = false;
    diversity_of(&d, samples, seen, 10);
    near(d.total_bits + d.distinct + d.seen, 0.0, "nothing seen");
}
END_TEST

START_TEST(a_mean_over_prompts_and_a_share_of_the_base)
{
    const struct diversity each[2] = {
        {.total_bits = 8.0, .distinct = 40.0, .colour_bits = 3.0, .seen = 1.0},
        {.total_bits = 4.0, .distinct = 20.0, .colour_bits = 1.0, .seen = 0.5}};
    struct diversity mean;
    diversity_mean(&mean, each, 2);
    near(mean.total_bits, 6.0, "total");
    near(mean.distinct, 30.0, "distinct");
    near(mean.colour_bits, 2.0, "colour");
    near(mean.seen, 0.75, "seen");
    near(diversity_relative(&mean, &each[0]), 0.75, "relative");
    const struct diversity nothing = {0};
    near(diversity_relative(&mean, &nothing), 0.0, "a base without diversity");
}
END_TEST

SUITE("shapes/diversity", 20, uniform_attributes_give_their_logarithm,
      one_picture_over_and_over_has_no_diversity,
      distinct_tuples_do_not_depend_on_how_many_pictures_were_taken,
      pictures_without_an_object_are_left_out_and_counted,
      a_mean_over_prompts_and_a_share_of_the_base)
