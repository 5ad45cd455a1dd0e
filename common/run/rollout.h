/* Makes trajectories: runs the chain of a batch of samples with the current policy, keeps what training
 * needs, decodes the pictures that rewards are asked for.
 *
 * A trajectory is a function of (run, slot, counter, policy): every draw has an address (diffusion/chain.h), so it does
 * not matter in which batch, by how many threads or when it was made.
 * Thread rule: one thread, that of the pipeline. */
#ifndef DAGLINE_RUN_ROLLOUT_H
#define DAGLINE_RUN_ROLLOUT_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"
#include "rollout/trajectory.h"
#include "run/prompt_set.h"
#include "wire/codec.h"

#include <stddef.h>
#include <stdint.h>

struct rollout_request {
    const struct run_spec *run;
    const struct transition_kernel *kernels; /* [run->steps] */
    const struct prompt_set *prompts;
    const struct policy_ref *policy;         /* what the pipeline applies: stamped on every trajectory */
    uint32_t slot;
    uint64_t counter;                        /* of the first; the others follow */
    size_t count;
};

/* Fills out[0..count) with trajectories that the caller frees (none on failure).  `poll`, unless NULL, is
 * called after every step of the chain; its error ends the rollout. */
int rollout_make(struct trajectory **out, struct pipeline *p, const struct rollout_request *q,
                 int (*poll)(void *, struct err *), void *arg, struct err *e) MUST_USE;

/* The most states that a trajectory of the run keeps; above TRAJECTORY_STATES_MAX it cannot be sent. */
uint32_t rollout_states(const struct run_spec *run, const struct transition_kernel *kernels);

/* Upper bound of one trajectory message of this run, for credit and for the sockets' limit; kernels [run->steps]. */
uint64_t rollout_bytes(const struct run_spec *run, const struct transition_kernel *kernels, const struct pipeline_shape *s);

#endif
