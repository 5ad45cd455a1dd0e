#include "wire/run_params.h"

#include <stdio.h>

CONFIG_TABLE(run_table, "run", "what is sampled, and for how long", run_params, RUN_PARAMS);

void run_params_apply(struct run_spec *r, const struct run_params *p)
{
    static const char *const variances[] = {"small", "floor", "large"};
    r->seed = (uint64_t)p->seed;
    r->steps = (uint32_t)p->steps;
    r->eta = p->eta;
    r->guidance = p->guidance;
    snprintf(r->variance, sizeof r->variance, "%s", variances[p->variance]);
    r->variance_floor = p->variance_floor;
    r->last_step_mean = p->last_step_mean;
    r->latent_height = (uint32_t)p->latent_height;
    r->latent_width = (uint32_t)p->latent_width;
    r->transition_fraction = p->transition_fraction;
    r->group_size = (uint32_t)p->group_size;
    r->forward_looking = p->forward_looking;
    r->forward_looking_abar = p->forward_looking_abar;
    r->forward_looking_base = p->forward_looking_base;
    r->undecoded = !p->decode;
    r->lockstep = p->lockstep;
    r->lockstep_batch = (uint32_t)p->lockstep_batch;
    r->iterations = (uint64_t)p->iterations;
}
