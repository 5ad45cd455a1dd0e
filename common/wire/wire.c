#include "wire/wire.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/codec.h"
#include "wire/keys.h"
#include "wire/zap.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zmq.h>

/* In zmq.h behind its draft switch; the Debian build has it, and wire_open checks that it took. */
#define OPTION_ZAP_ENFORCE_DOMAIN 93

#define TRAJECTORY_BYTES_DEFAULT ((size_t)16 << 20)
#define CHUNK_MESSAGE_BYTES ((size_t)WIRE_BLOB_CHUNK_BYTES_MAX + 65536)
#define NEWS_BYTES 8192 /* a report of CODEC_METRICS_MAX metrics with the longest names takes 4.3 kB */
#define CREDIT_BYTES 4096
#define RECV_BURST 64 /* bad messages skipped by one wire_recv before it looks at the clock */

/* Every limit of every socket.  message_in: the largest frame taken, 0 for the net's trajectory
 * limit; message_out: the largest message sent, 0 likewise. The high-water marks count messages per
 * peer. */
static const struct role {
    const char *name;
    int type;
    bool binds;
    size_t message_in, message_out;
    int send_hwm, receive_hwm;
    int linger_ms;
} roles[WIRE_ROLES] = {
    [WIRE_STORE_RPC] = {"store", ZMQ_ROUTER, true, CHUNK_MESSAGE_BYTES, CHUNK_MESSAGE_BYTES, 2, 2,
                        500},
    [WIRE_STORE_NEWS] = {"news", ZMQ_XPUB, true, CREDIT_BYTES, NEWS_BYTES, 64, 16, 500},
    [WIRE_SCORER_INBOX] = {"scorer", ZMQ_ROUTER, true, 0, CREDIT_BYTES, 256, 4, 500},
    [WIRE_STORE_CLIENT] = {"store client", ZMQ_DEALER, false, CHUNK_MESSAGE_BYTES,
                           CHUNK_MESSAGE_BYTES, 2, 2, 0},
    [WIRE_NEWS_CLIENT] = {"news client", ZMQ_SUB, false, NEWS_BYTES, CREDIT_BYTES, 16, 64, 0},
    [WIRE_SCORER_CLIENT] = {"scorer client", ZMQ_DEALER, false, CREDIT_BYTES, 0, 4, 256, 0},
};

/* The same for all roles. */
#define HANDSHAKE_MS 2000
#define HEARTBEAT_MS 2000
#define HEARTBEAT_TIMEOUT_MS 6000
#define HEARTBEAT_TTL_MS 10000
#define RECONNECT_MS 100
#define RECONNECT_MAX_MS 2000
#define BACKLOG 128
#define CONTEXT_SOCKETS_MAX 64

/* Who may send what to which socket, by key.  A local peer (ipc) may send whatever some party may.
 */
#define ANY 0xffffu
#define P(name) (1u << PARTY_##name)
static const struct rule {
    enum wire_role socket;
    enum message_kind kind;
    unsigned parties;
} rules[] = {
    {WIRE_STORE_RPC, MESSAGE_GET_RUN, ANY},
    {WIRE_STORE_RPC, MESSAGE_TAKE_SLOT, P(SAMPLER)},
    {WIRE_STORE_RPC, MESSAGE_TAKE_TOKEN, P(TRAINER)},
    {WIRE_STORE_RPC, MESSAGE_GET_POLICY, ANY},
    {WIRE_STORE_RPC, MESSAGE_GET_BLOB, ANY},
    {WIRE_STORE_RPC, MESSAGE_PUT_BLOB, P(TRAINER)},
    {WIRE_STORE_RPC, MESSAGE_PUBLISH_POLICY, P(TRAINER)},
    {WIRE_STORE_RPC, MESSAGE_PUBLISH_CHECKPOINT, P(TRAINER)},
    {WIRE_STORE_RPC, MESSAGE_GET_CHECKPOINT, P(TRAINER) | P(DAGLINE)},
    {WIRE_STORE_RPC, MESSAGE_REPORT, ANY},
    {WIRE_STORE_RPC, MESSAGE_GET_STATUS, ANY},
    {WIRE_STORE_RPC, MESSAGE_STOP, P(TRAINER) | P(DAGLINE)},
    {WIRE_SCORER_INBOX, MESSAGE_HELLO, P(SAMPLER)},
    {WIRE_SCORER_INBOX, MESSAGE_TRAJECTORY, P(SAMPLER)},
    {WIRE_STORE_CLIENT, MESSAGE_ERROR, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_RUN, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_SLOT, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_TOKEN, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_POLICY, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_BLOB, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_PUT, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_CHECKPOINT, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_OK, ANY},
    {WIRE_STORE_CLIENT, MESSAGE_STATUS, ANY},
    {WIRE_NEWS_CLIENT, MESSAGE_NEWS_POLICY, ANY},
    {WIRE_NEWS_CLIENT, MESSAGE_NEWS_REPORT, ANY},
    {WIRE_NEWS_CLIENT, MESSAGE_NEWS_STOP, ANY},
    {WIRE_SCORER_CLIENT, MESSAGE_CREDIT, ANY},
    {WIRE_SCORER_CLIENT, MESSAGE_ACK, ANY},
    {WIRE_SCORER_CLIENT, MESSAGE_ERROR, ANY},
};
#undef P

struct wire_net {
    void *context;
    struct zap *zap;
    enum message_party party;
    char sender[MESSAGE_SENDER_BYTES];
    char run_id[MESSAGE_RUN_ID_BYTES];
    char *keys; /* NULL for none */
    bool insecure_plaintext;
    size_t trajectory_bytes_max;
};

/* A peer that has broken a rule. */
struct offender {
    uint8_t id[MESSAGE_PEER_BYTES_MAX];
    size_t id_bytes;
    uint32_t count;
    uint64_t last; /* by wire.offences, for eviction */
};

struct wire {
    struct wire_net *net;
    enum wire_role role;
    void *socket;
    bool curve;
    size_t message_in, message_out;
    char endpoint[WIRE_ENDPOINT_BYTES_MAX];
    struct wire_stats stats;
    struct offender *offenders; /* [offender_count], at most WIRE_PEERS_MAX */
    size_t offender_count;
    uint64_t offences;
};

/* ---- the net ---- */

int wire_net_open(struct wire_net **out, const struct wire_net_options *o, struct err *e)
{
    *out = NULL;
    assert(o->party > PARTY_LOCAL && o->party < PARTY_COUNT && o->sender != NULL);
    const size_t trajectory =
        o->trajectory_bytes_max == 0 ? TRAJECTORY_BYTES_DEFAULT : o->trajectory_bytes_max;
    assert(trajectory <= MESSAGE_PAYLOAD_BYTES_MAX);
    struct wire_net *net = mem_new(1, sizeof *net);
    net->party = o->party;
    net->insecure_plaintext = o->insecure_plaintext;
    net->trajectory_bytes_max = trajectory;
    snprintf(net->sender, sizeof net->sender, "%s", o->sender);
    if (o->keys != NULL && o->keys[0] != 0)
        net->keys = mem_strdup(o->keys);
    net->context = zmq_ctx_new();
    if (net->context == NULL) {
        err_set(e, ERR_IO, "ZeroMQ context: %s", zmq_strerror(errno));
        goto fail;
    }
    zmq_ctx_set(net->context, ZMQ_BLOCKY, 0);
    zmq_ctx_set(net->context, ZMQ_MAX_SOCKETS, CONTEXT_SOCKETS_MAX);
    /* The handler must answer before the first socket listens. */
    const bool listens = o->party == PARTY_STORE || o->party == PARTY_SCORER;
    if (net->keys != NULL && listens) {
        char path[4096];
        snprintf(path, sizeof path, "%s/allow", net->keys);
        if (zap_open(&net->zap, net->context, path, e) < 0)
            goto fail;
    }
    *out = net;
    return 0;
fail:
    wire_net_close(net);
    return -1;
}

void wire_net_close(struct wire_net *net)
{
    if (net == NULL)
        return;
    zap_close(net->zap);
    if (net->context != NULL)
        zmq_ctx_term(net->context);
    mem_free(net->keys);
    mem_free(net);
}

void wire_net_run(struct wire_net *net, const char *run_id)
{
    snprintf(net->run_id, sizeof net->run_id, "%s", run_id);
}

/* ---- opening a socket ---- */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_loopback(const char *endpoint)
{
    const char *host = endpoint + strlen("tcp://");
    /* Numbers only: "127.example.org" is somebody's name. */
    const size_t numeric = strspn(host, "0123456789.");
    return (starts_with(host, "127.") && host[numeric] == ':') || starts_with(host, "localhost:") ||
           starts_with(host, "[::1]:");
}

static int check_endpoint(const struct wire_net *net, const char *endpoint, struct err *e)
{
    if (strlen(endpoint) >= WIRE_ENDPOINT_BYTES_MAX)
        return err_set(e, ERR_INVALID, "endpoint: longer than %d bytes",
                       WIRE_ENDPOINT_BYTES_MAX - 1);
    if (!starts_with(endpoint, "tcp://") && !starts_with(endpoint, "ipc://") &&
        !starts_with(endpoint, "inproc://"))
        return err_set(e, ERR_INVALID, "endpoint '%s': must start with tcp://, ipc:// or inproc://",
                       endpoint);
    if (starts_with(endpoint, "tcp://") && net->keys == NULL && !is_loopback(endpoint) &&
        !net->insecure_plaintext)
        return err_set(
            e, ERR_INVALID,
            "endpoint '%s': tcp beyond loopback needs keys: set net.keys (dagline keys DIR "
            "makes them), or net.insecure_plaintext=true on a network that you trust whole",
            endpoint);
    return 0;
}

static int set_int(void *socket, int option, int value, const char *name, struct err *e)
{
    if (zmq_setsockopt(socket, option, &value, sizeof value) < 0)
        return err_set(e, ERR_INVALID, "socket option %s = %d: %s", name, value,
                       zmq_strerror(errno));
    return 0;
}
#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (set_int(w->socket, option, value, #option, e) < 0)                                     \
            return -1;                                                                             \
    } while (0)

static int set_limits(struct wire *w, struct err *e)
{
    const struct role *r = &roles[w->role];
    const int64_t frame = (int64_t)w->message_in;
    if (zmq_setsockopt(w->socket, ZMQ_MAXMSGSIZE, &frame, sizeof frame) < 0)
        return err_set(e, ERR_INVALID, "socket option ZMQ_MAXMSGSIZE: %s", zmq_strerror(errno));
    SET(ZMQ_SNDHWM, r->send_hwm);
    SET(ZMQ_RCVHWM, r->receive_hwm);
    SET(ZMQ_LINGER, r->linger_ms);
    SET(ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    SET(ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    SET(ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
    SET(ZMQ_HEARTBEAT_TTL, HEARTBEAT_TTL_MS);
    SET(ZMQ_IMMEDIATE, 1);
    SET(ZMQ_RECONNECT_IVL, RECONNECT_MS);
    SET(ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    SET(ZMQ_BACKLOG, BACKLOG);
    SET(ZMQ_SNDTIMEO, 0);
    SET(ZMQ_RCVTIMEO, 0);
    SET(ZMQ_TCP_KEEPALIVE, 1);
    if (r->type == ZMQ_ROUTER) {
        SET(ZMQ_ROUTER_MANDATORY, 1);
        /* Routing ids are made by this side, one for each connection; nobody may claim another's.
         */
        SET(ZMQ_ROUTER_HANDOVER, 0);
    }
    if (r->type == ZMQ_XPUB)
        SET(ZMQ_XPUB_VERBOSE, 1); /* each subscription counts: late joiners are served again */
    return 0;
}

static int set_text(void *socket, int option, const char *text, const char *name, struct err *e)
{
    if (zmq_setsockopt(socket, option, text, strlen(text)) < 0)
        return err_set(e, ERR_INVALID, "socket option %s: %s", name, zmq_strerror(errno));
    return 0;
}

static int set_curve(struct wire *w, struct err *e)
{
    struct keys_pair own;
    char server[KEYS_TEXT_BYTES];
    if (keys_load(&own, w->net->keys, message_party_name(w->net->party), e) < 0)
        return -1;
    int rc = -1;
    if (set_text(w->socket, ZMQ_CURVE_SECRETKEY, own.secret_text, "ZMQ_CURVE_SECRETKEY", e) < 0)
        goto out;
    if (roles[w->role].binds) {
        /* Without a handler ZeroMQ lets every key in; with ENFORCE_DOMAIN it lets none in. */
        assert(w->net->zap != NULL);
        int enforced = 0;
        size_t n = sizeof enforced;
        if (set_int(w->socket, ZMQ_CURVE_SERVER, 1, "ZMQ_CURVE_SERVER", e) < 0 ||
            set_text(w->socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN_NAME, "ZMQ_ZAP_DOMAIN", e) < 0 ||
            set_int(w->socket, OPTION_ZAP_ENFORCE_DOMAIN, 1, "ZMQ_ZAP_ENFORCE_DOMAIN", e) < 0)
            goto out;
        if (zmq_getsockopt(w->socket, OPTION_ZAP_ENFORCE_DOMAIN, &enforced, &n) < 0 ||
            enforced != 1) {
            err_set(e, ERR_INVALID,
                    "this libzmq does not enforce authentication; refusing to listen");
            goto out;
        }
    } else {
        const bool store = w->role == WIRE_STORE_CLIENT || w->role == WIRE_NEWS_CLIENT;
        if (keys_load_public(server, w->net->keys,
                             message_party_name(store ? PARTY_STORE : PARTY_SCORER), e) < 0 ||
            set_text(w->socket, ZMQ_CURVE_PUBLICKEY, own.public_text, "ZMQ_CURVE_PUBLICKEY", e) <
                0 ||
            set_text(w->socket, ZMQ_CURVE_SERVERKEY, server, "ZMQ_CURVE_SERVERKEY", e) < 0)
            goto out;
    }
    w->curve = true;
    rc = 0;
out:
    keys_wipe(&own);
    return rc;
}

static int attach(struct wire *w, const char *endpoint, struct err *e)
{
    if (strchr(endpoint, '[') != NULL)
        SET(ZMQ_IPV6, 1);
    if (!roles[w->role].binds) {
        if (zmq_connect(w->socket, endpoint) < 0)
            return err_set(e, ERR_INVALID, "endpoint '%s': cannot connect: %s", endpoint,
                           zmq_strerror(errno));
        snprintf(w->endpoint, sizeof w->endpoint, "%s", endpoint);
        return 0;
    }
    if (zmq_bind(w->socket, endpoint) < 0)
        return err_set(e, ERR_IO, "endpoint '%s': cannot listen: %s", endpoint,
                       zmq_strerror(errno));
    size_t n = sizeof w->endpoint;
    if (zmq_getsockopt(w->socket, ZMQ_LAST_ENDPOINT, w->endpoint, &n) < 0)
        return err_set(e, ERR_IO, "endpoint '%s': %s", endpoint, zmq_strerror(errno));
    return 0;
}

int wire_open(struct wire **out, struct wire_net *net, enum wire_role role, const char *endpoint,
              struct err *e)
{
    *out = NULL;
    if (check_endpoint(net, endpoint, e) < 0)
        return -1;
    struct wire *w = mem_new(1, sizeof *w);
    w->net = net;
    w->role = role;
    w->message_in =
        roles[role].message_in == 0 ? net->trajectory_bytes_max : roles[role].message_in;
    w->message_out =
        roles[role].message_out == 0 ? net->trajectory_bytes_max : roles[role].message_out;
    w->socket = zmq_socket(net->context, roles[role].type);
    if (w->socket == NULL) {
        err_set(e, ERR_IO, "socket: %s", zmq_strerror(errno));
        goto fail;
    }
    if (set_limits(w, e) < 0)
        goto fail;
    if (starts_with(endpoint, "tcp://") && net->keys != NULL && set_curve(w, e) < 0)
        goto fail;
    if (attach(w, endpoint, e) < 0)
        goto fail;
    *out = w;
    return 0;
fail:
    err_wrap(e, "%s socket", roles[role].name);
    wire_close(w);
    return -1;
}

void wire_close(struct wire *w)
{
    if (w == NULL)
        return;
    if (w->socket != NULL)
        zmq_close(w->socket);
    mem_free(w->offenders);
    mem_free(w);
}

const char *wire_endpoint(const struct wire *w)
{
    return w->endpoint;
}

void *wire_socket(struct wire *w)
{
    return w->socket;
}

struct wire_stats wire_stats(const struct wire *w)
{
    return w->stats;
}

uint64_t wire_bytes_bound(const struct wire *w, uint32_t peers)
{
    const struct role *r = &roles[w->role];
    return peers * ((uint64_t)(r->receive_hwm + 1) * w->message_in +
                    (uint64_t)r->send_hwm * w->message_out);
}

/* ---- sending ---- */

static int send_failed(const struct wire *w, struct err *e)
{
    switch (errno) {
    case EAGAIN:
        return err_set(e, ERR_FULL, "%s: queue full or not connected", w->endpoint);
    case EHOSTUNREACH:
        return err_set(e, ERR_UNAVAILABLE, "%s: that peer is gone", w->endpoint);
    case ETERM:
        return err_set(e, ERR_CLOSED, "%s: closed", w->endpoint);
    default:
        return err_set(e, ERR_IO, "%s: send: %s", w->endpoint, zmq_strerror(errno));
    }
}

static int send_bytes(struct wire *w, const void *data, size_t bytes, int flags)
{
    int rc;
    do
        rc = zmq_send(w->socket, data, bytes, flags | ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -1 : 0;
}

/* Runs on ZeroMQ's thread once the bytes are out. */
static void release_payload(void *data, void *hint)
{
    (void)data;
    struct message_hold *hold = hint;
    hold->release(hold->hold);
    mem_free(hold);
}

static int send_payload(struct wire *w, struct message *m)
{
    if (m->payload_bytes < WIRE_ZERO_COPY_BYTES_MIN || m->payload_hold.release == NULL)
        return send_bytes(w, m->payload, m->payload_bytes, 0);
    struct message_hold *hold = mem_new(1, sizeof *hold);
    *hold = m->payload_hold;
    m->payload_hold = (struct message_hold){0};
    union {
        const void *from;
        void *to;
    } data = {.from = m->payload}; /* ZeroMQ's interface has no const; it only reads */
    zmq_msg_t frame;
    zmq_msg_init_data(&frame, data.to, m->payload_bytes, release_payload, hold);
    int rc;
    do
        rc = zmq_msg_send(&frame, w->socket, ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        zmq_msg_close(&frame);
    return rc < 0 ? -1 : 0;
}

int wire_send(struct wire *w, struct message **message, struct err *e)
{
    struct message *m = *message;
    if (m->payload_bytes > w->message_out)
        return err_set(e, ERR_INVALID, "%s: a payload of %zu bytes, the limit is %zu", w->endpoint, m->payload_bytes,
                       w->message_out);
    uint8_t envelope[MESSAGE_ENVELOPE_BYTES_MAX];
    snprintf(m->run_id, sizeof m->run_id, "%s", w->net->run_id);
    snprintf(m->sender, sizeof m->sender, "%s", w->net->sender);
    const size_t n = codec_put_envelope(m, envelope);
    const int type = roles[w->role].type;
    if (type == ZMQ_ROUTER && send_bytes(w, m->peer, m->peer_bytes, ZMQ_SNDMORE) < 0)
        return send_failed(w, e);
    const char *topic = message_kind_name(m->kind);
    if (type == ZMQ_XPUB && send_bytes(w, topic, strlen(topic), ZMQ_SNDMORE) < 0)
        return send_failed(w, e);
    if (type == ZMQ_DEALER && send_bytes(w, envelope, n, ZMQ_SNDMORE) < 0)
        return send_failed(w, e);
    /* From here on ZeroMQ has begun the message and takes the rest of it: only the end of the
     * context can fail. */
    const bool payload = codec_has_payload(m->kind);
    if ((type != ZMQ_DEALER && send_bytes(w, envelope, n, ZMQ_SNDMORE) < 0) ||
        send_bytes(w, m->body, m->body_bytes, payload ? ZMQ_SNDMORE : 0) < 0 ||
        (payload && send_payload(w, m) < 0))
        return send_failed(w, e);
    w->stats.sent++;
    message_free(m);
    *message = NULL;
    return 0;
}

int wire_wait_writable(struct wire *w, int timeout_ms, struct err *e)
{
    zmq_pollitem_t item = {.socket = w->socket, .events = ZMQ_POLLOUT};
    const int n = zmq_poll(&item, 1, timeout_ms);
    if (n < 0 && errno != EINTR)
        return err_set(e, ERR_CLOSED, "%s: %s", w->endpoint, zmq_strerror(errno));
    return n > 0 ? 0 : err_set(e, ERR_TIMEOUT, "%s: not writable", w->endpoint);
}

/* ---- receiving ---- */

struct parcel {
    zmq_msg_t frames[MESSAGE_FRAMES_MAX + 1]; /* one more for the routing id or the topic */
    size_t count;                             /* initialised frames */
    bool too_many;
};

static void parcel_close(struct parcel *p)
{
    for (size_t i = 0; i < p->count; i++)
        zmq_msg_close(&p->frames[i]);
    p->count = 0;
}

/* All frames of one message, those beyond the limit forgotten at once. ERR_TIMEOUT: none there. */
static int parcel_receive(struct wire *w, struct parcel *p, struct err *e)
{
    p->count = 0;
    p->too_many = false;
    for (;;) {
        zmq_msg_t spare;
        const size_t limit = sizeof p->frames / sizeof *p->frames;
        zmq_msg_t *m = p->count < limit ? &p->frames[p->count] : &spare;
        zmq_msg_init(m);
        int rc;
        do
            rc = zmq_msg_recv(m, w->socket, ZMQ_DONTWAIT);
        while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            const int why = errno;
            zmq_msg_close(m);
            parcel_close(p);
            return why == EAGAIN ? err_set(e, ERR_TIMEOUT, "%s: nothing to read", w->endpoint)
                                 : err_set(e, ERR_CLOSED, "%s: %s", w->endpoint, zmq_strerror(why));
        }
        const int more = zmq_msg_more(m);
        if (m == &spare) {
            p->too_many = true;
            zmq_msg_close(m);
        } else {
            p->count++;
        }
        if (!more)
            return 0;
    }
}

static struct offender *offender_find(struct wire *w, const struct message *m)
{
    for (size_t i = 0; i < w->offender_count; i++)
        if (w->offenders[i].id_bytes == m->peer_bytes &&
            memcmp(w->offenders[i].id, m->peer, m->peer_bytes) == 0)
            return &w->offenders[i];
    return NULL;
}

static void offend(struct wire *w, const struct message *m, const struct err *why)
{
    log_event(LOG_WARN, "message_dropped", "socket=%s kind=%s party=%s reason=%s", w->endpoint,
              message_kind_name(m->kind), message_party_name(m->party), why->text);
    if (roles[w->role].type != ZMQ_ROUTER)
        return;
    struct offender *o = offender_find(w, m);
    if (o == NULL) {
        if (w->offender_count < WIRE_PEERS_MAX) {
            w->offenders = mem_grow(w->offenders, w->offender_count + 1, sizeof *w->offenders);
            o = &w->offenders[w->offender_count++];
        } else {
            o = &w->offenders[0];
            for (size_t i = 1; i < w->offender_count; i++)
                if (w->offenders[i].last < o->last)
                    o = &w->offenders[i];
        }
        *o = (struct offender){.id_bytes = m->peer_bytes};
        memcpy(o->id, m->peer, m->peer_bytes);
    }
    o->last = ++w->offences;
    if (++o->count == WIRE_BAN_AFTER) {
        w->stats.peers_banned++;
        log_event(LOG_ERROR, "peer_banned", "socket=%s party=%s", w->endpoint,
                  message_party_name(m->party));
    }
}

static bool allowed(const struct wire *w, const struct message *m)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].socket == w->role && rules[i].kind == m->kind)
            return m->party == PARTY_LOCAL || (rules[i].parties & (1u << m->party)) != 0;
    return false;
}

/* Tells a peer why its message is not taken; best effort. */
static void refuse(struct wire *w, const struct message *m, const struct err *why)
{
    if (roles[w->role].type != ZMQ_ROUTER)
        return;
    struct message *reply = message_reply(m, MESSAGE_ERROR);
    struct err ignored;
    codec_put_error(reply, why);
    if (wire_send(w, &reply, &ignored) < 0)
        message_free(reply);
}

static void close_frame(void *hold)
{
    zmq_msg_close(hold);
    mem_free(hold);
}

static struct message_hold hold_frame(zmq_msg_t *frame)
{
    zmq_msg_t *own = mem_new(1, sizeof *own);
    zmq_msg_init(own);
    zmq_msg_move(own, frame);
    return (struct message_hold){close_frame, own};
}

static int read_sender(struct wire *w, struct message *m, struct parcel *p, struct err *e)
{
    const int type = roles[w->role].type;
    if (type == ZMQ_ROUTER) {
        m->peer_bytes = zmq_msg_size(&p->frames[0]);
        assert(m->peer_bytes <= MESSAGE_PEER_BYTES_MAX);
        memcpy(m->peer, zmq_msg_data(&p->frames[0]), m->peer_bytes);
    }
    if (type == ZMQ_ROUTER && w->curve) {
        const char *user = zmq_msg_gets(&p->frames[p->count - 1], "User-Id");
        const enum message_party party = user == NULL ? PARTY_COUNT : message_party_of(user);
        if (party == PARTY_COUNT)
            return err_set(e, ERR_INVALID, "peer without an authenticated party");
        m->party = party;
    }
    return 0;
}

/* Turns the frames into a message or counts why not: 1 taken, 0 dropped. */
static int accept_parcel(struct wire *w, struct parcel *p, struct message **out)
{
    const size_t first = roles[w->role].type == ZMQ_DEALER ? 0 : 1;
    struct message *m = message_new(MESSAGE_NONE);
    struct err why = {.code = ERR_INVALID};
    struct codec_frame frames[MESSAGE_FRAMES_MAX + 1];
    int rc = read_sender(w, m, p, &why);
    const struct offender *known = offender_find(w, m);
    if (known != NULL && known->count >= WIRE_BAN_AFTER) {
        w->stats.dropped_banned++;
        message_free(m);
        return 0;
    }
    if (rc == 0 && (p->too_many || p->count <= first))
        rc = err_set(&why, ERR_INVALID, "more than %d frames, or none", MESSAGE_FRAMES_MAX);
    const size_t count = p->count - first;
    for (size_t i = 0; rc == 0 && i < count; i++)
        frames[i] = (struct codec_frame){zmq_msg_data(&p->frames[first + i]),
                                         zmq_msg_size(&p->frames[first + i])};
    if (rc == 0)
        rc = codec_get_frames(m, frames, count, w->message_in, &why);
    if (rc < 0) {
        if (why.code == ERR_STALE)
            w->stats.dropped_version++, refuse(w, m, &why);
        else if (why.code == ERR_CONFLICT)
            w->stats.dropped_crc++;
        else
            w->stats.dropped_malformed++;
    } else if (!allowed(w, m)) {
        w->stats.dropped_kind++;
        rc = err_set(&why, ERR_INVALID, "%s may not send %s here", message_party_name(m->party),
                     message_kind_name(m->kind));
        refuse(w, m, &why);
    }
    if (rc < 0) {
        offend(w, m, &why);
        message_free(m);
        return 0;
    }
    /* Small frames live inside zmq_msg_t itself, so the pointers are taken again after the move. */
    m->body_hold = hold_frame(&p->frames[first + 1]);
    m->body = zmq_msg_data(m->body_hold.hold);
    if (count == 3) {
        m->payload_hold = hold_frame(&p->frames[first + 2]);
        m->payload = zmq_msg_data(m->payload_hold.hold);
    }
    w->stats.received++;
    *out = m;
    return 1;
}

int wire_recv(struct wire *w, struct message **out, int timeout_ms, struct err *e)
{
    *out = NULL;
    const int64_t deadline = clock_mono_ms(NULL) + (timeout_ms < 0 ? 0 : timeout_ms);
    for (;;) {
        for (int i = 0; i < RECV_BURST; i++) {
            struct parcel p;
            struct err why;
            if (parcel_receive(w, &p, &why) < 0) {
                if (why.code == ERR_TIMEOUT)
                    break;
                return err_set(e, why.code, "%s", why.text);
            }
            const int taken = accept_parcel(w, &p, out);
            parcel_close(&p);
            if (taken)
                return 0;
        }
        const int64_t left = timeout_ms < 0 ? -1 : deadline - clock_mono_ms(NULL);
        if (timeout_ms >= 0 && left <= 0)
            return err_set(e, ERR_TIMEOUT, "%s: nothing within %d ms", w->endpoint, timeout_ms);
        zmq_pollitem_t item = {.socket = w->socket, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, (long)left) < 0 && errno != EINTR)
            return err_set(e, ERR_CLOSED, "%s: %s", w->endpoint, zmq_strerror(errno));
    }
}

/* ---- announcements ---- */

int wire_subscribe(struct wire *w, enum message_kind kind, struct err *e)
{
    assert(w->role == WIRE_NEWS_CLIENT);
    return set_text(w->socket, ZMQ_SUBSCRIBE, message_kind_name(kind), "ZMQ_SUBSCRIBE", e);
}

uint32_t wire_subscriptions(struct wire *w)
{
    assert(w->role == WIRE_STORE_NEWS);
    uint32_t n = 0;
    struct parcel p;
    struct err e;
    while (n < WIRE_PEERS_MAX && parcel_receive(w, &p, &e) == 0) {
        const uint8_t *data = zmq_msg_data(&p.frames[0]);
        n += zmq_msg_size(&p.frames[0]) > 0 && data[0] == 1;
        parcel_close(&p);
    }
    return n;
}
