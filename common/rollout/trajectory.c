#include "rollout/trajectory.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define STEP_MAX 1000u
#define TIMESTEP_MAX 100000u
#define CHANNELS_MAX 64u
#define LATENT_SIDE_MAX 512u
#define IMAGE_SIDE_MAX 4096u
#define GUIDANCE_MAX 100.0

struct trajectory *trajectory_new(void)
{
    struct trajectory *t = mem_new(1, sizeof *t);
    t->reward = (double)NAN;
    return t;
}

void trajectory_free(struct trajectory *t)
{
    if (t == NULL)
        return;
    mem_free(t->prompt);
    mem_free(t->metadata);
    mem_free(t->states);
    mem_free(t->transitions);
    mem_free(t->latents);
    mem_free(t->images);
    mem_free(t->final_image);
    mem_free(t->thumbnail);
    mem_free(t);
}

static void put_le(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

void trajectory_id(uint8_t id[TRAJECTORY_ID_BYTES], const char *run_id, uint32_t slot,
                   uint64_t counter)
{
    /* Each part is ended by its NUL or its fixed width, so that no two lists of parts read alike.
     */
    static const char label[] = "trajectory";
    uint8_t numbers[12];
    put_le(numbers, slot, 4);
    put_le(numbers + 4, counter, 8);
    struct hash_sha256 h;
    uint8_t digest[HASH_SHA256_BYTES];
    hash_sha256_begin(&h);
    hash_sha256_add(&h, label, sizeof label);
    hash_sha256_add(&h, run_id, strnlen(run_id, TRAJECTORY_RUN_DIGITS));
    hash_sha256_add(&h, "", 1);
    hash_sha256_add(&h, numbers, sizeof numbers);
    hash_sha256_end(&h, digest);
    memcpy(id, digest, TRAJECTORY_ID_BYTES);
}

size_t trajectory_latent_elements(const struct trajectory *t)
{
    return (size_t)t->latent_channels * t->latent_height * t->latent_width;
}

size_t trajectory_image_count(const struct trajectory *t)
{
    size_t n = 0;
    for (uint32_t i = 0; i < t->state_count; i++)
        n += t->states[i].has_image;
    return n;
}

size_t trajectory_image_bytes(const struct trajectory *t)
{
    return t->undecoded ? trajectory_latent_elements(t) * sizeof(float)
                        : (size_t)t->image_height * t->image_width * 3;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return any == 0;
}

static bool is_utf8(const char *text)
{
    return utf8_valid(text, strlen(text));
}

static int check_text(const struct trajectory *t, struct err *e)
{
    if (t->prompt == NULL || t->metadata == NULL)
        return err_set(e, ERR_INVALID, "trajectory: no prompt or metadata text");
    if (strlen(t->prompt) > TRAJECTORY_PROMPT_BYTES_MAX || !is_utf8(t->prompt))
        return err_set(e, ERR_INVALID, "trajectory: prompt is not UTF-8 of at most %d bytes",
                       TRAJECTORY_PROMPT_BYTES_MAX);
    const size_t n = strlen(t->metadata);
    if (n > TRAJECTORY_METADATA_BYTES_MAX || !is_utf8(t->metadata) ||
        (n > 0 && (t->metadata[0] != '{' || t->metadata[n - 1] != '}')))
        return err_set(e, ERR_INVALID,
                       "trajectory: metadata is not a JSON object of at most %d bytes",
                       TRAJECTORY_METADATA_BYTES_MAX);
    if (memchr(t->tag, 0, sizeof t->tag) == NULL || !is_utf8(t->tag))
        return err_set(e, ERR_INVALID, "trajectory: tag is not UTF-8 of fewer than %d bytes",
                       TRAJECTORY_TAG_BYTES_MAX);
    return 0;
}

static int check_sizes(const struct trajectory *t, struct err *e)
{
    if (t->latent_channels == 0 || t->latent_channels > CHANNELS_MAX || t->latent_height == 0 ||
        t->latent_height > LATENT_SIDE_MAX || t->latent_width == 0 ||
        t->latent_width > LATENT_SIDE_MAX)
        return err_set(e, ERR_INVALID, "trajectory: latent [%u,%u,%u] is outside 1..%u,1..%u,1..%u",
                       t->latent_height, t->latent_width, t->latent_channels, LATENT_SIDE_MAX,
                       LATENT_SIDE_MAX, CHANNELS_MAX);
    if (t->image_height == 0 || t->image_height > IMAGE_SIDE_MAX || t->image_width == 0 ||
        t->image_width > IMAGE_SIDE_MAX)
        return err_set(e, ERR_INVALID, "trajectory: image %ux%u is outside 1..%u", t->image_width,
                       t->image_height, IMAGE_SIDE_MAX);
    if (t->state_count < 2 || t->state_count > TRAJECTORY_STATES_MAX || t->transition_count == 0 ||
        t->transition_count >= t->state_count)
        return err_set(
            e, ERR_INVALID,
            "trajectory: %u states and %u transitions; 2..%d states and fewer transitions",
            t->state_count, t->transition_count, TRAJECTORY_STATES_MAX);
    if (t->states == NULL || t->transitions == NULL || t->latents == NULL)
        return err_set(e, ERR_INVALID, "trajectory: no states, transitions or latents");
    return 0;
}

static int check_states(const struct trajectory *t, bool scored, struct err *e)
{
    int terminals = 0;
    for (uint32_t i = 0; i < t->state_count; i++) {
        const struct trajectory_state *s = &t->states[i];
        if (s->step > STEP_MAX || s->timestep > TIMESTEP_MAX)
            return err_set(e, ERR_INVALID, "trajectory: states[%u] has step %u, timestep %u", i,
                           s->step, s->timestep);
        if (i > 0 && s->step <= t->states[i - 1].step)
            return err_set(e, ERR_INVALID, "trajectory: states[%u].step %u does not rise", i,
                           s->step);
        if (scored && !isfinite(s->reward))
            return err_set(e, ERR_NONFINITE, "trajectory: states[%u].reward is %g", i, s->reward);
        terminals += s->terminal;
    }
    if (terminals > 1)
        return err_set(e, ERR_INVALID, "trajectory: %d terminal states, at most one", terminals);
    return 0;
}

static int check_transitions(const struct trajectory *t, struct err *e)
{
    for (uint32_t i = 0; i < t->transition_count; i++) {
        const struct trajectory_transition *r = &t->transitions[i];
        if (i > 0 && r->step <= t->transitions[i - 1].step)
            return err_set(e, ERR_INVALID, "trajectory: transitions[%u].step %u does not rise", i,
                           r->step);
        if (r->from >= t->state_count || r->to >= t->state_count)
            return err_set(e, ERR_INVALID,
                           "trajectory: transitions[%u] joins states %u and %u of %u", i, r->from,
                           r->to, t->state_count);
        if (t->states[r->from].step != r->step || t->states[r->to].step != r->step + 1)
            return err_set(e, ERR_INVALID,
                           "trajectory: transitions[%u] of step %u joins states of steps %u and %u",
                           i, r->step, t->states[r->from].step, t->states[r->to].step);
        if (!isfinite(r->log_prob))
            return err_set(e, ERR_NONFINITE, "trajectory: transitions[%u].log_prob is %g", i,
                           r->log_prob);
    }
    return 0;
}

static int check_scores(const struct trajectory *t, struct err *e)
{
    if (!isfinite(t->reward))
        return err_set(e, ERR_NONFINITE, "trajectory: reward is %g", t->reward);
    if (t->component_count > TRAJECTORY_COMPONENTS_MAX)
        return err_set(e, ERR_INVALID, "trajectory: %u reward components, at most %d",
                       t->component_count, TRAJECTORY_COMPONENTS_MAX);
    for (uint32_t i = 0; i < t->component_count; i++) {
        const struct trajectory_component *c = &t->components[i];
        if (memchr(c->name, 0, sizeof c->name) == NULL || c->name[0] == 0)
            return err_set(e, ERR_INVALID, "trajectory: components[%u] has no proper name", i);
        if (!isfinite(c->value))
            return err_set(e, ERR_NONFINITE, "trajectory: component %s is %g", c->name, c->value);
    }
    return 0;
}

/* Clean latents that came in the place of images. */
static int check_undecoded(const struct trajectory *t, const uint8_t *images, size_t count, const char *what, struct err *e)
{
    const size_t values = images != NULL ? count * trajectory_latent_elements(t) : 0;
    for (size_t i = 0; i < values; i++) {
        float v;
        memcpy(&v, images + i * sizeof v, sizeof v);
        if (!isfinite(v))
            return err_set(e, ERR_NONFINITE, "trajectory: %s is not finite at %zu", what, i);
    }
    return 0;
}

int trajectory_check(const struct trajectory *t, bool scored, struct err *e)
{
    if (check_text(t, e) < 0 || check_sizes(t, e) < 0 || check_states(t, scored, e) < 0 ||
        check_transitions(t, e) < 0)
        return -1;
    if (!isfinite(t->guidance) || t->guidance < 0.0 || t->guidance > GUIDANCE_MAX)
        return err_set(e, ERR_INVALID, "trajectory: guidance %g is outside 0..%g", t->guidance,
                       GUIDANCE_MAX);
    if ((t->policy_version == 0) != is_zero(t->policy_digest, sizeof t->policy_digest))
        return err_set(e, ERR_INVALID,
                       "trajectory: policy version %llu with %s digest; version 0, the base model, "
                       "alone has none",
                       (unsigned long long)t->policy_version,
                       t->policy_version == 0 ? "a" : "an empty");
    if (is_zero(t->schedule_digest, sizeof t->schedule_digest))
        return err_set(e, ERR_INVALID, "trajectory: no schedule digest");
    if (is_zero(t->id, sizeof t->id))
        return err_set(e, ERR_INVALID, "trajectory: no id");
    const size_t elements = trajectory_latent_elements(t);
    for (uint32_t i = 0; i < t->state_count; i++)
        for (size_t j = 0; j < elements; j++)
            if (!isfinite(t->latents[i * elements + j]))
                return err_set(e, ERR_NONFINITE,
                               "trajectory: latent of states[%u] is not finite at %zu", i, j);
    if (t->undecoded && (check_undecoded(t, t->images, trajectory_image_count(t), "a predicted clean latent", e) < 0 ||
                         check_undecoded(t, t->final_image, 1, "the final latent", e) < 0))
        return -1;
    return scored ? check_scores(t, e) : 0;
}

uint32_t trajectory_stratum(uint32_t trainable, uint32_t n, uint32_t i, uint32_t *first)
{
    assert(n > 0 && n <= trainable && i < n);
    if (i + 1 == n) {
        *first = trainable - 1;
        return 1;
    }
    const uint64_t others = trainable - 1;
    *first = (uint32_t)(i * others / (n - 1));
    return (uint32_t)((i + 1) * others / (n - 1)) - *first;
}

uint32_t trajectory_choose(bool *keep, uint32_t steps, uint32_t trainable, double fraction,
                           const double *u)
{
    assert(trainable > 0 && trainable <= steps && fraction > 0.0 && fraction <= 1.0);
    /* A hair below: 0.3 * 10 must give 3 strata although it is 3.0000000000000004. */
    const uint32_t least = trainable < 2 ? trainable : 2;
    uint32_t n = (uint32_t)ceil(fraction * trainable - 1e-9);
    n = n < least ? least : n > trainable ? trainable : n;
    for (uint32_t k = 0; k < steps; k++)
        keep[k] = false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t first;
        const uint32_t width = trajectory_stratum(trainable, n, i, &first);
        assert(u[i] >= 0.0 && u[i] < 1.0);
        keep[first + (uint32_t)(u[i] * width)] = true;
    }
    return n;
}
