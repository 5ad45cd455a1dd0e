/* The section `replay`: shared by scorer and trainer, so that both see one buffer with one set of
 * rules. */
#ifndef DAGLINE_REPLAY_REPLAY_PARAMS_H
#define DAGLINE_REPLAY_REPLAY_PARAMS_H

#include "base/config.h"
#include "replay/replay.h"

#define REPLAY_PARAMS(P, S)                                                                        \
    P(S, text, address, "127.0.0.1:6379", "", "255", "", "unix:/path/redis.sock or host:port")     \
    P(S, text, user, "", "", "64", "", "Redis ACL user; empty: the default user")                  \
    P(S, secret, password, "", "", "1000", "", "file of the Redis password; empty: none")          \
    P(S, size, bytes_max, "1GiB", "1MiB", "16TiB", "",                                             \
      "bound of the payload, kept by eviction; at most 70 % of Redis's maxmemory")                 \
    P(S, integer, items_min, "64", "1", "1000000", "items",                                        \
      "no batch before so many are eligible")                                                      \
    P(S, real, samples_per_insert, "1", "0", "1000000", "",                                        \
      "trajectories trained on per trajectory made; paces the samplers; 0: no pacing")             \
    P(S, integer, ahead_max, "64", "0", "1000000", "items",                                        \
      "how far samplers may be ahead of what the trainer needs")                                   \
    P(S, integer, uses_max, "1", "0", "1000000", "times",                                          \
      "how often a trajectory is handed out; 0: no limit")                                         \
    P(S, integer, age_max, "0", "0", "1000", "policies",                                           \
      "older trajectories are evicted; 0: the longest that is possible, 1000")                     \
    P(S, duration, timeout, "5s", "100ms", "1m", "", "of a wait for Redis")

CONFIG_STRUCT(replay_params, REPLAY_PARAMS);
extern const struct config_table replay_table;

/* Reads the password file, if any, into `password`, which o points to: wipe it after replay_open.
 * p and run_id are kept by pointer. */
int replay_options_of(struct replay_options *o, const struct replay_params *p, const char *run_id,
                      char password[CONFIG_TEXT_BYTES_MAX], struct err *e) MUST_USE;

#endif
