#include "scorer/work.h"

#include "base/mem.h"
#include "support/suite.h"
#include "support/trajectories.h"

#include <string.h>

#define PER 3 /* images of one test trajectory: two predicted, one final */

static struct backend_score scores[64];

static struct work_item *add(struct work *w, uint64_t counter)
{
    struct trajectory *t = trajectories_make(1, counter, NULL);
    return work_add(w, &t, WORK_SCORING);
}

static void succeed(struct work *w, uint64_t batch, size_t n, double first)
{
    for (size_t i = 0; i < n; i++) {
        scores[i] = (struct backend_score){.value = first + (double)i, .component_count = 1};
        memcpy(scores[i].components[0].name, "strict", 7);
        scores[i].components[0].value = 1.0;
    }
    work_done(w, &(struct backend_result){.batch = batch, .scores = scores, .count = n});
}

START_TEST(batches_run_across_trajectories_and_come_back_to_their_images)
{
    struct work *w = work_new(2.0, 1.0);
    struct backend_item items[4];
    uint64_t batch[2];
    struct work_item *a = add(w, 1), *b = add(w, 2);
    ck_assert_uint_eq(work_waiting(w), 2 * PER);
    ck_assert_uint_eq(work_batch(w, items, 4, UINT64_MAX, &batch[0]), 4);
    ck_assert_ptr_eq(items[2].rgb, a->trajectory->final_image);
    ck_assert_ptr_eq(items[3].rgb, b->trajectory->images);
    ck_assert_uint_eq(work_batch(w, items, 4, UINT64_MAX, &batch[1]), 2);
    ck_assert_uint_eq(work_batch(w, items, 4, UINT64_MAX, &batch[1]), 0);
    succeed(w, batch[1], 2, 20.0); /* out of order */
    ck_assert_int_eq(b->state, WORK_SCORING);
    succeed(w, batch[0], 4, 10.0);
    ck_assert_int_eq(a->state, WORK_SCORED);
    ck_assert_int_eq(b->state, WORK_SCORED);
    const struct trajectory *t = a->trajectory;
    ck_assert_msg(t->states[1].reward == 21.0 && t->states[2].reward == 23.0, "states");
    ck_assert_msg(t->reward == 25.0 && t->states[3].reward == 25.0, "terminal: %g", t->reward);
    ck_assert_msg(t->states[0].reward == 0.0, "no image, no forward-looking term");
    ck_assert_str_eq(t->components[0].name, "raw");
    ck_assert_msg(t->components[0].value == 12.0, "raw");
    ck_assert_msg(b->trajectory->states[1].reward == 27.0 && b->trajectory->reward == 43.0,
                  "second");
    work_free(w);
}
END_TEST

START_TEST(undecoded_trajectories_give_latents_and_never_mix_with_pictures)
{
    struct work *w = work_new(1.0, 0.0);
    struct backend_item items[16];
    uint64_t batch;
    const struct work_item *a = add(w, 1);
    struct work_item *b = add(w, 2);
    struct trajectory *t = b->trajectory;
    t->undecoded = true;
    t->images = mem_grow(t->images, (PER - 1), trajectory_image_bytes(t));
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), PER);
    ck_assert_ptr_eq(items[0].rgb, a->trajectory->images);
    ck_assert_ptr_null(items[0].latent);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), PER);
    ck_assert_ptr_null(items[0].rgb);
    ck_assert_ptr_eq(items[1].latent, t->images + trajectory_latent_elements(t) * sizeof(float));
    ck_assert_ptr_eq(items[PER - 1].latent, t->final_image);
    ck_assert_uint_eq((uint64_t)items[0].latent_height * items[0].latent_width * items[0].latent_channels,
                      trajectory_latent_elements(t));
    work_free(w);
}
END_TEST

START_TEST(a_batch_is_bounded_in_bytes_too)
{
    struct work *w = work_new(1.0, 0.0);
    struct backend_item items[16];
    uint64_t batch;
    const struct work_item *a = add(w, 1);
    add(w, 2);
    const uint64_t image = (uint64_t)a->trajectory->image_height * a->trajectory->image_width * 3;
    ck_assert_uint_eq(work_batch(w, items, 16, 2 * image + image / 2, &batch), 2);
    ck_assert_uint_eq(work_batch(w, items, 16, 3 * image, &batch), 3);
    ck_assert_uint_eq(work_batch(w, items, 16, 1, &batch), 1); /* one at the least */
    ck_assert_uint_eq(work_batch(w, items, 16, 1, &batch), 0);
    work_free(w);
}
END_TEST

START_TEST(a_failure_of_several_is_cut_apart_and_only_the_guilty_one_fails)
{
    struct work *w = work_new(1.0, 0.0);
    struct backend_item items[16];
    uint64_t batch;
    struct work_item *a = add(w, 1), *b = add(w, 2);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), 2 * PER);
    work_done(w,
              &(struct backend_result){.batch = batch, .failure = BACKEND_REFUSED, .reason = "no"});
    ck_assert_int_eq(a->state, WORK_SCORING);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), PER);
    work_done(w,
              &(struct backend_result){.batch = batch, .failure = BACKEND_REFUSED, .reason = "no"});
    ck_assert_int_eq(a->state, WORK_FAILED);
    ck_assert_int_eq(a->failure, BACKEND_REFUSED);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), PER);
    succeed(w, batch, PER, 0.0);
    ck_assert_int_eq(b->state, WORK_SCORED);
    work_free(w);
}
END_TEST

START_TEST(a_restarted_item_joins_no_batch_that_another_began)
{
    struct work *w = work_new(1.0, 0.0);
    struct backend_item items[16];
    uint64_t batch;
    struct work_item *first = add(w, 1), *a = add(w, 2);
    const struct work_item *b = add(w, 3);
    a->alone = true;
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), 2 * PER); /* first and b, past a */
    ck_assert_uint_eq(first->submitted + b->submitted, 2 * PER);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), PER);
    ck_assert_uint_eq(a->submitted, PER);
    work_free(w);
}
END_TEST

START_TEST(a_restarted_item_takes_nothing_from_earlier_batches)
{
    struct work *w = work_new(1.0, 0.0);
    struct backend_item items[16];
    uint64_t first, second, alone;
    struct work_item *a = add(w, 1);
    struct work_item *b = add(w, 2);
    ck_assert_uint_eq(work_batch(w, items, 2, UINT64_MAX, &first), 2);  /* a, a */
    ck_assert_uint_eq(work_batch(w, items, 2, UINT64_MAX, &second), 2); /* a, b */
    work_done(w,
              &(struct backend_result){.batch = second, .failure = BACKEND_ANSWER, .reason = "?"});
    succeed(w, first, 2, 5.0); /* from before the restart */
    ck_assert_uint_eq(a->scored, 0);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &alone), PER);
    succeed(w, alone, PER, 1.0);
    ck_assert_int_eq(a->state, WORK_SCORED);
    ck_assert_msg(a->trajectory->reward == 3.0, "%g", a->trajectory->reward);
    ck_assert_int_eq(b->state, WORK_SCORING);
    work_free(w);
}
END_TEST

START_TEST(an_item_removed_while_its_batch_is_out_is_not_touched)
{
    struct work *w = work_new(1.0, 0.0);
    struct backend_item items[16];
    uint64_t batch;
    add(w, 1);
    struct work_item *b = add(w, 2);
    ck_assert_uint_eq(work_batch(w, items, 16, UINT64_MAX, &batch), 2 * PER);
    work_remove(w, 0);
    succeed(w, batch, 2 * PER, 0.0);
    ck_assert_int_eq(b->state, WORK_SCORED);
    ck_assert_uint_eq(work_count(w), 1);
    work_free(w);
}
END_TEST

START_TEST(a_scale_that_overflows_is_a_failure_and_not_a_reward)
{
    for (size_t image = 0; image < PER; image++) {
        struct work *w = work_new(1e200, 0.0);
        struct backend_item items[PER];
        uint64_t batch;
        struct work_item *a = add(w, 1);
        ck_assert_uint_eq(work_batch(w, items, PER, UINT64_MAX, &batch), PER);
        for (size_t i = 0; i < PER; i++)
            scores[i] = (struct backend_score){.value = i == image ? 1e200 : 1.0};
        work_done(w, &(struct backend_result){.batch = batch, .scores = scores, .count = PER});
        ck_assert_int_eq(a->state, WORK_FAILED);
        ck_assert_int_eq(a->failure, BACKEND_ANSWER);
        ck_assert_ptr_nonnull(strstr(a->reason, "reward.scale"));
        work_free(w);
    }
}
END_TEST

SUITE("scorer/work", 10, undecoded_trajectories_give_latents_and_never_mix_with_pictures,
      a_batch_is_bounded_in_bytes_too, batches_run_across_trajectories_and_come_back_to_their_images,
      a_failure_of_several_is_cut_apart_and_only_the_guilty_one_fails,
      a_restarted_item_takes_nothing_from_earlier_batches, a_restarted_item_joins_no_batch_that_another_began,
      an_item_removed_while_its_batch_is_out_is_not_touched,
      a_scale_that_overflows_is_a_failure_and_not_a_reward)
