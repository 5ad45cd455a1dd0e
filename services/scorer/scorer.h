/* The reward-scorer adapter: takes trajectories from samplers, gets every image's reward, stores
 * both in the replay in one transaction, then acknowledges.  Stateless: kill it at any time;
 * samplers send again what was not acknowledged, and the replay knows what it has.
 *
 * One thread owns everything; another serves /healthz, /metrics and /dead-letters. */
#ifndef DAGLINE_SCORER_SCORER_H
#define DAGLINE_SCORER_SCORER_H

#include "base/err.h"
#include "replay/replay_params.h"
#include "scorer/params.h"
#include "wire/net_params.h"

struct scorer_settings {
    struct net_params net;
    struct replay_params replay;
    struct scorer_params scorer;
    struct reward_params reward;
    struct reward_params rewards_items[CONFIG_COPIES_MAX];
    struct config_copies rewards; /* items: rewards_items; where there are any, `reward` is not read */
};

struct scorer;

/* Waits for the store and for Redis; a signal ends the waiting (*out is then NULL and 0 returned).
 * `settings` is borrowed. */
int scorer_open(struct scorer **out, const struct scorer_settings *settings,
                struct err *e) MUST_USE;

/* Until SIGTERM, SIGINT or the end of the run: then finishes what is in hand, at most scorer.drain, and not while the
 * reward service is left alone. */
int scorer_run(struct scorer *s, struct err *e) MUST_USE;

/* Accepts NULL. */
void scorer_close(struct scorer *s);

#endif
