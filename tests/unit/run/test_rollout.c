/* Rollouts of the tiny model: which states get a picture, and which picture. */
#include "run/rollout.h"
#include "run/run_chain.h"
#include "support/suite.h"

#include <string.h>

#define MODEL "tests/golden/tiny-sd/model"
#define STEPS 6
#define COUNT 2

static struct pipeline *p;
static struct transition_kernel kernels[STEPS];

static void make(struct trajectory *out[COUNT], double abar)
{
    struct err e;
    static const struct run_prompt prompts[] = {{"a b", "", ""}, {"c", "", ""}};
    const struct prompt_set set = {2, (struct run_prompt *)(uintptr_t)prompts};
    const struct policy_ref base = {0};
    struct run_spec run = {.run_id = "0123456789abcdef",
                           .seed = 5,
                           .steps = STEPS,
                           .eta = 1.0,
                           .guidance = 1.0,
                           .variance = "floor",
                           .variance_floor = 0.25,
                           .last_step_mean = true,
                           .transition_fraction = 1.0,
                           .group_size = 1,
                           .forward_looking = true,
                           .forward_looking_abar = abar};
    ck_assert_msg(run_chain_plan(kernels, &run, pipeline_schedule(p), &e) == 0, "%s", e.text);
    const struct rollout_request q = {&run, kernels, &set, &base, 0, 0, COUNT};
    ck_assert_msg(rollout_make(out, p, &q, NULL, NULL, &e) == 0, "%s", e.text);
    for (int i = 0; i < COUNT; i++)
        ck_assert_msg(trajectory_check(out[i], false, &e) == 0, "%s", e.text);
}

START_TEST(states_near_noise_get_no_picture_and_the_others_the_same_one)
{
    struct err e;
    struct trajectory *all[COUNT], *some[COUNT];
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s",
                  e.text);
    make(all, 0.0);
    const double abar = kernels[2].abar_t;
    make(some, abar);
    const size_t bytes = (size_t)all[0]->image_height * all[0]->image_width * 3;
    for (int i = 0; i < COUNT; i++) {
        ck_assert_uint_eq(trajectory_image_count(all[i]),
                          STEPS - 1); /* the state before the last step is terminal */
        ck_assert_uint_eq(trajectory_image_count(some[i]), STEPS - 3);
        size_t image = 0;
        for (uint32_t j = 0; j < some[i]->state_count; j++) {
            const struct trajectory_state *s = &some[i]->states[j];
            ck_assert_int_eq(s->has_image, !s->terminal && s->step >= 2);
            if (s->has_image)
                ck_assert_mem_eq(some[i]->images + image++ * bytes,
                                 all[i]->images + s->step * bytes, bytes);
        }
        trajectory_free(all[i]);
        trajectory_free(some[i]);
    }
    pipeline_close(p);
}
END_TEST

SUITE("run/rollout", 60, states_near_noise_get_no_picture_and_the_others_the_same_one)
