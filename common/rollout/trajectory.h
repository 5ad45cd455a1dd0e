/* A trajectory: one sampled image of one prompt, and the part of its denoising chain that will be
 * trained on.  Made by a sampler, given its rewards by a scorer, kept in the replay, read by the trainer.
 *
 * Chain states are numbered k = 0 (x_T, noise) .. steps (x_0).  With transition_fraction < 1 only the
 * states at the ends of the chosen transitions are carried.  Latents are float32 [H,W,C].
 * rewards: state_reward[i] is the reward of the clean image predicted at state i by the behaviour
 * policy (forward-looking, unguided); for a terminal state it is the final image's own reward. */
#ifndef DAGLINE_ROLLOUT_TRAJECTORY_H
#define DAGLINE_ROLLOUT_TRAJECTORY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAJECTORY_ID_BYTES 16
#define TRAJECTORY_DIGEST_BYTES 32
#define TRAJECTORY_STATES_MAX 256
#define TRAJECTORY_PROMPT_BYTES_MAX 2048
#define TRAJECTORY_METADATA_BYTES_MAX 16384
#define TRAJECTORY_TAG_BYTES_MAX 32
#define TRAJECTORY_COMPONENTS_MAX 16
#define TRAJECTORY_NAME_BYTES_MAX 48

struct trajectory_state {
    uint32_t step;     /* k */
    uint32_t timestep; /* t given to the UNet */
    bool has_image;    /* a predicted clean image is (or was) scored for it */
    bool terminal;     /* its reward is the final image's */
    double reward;     /* NaN until scored; finite in every replayed trajectory */
};

struct trajectory_transition {
    uint32_t step;     /* from state k = step to k + 1 */
    uint32_t from, to; /* indices into states */
    double log_prob;   /* log p(x_s | x_t) under the behaviour policy, sum over elements, nats */
};

struct trajectory_component {
    char name[TRAJECTORY_NAME_BYTES_MAX];
    double value;
};

struct trajectory {
    uint8_t id[TRAJECTORY_ID_BYTES];
    uint32_t slot;
    uint64_t counter;
    uint32_t prompt_index;
    char *prompt;   /* owned, UTF-8 */
    char *metadata; /* owned JSON object text; "" for none */
    char tag[TRAJECTORY_TAG_BYTES_MAX];
    uint64_t policy_version;
    uint8_t policy_digest[TRAJECTORY_DIGEST_BYTES]; /* zeros for the base model */
    uint8_t schedule_digest[TRAJECTORY_DIGEST_BYTES];
    double guidance;
    uint32_t latent_channels, latent_height, latent_width;
    uint32_t image_height, image_width;
    bool undecoded; /* the images below are clean latents, float32 [H,W,C] as the UNet sees them */

    uint32_t state_count, transition_count;
    struct trajectory_state *states;           /* owned [state_count], rising k */
    struct trajectory_transition *transitions; /* owned [transition_count], rising step */
    float *latents;                            /* owned [state_count][H,W,C] */

    /* Pixels for the reward, or clean latents; not stored in the replay. NULL once scored. */
    uint8_t *images;      /* owned [number of has_image states][height,width,3] */
    uint8_t *final_image; /* owned [height,width,3] */

    /* Filled by the scorer. */
    double reward; /* the final image's; NaN until scored */
    uint32_t component_count;
    struct trajectory_component components[TRAJECTORY_COMPONENTS_MAX];
    uint8_t *thumbnail; /* owned JPEG bytes or NULL */
    size_t thumbnail_bytes;
};

struct trajectory *trajectory_new(void);
/* Accepts NULL; frees everything owned. */
void trajectory_free(struct trajectory *t);

/* id = first 16 bytes of SHA-256 over ("trajectory", the first TRAJECTORY_RUN_DIGITS characters of run_id, slot,
 * counter): those name the settings, the rest the store's folder, so that a seed draws the same noise in any folder. */
#define TRAJECTORY_RUN_DIGITS 16
void trajectory_id(uint8_t id[TRAJECTORY_ID_BYTES], const char *run_id, uint32_t slot,
                   uint64_t counter);

/* Elements of one latent, H*W*C. */
size_t trajectory_latent_elements(const struct trajectory *t);
size_t trajectory_image_count(const struct trajectory *t);
/* Bytes of one image. */
size_t trajectory_image_bytes(const struct trajectory *t);

/* Every rule that a trajectory must keep wherever it came from: bounds, rising steps, indices in
 * range, finite latents (clean ones too) and log_prob, at most one terminal state, digests of the right kind;
 * `scored` also asks for finite rewards. One line naming the field on failure. */
int trajectory_check(const struct trajectory *t, bool scored, struct err *e) MUST_USE;

/* Which transitions to keep: `keep` [steps] is filled with the stratified choice of n = ceil(fraction * trainable) of the
 * first `trainable` steps, at least two where there are two.  The last of them, which alone has the reward of the picture,
 * is a stratum of its own and always kept; the others are cut into n - 1 strata, and one step of each is kept, so that
 * every step can be.  u: one uniform in [0,1) for each stratum, drawn by the caller.  Returns n. */
uint32_t trajectory_choose(bool *keep, uint32_t steps, uint32_t trainable, double fraction,
                           const double *u);

/* Stratum i of those n: its first step, and how many it has.  A kept step stands for so many. */
uint32_t trajectory_stratum(uint32_t trainable, uint32_t n, uint32_t i, uint32_t *first);

#endif
