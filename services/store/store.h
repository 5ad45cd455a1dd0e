/* The checkpoint store as a state machine: a request goes in, one reply comes out, announcements
 * queue up.  It owns the data folder (one store each, by a lock) and knows nothing of sockets.
 *
 *     data/lock            held while the store runs
 *     data/run.json        the run's id and identity; another run is refused
 *     data/counters.json   next slot, last fencing token: written before a reply tells them
 *     data/blobs/          contents by SHA-256 (blobs.h)
 *     data/policies/       data/checkpoints/   manifests (manifest.h)
 *     data/metrics.jsonl   one line per report that has a step
 *     data/tensorboard/    the same for TensorBoard
 *
 * Promises: what a reply acknowledges is on disk (fsynced, read back, renamed); a request with a
 * lower fencing token than the last one handed out changes nothing (ERR_STALE); the newest policy
 * never goes back. Thread rule: one thread. */
#ifndef DAGLINE_STORE_STORE_H
#define DAGLINE_STORE_STORE_H

#include "base/clock.h"
#include "base/err.h"
#include "wire/codec.h"
#include "wire/run_params.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_NEWS_MAX 256 /* queued announcements; the oldest report gives way */

struct store_options {
    const char *data, *model, *prompts;
    const char *prompts_column; /* of a table */
    const struct run_params *run;
    const char *settings; /* effective YAML, for the record */
    size_t keep_checkpoints, keep_policies;
    const struct clock *clock; /* NULL: the system's */
};

struct store;

int store_open(struct store **out, const struct store_options *o, struct err *e) MUST_USE;
void store_close(struct store *s);

const struct run_spec *store_run(const struct store *s);

/* Never NULL: a request that fails is answered with MESSAGE_ERROR. */
struct message *store_answer(struct store *s, const struct message *request);

/* The next announcement, or NULL. */
struct message *store_news(struct store *s);

/* Queues the newest policy and, once the run has ended, the stop: for late joiners. */
void store_announce(struct store *s);

bool store_stopped(const struct store *s);

struct store_figures {
    uint64_t requests, errors, reports, policies_published, checkpoints_published;
    uint64_t bytes_in, bytes_out;
    uint64_t policy_version, checkpoint_step;
    uint32_t services; /* heard of within the last 30 s */
};
struct store_figures store_figures(const struct store *s);

#endif
