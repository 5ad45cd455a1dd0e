#include "support/trajectories.h"

#include "base/hash.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void trajectories_policy_digest(uint8_t out[TRAJECTORY_DIGEST_BYTES], uint64_t version)
{
    memset(out, 0, TRAJECTORY_DIGEST_BYTES);
    if (version > 0)
        hash_sha256(out, &version, sizeof version);
}

void trajectories_schedule_digest(uint8_t out[TRAJECTORY_DIGEST_BYTES])
{
    hash_sha256(out, "schedule", 8);
}

static void fill_bytes(uint8_t *out, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (uint8_t)(seed >> 24);
    }
}

static void fill_states(struct trajectory *t)
{
    for (uint32_t i = 0; i < t->state_count; i++) {
        t->states[i] = (struct trajectory_state){.step = i,
                                                 .timestep = 1000 - i,
                                                 .has_image = i > 0,
                                                 .terminal = i + 1 == t->state_count,
                                                 .reward = (double)NAN};
        if (t->states[i].terminal)
            t->states[i].has_image = false;
        if (i > 0)
            t->transitions[i - 1] = (struct trajectory_transition){
                .step = i - 1, .from = i - 1, .to = i, .log_prob = -100.5 - i};
    }
}

struct trajectory *trajectories_make(uint32_t slot, uint64_t counter,
                                     const struct trajectory_shape *shape)
{
    const struct trajectory_shape s = shape != NULL ? *shape : (struct trajectory_shape){0};
    struct trajectory *t = trajectory_new();
    trajectory_id(t->id, TRAJECTORIES_RUN, slot, counter);
    t->slot = slot;
    t->counter = counter;
    t->prompt_index = (uint32_t)counter;
    mem_free(t->prompt);
    mem_free(t->metadata);
    t->prompt = mem_strdup(s.prompt != NULL ? s.prompt : "a red circle");
    t->metadata = mem_strdup("{\"k\":1}");
    snprintf(t->tag, sizeof t->tag, "single_object");
    t->policy_version = s.policy_version;
    trajectories_policy_digest(t->policy_digest, s.policy_version);
    trajectories_schedule_digest(t->schedule_digest);
    t->guidance = 1.0;
    t->latent_channels = 4;
    t->latent_height = t->latent_width = s.latent_side > 0 ? s.latent_side : 4;
    t->image_height = t->image_width = s.image_side > 0 ? s.image_side : 64;
    t->state_count = s.states > 0 ? s.states : 4;
    t->transition_count = t->state_count - 1;
    t->states = mem_new(t->state_count, sizeof *t->states);
    t->transitions = mem_new(t->transition_count, sizeof *t->transitions);
    fill_states(t);
    const size_t n = trajectory_latent_elements(t) * t->state_count;
    t->latents = mem_slab(n * sizeof(float), "test latents", NULL);
    for (size_t i = 0; i < n; i++)
        t->latents[i] = sinf((float)(slot * 31 + counter * 7 + i));
    const size_t image = (size_t)t->image_height * t->image_width * 3;
    const size_t images = trajectory_image_count(t);
    t->images = mem_new(images, image);
    fill_bytes(t->images, images * image, slot * 977 + (uint32_t)counter);
    t->final_image = mem_new(1, image);
    fill_bytes(t->final_image, image, slot * 389 + (uint32_t)counter);
    return t;
}

struct trajectory *trajectories_make_scored(uint32_t slot, uint64_t counter,
                                            const struct trajectory_shape *shape)
{
    struct trajectory *t = trajectories_make(slot, counter, shape);
    mem_free(t->images);
    mem_free(t->final_image);
    t->images = t->final_image = NULL;
    t->reward = 0.25 * (double)(counter % 5) - 0.5;
    for (uint32_t i = 0; i < t->state_count; i++)
        t->states[i].reward = 0.1 * i;
    t->component_count = 2;
    t->components[0] = (struct trajectory_component){.name = "soft", .value = t->reward};
    t->components[1] = (struct trajectory_component){.name = "strict", .value = 1.0};
    t->thumbnail_bytes = 5;
    t->thumbnail = mem_new(5, 1);
    memcpy(t->thumbnail, "thumb", 5);
    return t;
}
