/* Sockets: the only place where a ZeroMQ socket is made.  Every limit of the table in wire.c (frame
 * size, high-water marks, linger, handshake and heartbeat intervals, reconnect backoff, backlog) is
 * set before bind or connect, whatever the endpoint.  Endpoints: tcp://, ipc://, inproc:// only.
 *
 * Security: on tcp, CURVE with the allow-list of the keys folder is on whenever a keys folder is
 * given; tcp without keys is refused off loopback unless insecure_plaintext is asked for by name.
 * What a peer may send is decided by its key's party and the socket's role (table in wire.c).
 *
 * Receiving: a message that breaks a rule (frames, envelope, magic, lengths, CRC-32C, kind) is
 * dropped and counted; a peer with WIRE_BAN_AFTER of them is not listened to any more.  A peer of
 * another major version is answered with an ERROR that says so.
 *
 * Thread rule: struct wire_net may be shared; each struct wire belongs to the thread that opened
 * it.
 *
 *     wire_net_open(&net, &(struct wire_net_options){.party = PARTY_SCORER, ...}, e);
 *     wire_open(&inbox, net, WIRE_SCORER_INBOX, "tcp://0.0.0.0:7703", e);
 *     while (wire_recv(inbox, &m, 1000, e) == 0) { ... wire_send(inbox, &reply, e);
 * message_free(m); } */
#ifndef DAGLINE_WIRE_WIRE_H
#define DAGLINE_WIRE_WIRE_H

#include "base/err.h"
#include "wire/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_ENDPOINT_BYTES_MAX 256
#define WIRE_ZERO_COPY_BYTES_MIN ((size_t)64 << 10)
#define WIRE_BAN_AFTER 10
#define WIRE_PEERS_MAX 1024
#define WIRE_BLOB_CHUNK_BYTES_MAX ((size_t)1 << 20)

enum wire_role {
    WIRE_STORE_RPC,     /* ROUTER, binds: the store answers requests */
    WIRE_STORE_NEWS,    /* XPUB, binds: the store announces */
    WIRE_SCORER_INBOX,  /* ROUTER, binds: trajectories in, credit and acknowledgements out */
    WIRE_STORE_CLIENT,  /* DEALER, connects to WIRE_STORE_RPC (use wire/store_client.h) */
    WIRE_NEWS_CLIENT,   /* SUB, connects to WIRE_STORE_NEWS (use wire/store_client.h) */
    WIRE_SCORER_CLIENT, /* DEALER, connects to WIRE_SCORER_INBOX */
    WIRE_ROLES
};

struct wire_net_options {
    enum message_party party;    /* who we are: which key pair of the folder is ours */
    const char *sender;          /* "scorer/1": stamped on every message sent, for logs */
    const char *keys;            /* keys folder of `dagline keys`; "" or NULL for none */
    bool insecure_plaintext;     /* tcp without keys even off loopback */
    size_t trajectory_bytes_max; /* largest trajectory message; 0: 16 MiB */
};

struct wire_net;
struct wire;

/* Starts the context and, with keys, the handler that checks them.  Block signals before
 * (loop_open): this starts threads. */
int wire_net_open(struct wire_net **out, const struct wire_net_options *o, struct err *e) MUST_USE;
/* After every wire of it was closed.  Accepts NULL. */
void wire_net_close(struct wire_net *net);

/* The run id stamped on every message sent from now on; "" at the start.  Not while another thread
 * sends. */
void wire_net_run(struct wire_net *net, const char *run_id);

/* Binds or connects, as the role says. */
int wire_open(struct wire **out, struct wire_net *net, enum wire_role role, const char *endpoint,
              struct err *e) MUST_USE;
/* Messages not yet sent are given the role's linger time.  Accepts NULL. */
void wire_close(struct wire *w);

/* The endpoint as bound ("tcp://127.0.0.1:*" has its port filled in). */
const char *wire_endpoint(const struct wire *w);

/* Never blocks.  On success *m is gone (NULL); on failure it is still the caller's.
 * On a router m->peer says to whom; a news socket publishes under the kind's topic.
 * ERR_FULL: high-water mark, or a client that is not connected now.  ERR_UNAVAILABLE: that peer is
 * gone.  ERR_INVALID: a payload beyond the role's limit.  Payloads of WIRE_ZERO_COPY_BYTES_MIN or more are not copied. */
int wire_send(struct wire *w, struct message **m, struct err *e) MUST_USE;

/* Waits up to timeout_ms (0: not at all, < 0: for ever) for a message that keeps every rule; the
 * caller frees it.  ERR_TIMEOUT is normal. */
int wire_recv(struct wire *w, struct message **out, int timeout_ms, struct err *e) MUST_USE;

/* Waits until wire_send would be taken; ERR_TIMEOUT. */
int wire_wait_writable(struct wire *w, int timeout_ms, struct err *e) MUST_USE;

/* A news client hears only the kinds it subscribed to (MESSAGE_NEWS_*). */
int wire_subscribe(struct wire *w, enum message_kind kind, struct err *e) MUST_USE;

/* Number of new subscriptions since the last call; WIRE_STORE_NEWS only. */
uint32_t wire_subscriptions(struct wire *w);

struct wire_stats {
    uint64_t sent, received;
    uint64_t dropped_malformed; /* frames, envelope, lengths */
    uint64_t dropped_crc;
    uint64_t dropped_version;
    uint64_t dropped_kind; /* not allowed for that party on that socket */
    uint64_t dropped_banned;
    uint64_t peers_banned;
};
struct wire_stats wire_stats(const struct wire *w);

/* The largest number of bytes the socket can hold for `peers` peers: each may have RCVHWM + 1
 * incoming messages of the largest size that it may send, and SNDHWM of the largest that is sent to
 * it.  On a socket without keys (ipc) a peer that means harm can exceed it: such sockets trust who
 * can open them. */
uint64_t wire_bytes_bound(const struct wire *w, uint32_t peers);

/* For wire/loop.c: the ZeroMQ socket. */
void *wire_socket(struct wire *w);

#endif
