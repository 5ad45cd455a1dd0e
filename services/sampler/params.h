/* The section `sampler`. */
#ifndef DAGLINE_SAMPLER_PARAMS_H
#define DAGLINE_SAMPLER_PARAMS_H

#include "base/config.h"

#define SAMPLER_PARAMS(P, S)                                                                              \
    P(S, text, cache, "data/cache", "", "1000", "", "folder for the model's files, fetched from the store") \
    P(S, integer, threads, "0", "0", "256", "", "0: one for each CPU it may use")                          \
    P(S, integer, batch, "32", "1", "4096", "items", "trajectories made together")                        \
    P(S, real, rate, "0", "0", "1e9", "1/s", "trajectories at most, where the machine is shared; 0: no bound") \
    P(S, integer, in_flight, "128", "1", "65536", "items", "made and not yet acknowledged, at most")      \
    P(S, duration, resend, "30s", "100ms", "1h", "", "an unacknowledged trajectory is sent again after this long") \
    P(S, text, listen, "127.0.0.1:7712", "", "255", "", "/healthz and /metrics; empty: none")

CONFIG_STRUCT(sampler_params, SAMPLER_PARAMS);
extern const struct config_table sampler_table;

#endif
