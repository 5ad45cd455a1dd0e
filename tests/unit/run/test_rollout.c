/* Rollouts of the tiny model: which states get a picture, and which picture. */
#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/step.h"
#include "run/rollout.h"
#include "run/run_chain.h"
#include "support/suite.h"

#include <string.h>

#define MODEL "tests/golden/tiny-sd/model"
#define STEPS 6
#define COUNT 2

static struct pipeline *p;
static struct transition_kernel kernels[STEPS];

static bool undecoded;
static double fraction = 1.0, guidance = 1.0;
static uint32_t group_size = 1;
static uint64_t counter;
static struct run_spec run;

static void make(struct trajectory *out[COUNT], double abar, bool by_base)
{
    struct err e;
    static const struct run_prompt prompts[] = {{"a b", "", ""}, {"c", "", ""}};
    const struct prompt_set set = {2, (struct run_prompt *)(uintptr_t)prompts};
    const struct policy_ref base = {0};
    run = (struct run_spec){.run_id = "0123456789abcdef",
                            .seed = 5,
                            .steps = STEPS,
                            .eta = 1.0,
                            .guidance = guidance,
                            .variance = "floor",
                            .variance_floor = 0.25,
                            .last_step_mean = true,
                            .transition_fraction = fraction,
                            .group_size = group_size,
                            .forward_looking = true,
                            .forward_looking_abar = abar,
                            .forward_looking_base = by_base,
                            .undecoded = undecoded};
    ck_assert_msg(run_chain_plan(kernels, &run, pipeline_schedule(p), &e) == 0, "%s", e.text);
    const struct rollout_request q = {&run, kernels, &set, &base, 0, counter, COUNT};
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
    make(all, 0.0, false);
    const double abar = kernels[2].abar_t;
    make(some, abar, false);
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

START_TEST(undecoded_trajectories_carry_what_the_pictures_are_decoded_from)
{
    struct err e;
    struct trajectory *decoded[COUNT], *latent[COUNT];
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s", e.text);
    make(decoded, 0.0, false);
    undecoded = true;
    make(latent, 0.0, false);
    undecoded = false;
    const size_t bytes = trajectory_image_bytes(decoded[0]), D = trajectory_latent_elements(latent[0]);
    ck_assert_uint_eq(trajectory_image_bytes(latent[0]), D * sizeof(float));
    real *const x = mem_new(D, sizeof *x);
    uint8_t *const rgb = mem_new(bytes, 1);
    for (int i = 0; i < COUNT; i++) {
        const size_t images = trajectory_image_count(decoded[i]);
        ck_assert(latent[i]->undecoded && !decoded[i]->undecoded);
        for (size_t k = 0; k <= images; k++) {
            memcpy(x, k == images ? latent[i]->final_image : latent[i]->images + k * D * sizeof *x, D * sizeof *x);
            ck_assert_int_eq(pipeline_decode(p, rgb, x, 1, &e), 0);
            ck_assert_mem_eq(rgb, k == images ? decoded[i]->final_image : decoded[i]->images + k * bytes, bytes);
        }
        trajectory_free(decoded[i]);
        trajectory_free(latent[i]);
    }
    mem_free(rgb);
    mem_free(x);
    pipeline_close(p);
}
END_TEST

/* The picture of state j as this pipeline's model predicts it. */
static void picture_by(struct pipeline *model, const struct trajectory *t, uint32_t j, uint8_t *rgb)
{
    const size_t D = pipeline_shape(model)->latent_elements;
    static real x[16384], out[16384], x0[16384];
    ck_assert_uint_le(D, 16384);
    const struct transition_kernel *k = &kernels[t->states[j].step];
    const double time = (double)k->t;
    const real *condition;
    struct err e;
    for (size_t i = 0; i < D; i++)
        x[i] = (real)t->latents[j * D + i];
    ck_assert_int_eq(pipeline_condition(model, t->prompt, &condition, NULL, &e), 0);
    ck_assert_int_eq(pipeline_predict(model, out, NULL, x, &time, &condition, 1, 1.0, &e), 0);
    step_x0(x0, k, x, out, D);
    ck_assert_int_eq(pipeline_decode(model, rgb, x0, 1, &e), 0);
}

START_TEST(pictures_by_the_base_model_do_not_move_with_the_policy)
{
    struct err e;
    struct pipeline *base;
    struct trajectory *own[COUNT], *fixed[COUNT];
    const struct pipeline_options train = {.threads = 2, .train = true}, infer = {.threads = 1};
    guidance = 3.0; /* of the chain; a picture is the conditional branch's alone */
    ck_assert_msg(pipeline_open(&p, MODEL, &train, &e) == 0 && pipeline_open(&base, MODEL, &infer, &e) == 0, "%s",
                  e.text);
    for (int moved = 0; moved < 2; moved++) {
        make(own, 0.0, false);
        make(fixed, 0.0, true);
        const size_t bytes = (size_t)own[0]->image_height * own[0]->image_width * 3;
        uint8_t *rgb = mem_new(bytes, 1);
        for (int i = 0; i < COUNT; i++) {
            const size_t images = trajectory_image_count(own[i]);
            ck_assert_uint_eq(trajectory_image_count(fixed[i]), images);
            ck_assert_mem_eq(own[i]->final_image, fixed[i]->final_image, bytes);
            /* as long as the policy is the base model, there is no difference */
            ck_assert_int_eq(memcmp(own[i]->images, fixed[i]->images, images * bytes) == 0, !moved);
            size_t image = 0;
            for (uint32_t j = 0; j < fixed[i]->state_count; j++)
                if (fixed[i]->states[j].has_image) {
                    picture_by(base, fixed[i], j, rgb);
                    ck_assert_mem_eq(fixed[i]->images + image++ * bytes, rgb, bytes);
                }
            ck_assert_uint_eq(image, images);
            trajectory_free(own[i]);
            trajectory_free(fixed[i]);
        }
        mem_free(rgb);
        struct params *params = pipeline_params(p);
        for (size_t k = 0; k < params_length(params); k++) {
            const struct param *a = params_at(params, (int)k);
            for (size_t i = 0; i < a->count; i++)
                a->value[i] *= (real)1.2;
        }
        ck_assert_int_eq(pipeline_touch(p, &e), 0);
    }
    guidance = 1.0;
    pipeline_close(p);
    pipeline_close(base);
}
END_TEST

START_TEST(a_group_has_one_prompt_and_the_next_one_its_own)
{
    struct err e;
    struct trajectory *out[COUNT];
    uint32_t changes = 0, before = 0;
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s", e.text);
    group_size = COUNT;
    for (counter = 0; counter < 10 * COUNT; counter += COUNT) {
        make(out, 2.0, false);
        for (uint32_t i = 0; i < COUNT; i++)
            ck_assert_uint_eq(out[i]->prompt_index, out[0]->prompt_index);
        ck_assert(memcmp(out[0]->latents, out[1]->latents, sizeof(float) * trajectory_latent_elements(out[0])) != 0);
        changes += counter > 0 && out[0]->prompt_index != before;
        before = out[0]->prompt_index;
        for (uint32_t i = 0; i < COUNT; i++)
            trajectory_free(out[i]);
    }
    ck_assert_uint_gt(changes, 0);
    counter = 0;
    group_size = 1;
    pipeline_close(p);
}
END_TEST

/* Which transitions are kept is no function of the noise that made them. */
START_TEST(the_choice_of_transitions_has_draws_of_its_own)
{
    struct err e;
    struct trajectory *out[COUNT];
    uint32_t same[STEPS + 1] = {0}, made = 0;
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s", e.text);
    fraction = 0.5;
    for (counter = 0; counter < 20; counter += COUNT, made += COUNT) {
        make(out, 2.0, false);
        for (uint32_t i = 0; i < COUNT; i++) {
            for (uint32_t draw = 0; draw <= STEPS; draw++) {
                bool keep[STEPS], equal = true;
                double u[STEPS];
                struct rng g = rng_stream_id(run.seed, out[i]->id, draw);
                for (int k = 0; k < STEPS; k++)
                    u[k] = rng_uniform(&g);
                ck_assert_uint_eq(trajectory_choose(keep, STEPS, STEPS - 1, fraction, u), out[i]->transition_count);
                for (uint32_t k = 0; k < out[i]->transition_count; k++)
                    equal = equal && keep[out[i]->transitions[k].step];
                same[draw] += equal;
            }
            trajectory_free(out[i]);
        }
    }
    for (int draw = 0; draw <= STEPS; draw++)
        ck_assert_msg(same[draw] < made, "draw %d of the chain chooses", draw);
    fraction = 1.0;
    counter = 0;
    pipeline_close(p);
}
END_TEST

START_TEST(a_message_keeps_its_bound_which_follows_what_is_sent)
{
    struct err e;
    struct trajectory *out[COUNT];
    uint64_t bound[4];
    ck_assert_msg(pipeline_open(&p, MODEL, &(struct pipeline_options){.threads = 1}, &e) == 0, "%s", e.text);
    const struct pipeline_shape *shape = pipeline_shape(p);
    const uint64_t picture = shape->image_height * shape->image_width * 3;
    const uint64_t state = shape->latent_elements * sizeof(float);
    for (int i = 0; i < 4; i++) {
        fraction = i % 2 == 0 ? 1.0 : 0.3; /* all of 5 transitions, or 2 of them */
        make(out, i < 2 ? 0.0 : kernels[3].abar_t, false);
        bound[i] = rollout_bytes(&run, kernels, shape);
        for (int k = 0; k < COUNT; k++) {
            const size_t texts = strlen(out[k]->prompt) + strlen(out[k]->metadata);
            ck_assert_uint_ge(bound[i], codec_trajectory_bytes(out[k]) - texts + TRAJECTORY_PROMPT_BYTES_MAX +
                                            TRAJECTORY_METADATA_BYTES_MAX);
            trajectory_free(out[k]);
        }
    }
    fraction = 1.0;
    const uint64_t header = TRAJECTORY_PROMPT_BYTES_MAX + TRAJECTORY_METADATA_BYTES_MAX + 2048;
    ck_assert_uint_le(bound[0], 6 * (state + picture) + header);
    ck_assert_uint_le(bound[1], 4 * (state + picture) + header);
    ck_assert_uint_le(bound[2], 6 * state + 3 * picture + header);
    ck_assert_uint_le(bound[3], 4 * state + 3 * picture + header);
    pipeline_close(p);
}
END_TEST

SUITE("run/rollout", 60, a_message_keeps_its_bound_which_follows_what_is_sent, undecoded_trajectories_carry_what_the_pictures_are_decoded_from,
      pictures_by_the_base_model_do_not_move_with_the_policy, a_group_has_one_prompt_and_the_next_one_its_own,
      the_choice_of_transitions_has_draws_of_its_own,
      states_near_noise_get_no_picture_and_the_others_the_same_one)
