/* What replay.c and replay_batch.c share; nobody else includes this. */
#ifndef DAGLINE_REPLAY_REPLAY_INTERNAL_H
#define DAGLINE_REPLAY_REPLAY_INTERNAL_H

#include "replay/replay.h"
#include "replay/replay_keys.h"
#include "replay/replay_redis.h"

#define REPLAY_TRIES_MAX 64 /* of one optimistic transaction, each lost to another writer */
#define REPLAY_ID_HEX_BYTES (2 * TRAJECTORY_ID_BYTES + 1)

struct replay {
    struct redis *redis;
    struct replay_options o;
    char run[REPLAY_RUN_BYTES_MAX + 1];
    char prefix[REPLAY_RUN_BYTES_MAX + 16]; /* "dagline:{RUN}:" */
    bool checked;                           /* policy, server and epoch, on this connection */
    bool told_full;                         /* that Redis has no memory left */
    char server[41];                        /* run_id of Redis's process; "" until seen */
    char epoch[33];                         /* "" until seen */
    uint64_t token;                         /* trainer's; 0: not fenced */
    uint8_t (*ids)[TRAJECTORY_ID_BYTES];    /* work memory of the selection */
    size_t ids_capacity;
};

/* A full key, in a caller's buffer. */
struct replay_key {
    char text[REPLAY_KEY_BYTES_MAX];
};
struct replay_key replay_key(const struct replay *r, const char *suffix);
struct replay_key replay_key_id(const struct replay *r, const char *suffix, const char *id_hex);
struct replay_key replay_key_step(const struct replay *r, const char *suffix, uint64_t step);

/* Policy versions that an item may be old: age_max, and never beyond the reach of tombstones. */
uint64_t replay_age_max(const struct replay *r);

/* Every public call begins here: connected, and the policy checked and the epoch known on this
 * connection; where the check fails, the next call makes it again. */
int replay_begin(struct replay *r, struct err *e) MUST_USE;

/* Returns when nothing that was executed so far can be lost with Redis's process. */
int replay_settle(struct replay *r, struct err *e) MUST_USE;

/* Adds the commands that remove one item and leave its tombstone; inside a MULTI.  `version`: of
 * the tombstone. `counter`: the field of the stats hash that counts it. */
void replay_add_removal(struct replay *r, const char *id_hex, uint32_t crc, uint64_t bytes,
                        uint64_t version, const char *counter, bool unused);

/* Removes one item unless a logged batch names it.  *removed says whether. */
int replay_evict(struct replay *r, const char *id_hex, uint64_t version_now, const char *counter,
                 bool *removed, struct err *e) MUST_USE;

#endif
