#include "wire/message.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

struct message *message_new(enum message_kind kind)
{
    struct message *m = mem_new(1, sizeof *m);
    m->kind = kind;
    return m;
}

struct message *message_reply(const struct message *request, enum message_kind kind)
{
    struct message *m = message_new(kind);
    m->request = request->request;
    memcpy(m->peer, request->peer, request->peer_bytes);
    m->peer_bytes = request->peer_bytes;
    return m;
}

static void drop(struct message_hold *h)
{
    if (h->release != NULL)
        h->release(h->hold);
    h->release = NULL;
    h->hold = NULL;
}

void message_free(struct message *m)
{
    if (m == NULL)
        return;
    drop(&m->body_hold);
    drop(&m->payload_hold);
    mem_free(m);
}

void message_own_body(struct message *m, void *bytes, size_t count)
{
    assert(count <= MESSAGE_BODY_BYTES_MAX);
    drop(&m->body_hold);
    m->body = bytes;
    m->body_bytes = count;
    m->body_hold = (struct message_hold){mem_free, bytes};
}

void message_own_payload(struct message *m, void *bytes, size_t count)
{
    assert(count <= MESSAGE_PAYLOAD_BYTES_MAX);
    drop(&m->payload_hold);
    m->payload = bytes;
    m->payload_bytes = count;
    m->payload_hold = (struct message_hold){mem_free, bytes};
}

const char *message_kind_name(enum message_kind kind)
{
    switch (kind) {
    case MESSAGE_NONE:
        return "none";
    case MESSAGE_HELLO:
        return "hello";
    case MESSAGE_CREDIT:
        return "credit";
    case MESSAGE_TRAJECTORY:
        return "trajectory";
    case MESSAGE_ACK:
        return "ack";
    case MESSAGE_ERROR:
        return "error";
    case MESSAGE_GET_RUN:
        return "get_run";
    case MESSAGE_RUN:
        return "run";
    case MESSAGE_TAKE_SLOT:
        return "take_slot";
    case MESSAGE_SLOT:
        return "slot";
    case MESSAGE_TAKE_TOKEN:
        return "take_token";
    case MESSAGE_TOKEN:
        return "token";
    case MESSAGE_GET_POLICY:
        return "get_policy";
    case MESSAGE_POLICY:
        return "policy";
    case MESSAGE_GET_BLOB:
        return "get_blob";
    case MESSAGE_BLOB:
        return "blob";
    case MESSAGE_PUT_BLOB:
        return "put_blob";
    case MESSAGE_PUT:
        return "put";
    case MESSAGE_PUBLISH_POLICY:
        return "publish_policy";
    case MESSAGE_PUBLISH_CHECKPOINT:
        return "publish_checkpoint";
    case MESSAGE_GET_CHECKPOINT:
        return "get_checkpoint";
    case MESSAGE_CHECKPOINT:
        return "checkpoint";
    case MESSAGE_REPORT:
        return "report";
    case MESSAGE_OK:
        return "ok";
    case MESSAGE_GET_STATUS:
        return "get_status";
    case MESSAGE_STATUS:
        return "status";
    case MESSAGE_STOP:
        return "stop";
    case MESSAGE_NEWS_POLICY:
        return "news_policy";
    case MESSAGE_NEWS_REPORT:
        return "news_report";
    case MESSAGE_NEWS_STOP:
        return "news_stop";
    case MESSAGE_KINDS_END:
        break;
    }
    return "unknown";
}

static const char *const party_names[PARTY_COUNT] = {
    [PARTY_LOCAL] = "local",     [PARTY_STORE] = "store",     [PARTY_SCORER] = "scorer",
    [PARTY_SAMPLER] = "sampler", [PARTY_TRAINER] = "trainer", [PARTY_DAGLINE] = "dagline",
};

const char *message_party_name(enum message_party party)
{
    assert(party < PARTY_COUNT);
    return party_names[party];
}

enum message_party message_party_of(const char *name)
{
    for (enum message_party p = PARTY_STORE; p < PARTY_COUNT; p++)
        if (strcmp(party_names[p], name) == 0)
            return p;
    return PARTY_COUNT;
}
