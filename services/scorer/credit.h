/* Flow control towards the samplers: who may send how much.  Pure bookkeeping: no sockets, no
 * clock.
 *
 * Grants are cumulative within a peer's session.  What is granted and has not come yet is
 * outstanding; outstanding and held bytes together stay within the budget, outstanding and held
 * items within the replay's room.  A peer that is silent for too long is forgotten with its credit;
 * when it is heard again it gets a new session and sends again what is unacknowledged. */
#ifndef DAGLINE_SCORER_CREDIT_H
#define DAGLINE_SCORER_CREDIT_H

#include "wire/codec.h"
#include "wire/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CREDIT_PEERS_MAX 1024

struct credit_peer {
    uint8_t id[MESSAGE_PEER_BYTES_MAX];
    size_t id_bytes; /* 0: free place */
    uint64_t session;
    uint64_t item_bytes;
    uint64_t items_granted, bytes_granted; /* cumulative */
    uint64_t items_got, bytes_got;
    int64_t heard_ms;
    bool tell; /* its Credit must be sent (again) */
};

struct credit_ledger {
    uint64_t session_next;
    uint64_t bytes_budget;
    uint64_t window; /* outstanding items of one peer */
    uint64_t bytes_held, items_held;
    size_t peer_count; /* places in use are below it */
    size_t turn;       /* whose turn it is to be granted first */
    struct credit_peer peers[CREDIT_PEERS_MAX];
};

/* first_session: another number than the one of any scorer before. */
void credit_init(struct credit_ledger *c, uint64_t first_session, uint64_t bytes_budget,
                 uint64_t window);

/* A peer introduces itself or is alive.  NULL: too many peers. */
struct credit_peer *credit_hello(struct credit_ledger *c, const void *id, size_t id_bytes,
                                 uint64_t item_bytes, int64_t now_ms);

/* NULL for a stranger. */
struct credit_peer *credit_find(struct credit_ledger *c, const void *id, size_t id_bytes);

/* An item came.  False where there is no room for it: it must be dropped, unanswered, and is not
 * held. */
bool credit_take(struct credit_ledger *c, struct credit_peer *p, uint64_t bytes, int64_t now_ms);

/* An item is no longer held. */
void credit_release(struct credit_ledger *c, uint64_t bytes);

/* Spreads what the budget and `room` (items that the replay still wants, held ones not yet
 * subtracted) allow over the peers, one item a turn; sets `tell` of those that got something. */
void credit_grant(struct credit_ledger *c, uint64_t room);

/* The peer is gone for good (a dead connection never comes back under its id): its credit is free. */
void credit_forget(struct credit_peer *p);

/* Sets `tell` of peers that were not heard since before_ms, so that a dead one is found out. */
void credit_tell_silent(struct credit_ledger *c, int64_t before_ms);

/* Forgets peers that were not heard since before_ms; returns how many. */
size_t credit_expire(struct credit_ledger *c, int64_t before_ms);

uint64_t credit_items_outstanding(const struct credit_ledger *c);
uint64_t credit_bytes_outstanding(const struct credit_ledger *c);

#endif
