/* The sampler: makes trajectories with the newest policy and keeps each one until a scorer has acknowledged
 * it.  Stateless: a killed sampler loses only what nobody has acknowledged; a restarted one gets a new slot.
 *
 * One thread owns everything.  Rollouts run in the foreground; the sockets are served between the steps of the chain. */
#ifndef DAGLINE_SAMPLER_SAMPLER_H
#define DAGLINE_SAMPLER_SAMPLER_H

#include "base/err.h"
#include "wire/loop.h"
#include "wire/wire.h"

#include <stdint.h>

struct sampler_options {
    const char *store, *news, *scorer; /* endpoints */
    const char *cache;                 /* folder for the model's files */
    uint64_t message_max;              /* bytes of a trajectory message that a scorer accepts */
    int threads;                       /* 0: all */
    uint32_t batch;                    /* trajectories made together */
    double rate;                       /* trajectories a second at most; 0: no bound */
    uint32_t in_flight_max;            /* made and not yet acknowledged */
    const char *listen;                /* /healthz and /metrics; "": none */
    uint32_t resend_ms;                /* an unacknowledged trajectory is sent again after this long */
};

struct sampler;

/* Asks the store for run and slot (waits for it), fetches the model, dials the scorer.  ERR_INVALID where a trajectory of
 * the run may be larger than message_max, or keep more states than can be sent. */
int sampler_open(struct sampler **out, struct wire_net *net, struct loop *loop,
                 const struct sampler_options *o, struct err *e) MUST_USE;
void sampler_close(struct sampler *s);

/* Until the run stops or the loop drains: then waits for the last acknowledgements (at most `resend_ms`
 * twice) and returns 0. */
int sampler_run(struct sampler *s, struct err *e) MUST_USE;

/* The largest number of bytes that trajectories and messages of this sampler can hold. */
uint64_t sampler_bytes_bound(const struct sampler *s);

#endif
