/* The sampling chain: from noise to a clean latent, one transition after the other, for a batch of
 * samples that share the schedule.  Knows nothing of networks: the caller predicts.
 *
 * States are numbered k = 0 (x_T, noise) .. steps (x_0); transition k leads from state k to k + 1.
 * Every number drawn has an address: sample i's starting noise is rng_stream_id(seed, ids[i], 0), the
 * noise of transition k is step k + 1 of the same stream.  So a chain is the same whatever the batch
 * it was made in, and chain_noise gives any draw again (the trainer recovers a rollout's mean from it).
 *
 * Pure apart from the callbacks; memory is the caller's.  Layout of latents is the caller's too. */
#ifndef DAGLINE_DIFFUSION_CHAIN_H
#define DAGLINE_DIFFUSION_CHAIN_H

#include "base/err.h"
#include "base/rng.h"
#include "diffusion/schedule.h"
#include "nn/real.h"

#include <stddef.h>
#include <stdint.h>

struct chain {
    const struct transition_kernel *kernels; /* [steps], schedule_plan */
    int steps;
    size_t count;    /* samples */
    size_t elements; /* of one latent */
    uint64_t seed;
    const uint8_t (*ids)[RNG_ID_BYTES]; /* [count] */
};

/* out [count,elements]: the network's (guided) output at x [count,elements] and timestep t. */
typedef int chain_predict(void *arg, real *out, const real *x, int t, struct err *e);

/* Called after each transition k; all arrays are [count,elements] and valid during the call. */
typedef int chain_visit(void *arg, int k, const real *x_t, const real *out, const real *x_s,
                        struct err *e);

/* z [elements]: the draw of sample `id` that starts the chain (draw 0) or moves transition k (draw k + 1). */
void chain_noise(real *z, uint64_t seed, const uint8_t id[RNG_ID_BYTES], uint32_t draw,
                 size_t elements);

/* Fills x [count,elements] with the starting noise. */
void chain_start(const struct chain *c, real *x);

/* Runs transitions first .. steps-1 from the latents in x, which end as x_0.  work: 2 * count * elements
 * numbers.  visit may be NULL.  A callback's error ends the run and is returned as it is. */
int chain_run(const struct chain *c, int first, real *x, real *work, chain_predict *predict,
              chain_visit *visit, void *arg, struct err *e) MUST_USE;

#endif
