/* What a sampler has made and nobody has acknowledged, and the credit it may send on.
 *
 * Credit is cumulative within a session of the scorer: `granted` items and bytes, against what was sent
 * in that session.  A new session (the scorer restarted) starts at nothing granted and nothing sent;
 * everything in flight is then sent again as credit allows.  Pure bookkeeping: no sockets, no clock. */
#ifndef DAGLINE_SAMPLER_FLIGHT_H
#define DAGLINE_SAMPLER_FLIGHT_H

#include "rollout/trajectory.h"
#include "wire/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flight_item {
    struct trajectory *trajectory; /* owned */
    uint64_t bytes;                /* of its message */
    int64_t sent_ms;               /* when, in this session; -1: not yet */
};

struct flight {
    uint64_t session;
    uint64_t items_granted, bytes_granted; /* cumulative, this session */
    uint64_t items_sent, bytes_sent;       /* this session, resends included */
    size_t count, room;
    struct flight_item *item; /* owned, oldest first */
};

void flight_done(struct flight *f);

/* Takes the trajectory over. */
void flight_add(struct flight *f, struct trajectory **t, uint64_t bytes);

/* A grant.  True where it opened a new session. */
bool flight_credit(struct flight *f, const struct credit *c);

/* Removes what was acknowledged; false where nothing of that id is in flight (an Ack sent twice). */
bool flight_ack(struct flight *f, const uint8_t id[TRAJECTORY_ID_BYTES]);

/* The oldest item that should be sent now: not sent yet in this session, or sent longer than resend_ms
 * ago; and the credit covers it.  NULL: none. */
struct flight_item *flight_next(struct flight *f, int64_t now_ms, int64_t resend_ms);

/* It has been sent. */
void flight_sent(struct flight *f, struct flight_item *item, int64_t now_ms);

/* How many further items of `bytes` each the credit would cover once everything in flight is sent. */
uint64_t flight_spare(const struct flight *f, uint64_t bytes);

#endif
