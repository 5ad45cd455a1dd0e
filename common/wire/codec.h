/* Plain structs <-> packed protobuf bodies of messages, for every message of protos/.  Generated
 * names do not leave codec.c.  Every bound on data that comes from outside is checked here, once: a
 * decoder returns a struct whose strings end, whose counts and digests fit, and whose numbers are
 * finite, or one line that names the field.  Unpacking runs under a byte budget
 * (CODEC_BUDGET_BYTES), because protobuf-c has no limit on memory.
 *
 * codec_put_X(m, x) packs x as the body of m; x's bounds are preconditions (asserted).
 * codec_get_X(m, &x, e) reads a body of that type; ERR_INVALID.  Only run_spec, status and
 * trajectory own memory: see their _done / _free. Digests are 32 bytes; "none" (the base model) is
 * 32 zero bytes here and an empty field in protobuf. Threads: pure functions. */
#ifndef DAGLINE_WIRE_CODEC_H
#define DAGLINE_WIRE_CODEC_H

#include "base/err.h"
#include "rollout/trajectory.h"
#include "wire/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEC_MAJOR 1
#define CODEC_MINOR 0
#define CODEC_MAGIC 0x31474144u /* "DAG1" in memory order */
#define CODEC_BUDGET_BYTES ((size_t)8 << 20)
#define CODEC_DIGEST_BYTES 32
#define CODEC_RUN_ID_BYTES MESSAGE_RUN_ID_BYTES
#define CODEC_HOST_BYTES 64
#define CODEC_PATH_BYTES 160
#define CODEC_NAME_BYTES 48
#define CODEC_SERVICE_BYTES MESSAGE_SENDER_BYTES
#define CODEC_REASON_BYTES 256
#define CODEC_MODEL_FILES_MAX 256
#define CODEC_SETTINGS_BYTES_MAX ((size_t)128 << 10)
#define CODEC_METRICS_MAX 64
#define CODEC_SERVICES_MAX 160 /* x CODEC_METRICS_MAX metrics fit a body */
#define CODEC_CHECKPOINT_BLOBS_MAX 16
#define CODEC_PROMPTS_MAX 1000000
#define CODEC_STEPS_MAX 1000
#define CODEC_BLOB_BYTES_MAX ((uint64_t)64 << 30)
#define CODEC_CHUNK_BYTES_MAX ((size_t)1 << 20)

/* ---- frames ---- */

struct codec_frame {
    const void *data;
    size_t bytes;
};

/* Packs the envelope of m with its lengths and checksums; returns its size. */
size_t codec_put_envelope(const struct message *m, uint8_t out[MESSAGE_ENVELOPE_BYTES_MAX]);

/* Checks `count` frames (2: envelope, body; 3: and payload) against the envelope: magic, version,
 * known kind, lengths, checksums, and that exactly the kinds which carry a payload have one.
 * Fills m's kind, request, run_id, sender, token, and points body and payload INTO the frames (m
 * owns nothing of them). `payload_bytes_max`: larger payloads are refused. ERR_STALE: another major
 * version (m->request is set where it could be read, so that it can be answered); ERR_CONFLICT: a
 * checksum; ERR_INVALID: everything else. */
int codec_get_frames(struct message *m, const struct codec_frame *frames, size_t count,
                     size_t payload_bytes_max, struct err *e) MUST_USE;

/* Whether messages of this kind carry a payload frame. */
bool codec_has_payload(enum message_kind kind);

/* ---- sampler <-> scorer ---- */

struct hello {
    uint64_t item_bytes;
    uint32_t slot;
};
struct credit {
    uint64_t session, items, bytes; /* cumulative within the session */
};
enum ack_outcome { ACK_NONE, ACK_STORED, ACK_DUPLICATE, ACK_REJECTED, ACK_FAILED };
struct ack {
    uint8_t id[TRAJECTORY_ID_BYTES];
    enum ack_outcome outcome;
    char reason[CODEC_REASON_BYTES]; /* longer ones are cut */
    uint64_t session;
};

void codec_put_hello(struct message *m, const struct hello *x);
int codec_get_hello(const struct message *m, struct hello *x, struct err *e) MUST_USE;
void codec_put_credit(struct message *m, const struct credit *x);
int codec_get_credit(const struct message *m, struct credit *x, struct err *e) MUST_USE;
void codec_put_ack(struct message *m, const struct ack *x);
int codec_get_ack(const struct message *m, struct ack *x, struct err *e) MUST_USE;

/* Body and payload.  t must pass trajectory_check(t, false) and hold its images (images may be NULL
 * where no state has one; final_image must be there). One copy of latents and images into the
 * payload. */
int codec_put_trajectory(struct message *m, const struct trajectory *t, struct err *e) MUST_USE;
/* A new trajectory that passed trajectory_check(t, false), its own copy of everything; the caller
 * frees. */
int codec_get_trajectory(const struct message *m, struct trajectory **out, struct err *e) MUST_USE;
/* The size of its message in frames' bytes, for credit: payload + an upper bound of the rest. */
size_t codec_trajectory_bytes(const struct trajectory *t);

/* ---- store ---- */

struct model_file {
    char path[CODEC_PATH_BYTES]; /* relative, no "..", no leading "/" */
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t bytes;
};

/* protos/run.proto Run; see there. */
struct run_spec {
    char run_id[CODEC_RUN_ID_BYTES];
    uint64_t seed;
    struct model_file *model; /* owned [model_count] */
    uint32_t model_count;
    uint8_t model_digest[CODEC_DIGEST_BYTES];
    uint8_t prompts_digest[CODEC_DIGEST_BYTES];
    uint32_t prompt_count;
    uint32_t steps;
    double eta, guidance;
    char variance[16];
    double variance_floor;
    bool last_step_mean;
    uint32_t latent_height, latent_width;
    double transition_fraction;
    uint32_t group_size;
    bool forward_looking, lockstep;
    double forward_looking_abar;
    bool forward_looking_base, undecoded;
    uint32_t lockstep_batch;
    uint64_t iterations;
    char *settings; /* owned */
};
void run_spec_done(struct run_spec *r);

struct policy_ref {
    uint64_t version;
    uint8_t digest[CODEC_DIGEST_BYTES]; /* zeros: the base model */
    uint64_t bytes;
    uint64_t token;
};

struct named_blob {
    char name[CODEC_NAME_BYTES];
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t bytes;
};
struct checkpoint_ref {
    uint64_t step, token; /* step 0 with no blobs: there is none */
    uint32_t blob_count;
    struct named_blob blobs[CODEC_CHECKPOINT_BLOBS_MAX];
};

struct blob_range { /* GetBlob */
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t offset;
    uint32_t length_max;
};
struct blob_chunk { /* Blob and PutBlob: where the payload lies in the whole */
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t offset, bytes_total;
};
struct blob_have { /* Put */
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t bytes_have;
};
struct policy_publish {
    uint64_t version;
    uint8_t digest[CODEC_DIGEST_BYTES];
};

struct report_metric {
    char name[CODEC_NAME_BYTES];
    double value; /* any double; NaN and infinity are kept */
};
struct report {
    char service[CODEC_SERVICE_BYTES];
    uint64_t step;
    uint64_t policy_version;
    uint8_t policy_digest[CODEC_DIGEST_BYTES];
    uint64_t progress;
    uint32_t metric_count;
    struct report_metric metrics[CODEC_METRICS_MAX];
};
/* Appends a metric; one past CODEC_METRICS_MAX is dropped (false). */
bool report_add(struct report *r, const char *name, double value);

struct status {
    char run_id[CODEC_RUN_ID_BYTES];
    struct policy_ref policy;
    struct checkpoint_ref checkpoint;
    uint32_t service_count;
    struct report *services; /* owned [service_count] */
    double *age_seconds;     /* owned [service_count] */
};
void status_done(struct status *s);

/* KIND_ERROR: any err; get gives the sender's code and text. */
void codec_put_error(struct message *m, const struct err *x);
int codec_get_error(const struct message *m, struct err *x, struct err *e) MUST_USE;
/* The Empty message of GET_RUN, OK, STOP ... */
void codec_put_empty(struct message *m);
int codec_get_empty(const struct message *m, struct err *e) MUST_USE;

void codec_put_run(struct message *m, const struct run_spec *x);
int codec_get_run(const struct message *m, struct run_spec *x, struct err *e) MUST_USE;
void codec_put_take_slot(struct message *m, const char *host);
int codec_get_take_slot(const struct message *m, char host[CODEC_HOST_BYTES],
                        struct err *e) MUST_USE;
void codec_put_slot(struct message *m, uint32_t slot);
int codec_get_slot(const struct message *m, uint32_t *slot, struct err *e) MUST_USE;
void codec_put_token(struct message *m, uint64_t token);
int codec_get_token(const struct message *m, uint64_t *token, struct err *e) MUST_USE;
/* digest NULL: the newest. */
void codec_put_get_policy(struct message *m, const uint8_t *digest);
/* *newest: no digest was given. */
int codec_get_get_policy(const struct message *m, uint8_t digest[CODEC_DIGEST_BYTES], bool *newest,
                         struct err *e) MUST_USE;
void codec_put_policy(struct message *m, const struct policy_ref *x);
int codec_get_policy(const struct message *m, struct policy_ref *x, struct err *e) MUST_USE;
void codec_put_get_blob(struct message *m, const struct blob_range *x);
int codec_get_get_blob(const struct message *m, struct blob_range *x, struct err *e) MUST_USE;
/* The chunk's bytes are m's payload: message_own_payload before or after. */
void codec_put_blob(struct message *m, const struct blob_chunk *x);
int codec_get_blob(const struct message *m, struct blob_chunk *x, struct err *e) MUST_USE;
void codec_put_put_blob(struct message *m, const struct blob_chunk *x);
int codec_get_put_blob(const struct message *m, struct blob_chunk *x, struct err *e) MUST_USE;
void codec_put_put(struct message *m, const struct blob_have *x);
int codec_get_put(const struct message *m, struct blob_have *x, struct err *e) MUST_USE;
void codec_put_publish_policy(struct message *m, const struct policy_publish *x);
int codec_get_publish_policy(const struct message *m, struct policy_publish *x,
                             struct err *e) MUST_USE;
/* token is not part of the body: it travels in the envelope. */
void codec_put_publish_checkpoint(struct message *m, const struct checkpoint_ref *x);
int codec_get_publish_checkpoint(const struct message *m, struct checkpoint_ref *x,
                                 struct err *e) MUST_USE;
void codec_put_checkpoint(struct message *m, const struct checkpoint_ref *x);
int codec_get_checkpoint(const struct message *m, struct checkpoint_ref *x, struct err *e) MUST_USE;
void codec_put_report(struct message *m, const struct report *x);
int codec_get_report(const struct message *m, struct report *x, struct err *e) MUST_USE;
void codec_put_status(struct message *m, const struct status *x);
int codec_get_status(const struct message *m, struct status *x, struct err *e) MUST_USE;

#endif
