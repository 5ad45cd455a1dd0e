/* Small trajectories for tests: everything a function of (slot, counter, version). */
#ifndef DAGLINE_TESTS_TRAJECTORIES_H
#define DAGLINE_TESTS_TRAJECTORIES_H

#include "rollout/trajectory.h"

#define TRAJECTORIES_RUN "test-run"

struct trajectory_shape {
    uint32_t states;      /* >= 2; 0: 4 */
    uint32_t latent_side; /* 0: 4; channels are 4 */
    uint32_t image_side;  /* 0: 64 */
    uint64_t policy_version;
    const char *prompt; /* NULL: "a red circle" */
};

/* With images, unscored: passes trajectory_check(t, false).  The caller frees. */
struct trajectory *trajectories_make(uint32_t slot, uint64_t counter,
                                     const struct trajectory_shape *shape);

/* The same with finite rewards and without images: passes trajectory_check(t, true). */
struct trajectory *trajectories_make_scored(uint32_t slot, uint64_t counter,
                                            const struct trajectory_shape *shape);

/* The digest that every non-zero policy version of trajectories_make has. */
void trajectories_policy_digest(uint8_t out[TRAJECTORY_DIGEST_BYTES], uint64_t version);
void trajectories_schedule_digest(uint8_t out[TRAJECTORY_DIGEST_BYTES]);

#endif
