#include "replay/replay_codec.h"

#include "base/hash.h"
#include "base/mem.h"
#include "support/suite.h"
#include "support/trajectories.h"

#include <math.h>
#include <string.h>

struct stored {
    struct trajectory *t;
    uint8_t *meta;
    size_t bytes;
    uint32_t identity;
};

static struct stored store(uint64_t counter)
{
    struct stored s = {
        .t = trajectories_make_scored(3, counter, &(struct trajectory_shape){.policy_version = 5})};
    struct err e;
    ck_assert_msg(replay_encode(s.t, &s.meta, &s.bytes, &s.identity, &e) == 0, "%s", e.text);
    return s;
}

static void done(struct stored *s)
{
    trajectory_free(s->t);
    mem_free(s->meta);
}

static int decode(const struct stored *s, struct trajectory **out, struct err *e)
{
    return replay_decode(s->meta, s->bytes, (const uint8_t *)s->t->latents,
                         replay_latents_bytes(s->t), out, e);
}

/* After a change on purpose, so that the checksum does not hide the check behind it. */
static void seal(struct stored *s)
{
    const uint32_t crc = hash_crc32c(0, s->meta, s->bytes - 4);
    memcpy(s->meta + s->bytes - 4, &crc, 4);
}

START_TEST(what_is_stored_comes_back_whole)
{
    struct stored s = store(11);
    struct trajectory *got = NULL;
    struct err e;
    ck_assert_msg(decode(&s, &got, &e) == 0, "%s", e.text);
    ck_assert_mem_eq(got->id, s.t->id, sizeof got->id);
    ck_assert_str_eq(got->prompt, s.t->prompt);
    ck_assert_str_eq(got->metadata, s.t->metadata);
    ck_assert_str_eq(got->tag, s.t->tag);
    ck_assert_uint_eq(got->policy_version, 5);
    ck_assert_mem_eq(got->policy_digest, s.t->policy_digest, 32);
    ck_assert_uint_eq(got->state_count, s.t->state_count);
    for (uint32_t i = 0; i < got->state_count; i++) {
        ck_assert_uint_eq(got->states[i].timestep, s.t->states[i].timestep);
        ck_assert_int_eq(got->states[i].terminal, s.t->states[i].terminal);
        ck_assert_int_eq(got->states[i].has_image, s.t->states[i].has_image);
        ck_assert_msg(got->states[i].reward == s.t->states[i].reward, "state %u", i);
    }
    for (uint32_t i = 0; i < got->transition_count; i++)
        ck_assert_msg(got->transitions[i].log_prob == s.t->transitions[i].log_prob, "transition %u",
                      i);
    ck_assert_mem_eq(got->latents, s.t->latents, replay_latents_bytes(s.t));
    ck_assert_msg(got->reward == s.t->reward, "reward");
    ck_assert_uint_eq(got->component_count, 2);
    ck_assert_str_eq(got->components[1].name, "strict");
    ck_assert_uint_eq(got->thumbnail_bytes, 5);
    trajectory_free(got);
    done(&s);
}
END_TEST

START_TEST(identity_ignores_rewards_and_sees_everything_the_sampler_made)
{
    struct stored s = store(11);
    uint8_t *meta;
    size_t bytes;
    uint32_t identity;
    s.t->reward += 0.5;
    s.t->states[1].reward = 9.0;
    ck_assert_int_eq(replay_encode(s.t, &meta, &bytes, &identity, NULL), 0);
    ck_assert_uint_eq(identity, s.identity);
    mem_free(meta);
    s.t->latents[17] += 1e-6f;
    ck_assert_int_eq(replay_encode(s.t, &meta, &bytes, &identity, NULL), 0);
    ck_assert_uint_ne(identity, s.identity);
    mem_free(meta);
    s.t->latents[17] -= 1e-6f;
    s.t->transitions[0].log_prob += 1e-9;
    ck_assert_int_eq(replay_encode(s.t, &meta, &bytes, &identity, NULL), 0);
    ck_assert_uint_ne(identity, s.identity);
    mem_free(meta);
    done(&s);
}
END_TEST

START_TEST(every_flipped_bit_of_the_header_is_refused)
{
    struct stored s = store(1);
    struct trajectory *got = NULL;
    for (size_t i = 0; i < s.bytes * 8; i++) {
        s.meta[i / 8] ^= (uint8_t)(1u << i % 8);
        ck_assert_msg(decode(&s, &got, NULL) == -1, "bit %zu", i);
        s.meta[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    done(&s);
}
END_TEST

START_TEST(a_flipped_bit_of_a_latent_is_refused_by_its_state)
{
    struct stored s = store(1);
    struct trajectory *got = NULL;
    struct err e;
    const size_t one = replay_latents_bytes(s.t) / s.t->state_count;
    ((uint8_t *)s.t->latents)[2 * one + 5] ^= 4;
    ck_assert_int_eq(decode(&s, &got, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "state 2"));
    done(&s);
}
END_TEST

START_TEST(every_truncation_and_a_trailing_byte_are_refused)
{
    struct stored s = store(1);
    struct trajectory *got = NULL;
    const size_t whole = s.bytes;
    for (s.bytes = 4; s.bytes < whole; s.bytes++) {
        uint8_t saved[4];
        memcpy(saved, s.meta + s.bytes - 4, 4);
        seal(&s);
        ck_assert_msg(decode(&s, &got, NULL) == -1, "cut to %zu", s.bytes);
        memcpy(s.meta + s.bytes - 4, saved, 4);
    }
    uint8_t *longer = mem_new(whole + 1, 1);
    memcpy(longer, s.meta, whole);
    mem_free(s.meta);
    s.meta = longer;
    s.bytes = whole + 1;
    seal(&s);
    ck_assert_int_eq(decode(&s, &got, NULL), -1);
    done(&s);
}
END_TEST

START_TEST(a_text_that_would_come_back_shorter_is_refused)
{
    struct stored s = store(1);
    struct trajectory *got = NULL;
    const size_t n = strlen(s.t->prompt);
    size_t at = 0;
    while (memcmp(s.meta + at, s.t->prompt, n) != 0)
        at++;
    s.meta[at + n / 2] = 0;
    seal(&s);
    ck_assert_int_eq(decode(&s, &got, NULL), -1);
    done(&s);
}
END_TEST

START_TEST(a_reward_that_is_no_number_is_never_decoded)
{
    struct stored s = store(1);
    mem_free(s.meta);
    s.t->reward = (double)NAN;
    struct trajectory *got = NULL;
    struct err e;
    ck_assert_int_eq(replay_encode(s.t, &s.meta, &s.bytes, &s.identity, &e), 0);
    ck_assert_int_eq(decode(&s, &got, &e), -1);
    ck_assert_int_eq(e.code, ERR_NONFINITE);
    done(&s);
}
END_TEST

SUITE("replay/codec", 20, what_is_stored_comes_back_whole,
      identity_ignores_rewards_and_sees_everything_the_sampler_made,
      every_flipped_bit_of_the_header_is_refused, a_flipped_bit_of_a_latent_is_refused_by_its_state,
      every_truncation_and_a_trailing_byte_are_refused, a_text_that_would_come_back_shorter_is_refused,
      a_reward_that_is_no_number_is_never_decoded)
