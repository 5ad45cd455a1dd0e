#include "wire/codec.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include "envelope.pb-c.h"
#include "run.pb-c.h"
#include "trajectory.pb-c.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RUN_SIDE_MAX 512u
#define RUN_COUNT_MAX 1000000u

_Static_assert((int)MESSAGE_TRAJECTORY == DAGLINE__V1__KIND__KIND_TRAJECTORY &&
                   (int)MESSAGE_ACK == DAGLINE__V1__KIND__KIND_ACK &&
                   (int)MESSAGE_ERROR == DAGLINE__V1__KIND__KIND_ERROR &&
                   (int)MESSAGE_TAKE_TOKEN == DAGLINE__V1__KIND__KIND_TAKE_TOKEN &&
                   (int)MESSAGE_PUT_BLOB == DAGLINE__V1__KIND__KIND_PUT_BLOB &&
                   (int)MESSAGE_CHECKPOINT == DAGLINE__V1__KIND__KIND_CHECKPOINT &&
                   (int)MESSAGE_STOP == DAGLINE__V1__KIND__KIND_STOP &&
                   (int)MESSAGE_NEWS_STOP == DAGLINE__V1__KIND__KIND_NEWS_STOP,
               "enum message_kind and protos/envelope.proto have drifted apart");
_Static_assert((int)ACK_STORED == DAGLINE__V1__OUTCOME__OUTCOME_STORED &&
                   (int)ACK_FAILED == DAGLINE__V1__OUTCOME__OUTCOME_FAILED,
               "enum ack_outcome and protos/trajectory.proto have drifted apart");
_Static_assert(sizeof(float) == 4 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "payloads are little-endian float32");

/* ---- packing and unpacking under a budget ---- */

struct budget {
    size_t left;
};

static void *budget_alloc(void *data, size_t bytes)
{
    struct budget *b = data;
    /* The allocator's own overhead counts: a flood of one-byte objects is as heavy as it really is.
     */
    const size_t cost = bytes + 16;
    if (cost < bytes || cost > b->left)
        return NULL;
    b->left -= cost;
    return malloc(bytes == 0 ? 1 : bytes);
}

static void budget_free(void *data, void *p)
{
    (void)data;
    free(p);
}

static void *unpack(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t count,
                    struct err *e)
{
    struct budget budget = {CODEC_BUDGET_BYTES};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    /* An empty body is a message of defaults; protobuf-c wants a pointer all the same. */
    static const uint8_t nothing[1];
    void *x = protobuf_c_message_unpack(type, &allocator, count, count == 0 ? nothing : bytes);
    if (x == NULL)
        err_set(e, ERR_INVALID, "%s: %zu bytes are not such a message, or it needs over %zu bytes",
                type->short_name, count, CODEC_BUDGET_BYTES);
    return x;
}

/* m's body as a generated struct of `type`, or NULL; ended by discard. */
static void *body_of(const struct message *m, const ProtobufCMessageDescriptor *type, struct err *e)
{
    if (m->body_bytes > MESSAGE_BODY_BYTES_MAX) {
        err_set(e, ERR_INVALID, "%s: body of %zu bytes, at most %zu", type->short_name,
                m->body_bytes, MESSAGE_BODY_BYTES_MAX);
        return NULL;
    }
    return unpack(type, m->body, m->body_bytes, e);
}

static void discard(void *x)
{
    static ProtobufCAllocator allocator = {budget_alloc, budget_free, NULL};
    if (x != NULL)
        protobuf_c_message_free_unpacked(x, &allocator);
}

static void pack(struct message *m, const ProtobufCMessage *x)
{
    const size_t n = protobuf_c_message_get_packed_size(x);
    assert(n <= MESSAGE_BODY_BYTES_MAX);
    uint8_t *bytes = mem_new(n, 1);
    protobuf_c_message_pack(x, bytes);
    message_own_body(m, bytes, n);
}

/* protobuf-c's structs have no const; packing only reads. */
static void *mutable(const void *p)
{
    union {
        const void *from;
        void *to;
    } u = {.from = p};
    return u.to;
}

static ProtobufCBinaryData binary(const uint8_t *data, size_t bytes)
{
    return (ProtobufCBinaryData){bytes, mutable(data)};
}

static bool is_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= p[i];
    return any == 0;
}

/* A digest of zeros (the base model) travels as an empty field. */
static ProtobufCBinaryData digest_or_none(const uint8_t *digest)
{
    return binary(digest, is_zero(digest, CODEC_DIGEST_BYTES) ? 0 : CODEC_DIGEST_BYTES);
}

/* ---- checks of single fields; each names the field ---- */

static int take_text(char *out, size_t capacity, const char *text, const char *field, struct err *e)
{
    const size_t n = strlen(text);
    if (n >= capacity)
        return err_set(e, ERR_INVALID, "%s: %zu bytes, at most %zu", field, n, capacity - 1);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return err_set(e, ERR_INVALID, "%s: control byte at %zu", field, i);
    memcpy(out, text, n + 1);
    return 0;
}

static int take_name(char *out, size_t capacity, const char *text, const char *field, struct err *e)
{
    if (text[0] == 0)
        return err_set(e, ERR_INVALID, "%s: empty", field);
    return take_text(out, capacity, text, field, e);
}

static int take_bytes(uint8_t *out, size_t want, ProtobufCBinaryData data, const char *field,
                      struct err *e)
{
    if (data.len != want)
        return err_set(e, ERR_INVALID, "%s: %zu bytes, must be %zu", field, data.len, want);
    memcpy(out, data.data, want);
    return 0;
}

static int take_digest(uint8_t *out, ProtobufCBinaryData data, const char *field, struct err *e)
{
    if (take_bytes(out, CODEC_DIGEST_BYTES, data, field, e) < 0)
        return -1;
    if (is_zero(out, CODEC_DIGEST_BYTES))
        return err_set(e, ERR_INVALID, "%s: all zeros", field);
    return 0;
}

static int take_digest_or_none(uint8_t *out, ProtobufCBinaryData data, const char *field,
                               struct err *e)
{
    memset(out, 0, CODEC_DIGEST_BYTES);
    return data.len == 0 ? 0 : take_digest(out, data, field, e);
}

static int check_range(uint64_t value, uint64_t low, uint64_t high, const char *field,
                       struct err *e)
{
    if (value < low || value > high)
        return err_set(e, ERR_INVALID, "%s: %llu is outside %llu..%llu", field,
                       (unsigned long long)value, (unsigned long long)low,
                       (unsigned long long)high);
    return 0;
}

static int check_real(double value, double low, double high, const char *field, struct err *e)
{
    if (!(value >= low && value <= high))
        return err_set(e, ERR_INVALID, "%s: %g is outside %g..%g", field, value, low, high);
    return 0;
}

/* ---- frames ---- */

bool codec_has_payload(enum message_kind kind)
{
    return kind == MESSAGE_TRAJECTORY || kind == MESSAGE_BLOB || kind == MESSAGE_PUT_BLOB;
}

size_t codec_put_envelope(const struct message *m, uint8_t out[MESSAGE_ENVELOPE_BYTES_MAX])
{
    assert(codec_has_payload(m->kind) || m->payload_bytes == 0);
    Dagline__V1__Envelope x;
    dagline__v1__envelope__init(&x);
    x.magic = CODEC_MAGIC;
    x.major = CODEC_MAJOR;
    x.minor = CODEC_MINOR;
    x.kind = (Dagline__V1__Kind)m->kind;
    x.request = m->request;
    x.run_id = mutable(m->run_id);
    x.sender = mutable(m->sender);
    x.token = m->token;
    x.body_bytes = m->body_bytes;
    x.body_crc = hash_crc32c(0, m->body, m->body_bytes);
    x.payload_bytes = m->payload_bytes;
    x.payload_crc = hash_crc32c(0, m->payload, m->payload_bytes);
    const size_t n = protobuf_c_message_get_packed_size(&x.base);
    assert(n <= MESSAGE_ENVELOPE_BYTES_MAX);
    return protobuf_c_message_pack(&x.base, out);
}

static int check_frame(const struct codec_frame *f, uint64_t bytes, uint32_t crc, const char *name,
                       struct err *e)
{
    if (f->bytes != bytes)
        return err_set(e, ERR_INVALID, "%s frame: %zu bytes, the envelope says %llu", name,
                       f->bytes, (unsigned long long)bytes);
    const uint32_t got = hash_crc32c(0, f->data, f->bytes);
    if (got != crc)
        return err_set(e, ERR_CONFLICT, "%s frame: CRC-32C %08x, the envelope says %08x", name, got,
                       crc);
    return 0;
}

static int read_envelope(struct message *m, const Dagline__V1__Envelope *x,
                         const struct codec_frame *frames, size_t count, size_t payload_bytes_max,
                         struct err *e)
{
    if (x->magic != CODEC_MAGIC)
        return err_set(e, ERR_INVALID, "envelope: magic %08x, must be %08x", x->magic, CODEC_MAGIC);
    m->request = x->request;
    if (x->major != CODEC_MAJOR)
        return err_set(e, ERR_STALE,
                       "protocol version %u.%u; this side speaks %d.%d: use the same "
                       "release on both",
                       x->major, x->minor, CODEC_MAJOR, CODEC_MINOR);
    const int kind = (int)x->kind;
    if (kind <= 0 || kind >= MESSAGE_KINDS_END ||
        strcmp(message_kind_name((enum message_kind)kind), "unknown") == 0)
        return err_set(e, ERR_INVALID, "envelope: kind %d is not known", kind);
    m->kind = (enum message_kind)kind;
    m->token = x->token;
    if (take_text(m->run_id, sizeof m->run_id, x->run_id, "envelope: run_id", e) < 0 ||
        take_text(m->sender, sizeof m->sender, x->sender, "envelope: sender", e) < 0)
        return -1;
    if (count != (codec_has_payload(m->kind) ? 3 : 2))
        return err_set(e, ERR_INVALID, "%s: %zu frames", message_kind_name(m->kind), count);
    if (frames[1].bytes > MESSAGE_BODY_BYTES_MAX)
        return err_set(e, ERR_INVALID, "body frame: %zu bytes, at most %zu", frames[1].bytes,
                       MESSAGE_BODY_BYTES_MAX);
    if (check_frame(&frames[1], x->body_bytes, x->body_crc, "body", e) < 0)
        return -1;
    m->body = frames[1].data;
    m->body_bytes = frames[1].bytes;
    if (count == 2)
        return x->payload_bytes == 0
                   ? 0
                   : err_set(e, ERR_INVALID, "envelope: a payload is announced that is not there");
    if (frames[2].bytes > payload_bytes_max)
        return err_set(e, ERR_INVALID, "payload frame: %zu bytes, at most %zu", frames[2].bytes,
                       payload_bytes_max);
    if (check_frame(&frames[2], x->payload_bytes, x->payload_crc, "payload", e) < 0)
        return -1;
    m->payload = frames[2].data;
    m->payload_bytes = frames[2].bytes;
    return 0;
}

int codec_get_frames(struct message *m, const struct codec_frame *frames, size_t count,
                     size_t payload_bytes_max, struct err *e)
{
    if (count < 2 || count > MESSAGE_FRAMES_MAX)
        return err_set(e, ERR_INVALID, "message of %zu frames, must be 2 or 3", count);
    if (frames[0].bytes > MESSAGE_ENVELOPE_BYTES_MAX)
        return err_set(e, ERR_INVALID, "envelope of %zu bytes, at most %d", frames[0].bytes,
                       MESSAGE_ENVELOPE_BYTES_MAX);
    Dagline__V1__Envelope *x =
        unpack(&dagline__v1__envelope__descriptor, frames[0].data, frames[0].bytes, e);
    if (x == NULL)
        return -1;
    const int rc = read_envelope(m, x, frames, count, payload_bytes_max, e);
    discard(x);
    return rc;
}

/* ---- sampler <-> scorer ---- */

void codec_put_hello(struct message *m, const struct hello *x)
{
    Dagline__V1__Hello p;
    dagline__v1__hello__init(&p);
    p.item_bytes = x->item_bytes;
    p.slot = x->slot;
    pack(m, &p.base);
}

int codec_get_hello(const struct message *m, struct hello *x, struct err *e)
{
    Dagline__V1__Hello *p = body_of(m, &dagline__v1__hello__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct hello){.item_bytes = p->item_bytes, .slot = p->slot};
    discard(p);
    return check_range(x->item_bytes, 1, MESSAGE_PAYLOAD_BYTES_MAX + MESSAGE_BODY_BYTES_MAX,
                       "hello.item_bytes", e);
}

void codec_put_credit(struct message *m, const struct credit *x)
{
    Dagline__V1__Credit p;
    dagline__v1__credit__init(&p);
    p.session = x->session;
    p.items = x->items;
    p.bytes = x->bytes;
    pack(m, &p.base);
}

int codec_get_credit(const struct message *m, struct credit *x, struct err *e)
{
    Dagline__V1__Credit *p = body_of(m, &dagline__v1__credit__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct credit){.session = p->session, .items = p->items, .bytes = p->bytes};
    discard(p);
    return 0;
}

void codec_put_ack(struct message *m, const struct ack *x)
{
    Dagline__V1__Ack p;
    dagline__v1__ack__init(&p);
    p.id = binary(x->id, sizeof x->id);
    p.outcome = (Dagline__V1__Outcome)x->outcome;
    p.reason = mutable(x->reason);
    p.session = x->session;
    pack(m, &p.base);
}

int codec_get_ack(const struct message *m, struct ack *x, struct err *e)
{
    Dagline__V1__Ack *p = body_of(m, &dagline__v1__ack__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct ack){.session = p->session};
    int rc = -1;
    if (take_bytes(x->id, sizeof x->id, p->id, "ack.id", e) < 0 ||
        take_text(x->reason, sizeof x->reason, p->reason, "ack.reason", e) < 0 ||
        check_range((uint64_t)p->outcome, ACK_STORED, ACK_FAILED, "ack.outcome", e) < 0)
        goto out;
    x->outcome = (enum ack_outcome)p->outcome;
    rc = 0;
out:
    discard(p);
    return rc;
}

/* ---- trajectory ---- */

struct payload_plan {
    size_t latent_bytes; /* all states */
    size_t image_bytes;  /* all predicted images */
    size_t final_bytes;
    size_t total;
};

/* Sizes come from checked dimensions, but their product need not fit: 256 states of 512x512x64. */
static int plan_payload(struct payload_plan *out, const struct trajectory *t, struct err *e)
{
    const size_t image = trajectory_image_bytes(t);
    size_t latents, images, total;
    if (mem_mul(trajectory_latent_elements(t) * sizeof(float), t->state_count, &latents) < 0 ||
        mem_mul(image, trajectory_image_count(t), &images) < 0 ||
        __builtin_add_overflow(latents, images, &total) ||
        __builtin_add_overflow(total, image, &total) || total > MESSAGE_PAYLOAD_BYTES_MAX)
        return err_set(e, ERR_INVALID,
                       "trajectory: its tensors exceed %zu bytes: lower "
                       "run.transition_fraction or the image size",
                       MESSAGE_PAYLOAD_BYTES_MAX);
    *out = (struct payload_plan){latents, images, image, total};
    return 0;
}

size_t codec_trajectory_bytes(const struct trajectory *t)
{
    struct payload_plan plan;
    if (plan_payload(&plan, t, NULL) < 0)
        return SIZE_MAX;
    /* Packed fields: ids and digests below 256 bytes, a state below 20, a transition below 32. */
    return plan.total + MESSAGE_ENVELOPE_BYTES_MAX + 512 + strlen(t->prompt) + strlen(t->metadata) +
           (size_t)t->state_count * 20 + (size_t)t->transition_count * 32;
}

static void pack_trajectory(struct message *m, const struct trajectory *t)
{
    Dagline__V1__Trajectory p;
    dagline__v1__trajectory__init(&p);
    Dagline__V1__State *states = mem_new(t->state_count, sizeof *states);
    Dagline__V1__State **state_list = mem_new(t->state_count, sizeof *state_list);
    Dagline__V1__Transition *transitions = mem_new(t->transition_count, sizeof *transitions);
    Dagline__V1__Transition **transition_list =
        mem_new(t->transition_count, sizeof *transition_list);
    for (uint32_t i = 0; i < t->state_count; i++) {
        dagline__v1__state__init(&states[i]);
        states[i].step = t->states[i].step;
        states[i].timestep = t->states[i].timestep;
        states[i].has_image = t->states[i].has_image;
        states[i].terminal = t->states[i].terminal;
        state_list[i] = &states[i];
    }
    for (uint32_t i = 0; i < t->transition_count; i++) {
        dagline__v1__transition__init(&transitions[i]);
        transitions[i].step = t->transitions[i].step;
        transitions[i].from = t->transitions[i].from;
        transitions[i].to = t->transitions[i].to;
        transitions[i].log_prob = t->transitions[i].log_prob;
        transition_list[i] = &transitions[i];
    }
    p.id = binary(t->id, sizeof t->id);
    p.slot = t->slot;
    p.counter = t->counter;
    p.prompt_index = t->prompt_index;
    p.prompt = t->prompt;
    p.tag = mutable(t->tag);
    p.metadata = t->metadata;
    p.policy_version = t->policy_version;
    p.policy_digest = digest_or_none(t->policy_digest);
    p.schedule_digest = binary(t->schedule_digest, sizeof t->schedule_digest);
    p.guidance = t->guidance;
    p.latent_channels = t->latent_channels;
    p.latent_height = t->latent_height;
    p.latent_width = t->latent_width;
    p.image_height = t->image_height;
    p.image_width = t->image_width;
    p.undecoded = t->undecoded;
    p.n_states = t->state_count;
    p.states = state_list;
    p.n_transitions = t->transition_count;
    p.transitions = transition_list;
    pack(m, &p.base);
    mem_free(states);
    mem_free(state_list);
    mem_free(transitions);
    mem_free(transition_list);
}

int codec_put_trajectory(struct message *m, const struct trajectory *t, struct err *e)
{
    struct payload_plan plan;
    if (trajectory_check(t, false, e) < 0 || plan_payload(&plan, t, e) < 0)
        return -1;
    assert(t->final_image != NULL && (plan.image_bytes == 0 || t->images != NULL));
    uint8_t *bytes = mem_slab(plan.total, "a trajectory's payload", e);
    if (bytes == NULL)
        return -1;
    memcpy(bytes, t->latents, plan.latent_bytes);
    if (plan.image_bytes > 0)
        memcpy(bytes + plan.latent_bytes, t->images, plan.image_bytes);
    memcpy(bytes + plan.latent_bytes + plan.image_bytes, t->final_image, plan.final_bytes);
    message_own_payload(m, bytes, plan.total);
    pack_trajectory(m, t);
    return 0;
}

static int read_trajectory_head(struct trajectory *t, const Dagline__V1__Trajectory *p,
                                struct err *e)
{
    if (take_bytes(t->id, sizeof t->id, p->id, "trajectory.id", e) < 0 ||
        take_text(t->tag, sizeof t->tag, p->tag, "trajectory.tag", e) < 0 ||
        take_digest_or_none(t->policy_digest, p->policy_digest, "trajectory.policy_digest", e) <
            0 ||
        take_digest(t->schedule_digest, p->schedule_digest, "trajectory.schedule_digest", e) < 0)
        return -1;
    if (check_range(strlen(p->prompt), 0, TRAJECTORY_PROMPT_BYTES_MAX, "trajectory.prompt bytes",
                    e) < 0 ||
        check_range(strlen(p->metadata), 0, TRAJECTORY_METADATA_BYTES_MAX,
                    "trajectory.metadata bytes", e) < 0 ||
        check_range(p->n_states, 2, TRAJECTORY_STATES_MAX, "trajectory.states", e) < 0 ||
        check_range(p->n_transitions, 1, TRAJECTORY_STATES_MAX - 1, "trajectory.transitions", e) <
            0 ||
        check_range(p->latent_channels, 1, 64, "trajectory.latent_channels", e) < 0 ||
        check_range(p->latent_height, 1, RUN_SIDE_MAX, "trajectory.latent_height", e) < 0 ||
        check_range(p->latent_width, 1, RUN_SIDE_MAX, "trajectory.latent_width", e) < 0 ||
        check_range(p->image_height, 1, 4096, "trajectory.image_height", e) < 0 ||
        check_range(p->image_width, 1, 4096, "trajectory.image_width", e) < 0)
        return -1;
    t->slot = p->slot;
    t->counter = p->counter;
    t->prompt_index = p->prompt_index;
    t->prompt = mem_strdup(p->prompt);
    t->metadata = mem_strdup(p->metadata);
    t->policy_version = p->policy_version;
    t->guidance = p->guidance;
    t->latent_channels = p->latent_channels;
    t->latent_height = p->latent_height;
    t->latent_width = p->latent_width;
    t->image_height = p->image_height;
    t->image_width = p->image_width;
    t->undecoded = p->undecoded;
    t->state_count = (uint32_t)p->n_states;
    t->transition_count = (uint32_t)p->n_transitions;
    t->states = mem_new(t->state_count, sizeof *t->states);
    t->transitions = mem_new(t->transition_count, sizeof *t->transitions);
    for (uint32_t i = 0; i < t->state_count; i++)
        t->states[i] = (struct trajectory_state){.step = p->states[i]->step,
                                                 .timestep = p->states[i]->timestep,
                                                 .has_image = p->states[i]->has_image,
                                                 .terminal = p->states[i]->terminal,
                                                 .reward = (double)NAN};
    for (uint32_t i = 0; i < t->transition_count; i++)
        t->transitions[i] = (struct trajectory_transition){.step = p->transitions[i]->step,
                                                           .from = p->transitions[i]->from,
                                                           .to = p->transitions[i]->to,
                                                           .log_prob = p->transitions[i]->log_prob};
    return 0;
}

static int read_trajectory_payload(struct trajectory *t, const struct message *m, struct err *e)
{
    struct payload_plan plan;
    if (plan_payload(&plan, t, e) < 0)
        return -1;
    if (m->payload_bytes != plan.total)
        return err_set(e, ERR_INVALID, "trajectory: payload of %zu bytes, its header asks for %zu",
                       m->payload_bytes, plan.total);
    t->latents = mem_slab(plan.latent_bytes, "a trajectory's latents", e);
    t->final_image = mem_slab(plan.final_bytes, "a trajectory's image", e);
    if (plan.image_bytes > 0)
        t->images = mem_slab(plan.image_bytes, "a trajectory's predicted images", e);
    if (t->latents == NULL || t->final_image == NULL || (plan.image_bytes > 0 && t->images == NULL))
        return -1;
    memcpy(t->latents, m->payload, plan.latent_bytes);
    if (plan.image_bytes > 0)
        memcpy(t->images, m->payload + plan.latent_bytes, plan.image_bytes);
    memcpy(t->final_image, m->payload + plan.latent_bytes + plan.image_bytes, plan.final_bytes);
    return 0;
}

int codec_get_trajectory(const struct message *m, struct trajectory **out, struct err *e)
{
    *out = NULL;
    Dagline__V1__Trajectory *p = body_of(m, &dagline__v1__trajectory__descriptor, e);
    if (p == NULL)
        return -1;
    struct trajectory *t = trajectory_new();
    int rc = -1;
    if (read_trajectory_head(t, p, e) < 0 || read_trajectory_payload(t, m, e) < 0 ||
        trajectory_check(t, false, e) < 0)
        goto out;
    *out = t;
    t = NULL;
    rc = 0;
out:
    trajectory_free(t);
    discard(p);
    return rc;
}

/* ---- store ---- */

void codec_put_error(struct message *m, const struct err *x)
{
    Dagline__V1__Error p;
    dagline__v1__error__init(&p);
    p.code = mutable(err_name(x->code));
    p.text = mutable(x->text);
    pack(m, &p.base);
}

int codec_get_error(const struct message *m, struct err *x, struct err *e)
{
    Dagline__V1__Error *p = body_of(m, &dagline__v1__error__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct err){.code = ERR_INVALID};
    for (enum err_code c = ERR_INVALID; c <= ERR_USAGE; c++)
        if (strcmp(p->code, err_name(c)) == 0)
            x->code = c;
    const int rc = take_name(x->text, sizeof x->text, p->text, "error.text", e);
    discard(p);
    return rc;
}

void codec_put_empty(struct message *m)
{
    Dagline__V1__Empty p;
    dagline__v1__empty__init(&p);
    pack(m, &p.base);
}

int codec_get_empty(const struct message *m, struct err *e)
{
    void *p = body_of(m, &dagline__v1__empty__descriptor, e);
    discard(p);
    return p == NULL ? -1 : 0;
}

void run_spec_done(struct run_spec *r)
{
    mem_free(r->model);
    mem_free(r->settings);
    r->model = NULL;
    r->model_count = 0;
    r->settings = NULL;
}

void codec_put_run(struct message *m, const struct run_spec *x)
{
    assert(x->model_count <= CODEC_MODEL_FILES_MAX &&
           strlen(x->settings) <= CODEC_SETTINGS_BYTES_MAX);
    Dagline__V1__Run p;
    dagline__v1__run__init(&p);
    Dagline__V1__ModelFile files[CODEC_MODEL_FILES_MAX], *list[CODEC_MODEL_FILES_MAX];
    for (uint32_t i = 0; i < x->model_count; i++) {
        dagline__v1__model_file__init(&files[i]);
        files[i].path = x->model[i].path;
        files[i].digest = binary(x->model[i].digest, CODEC_DIGEST_BYTES);
        files[i].bytes = x->model[i].bytes;
        list[i] = &files[i];
    }
    p.run_id = mutable(x->run_id);
    p.seed = x->seed;
    p.n_model = x->model_count;
    p.model = list;
    p.model_digest = binary(x->model_digest, CODEC_DIGEST_BYTES);
    p.prompts_digest = binary(x->prompts_digest, CODEC_DIGEST_BYTES);
    p.prompt_count = x->prompt_count;
    p.steps = x->steps;
    p.eta = x->eta;
    p.guidance = x->guidance;
    p.variance = mutable(x->variance);
    p.variance_floor = x->variance_floor;
    p.last_step_mean = x->last_step_mean;
    p.latent_height = x->latent_height;
    p.latent_width = x->latent_width;
    p.transition_fraction = x->transition_fraction;
    p.group_size = x->group_size;
    p.forward_looking = x->forward_looking;
    p.forward_looking_abar = x->forward_looking_abar;
    p.forward_looking_base = x->forward_looking_base;
    p.undecoded = x->undecoded;
    p.lockstep = x->lockstep;
    p.lockstep_batch = x->lockstep_batch;
    p.iterations = x->iterations;
    p.settings = x->settings;
    pack(m, &p.base);
}

/* A path below a folder of ours: [A-Za-z0-9._-] components, none of which starts with a dot. */
static int check_path(const char *path, struct err *e)
{
    bool start = true;
    for (const char *c = path; *c != 0; c++) {
        const bool word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                          (*c >= '0' && *c <= '9') || *c == '_' || *c == '-' || *c == '.';
        if ((start && (*c == '.' || *c == '/')) || (!word && *c != '/'))
            return err_set(e, ERR_INVALID, "run.model.path: '%s' is not a plain relative path",
                           path);
        start = *c == '/';
    }
    return start ? err_set(e, ERR_INVALID, "run.model.path: '%s' ends in nothing", path) : 0;
}

static int read_model(struct run_spec *x, const Dagline__V1__Run *p, struct err *e)
{
    if (check_range(p->n_model, 1, CODEC_MODEL_FILES_MAX, "run.model files", e) < 0)
        return -1;
    x->model = mem_new(p->n_model, sizeof *x->model);
    x->model_count = (uint32_t)p->n_model;
    for (size_t i = 0; i < p->n_model; i++) {
        struct model_file *f = &x->model[i];
        if (take_name(f->path, sizeof f->path, p->model[i]->path, "run.model.path", e) < 0 ||
            check_path(f->path, e) < 0 ||
            take_digest(f->digest, p->model[i]->digest, "run.model.digest", e) < 0 ||
            check_range(p->model[i]->bytes, 0, CODEC_BLOB_BYTES_MAX, "run.model.bytes", e) < 0)
            return -1;
        f->bytes = p->model[i]->bytes;
    }
    return 0;
}

static int read_chain(struct run_spec *x, const Dagline__V1__Run *p, struct err *e)
{
    if (check_range(p->prompt_count, 1, CODEC_PROMPTS_MAX, "run.prompt_count", e) < 0 ||
        check_range(p->steps, 1, CODEC_STEPS_MAX, "run.steps", e) < 0 ||
        check_real(p->eta, 0.0, 2.0, "run.eta", e) < 0 ||
        check_real(p->guidance, 0.0, 100.0, "run.guidance", e) < 0 ||
        take_name(x->variance, sizeof x->variance, p->variance, "run.variance", e) < 0 ||
        check_real(p->variance_floor, 0.0, 1000.0, "run.variance_floor", e) < 0 ||
        check_range(p->latent_height, 1, RUN_SIDE_MAX, "run.latent_height", e) < 0 ||
        check_range(p->latent_width, 1, RUN_SIDE_MAX, "run.latent_width", e) < 0 ||
        check_real(p->transition_fraction, 1e-3, 1.0, "run.transition_fraction", e) < 0 ||
        check_real(p->forward_looking_abar, 0.0, 1.0, "run.forward_looking_abar", e) < 0 ||
        check_range(p->group_size, 1, RUN_COUNT_MAX, "run.group_size", e) < 0 ||
        check_range(p->lockstep_batch, p->lockstep ? 1 : 0, RUN_COUNT_MAX, "run.lockstep_batch",
                    e) < 0 ||
        check_range(strlen(p->settings), 0, CODEC_SETTINGS_BYTES_MAX, "run.settings bytes", e) < 0)
        return -1;
    if (strcmp(x->variance, "small") != 0 && strcmp(x->variance, "floor") != 0 &&
        strcmp(x->variance, "large") != 0)
        return err_set(e, ERR_INVALID, "run.variance: '%s' is not small, floor or large",
                       x->variance);
    x->seed = p->seed;
    x->prompt_count = p->prompt_count;
    x->steps = p->steps;
    x->eta = p->eta;
    x->guidance = p->guidance;
    x->variance_floor = p->variance_floor;
    x->last_step_mean = p->last_step_mean;
    x->latent_height = p->latent_height;
    x->latent_width = p->latent_width;
    x->transition_fraction = p->transition_fraction;
    x->group_size = p->group_size;
    x->forward_looking = p->forward_looking;
    x->forward_looking_abar = p->forward_looking_abar;
    x->forward_looking_base = p->forward_looking_base;
    x->undecoded = p->undecoded;
    x->lockstep = p->lockstep;
    x->lockstep_batch = p->lockstep_batch;
    x->iterations = p->iterations;
    x->settings = mem_strdup(p->settings);
    return 0;
}

int codec_get_run(const struct message *m, struct run_spec *x, struct err *e)
{
    *x = (struct run_spec){0};
    Dagline__V1__Run *p = body_of(m, &dagline__v1__run__descriptor, e);
    if (p == NULL)
        return -1;
    int rc = -1;
    if (take_name(x->run_id, sizeof x->run_id, p->run_id, "run.run_id", e) < 0 ||
        take_digest(x->model_digest, p->model_digest, "run.model_digest", e) < 0 ||
        take_digest(x->prompts_digest, p->prompts_digest, "run.prompts_digest", e) < 0 ||
        read_model(x, p, e) < 0 || read_chain(x, p, e) < 0) {
        run_spec_done(x);
        goto out;
    }
    rc = 0;
out:
    discard(p);
    return rc;
}

void codec_put_take_slot(struct message *m, const char *host)
{
    assert(strlen(host) < CODEC_HOST_BYTES);
    Dagline__V1__TakeSlot p;
    dagline__v1__take_slot__init(&p);
    p.host = mutable(host);
    pack(m, &p.base);
}

int codec_get_take_slot(const struct message *m, char host[CODEC_HOST_BYTES], struct err *e)
{
    Dagline__V1__TakeSlot *p = body_of(m, &dagline__v1__take_slot__descriptor, e);
    if (p == NULL)
        return -1;
    const int rc = take_text(host, CODEC_HOST_BYTES, p->host, "take_slot.host", e);
    discard(p);
    return rc;
}

void codec_put_slot(struct message *m, uint32_t slot)
{
    Dagline__V1__Slot p;
    dagline__v1__slot__init(&p);
    p.slot = slot;
    pack(m, &p.base);
}

int codec_get_slot(const struct message *m, uint32_t *slot, struct err *e)
{
    Dagline__V1__Slot *p = body_of(m, &dagline__v1__slot__descriptor, e);
    if (p == NULL)
        return -1;
    *slot = p->slot;
    discard(p);
    return 0;
}

void codec_put_token(struct message *m, uint64_t token)
{
    Dagline__V1__Token p;
    dagline__v1__token__init(&p);
    p.token = token;
    pack(m, &p.base);
}

int codec_get_token(const struct message *m, uint64_t *token, struct err *e)
{
    Dagline__V1__Token *p = body_of(m, &dagline__v1__token__descriptor, e);
    if (p == NULL)
        return -1;
    *token = p->token;
    discard(p);
    return check_range(*token, 1, UINT64_MAX, "token.token", e);
}

void codec_put_get_policy(struct message *m, const uint8_t *digest)
{
    Dagline__V1__GetPolicy p;
    dagline__v1__get_policy__init(&p);
    if (digest != NULL)
        p.digest = binary(digest, CODEC_DIGEST_BYTES);
    pack(m, &p.base);
}

int codec_get_get_policy(const struct message *m, uint8_t digest[CODEC_DIGEST_BYTES], bool *newest,
                         struct err *e)
{
    Dagline__V1__GetPolicy *p = body_of(m, &dagline__v1__get_policy__descriptor, e);
    if (p == NULL)
        return -1;
    *newest = p->digest.len == 0;
    memset(digest, 0, CODEC_DIGEST_BYTES);
    const int rc =
        *newest ? 0 : take_bytes(digest, CODEC_DIGEST_BYTES, p->digest, "get_policy.digest", e);
    discard(p);
    return rc;
}

static void fill_policy(Dagline__V1__Policy *p, const struct policy_ref *x)
{
    dagline__v1__policy__init(p);
    p->version = x->version;
    p->digest = digest_or_none(x->digest);
    p->bytes = x->bytes;
    p->token = x->token;
}

static int read_policy(struct policy_ref *x, const Dagline__V1__Policy *p, struct err *e)
{
    *x = (struct policy_ref){.version = p->version, .bytes = p->bytes, .token = p->token};
    if (take_digest_or_none(x->digest, p->digest, "policy.digest", e) < 0 ||
        check_range(p->bytes, 0, CODEC_BLOB_BYTES_MAX, "policy.bytes", e) < 0)
        return -1;
    if ((x->version == 0) != (p->digest.len == 0))
        return err_set(e, ERR_INVALID,
                       "policy.digest: version 0, the base model, alone has no digest");
    return 0;
}

void codec_put_policy(struct message *m, const struct policy_ref *x)
{
    Dagline__V1__Policy p;
    fill_policy(&p, x);
    pack(m, &p.base);
}

int codec_get_policy(const struct message *m, struct policy_ref *x, struct err *e)
{
    Dagline__V1__Policy *p = body_of(m, &dagline__v1__policy__descriptor, e);
    if (p == NULL)
        return -1;
    const int rc = read_policy(x, p, e);
    discard(p);
    return rc;
}

void codec_put_get_blob(struct message *m, const struct blob_range *x)
{
    Dagline__V1__GetBlob p;
    dagline__v1__get_blob__init(&p);
    p.digest = binary(x->digest, CODEC_DIGEST_BYTES);
    p.offset = x->offset;
    p.length_max = x->length_max;
    pack(m, &p.base);
}

int codec_get_get_blob(const struct message *m, struct blob_range *x, struct err *e)
{
    Dagline__V1__GetBlob *p = body_of(m, &dagline__v1__get_blob__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct blob_range){.offset = p->offset, .length_max = p->length_max};
    int rc = 0;
    if (take_digest(x->digest, p->digest, "get_blob.digest", e) < 0 ||
        check_range(p->offset, 0, CODEC_BLOB_BYTES_MAX, "get_blob.offset", e) < 0 ||
        check_range(p->length_max, 1, CODEC_CHUNK_BYTES_MAX, "get_blob.length_max", e) < 0)
        rc = -1;
    discard(p);
    return rc;
}

/* A chunk lies inside its blob, and only the last byte's chunk may be empty. */
static int check_chunk(const struct blob_chunk *x, const struct message *m, const char *what,
                       struct err *e)
{
    if (x->bytes_total > CODEC_BLOB_BYTES_MAX || x->offset > x->bytes_total ||
        m->payload_bytes > CODEC_CHUNK_BYTES_MAX || m->payload_bytes > x->bytes_total - x->offset)
        return err_set(e, ERR_INVALID, "%s: a chunk of %zu bytes at %llu of %llu", what,
                       m->payload_bytes, (unsigned long long)x->offset,
                       (unsigned long long)x->bytes_total);
    return 0;
}

void codec_put_blob(struct message *m, const struct blob_chunk *x)
{
    Dagline__V1__Blob p;
    dagline__v1__blob__init(&p);
    p.digest = binary(x->digest, CODEC_DIGEST_BYTES);
    p.offset = x->offset;
    p.bytes_total = x->bytes_total;
    pack(m, &p.base);
}

int codec_get_blob(const struct message *m, struct blob_chunk *x, struct err *e)
{
    Dagline__V1__Blob *p = body_of(m, &dagline__v1__blob__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct blob_chunk){.offset = p->offset, .bytes_total = p->bytes_total};
    const int rc = take_digest(x->digest, p->digest, "blob.digest", e);
    discard(p);
    return rc < 0 ? -1 : check_chunk(x, m, "blob", e);
}

void codec_put_put_blob(struct message *m, const struct blob_chunk *x)
{
    Dagline__V1__PutBlob p;
    dagline__v1__put_blob__init(&p);
    p.digest = binary(x->digest, CODEC_DIGEST_BYTES);
    p.offset = x->offset;
    p.bytes_total = x->bytes_total;
    pack(m, &p.base);
}

int codec_get_put_blob(const struct message *m, struct blob_chunk *x, struct err *e)
{
    Dagline__V1__PutBlob *p = body_of(m, &dagline__v1__put_blob__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct blob_chunk){.offset = p->offset, .bytes_total = p->bytes_total};
    const int rc = take_digest(x->digest, p->digest, "put_blob.digest", e);
    discard(p);
    return rc < 0 ? -1 : check_chunk(x, m, "put_blob", e);
}

void codec_put_put(struct message *m, const struct blob_have *x)
{
    Dagline__V1__Put p;
    dagline__v1__put__init(&p);
    p.digest = binary(x->digest, CODEC_DIGEST_BYTES);
    p.bytes_have = x->bytes_have;
    pack(m, &p.base);
}

int codec_get_put(const struct message *m, struct blob_have *x, struct err *e)
{
    Dagline__V1__Put *p = body_of(m, &dagline__v1__put__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct blob_have){.bytes_have = p->bytes_have};
    const int rc = take_digest(x->digest, p->digest, "put.digest", e);
    discard(p);
    return rc < 0 ? -1 : check_range(x->bytes_have, 0, CODEC_BLOB_BYTES_MAX, "put.bytes_have", e);
}

void codec_put_publish_policy(struct message *m, const struct policy_publish *x)
{
    Dagline__V1__PublishPolicy p;
    dagline__v1__publish_policy__init(&p);
    p.version = x->version;
    p.digest = binary(x->digest, CODEC_DIGEST_BYTES);
    pack(m, &p.base);
}

int codec_get_publish_policy(const struct message *m, struct policy_publish *x, struct err *e)
{
    Dagline__V1__PublishPolicy *p = body_of(m, &dagline__v1__publish_policy__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct policy_publish){.version = p->version};
    const int rc = take_digest(x->digest, p->digest, "publish_policy.digest", e);
    discard(p);
    return rc < 0 ? -1 : check_range(x->version, 1, UINT64_MAX, "publish_policy.version", e);
}

/* Checkpoint and PublishCheckpoint carry the same list. */
static Dagline__V1__NamedBlob **fill_blobs(Dagline__V1__NamedBlob *items,
                                           Dagline__V1__NamedBlob **list,
                                           const struct checkpoint_ref *x)
{
    assert(x->blob_count <= CODEC_CHECKPOINT_BLOBS_MAX);
    for (uint32_t i = 0; i < x->blob_count; i++) {
        dagline__v1__named_blob__init(&items[i]);
        items[i].name = mutable(x->blobs[i].name);
        items[i].digest = binary(x->blobs[i].digest, CODEC_DIGEST_BYTES);
        items[i].bytes = x->blobs[i].bytes;
        list[i] = &items[i];
    }
    return list;
}

static int read_blobs(struct checkpoint_ref *x, Dagline__V1__NamedBlob **list, size_t count,
                      struct err *e)
{
    if (check_range(count, 0, CODEC_CHECKPOINT_BLOBS_MAX, "checkpoint.blobs", e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct named_blob *b = &x->blobs[i];
        if (take_name(b->name, sizeof b->name, list[i]->name, "checkpoint.blobs.name", e) < 0 ||
            take_digest(b->digest, list[i]->digest, "checkpoint.blobs.digest", e) < 0 ||
            check_range(list[i]->bytes, 0, CODEC_BLOB_BYTES_MAX, "checkpoint.blobs.bytes", e) < 0)
            return -1;
        b->bytes = list[i]->bytes;
        for (size_t j = 0; j < i; j++)
            if (strcmp(x->blobs[j].name, b->name) == 0)
                return err_set(e, ERR_INVALID, "checkpoint.blobs.name: '%s' twice", b->name);
    }
    x->blob_count = (uint32_t)count;
    return 0;
}

void codec_put_publish_checkpoint(struct message *m, const struct checkpoint_ref *x)
{
    Dagline__V1__PublishCheckpoint p;
    dagline__v1__publish_checkpoint__init(&p);
    Dagline__V1__NamedBlob items[CODEC_CHECKPOINT_BLOBS_MAX], *list[CODEC_CHECKPOINT_BLOBS_MAX];
    p.step = x->step;
    p.n_blobs = x->blob_count;
    p.blobs = fill_blobs(items, list, x);
    pack(m, &p.base);
}

int codec_get_publish_checkpoint(const struct message *m, struct checkpoint_ref *x, struct err *e)
{
    Dagline__V1__PublishCheckpoint *p = body_of(m, &dagline__v1__publish_checkpoint__descriptor, e);
    if (p == NULL)
        return -1;
    *x = (struct checkpoint_ref){.step = p->step};
    int rc = read_blobs(x, p->blobs, p->n_blobs, e);
    if (rc == 0 && x->blob_count == 0)
        rc = err_set(e, ERR_INVALID, "publish_checkpoint.blobs: none");
    discard(p);
    return rc;
}

static int read_checkpoint(struct checkpoint_ref *x, const Dagline__V1__Checkpoint *p,
                           struct err *e)
{
    *x = (struct checkpoint_ref){.step = p->step, .token = p->token};
    return read_blobs(x, p->blobs, p->n_blobs, e);
}

void codec_put_checkpoint(struct message *m, const struct checkpoint_ref *x)
{
    Dagline__V1__Checkpoint p;
    dagline__v1__checkpoint__init(&p);
    Dagline__V1__NamedBlob items[CODEC_CHECKPOINT_BLOBS_MAX], *list[CODEC_CHECKPOINT_BLOBS_MAX];
    p.step = x->step;
    p.token = x->token;
    p.n_blobs = x->blob_count;
    p.blobs = fill_blobs(items, list, x);
    pack(m, &p.base);
}

int codec_get_checkpoint(const struct message *m, struct checkpoint_ref *x, struct err *e)
{
    Dagline__V1__Checkpoint *p = body_of(m, &dagline__v1__checkpoint__descriptor, e);
    if (p == NULL)
        return -1;
    const int rc = read_checkpoint(x, p, e);
    discard(p);
    return rc;
}

bool report_add(struct report *r, const char *name, double value)
{
    assert(name[0] != 0 && strlen(name) < CODEC_NAME_BYTES);
    if (r->metric_count == CODEC_METRICS_MAX)
        return false;
    struct report_metric *m = &r->metrics[r->metric_count++];
    memset(m, 0, sizeof *m);
    memcpy(m->name, name, strlen(name));
    m->value = value;
    return true;
}

struct report_box {
    Dagline__V1__Report p;
    Dagline__V1__Metric metrics[CODEC_METRICS_MAX], *list[CODEC_METRICS_MAX];
};

static void fill_report(struct report_box *box, const struct report *x)
{
    assert(x->metric_count <= CODEC_METRICS_MAX);
    dagline__v1__report__init(&box->p);
    for (uint32_t i = 0; i < x->metric_count; i++) {
        dagline__v1__metric__init(&box->metrics[i]);
        box->metrics[i].name = mutable(x->metrics[i].name);
        box->metrics[i].value = x->metrics[i].value;
        box->list[i] = &box->metrics[i];
    }
    box->p.service = mutable(x->service);
    box->p.step = x->step;
    box->p.policy_version = x->policy_version;
    box->p.policy_digest = digest_or_none(x->policy_digest);
    box->p.progress = x->progress;
    box->p.n_metrics = x->metric_count;
    box->p.metrics = box->list;
}

static int read_report(struct report *x, const Dagline__V1__Report *p, struct err *e)
{
    *x = (struct report){
        .step = p->step, .policy_version = p->policy_version, .progress = p->progress};
    if (take_name(x->service, sizeof x->service, p->service, "report.service", e) < 0 ||
        take_digest_or_none(x->policy_digest, p->policy_digest, "report.policy_digest", e) < 0 ||
        check_range(p->n_metrics, 0, CODEC_METRICS_MAX, "report.metrics", e) < 0)
        return -1;
    for (size_t i = 0; i < p->n_metrics; i++) {
        if (take_name(x->metrics[i].name, sizeof x->metrics[i].name, p->metrics[i]->name,
                      "report.metrics.name", e) < 0)
            return -1;
        if (!utf8_valid(x->metrics[i].name, strlen(x->metrics[i].name)))
            return err_set(e, ERR_INVALID, "report.metrics.name: not UTF-8");
        x->metrics[i].value = p->metrics[i]->value;
    }
    x->metric_count = (uint32_t)p->n_metrics;
    return 0;
}

void codec_put_report(struct message *m, const struct report *x)
{
    struct report_box box;
    fill_report(&box, x);
    pack(m, &box.p.base);
}

int codec_get_report(const struct message *m, struct report *x, struct err *e)
{
    Dagline__V1__Report *p = body_of(m, &dagline__v1__report__descriptor, e);
    if (p == NULL)
        return -1;
    const int rc = read_report(x, p, e);
    discard(p);
    return rc;
}

void status_done(struct status *s)
{
    mem_free(s->services);
    mem_free(s->age_seconds);
    *s = (struct status){0};
}

void codec_put_status(struct message *m, const struct status *x)
{
    assert(x->service_count <= CODEC_SERVICES_MAX);
    Dagline__V1__Status p;
    dagline__v1__status__init(&p);
    Dagline__V1__Policy policy;
    Dagline__V1__Checkpoint checkpoint;
    dagline__v1__checkpoint__init(&checkpoint);
    Dagline__V1__NamedBlob items[CODEC_CHECKPOINT_BLOBS_MAX], *list[CODEC_CHECKPOINT_BLOBS_MAX];
    Dagline__V1__Report *reports[CODEC_SERVICES_MAX];
    struct report_box *boxes = mem_new(x->service_count, sizeof *boxes);
    for (uint32_t i = 0; i < x->service_count; i++) {
        fill_report(&boxes[i], &x->services[i]);
        reports[i] = &boxes[i].p;
    }
    fill_policy(&policy, &x->policy);
    checkpoint.step = x->checkpoint.step;
    checkpoint.token = x->checkpoint.token;
    checkpoint.n_blobs = x->checkpoint.blob_count;
    checkpoint.blobs = fill_blobs(items, list, &x->checkpoint);
    p.run_id = mutable(x->run_id);
    p.policy = &policy;
    p.checkpoint = &checkpoint;
    p.n_services = x->service_count;
    p.services = reports;
    p.n_age_seconds = x->service_count;
    p.age_seconds = x->age_seconds;
    pack(m, &p.base);
    mem_free(boxes);
}

static int read_status(struct status *x, const Dagline__V1__Status *p, struct err *e)
{
    if (take_text(x->run_id, sizeof x->run_id, p->run_id, "status.run_id", e) < 0)
        return -1;
    if (p->policy == NULL || p->checkpoint == NULL)
        return err_set(e, ERR_INVALID, "status: no policy or no checkpoint field");
    if (read_policy(&x->policy, p->policy, e) < 0 ||
        read_checkpoint(&x->checkpoint, p->checkpoint, e) < 0 ||
        check_range(p->n_services, 0, CODEC_SERVICES_MAX, "status.services", e) < 0)
        return -1;
    if (p->n_age_seconds != p->n_services)
        return err_set(e, ERR_INVALID, "status.age_seconds: %zu for %zu services", p->n_age_seconds,
                       p->n_services);
    x->services = mem_new(p->n_services, sizeof *x->services);
    x->age_seconds = mem_new(p->n_services, sizeof *x->age_seconds);
    for (size_t i = 0; i < p->n_services; i++) {
        if (read_report(&x->services[i], p->services[i], e) < 0 ||
            check_real(p->age_seconds[i], 0.0, 1e12, "status.age_seconds", e) < 0)
            return -1;
        x->age_seconds[i] = p->age_seconds[i];
    }
    x->service_count = (uint32_t)p->n_services;
    return 0;
}

int codec_get_status(const struct message *m, struct status *x, struct err *e)
{
    *x = (struct status){0};
    Dagline__V1__Status *p = body_of(m, &dagline__v1__status__descriptor, e);
    if (p == NULL)
        return -1;
    const int rc = read_status(x, p, e);
    if (rc < 0)
        status_done(x);
    discard(p);
    return rc;
}
