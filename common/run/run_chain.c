#include "run/run_chain.h"

#include <stdio.h>
#include <string.h>

int run_chain_plan(struct transition_kernel *kernels, const struct run_spec *run,
                   const struct schedule *schedule, struct err *e)
{
    struct plan_options o = {
        .steps = (int)run->steps,
        .eta = run->eta,
        .floor_kappa = run->variance_floor,
        .last_step_mean = run->last_step_mean,
        .clamp_last = true,
    };
    if (strcmp(run->variance, "small") == 0)
        o.variance = VARIANCE_SMALL;
    else if (strcmp(run->variance, "floor") == 0)
        o.variance = VARIANCE_FLOOR;
    else if (strcmp(run->variance, "large") == 0)
        o.variance = VARIANCE_LARGE;
    else
        return err_set(e, ERR_INVALID, "run: variance '%s' is not small, floor or large", run->variance);
    if (schedule_plan(kernels, schedule, &o, e) < 0)
        return err_wrap(e, "the run's chain");
    if (run_chain_trainable(kernels, run->steps) == 0)
        return err_set(e, ERR_INVALID, "run: no step of the chain has noise to train on (eta %g, %u steps)",
                       run->eta, run->steps);
    return 0;
}

void run_chain_digest(uint8_t digest[HASH_SHA256_BYTES], const struct run_spec *run)
{
    char text[256];
    const int n = snprintf(text, sizeof text, "chain 1 steps=%u eta=%.17g variance=%s floor=%.17g last_mean=%d w=%.17g",
                           run->steps, run->eta, run->variance, run->variance_floor, run->last_step_mean,
                           run->guidance);
    struct hash_sha256 h;
    hash_sha256_begin(&h);
    hash_sha256_add(&h, text, (size_t)n);
    hash_sha256_add(&h, run->model_digest, sizeof run->model_digest);
    hash_sha256_end(&h, digest);
}

uint32_t run_chain_trainable(const struct transition_kernel *kernels, uint32_t steps)
{
    uint32_t n = 0;
    while (n < steps && kernels[n].stochastic)
        n++;
    return n;
}
