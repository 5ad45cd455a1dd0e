/* A message as the services see it: who, what kind, a packed body and an optional raw payload.  It
 * is made by message_new or by wire_recv, filled and read by wire/codec.h, and ended by
 * message_free or by wire_send, which takes it.  On the wire it is 2 or 3 frames
 * (protos/envelope.proto).
 *
 * Ownership: a message owns its body and payload.  Received bytes may lie inside a transport buffer
 * and have no alignment: copy before reading them as floats.
 * Thread rule: a message belongs to one thread at a time and may be handed over. */
#ifndef DAGLINE_WIRE_MESSAGE_H
#define DAGLINE_WIRE_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define MESSAGE_RUN_ID_BYTES 33 /* with the NUL */
#define MESSAGE_SENDER_BYTES 48
#define MESSAGE_PEER_BYTES_MAX 255 /* ZeroMQ's own limit of a routing id */
#define MESSAGE_ENVELOPE_BYTES_MAX 256
#define MESSAGE_BODY_BYTES_MAX ((size_t)1 << 20)
#define MESSAGE_PAYLOAD_BYTES_MAX ((size_t)256 << 20)
#define MESSAGE_FRAMES_MAX 3

/* The values of enum Kind in protos/envelope.proto (checked at compile time in codec.c). */
enum message_kind {
    MESSAGE_NONE = 0,
    MESSAGE_HELLO = 1,
    MESSAGE_CREDIT = 2,
    MESSAGE_TRAJECTORY = 3,
    MESSAGE_ACK = 4,
    MESSAGE_ERROR = 10,
    MESSAGE_GET_RUN = 11,
    MESSAGE_RUN = 12,
    MESSAGE_TAKE_SLOT = 13,
    MESSAGE_SLOT = 14,
    MESSAGE_TAKE_TOKEN = 15,
    MESSAGE_TOKEN = 16,
    MESSAGE_GET_POLICY = 17,
    MESSAGE_POLICY = 18,
    MESSAGE_GET_BLOB = 19,
    MESSAGE_BLOB = 20,
    MESSAGE_PUT_BLOB = 21,
    MESSAGE_PUT = 22,
    MESSAGE_PUBLISH_POLICY = 23,
    MESSAGE_PUBLISH_CHECKPOINT = 24,
    MESSAGE_GET_CHECKPOINT = 25,
    MESSAGE_CHECKPOINT = 26,
    MESSAGE_REPORT = 27,
    MESSAGE_OK = 28,
    MESSAGE_GET_STATUS = 29,
    MESSAGE_STATUS = 30,
    MESSAGE_STOP = 31,
    MESSAGE_NEWS_POLICY = 40,
    MESSAGE_NEWS_REPORT = 41,
    MESSAGE_NEWS_STOP = 42,
    MESSAGE_KINDS_END /* one past the largest */
};

/* Who a peer is by its key (the allow-list), never by what it claims.  PARTY_LOCAL: no key, an ipc
 * or inproc peer, whose right is the access to the socket's folder. */
enum message_party {
    PARTY_LOCAL = 0,
    PARTY_STORE,
    PARTY_SCORER,
    PARTY_SAMPLER,
    PARTY_TRAINER,
    PARTY_DAGLINE,
    PARTY_COUNT
};

struct message {
    enum message_kind kind;
    uint64_t request;                     /* echoed in the reply */
    char run_id[MESSAGE_RUN_ID_BYTES];    /* "" until known */
    char sender[MESSAGE_SENDER_BYTES];    /* "sampler/3", for logs */
    uint64_t token;                       /* fencing token; 0 for all but the trainer */
    uint8_t peer[MESSAGE_PEER_BYTES_MAX]; /* on a router: whom it came from, or goes to */
    size_t peer_bytes;
    enum message_party party; /* set by wire_recv */

    const uint8_t *body; /* [body_bytes], packed by codec.h */
    size_t body_bytes;
    const uint8_t *payload; /* [payload_bytes] or NULL */
    size_t payload_bytes;

    /* Who frees body and payload: set through message_own_* and by wire.c only. */
    struct message_hold {
        void (*release)(void *hold);
        void *hold;
    } body_hold, payload_hold;
};

/* An empty message of a kind. */
struct message *message_new(enum message_kind kind);

/* A reply to `request`: its kind, request number and peer are set. */
struct message *message_reply(const struct message *request, enum message_kind kind);

/* Accepts NULL. */
void message_free(struct message *m);

/* Hands over memory from base/mem.h; what was there before is freed. */
void message_own_body(struct message *m, void *bytes, size_t count);
void message_own_payload(struct message *m, void *bytes, size_t count);

/* "trajectory", "get_run"; "unknown" for a number without a name.  Never NULL. */
const char *message_kind_name(enum message_kind kind);

/* "sampler", "store" ...; "local" for PARTY_LOCAL.  The inverse gives PARTY_COUNT for no match. */
const char *message_party_name(enum message_party party);
enum message_party message_party_of(const char *name);

#endif
