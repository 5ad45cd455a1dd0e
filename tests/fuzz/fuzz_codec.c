/* Bodies of every kind: whatever is accepted packs to bytes that read back and pack to the same
 * bytes. Input: kind (1 byte), payload length (16 bits, little-endian), payload, body. */
#include "base/mem.h"
#include "wire/codec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads m and, where it is accepted, packs what was read into out. */
static int pass(struct message *m, struct message *out)
{
    struct err e = {0};
    int rc = -1;
#define PASS(kind, type, name)                                                                     \
    case kind: {                                                                                   \
        struct type x;                                                                             \
        rc = codec_get_##name(m, &x, &e);                                                          \
        if (rc == 0)                                                                               \
            codec_put_##name(out, &x);                                                             \
        break;                                                                                     \
    }
#define PASS_OWNED(kind, type, name, done)                                                         \
    case kind: {                                                                                   \
        struct type x;                                                                             \
        rc = codec_get_##name(m, &x, &e);                                                          \
        if (rc == 0) {                                                                             \
            codec_put_##name(out, &x);                                                             \
            done(&x);                                                                              \
        }                                                                                          \
        break;                                                                                     \
    }
    switch ((int)m->kind) {
        PASS(MESSAGE_HELLO, hello, hello)
        PASS(MESSAGE_CREDIT, credit, credit)
        PASS(MESSAGE_ACK, ack, ack)
        PASS(MESSAGE_ERROR, err, error)
        PASS(MESSAGE_POLICY, policy_ref, policy)
        PASS(MESSAGE_GET_BLOB, blob_range, get_blob)
        PASS(MESSAGE_BLOB, blob_chunk, blob)
        PASS(MESSAGE_PUT_BLOB, blob_chunk, put_blob)
        PASS(MESSAGE_PUT, blob_have, put)
        PASS(MESSAGE_PUBLISH_POLICY, policy_publish, publish_policy)
        PASS(MESSAGE_PUBLISH_CHECKPOINT, checkpoint_ref, publish_checkpoint)
        PASS(MESSAGE_CHECKPOINT, checkpoint_ref, checkpoint)
        PASS(MESSAGE_REPORT, report, report)
        PASS_OWNED(MESSAGE_RUN, run_spec, run, run_spec_done)
        PASS_OWNED(MESSAGE_STATUS, status, status, status_done)
    case MESSAGE_TRAJECTORY: {
        struct trajectory *t;
        rc = codec_get_trajectory(m, &t, &e);
        if (rc == 0 && codec_put_trajectory(out, t, &e) < 0)
            abort();
        trajectory_free(t);
        break;
    }
    case MESSAGE_TAKE_SLOT: {
        char host[CODEC_HOST_BYTES];
        rc = codec_get_take_slot(m, host, &e);
        if (rc == 0)
            codec_put_take_slot(out, host);
        break;
    }
    case MESSAGE_SLOT: {
        uint32_t slot;
        rc = codec_get_slot(m, &slot, &e);
        if (rc == 0)
            codec_put_slot(out, slot);
        break;
    }
    case MESSAGE_TOKEN: {
        uint64_t token;
        rc = codec_get_token(m, &token, &e);
        if (rc == 0)
            codec_put_token(out, token);
        break;
    }
    case MESSAGE_GET_POLICY: {
        uint8_t digest[CODEC_DIGEST_BYTES];
        bool newest;
        rc = codec_get_get_policy(m, digest, &newest, &e);
        if (rc == 0)
            codec_put_get_policy(out, newest ? NULL : digest);
        break;
    }
    default:
        rc = codec_get_empty(m, &e);
        if (rc == 0)
            codec_put_empty(out);
    }
    if (rc < 0 && e.text[0] == 0)
        abort();
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct message *in = message_new((enum message_kind)(data[0] % MESSAGE_KINDS_END));
    const size_t want = data[1] | (size_t)data[2] << 8;
    const size_t payload = want < size - 3 ? want : size - 3;
    in->payload = data + 3;
    in->payload_bytes = payload;
    in->body = data + 3 + payload;
    in->body_bytes = size - 3 - payload;
    struct message *once = message_new(in->kind), *twice = message_new(in->kind);
    if (pass(in, once) == 0) {
        if (once->payload == NULL) {
            once->payload = in->payload;
            once->payload_bytes = in->payload_bytes;
        }
        if (pass(once, twice) < 0 || once->body_bytes != twice->body_bytes ||
            memcmp(once->body, twice->body, once->body_bytes) != 0)
            abort();
    }
    message_free(in);
    message_free(once);
    message_free(twice);
    return 0;
}
