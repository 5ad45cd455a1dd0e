/* What a run's specification means to the engine: its chain of transitions, and the digest by which a
 * trajectory of another chain is recognised and refused. */
#ifndef DAGLINE_RUN_RUN_CHAIN_H
#define DAGLINE_RUN_RUN_CHAIN_H

#include "base/err.h"
#include "base/hash.h"
#include "diffusion/schedule.h"
#include "wire/codec.h"

/* kernels [run->steps] of the run over the model's schedule. */
int run_chain_plan(struct transition_kernel *kernels, const struct run_spec *run,
                   const struct schedule *schedule, struct err *e) MUST_USE;

/* Over everything of the run that changes a transition's density: scheduler file, model, steps, eta, variance, guidance,
 * last step. Two runs with the same digest have the same chain. */
void run_chain_digest(uint8_t digest[HASH_SHA256_BYTES], const struct run_spec *run);

/* Steps that are sampled with noise and trained. */
uint32_t run_chain_trainable(const struct transition_kernel *kernels, uint32_t steps);

#endif
