/* The replay: trajectories with rewards in Redis, written by scorers, read by the trainer.
 * Semantics of Reverb's tables (selectors, rate limits, times sampled) with a bound in bytes and
 * durability between checkpoints.  All admissions, batches and evictions are WATCH/MULTI/EXEC
 * transactions; no Lua; Redis must run `noeviction` (checked at open), eviction is ours.
 * Every key, its type and its lifetime stand in replay_keys.h.
 *
 * Guarantees: replay_admit returning STORED or DUPLICATE means the trajectory is in Redis once and
 * will not be stored again, whatever is resent, and survives the death of Redis's process where
 * Redis keeps an append-only file (everysec or stricter: replay.c waits out the moments in which
 * everysec answers before it writes; a machine that loses power loses up to two seconds, tombstones
 * and logged batches included, unless appendfsync is always; a Redis without one is told of at open,
 * and its next start as a loss); a batch handed to the trainer is logged before it is returned, so that a
 * resumed trainer gets the same batches again; nothing that a logged, uncommitted batch names is
 * evicted. Thread rule: one struct replay per thread.  Calls block up to the configured timeout; a
 * lost connection is reported as ERR_UNAVAILABLE and reopened by the next call (backoff with
 * jitter). */
#ifndef DAGLINE_REPLAY_REPLAY_H
#define DAGLINE_REPLAY_REPLAY_H

#include "base/err.h"
#include "rollout/trajectory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLAY_BATCH_MAX 4096

enum replay_selector {
    REPLAY_UNIFORM,
    REPLAY_FIFO,
    REPLAY_LIFO,
    REPLAY_RECENT,      /* geometric towards the newest */
    REPLAY_RANK_DELTA,  /* rank-prioritised by |delta|, p ~ 1 / (k N + rank) */
    REPLAY_RANK_REWARD, /* rank-prioritised by reward */
};

struct replay_options {
    const char *address;       /* "unix:/path/redis.sock" or "host:port" */
    const char *user;          /* "" for none; ACL user */
    const char *password;      /* "" for none */
    const char *run_id;        /* key prefix */
    uint64_t bytes_max;        /* our own bound, kept by eviction; at most 70 % of Redis's maxmemory */
    uint32_t items_min;        /* no batch before so many are eligible */
    double samples_per_insert; /* 0: no limit; else inserts are paced (replay_room) */
    uint32_t ahead_max;        /* items that samplers may be ahead of the trainer's need */
    uint32_t uses_max;         /* a trajectory is handed out at most so often; 0: no limit */
    uint32_t age_max;          /* policy versions; older ones are evicted, counted; 0: as long as
                                * tombstones are kept (REPLAY_TOMBSTONE_VERSIONS) */
    uint32_t timeout_ms;
};

enum replay_outcome { REPLAY_STORED, REPLAY_DUPLICATE, REPLAY_CONFLICT, REPLAY_TOO_OLD };

struct replay_stats {
    uint64_t items, bytes, items_eligible;
    uint64_t items_pinned; /* named by logged batches: not evicted before a commit */
    uint64_t inserted, sampled, evicted_bytes, evicted_age, consumed, duplicates, conflicts;
    uint64_t evicted_unused; /* of the evicted: never handed out */
    uint64_t refused_age;    /* REPLAY_TOO_OLD */
    uint64_t batch_step;     /* newest logged batch */
    uint64_t commit_step;    /* newest committed */
    uint64_t policy_version; /* newest that the trainer told */
    char epoch[33]; /* made at the first write: an emptied Redis is noticed by its change */
};

struct replay;

/* Connects; refuses a Redis whose maxmemory-policy is not noeviction, now and after every
 * reconnect. ERR_UNAVAILABLE where there is no Redis yet: the caller tries again. */
int replay_open(struct replay **out, const struct replay_options *o, struct err *e) MUST_USE;
void replay_close(struct replay *r);

/* ---- scorer's side ---- */

/* Stores a scored trajectory (trajectory_check(t, true) must hold, else ERR_INVALID). Evicts the
 * oldest by bytes where needed; concurrent writers may overshoot the bound by one item each.
 * ERR_FULL: nothing may be evicted now (all is pinned by logged batches), or Redis itself is at its
 * maxmemory. After ERR_UNAVAILABLE the outcome is unknown: admit the same trajectory again. */
int replay_admit(struct replay *r, const struct trajectory *t, enum replay_outcome *out,
                 struct err *e) MUST_USE;

/* How many more trajectories may be asked of samplers now, by samples_per_insert, ahead_max and
 * Redis's own memory; 0 means withhold credit. Never less than a waiting batch needs, so pacing
 * cannot deadlock with the trainer. What is asked for and not yet admitted is the caller's to
 * subtract. */
int replay_room(struct replay *r, uint64_t *items, struct err *e) MUST_USE;

/* ---- trainer's side: every call carries the fencing token; a lower one than seen is ERR_STALE.
 * ERR_FULL: Redis is at its maxmemory; ask again, as after ERR_UNAVAILABLE ---- */

int replay_fence(struct replay *r, uint64_t token, struct err *e) MUST_USE;

/* batch_step of 0 below means that no batch was logged: steps count from 1. */
struct replay_batch_request {
    uint64_t step;  /* of the update this batch is for */
    uint32_t count; /* trajectories */
    enum replay_selector selector;
    double priority_k;       /* k of the rank selectors */
    uint64_t policy_version; /* current; age is counted from here */
    bool
        exact_version; /* lockstep: only trajectories of policy_version, in (slot, counter) order */
    uint64_t seed;     /* selection is a function of (seed, step) and of what is stored */
};

/* Fills out[0..count): trajectories that the caller frees. If the batch of `step` is logged
 * already, the same ids in the same order come back. ERR_TIMEOUT while too few are eligible: ask
 * again. ERR_CONFLICT: the logged batch has another count. ERR_STALE: the step is committed, or the
 * token is not the newest. ERR_NOT_FOUND: what a logged batch names is gone (somebody else's hands
 * in Redis). */
int replay_batch(struct replay *r, const struct replay_batch_request *q, struct trajectory **out,
                 struct err *e) MUST_USE;

/* New |delta| of trained trajectories, for the rank selector. */
int replay_prioritise(struct replay *r, const uint8_t (*ids)[TRAJECTORY_ID_BYTES],
                      const double *delta, size_t n, struct err *e) MUST_USE;

/* The checkpoint of `step` is durable: batches up to it are forgotten, trajectories that are used
 * up become tombstones (kept by training step, not by time). */
int replay_commit(struct replay *r, uint64_t step, struct err *e) MUST_USE;

/* The trainer goes on from `step`.  Where a later step is committed, because the checkpoint of that
 * one is damaged, the batches between are chosen anew, and that is said loudly: what they held stays
 * used up. */
int replay_rewind(struct replay *r, uint64_t step, struct err *e) MUST_USE;

int replay_stats(struct replay *r, struct replay_stats *out, struct err *e) MUST_USE;

#endif
