#include "wire/codec.h"

#include "base/hash.h"
#include "base/mem.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(seed + 1 + i * 7);
}

static struct trajectory *sample(void)
{
    struct trajectory *t = trajectory_new();
    const uint32_t states = 4, transitions = 2;
    fill(t->id, sizeof t->id, 1);
    t->slot = 3;
    t->counter = 77;
    t->prompt_index = 5;
    t->prompt = mem_strdup("a red circle \xc3\xa9");
    t->metadata = mem_strdup("{\"n\":1}");
    snprintf(t->tag, sizeof t->tag, "single");
    t->policy_version = 9;
    fill(t->policy_digest, sizeof t->policy_digest, 2);
    fill(t->schedule_digest, sizeof t->schedule_digest, 3);
    t->guidance = 1.5;
    t->latent_channels = 4;
    t->latent_height = 2;
    t->latent_width = 3;
    t->image_height = 5;
    t->image_width = 2;
    t->state_count = states;
    t->transition_count = transitions;
    t->states = mem_new(states, sizeof *t->states);
    t->transitions = mem_new(transitions, sizeof *t->transitions);
    static const uint32_t steps[] = {2, 3, 7, 8};
    for (uint32_t i = 0; i < states; i++)
        t->states[i] = (struct trajectory_state){.step = steps[i],
                                                 .timestep = 999 - 100 * steps[i],
                                                 .has_image = i < 3,
                                                 .terminal = i == 3,
                                                 .reward = (double)NAN};
    t->transitions[0] = (struct trajectory_transition){2, 0, 1, -12.25};
    t->transitions[1] = (struct trajectory_transition){7, 2, 3, 3.5};
    const size_t latents = states * trajectory_latent_elements(t);
    t->latents = mem_new(latents, sizeof *t->latents);
    for (size_t i = 0; i < latents; i++)
        t->latents[i] = (float)i * 0.25f - 3.0f;
    t->images = mem_new(3 * 30, 1);
    t->final_image = mem_new(30, 1);
    fill(t->images, 90, 4);
    fill(t->final_image, 30, 5);
    return t;
}

/* The same with clean latents in the place of its images. */
static struct trajectory *undecoded_sample(void)
{
    struct trajectory *t = sample();
    const size_t D = trajectory_latent_elements(t);
    float *const latents = mem_new(4 * D, sizeof *latents);
    for (size_t i = 0; i < 4 * D; i++)
        latents[i] = 0.5f * (float)i - 7.0f;
    t->undecoded = true;
    t->images = mem_grow(t->images, 3 * D, sizeof(float));
    t->final_image = mem_grow(t->final_image, D, sizeof(float));
    memcpy(t->images, latents, 3 * D * sizeof(float));
    memcpy(t->final_image, latents + 3 * D, D * sizeof(float));
    mem_free(latents);
    return t;
}

static struct message *packed(const struct trajectory *t)
{
    struct message *m = message_new(MESSAGE_TRAJECTORY);
    struct err e;
    ck_assert_msg(codec_put_trajectory(m, t, &e) == 0, "%s", e.text);
    return m;
}

START_TEST(clean_latents_come_back_in_the_place_of_images)
{
    struct trajectory *t = undecoded_sample(), *u;
    const size_t D = trajectory_latent_elements(t);
    struct message *m = packed(t);
    struct err e;
    ck_assert_uint_eq(m->payload_bytes, 8 * D * sizeof(float)); /* four states, three predicted, one final */
    ck_assert_msg(codec_get_trajectory(m, &u, &e) == 0, "%s", e.text);
    ck_assert(u->undecoded);
    ck_assert_mem_eq(u->images, t->images, 3 * D * sizeof(float));
    ck_assert_mem_eq(u->final_image, t->final_image, D * sizeof(float));
    trajectory_free(u);
    message_free(m);
    /* one that is no number never leaves or arrives */
    static const float infinite = INFINITY;
    memcpy(t->images + 5 * sizeof infinite, &infinite, sizeof infinite);
    ck_assert_int_eq(trajectory_check(t, false, &e), -1);
    ck_assert_int_eq(e.code, ERR_NONFINITE);
    ck_assert_ptr_nonnull(strstr(e.text, "predicted clean latent is not finite at 5"));
    t->undecoded = false; /* as pixels these bytes are fine */
    ck_assert_int_eq(trajectory_check(t, false, &e), 0);
    trajectory_free(t);
}
END_TEST

START_TEST(a_trajectory_comes_back_as_it_was)
{
    struct trajectory *t = sample(), *u;
    struct message *m = packed(t);
    struct err e;
    ck_assert_msg(codec_get_trajectory(m, &u, &e) == 0, "%s", e.text);
    ck_assert_mem_eq(u->id, t->id, sizeof t->id);
    ck_assert_uint_eq(u->slot, t->slot);
    ck_assert_uint_eq(u->counter, t->counter);
    ck_assert_uint_eq(u->prompt_index, t->prompt_index);
    ck_assert_str_eq(u->prompt, t->prompt);
    ck_assert_str_eq(u->metadata, t->metadata);
    ck_assert_str_eq(u->tag, t->tag);
    ck_assert_uint_eq(u->policy_version, t->policy_version);
    ck_assert_mem_eq(u->policy_digest, t->policy_digest, 32);
    ck_assert_mem_eq(u->schedule_digest, t->schedule_digest, 32);
    ck_assert(u->guidance == t->guidance);
    ck_assert_uint_eq(u->state_count, t->state_count);
    for (uint32_t i = 0; i < t->state_count; i++) {
        ck_assert_uint_eq(u->states[i].step, t->states[i].step);
        ck_assert_uint_eq(u->states[i].timestep, t->states[i].timestep);
        ck_assert(u->states[i].has_image == t->states[i].has_image);
        ck_assert(u->states[i].terminal == t->states[i].terminal);
        ck_assert(isnan(u->states[i].reward));
    }
    ck_assert_mem_eq(u->transitions, t->transitions,
                     sizeof(struct trajectory_transition) * t->transition_count);
    ck_assert_mem_eq(u->latents, t->latents, 4 * 24 * sizeof(float));
    ck_assert_mem_eq(u->images, t->images, 90);
    ck_assert_mem_eq(u->final_image, t->final_image, 30);
    ck_assert_uint_ge(codec_trajectory_bytes(t), m->payload_bytes + m->body_bytes);
    trajectory_free(t);
    trajectory_free(u);
    message_free(m);
}
END_TEST

/* Each case spoils one field; the error must name it. */
static void spoil(struct trajectory *t, int which)
{
    switch (which) {
    case 0:
        t->image_height = 6;
        break;
    case 1:
        t->latent_width = 2;
        break;
    case 2:
        t->states[1].step = 2;
        break;
    case 3:
        t->transitions[1].to = 9;
        break;
    case 4:
        t->transitions[0].log_prob = (double)INFINITY;
        break;
    case 5:
        t->latents[17] = NAN;
        break;
    case 6:
        t->states[0].terminal = true;
        break;
    case 7:
        t->guidance = (double)NAN;
        break;
    case 8:
        t->policy_version = 0;
        break;
    case 9:
        snprintf(t->metadata, 8, "[1,2,3]");
        break;
    case 10:
        t->prompt[0] = (char)0xff;
        break;
    case 11:
        memset(t->schedule_digest, 0, 32);
        break;
    default:
        memset(t->id, 0, sizeof t->id);
        break;
    }
}

START_TEST(a_spoiled_trajectory_is_refused_by_field)
{
    static const char *const says[] = {"payload", "payload",  "step",     "joins",   "log_prob",
                                       "latent",  "terminal", "guidance", "version", "metadata",
                                       "prompt",  "schedule", "id"};
    for (int i = 0; i < (int)(sizeof says / sizeof *says); i++) {
        struct trajectory *t = sample(), *u;
        struct message *good = packed(t);
        struct err e;
        spoil(t, i);
        /* Both ends run the same check, so the sender shows it; where only the sizes are wrong, the
         * sender's own tensors have the new size and the receiver sees the old payload. */
        struct message *bad = message_new(MESSAGE_TRAJECTORY);
        if (i > 1) {
            ck_assert_int_eq(codec_put_trajectory(bad, t, &e), -1);
        } else {
            t->images = mem_grow(t->images, 3 * 36, 1);
            t->final_image = mem_grow(t->final_image, 36, 1);
            ck_assert_int_eq(codec_put_trajectory(bad, t, &e), 0);
            bad->payload_bytes = good->payload_bytes;
            ck_assert_int_eq(codec_get_trajectory(bad, &u, &e), -1);
        }
        ck_assert_msg(strstr(e.text, says[i]) != NULL, "case %d: %s", i, e.text);
        message_free(bad);
        message_free(good);
        trajectory_free(t);
    }
}
END_TEST

/* Bytes of the body changed in flight (or by intent) never get past the decoder unnoticed as a
 * crash or a leak; the payload is of no concern here. */
START_TEST(any_single_changed_byte_is_read_or_refused)
{
    struct trajectory *t = sample();
    struct message *m = packed(t);
    uint8_t *body = mem_new(m->body_bytes, 1);
    const size_t n = m->body_bytes;
    memcpy(body, m->body, n);
    message_own_body(m, body, n);
    int refused = 0;
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            struct trajectory *u;
            struct err e = {0};
            body[i] ^= (uint8_t)(1 << bit);
            if (codec_get_trajectory(m, &u, &e) == 0)
                trajectory_free(u);
            else
                refused++;
            body[i] ^= (uint8_t)(1 << bit);
        }
    ck_assert_int_gt(refused, 100);
    message_free(m);
    trajectory_free(t);
}
END_TEST

static struct run_spec run_sample(struct model_file files[2])
{
    struct run_spec r = {.run_id = "0123456789abcdef",
                         .seed = UINT64_MAX,
                         .model = files,
                         .model_count = 2,
                         .prompt_count = 3,
                         .steps = 20,
                         .eta = 1.0,
                         .guidance = 7.5,
                         .variance = "floor",
                         .variance_floor = 0.25,
                         .last_step_mean = true,
                         .latent_height = 16,
                         .latent_width = 8,
                         .transition_fraction = 0.5,
                         .group_size = 4,
                         .forward_looking = true,
                         .forward_looking_abar = 0.125,
                         .forward_looking_base = true,
                         .lockstep = true,
                         .lockstep_batch = 64,
                         .iterations = 1000};
    static char settings[] = "run:\n  seed: 1\n";
    r.settings = settings;
    snprintf(files[0].path, sizeof files[0].path, "model_index.json");
    snprintf(files[1].path, sizeof files[1].path, "unet/config.json");
    fill(files[0].digest, 32, 1);
    fill(files[1].digest, 32, 2);
    files[1].bytes = 55;
    fill(r.model_digest, 32, 3);
    fill(r.prompts_digest, 32, 4);
    return r;
}

START_TEST(a_run_comes_back_as_it_was)
{
    struct model_file files[2] = {0};
    struct run_spec r = run_sample(files);
    struct run_spec got;
    r.undecoded = true;
    struct message *m = message_new(MESSAGE_RUN);
    struct err e;
    codec_put_run(m, &r);
    ck_assert_msg(codec_get_run(m, &got, &e) == 0, "%s", e.text);
    ck_assert_str_eq(got.run_id, r.run_id);
    ck_assert_uint_eq(got.seed, r.seed);
    ck_assert_mem_eq(got.model, files, sizeof files);
    ck_assert_str_eq(got.variance, "floor");
    ck_assert_str_eq(got.settings, r.settings);
    ck_assert(got.eta == r.eta && got.guidance == r.guidance && got.lockstep && got.last_step_mean);
    ck_assert_uint_eq(got.lockstep_batch, 64);
    ck_assert(got.forward_looking_abar == 0.125 && got.forward_looking_base && got.undecoded);
    ck_assert_uint_eq(got.iterations, 1000);
    ck_assert(got.transition_fraction == 0.5);
    run_spec_done(&got);
    message_free(m);
}
END_TEST

START_TEST(a_run_out_of_bounds_is_refused_by_field)
{
    static const char *const says[] = {"run.steps",       "run.eta",        "run.variance",
                                       "run.model.path",  "run.model.path", "run.model.path",
                                       "run.transition_", "run.prompt_",    "run.run_id",
                                       "run.lockstep",    "run.latent_h",   "run.group_size"};
    for (int i = 0; i < (int)(sizeof says / sizeof *says); i++) {
        struct model_file files[2] = {0};
        struct run_spec r = run_sample(files), got;
        struct err e;
        switch (i) {
        case 0:
            r.steps = 1001;
            break;
        case 1:
            r.eta = (double)NAN;
            break;
        case 2:
            snprintf(r.variance, sizeof r.variance, "huge");
            break;
        case 3:
            snprintf(files[0].path, 64, "../etc/passwd");
            break;
        case 4:
            snprintf(files[0].path, 64, "/etc/passwd");
            break;
        case 5:
            snprintf(files[0].path, 64, "unet/..");
            break;
        case 6:
            r.transition_fraction = 0.0;
            break;
        case 7:
            r.prompt_count = 0;
            break;
        case 8:
            r.run_id[0] = 0;
            break;
        case 9:
            r.lockstep_batch = 0;
            break;
        case 10:
            r.latent_height = 100000;
            break;
        default:
            r.group_size = 0;
            break;
        }
        struct message *m = message_new(MESSAGE_RUN);
        codec_put_run(m, &r);
        ck_assert_int_eq(codec_get_run(m, &got, &e), -1);
        ck_assert_msg(strstr(e.text, says[i]) != NULL, "case %d: %s", i, e.text);
        ck_assert_ptr_null(got.model);
        message_free(m);
    }
}
END_TEST

START_TEST(small_messages_come_back_as_they_were)
{
    struct err e;
    struct message *m = message_new(MESSAGE_HELLO);
    const struct hello hello = {.item_bytes = 12345, .slot = 7};
    struct hello hello2;
    codec_put_hello(m, &hello);
    ck_assert_int_eq(codec_get_hello(m, &hello2, &e), 0);
    ck_assert_uint_eq(hello2.item_bytes, 12345);
    ck_assert_uint_eq(hello2.slot, 7);

    const struct credit credit = {UINT64_MAX, 2, 3};
    struct credit credit2;
    codec_put_credit(m, &credit);
    ck_assert_int_eq(codec_get_credit(m, &credit2, &e), 0);
    ck_assert_mem_eq(&credit, &credit2, sizeof credit);

    struct ack ack = {.outcome = ACK_FAILED, .reason = "no reward", .session = 4}, ack2;
    fill(ack.id, sizeof ack.id, 9);
    codec_put_ack(m, &ack);
    ck_assert_int_eq(codec_get_ack(m, &ack2, &e), 0);
    ck_assert_mem_eq(ack.id, ack2.id, sizeof ack.id);
    ck_assert_int_eq(ack2.outcome, ACK_FAILED);
    ck_assert_str_eq(ack2.reason, "no reward");
    ck_assert_uint_eq(ack2.session, 4);
    ack.outcome = ACK_NONE;
    codec_put_ack(m, &ack);
    ck_assert_int_eq(codec_get_ack(m, &ack2, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "outcome"));

    struct err said = {.code = ERR_STALE, .text = "a newer trainer"}, said2;
    codec_put_error(m, &said);
    ck_assert_int_eq(codec_get_error(m, &said2, &e), 0);
    ck_assert_int_eq(said2.code, ERR_STALE);
    ck_assert_str_eq(said2.text, "a newer trainer");

    uint32_t slot;
    uint64_t token;
    codec_put_slot(m, 0);
    ck_assert_int_eq(codec_get_slot(m, &slot, &e), 0);
    ck_assert_uint_eq(slot, 0);
    codec_put_token(m, 0);
    ck_assert_int_eq(codec_get_token(m, &token, &e), -1);

    const struct policy_ref base = {0};
    struct policy_ref policy = {.version = 1, .bytes = 5, .token = 6}, policy2;
    codec_put_policy(m, &base);
    ck_assert_int_eq(codec_get_policy(m, &policy2, &e), 0);
    ck_assert_mem_eq(&base, &policy2, sizeof base);
    codec_put_policy(m, &policy); /* a version without a digest */
    ck_assert_int_eq(codec_get_policy(m, &policy2, &e), -1);
    message_free(m);
}
END_TEST

START_TEST(reports_and_status_come_back_as_they_were)
{
    struct err e;
    struct report *r = mem_new(CODEC_SERVICES_MAX, sizeof *r), one;
    double *ages = mem_new(CODEC_SERVICES_MAX, sizeof *ages);
    for (int i = 0; i < CODEC_SERVICES_MAX; i++) {
        snprintf(r[i].service, sizeof r[i].service, "sampler/%039d", i);
        r[i].step = UINT64_MAX;
        r[i].policy_version = UINT64_MAX;
        r[i].progress = UINT64_MAX;
        fill(r[i].policy_digest, 32, (unsigned)i);
        for (int k = 0; k < CODEC_METRICS_MAX; k++) {
            char name[CODEC_NAME_BYTES];
            snprintf(name, sizeof name, "metric/%040d", k);
            ck_assert(report_add(&r[i], name, k * 0.5));
        }
        ck_assert(!report_add(&r[i], "more", 1.0));
        ages[i] = i;
    }
    struct message *m = message_new(MESSAGE_REPORT);
    codec_put_report(m, &r[0]);
    ck_assert_uint_lt(m->body_bytes, 8000); /* fits an announcement */
    ck_assert_int_eq(codec_get_report(m, &one, &e), 0);
    ck_assert_mem_eq(&one, &r[0], sizeof one);
    /* names become fields of JSON in the store */
    struct message *bad = message_new(MESSAGE_REPORT);
    snprintf(one.metrics[0].name, sizeof one.metrics[0].name, "component/\xc3");
    codec_put_report(bad, &one);
    ck_assert_int_eq(codec_get_report(bad, &one, &e), -1);
    ck_assert_msg(strstr(e.text, "not UTF-8") != NULL, "%s", e.text);
    message_free(bad);

    /* The fullest status fits a body. */
    const struct status s = {
        .run_id = "x", .service_count = CODEC_SERVICES_MAX, .services = r, .age_seconds = ages};
    struct status got;
    codec_put_status(m, &s);
    ck_assert_msg(codec_get_status(m, &got, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(got.service_count, CODEC_SERVICES_MAX);
    ck_assert_mem_eq(got.services, r, sizeof *r * CODEC_SERVICES_MAX);
    status_done(&got);
    message_free(m);
    mem_free(r);
    mem_free(ages);
}
END_TEST

/* Two-byte empty submessages are the dearest thing to unpack for their size. */
START_TEST(a_bomb_of_empty_submessages_stays_within_the_budget)
{
    const size_t n = MESSAGE_BODY_BYTES_MAX;
    uint8_t *bytes = mem_new(n, 1);
    for (size_t i = 0; i + 1 < n; i += 2)
        bytes[i] = (6 << 3) | 2; /* Report.metrics = {} */
    struct message *m = message_new(MESSAGE_REPORT);
    struct report r;
    struct err e;
    message_own_body(m, bytes, n);
    ck_assert_int_eq(codec_get_report(m, &r, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "needs over"));
    message_free(m);
}
END_TEST

/* The bytes on the wire are the contract with other releases: one message of each kind is pinned.
 */
static const struct {
    enum message_kind kind;
    const char *sha256; /* first 16 hex digits, of envelope and body */
} golden[] = {
#include "golden_messages.inc"
};

static void put_golden(struct message *m)
{
    struct model_file files[2] = {0};
    struct run_spec run = run_sample(files);
    struct hello hello = {.item_bytes = 1000, .slot = 2};
    struct credit credit = {1, 2, 3};
    struct ack ack = {.outcome = ACK_STORED, .reason = "", .session = 1};
    struct err said = {.code = ERR_NOT_FOUND, .text = "no blob"};
    struct policy_ref policy = {.version = 4, .bytes = 100, .token = 2};
    struct blob_range range = {.offset = 10, .length_max = 20};
    struct blob_chunk chunk = {.offset = 1, .bytes_total = 3};
    struct blob_have have = {.bytes_have = 3};
    struct policy_publish publish = {.version = 4};
    struct checkpoint_ref ck = {
        .step = 8, .token = 2, .blob_count = 1, .blobs = {{"state", {1}, 9}}};
    struct report report = {.service = "trainer/0", .step = 3, .policy_version = 3, .progress = 12};
    double age = 1.5;
    struct status status = {.run_id = "0123456789abcdef",
                            .checkpoint = ck,
                            .service_count = 1,
                            .services = &report,
                            .age_seconds = &age};
    struct trajectory *t;
    struct err e;
    fill(ack.id, sizeof ack.id, 1);
    fill(policy.digest, 32, 1);
    fill(range.digest, 32, 1);
    fill(chunk.digest, 32, 1);
    fill(have.digest, 32, 1);
    fill(publish.digest, 32, 1);
    report_add(&report, "loss", 0.125);
    switch (m->kind) {
    case MESSAGE_HELLO:
        codec_put_hello(m, &hello);
        break;
    case MESSAGE_CREDIT:
        codec_put_credit(m, &credit);
        break;
    case MESSAGE_TRAJECTORY:
        t = sample();
        ck_assert_int_eq(codec_put_trajectory(m, t, &e), 0);
        trajectory_free(t);
        break;
    case MESSAGE_ACK:
        codec_put_ack(m, &ack);
        break;
    case MESSAGE_ERROR:
        codec_put_error(m, &said);
        break;
    case MESSAGE_RUN:
        codec_put_run(m, &run);
        break;
    case MESSAGE_TAKE_SLOT:
        codec_put_take_slot(m, "host");
        break;
    case MESSAGE_SLOT:
        codec_put_slot(m, 5);
        break;
    case MESSAGE_TOKEN:
        codec_put_token(m, 6);
        break;
    case MESSAGE_GET_POLICY:
        codec_put_get_policy(m, policy.digest);
        break;
    case MESSAGE_POLICY:
    case MESSAGE_NEWS_POLICY:
        codec_put_policy(m, &policy);
        break;
    case MESSAGE_GET_BLOB:
        codec_put_get_blob(m, &range);
        break;
    case MESSAGE_BLOB:
        codec_put_blob(m, &chunk);
        break;
    case MESSAGE_PUT_BLOB:
        codec_put_put_blob(m, &chunk);
        break;
    case MESSAGE_PUT:
        codec_put_put(m, &have);
        break;
    case MESSAGE_PUBLISH_POLICY:
        codec_put_publish_policy(m, &publish);
        break;
    case MESSAGE_PUBLISH_CHECKPOINT:
        codec_put_publish_checkpoint(m, &ck);
        break;
    case MESSAGE_CHECKPOINT:
        codec_put_checkpoint(m, &ck);
        break;
    case MESSAGE_REPORT:
    case MESSAGE_NEWS_REPORT:
        codec_put_report(m, &report);
        break;
    case MESSAGE_STATUS:
        codec_put_status(m, &status);
        break;
    case MESSAGE_NONE:
    case MESSAGE_KINDS_END:
        ck_abort_msg("not a kind");
        break;
    case MESSAGE_GET_RUN:
    case MESSAGE_TAKE_TOKEN:
    case MESSAGE_GET_CHECKPOINT:
    case MESSAGE_OK:
    case MESSAGE_GET_STATUS:
    case MESSAGE_STOP:
    case MESSAGE_NEWS_STOP:
        codec_put_empty(m);
        break;
    }
}

START_TEST(each_kind_has_the_bytes_it_always_had)
{
    int kinds = 0;
    for (enum message_kind k = MESSAGE_HELLO; k < MESSAGE_KINDS_END; k++) {
        if (strcmp(message_kind_name(k), "unknown") == 0)
            continue;
        struct message *m = message_new(k);
        uint8_t envelope[MESSAGE_ENVELOPE_BYTES_MAX], digest[32];
        char hex[65];
        m->request = 42;
        m->token = 7;
        snprintf(m->run_id, sizeof m->run_id, "0123456789abcdef");
        snprintf(m->sender, sizeof m->sender, "trainer/0");
        put_golden(m);
        const size_t n = codec_put_envelope(m, envelope);
        struct hash_sha256 h;
        hash_sha256_begin(&h);
        hash_sha256_add(&h, envelope, n);
        hash_sha256_add(&h, m->body, m->body_bytes);
        hash_sha256_end(&h, digest);
        hash_hex(hex, digest, 8);
        if (getenv("DAGLINE_PRINT_GOLDEN") != NULL)
            printf("    {%d, \"%s\"}, /* %s */\n", (int)k, hex, message_kind_name(k));
        else
            ck_assert_msg(kinds < (int)(sizeof golden / sizeof *golden) &&
                              golden[kinds].kind == k && strcmp(golden[kinds].sha256, hex) == 0,
                          "%s is %s now: other releases would not understand it",
                          message_kind_name(k), hex);
        kinds++;

        /* And each is taken back with all that the envelope says. */
        const struct codec_frame frames[3] = {
            {envelope, n}, {m->body, m->body_bytes}, {m->payload, m->payload_bytes}};
        struct message back = {0};
        struct err e;
        ck_assert_msg(codec_get_frames(&back, frames, codec_has_payload(k) ? 3 : 2,
                                       MESSAGE_PAYLOAD_BYTES_MAX, &e) == 0,
                      "%s", e.text);
        ck_assert_int_eq(back.kind, k);
        ck_assert_uint_eq(back.request, 42);
        ck_assert_uint_eq(back.token, 7);
        ck_assert_str_eq(back.run_id, "0123456789abcdef");
        ck_assert_str_eq(back.sender, "trainer/0");
        message_free(m);
    }
    if (getenv("DAGLINE_PRINT_GOLDEN") == NULL)
        ck_assert_int_eq(kinds, (int)(sizeof golden / sizeof *golden));
}
END_TEST

START_TEST(every_flipped_bit_of_a_message_is_noticed)
{
    struct trajectory *t = sample();
    struct message *m = packed(t);
    uint8_t envelope[MESSAGE_ENVELOPE_BYTES_MAX];
    size_t n = codec_put_envelope(m, envelope);
    uint8_t *copies[3] = {envelope, mem_new(m->body_bytes, 1), mem_new(m->payload_bytes, 1)};
    const struct codec_frame frames[3] = {
        {envelope, n}, {copies[1], m->body_bytes}, {copies[2], m->payload_bytes}};
    memcpy(copies[1], m->body, m->body_bytes);
    memcpy(copies[2], m->payload, m->payload_bytes);
    for (int f = 1; f < 3; f++)
        for (size_t bit = 0; bit < frames[f].bytes * 8; bit++) {
            struct message got = {0};
            struct err e;
            copies[f][bit / 8] ^= (uint8_t)(1u << bit % 8);
            ck_assert_msg(codec_get_frames(&got, frames, 3, SIZE_MAX, &e) < 0, "frame %d bit %zu",
                          f, bit);
            ck_assert_int_eq(e.code, ERR_CONFLICT);
            copies[f][bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    struct message got = {0};
    struct err e;
    ck_assert_int_eq(codec_get_frames(&got, frames, 3, SIZE_MAX, &e), 0);
    ck_assert_int_eq(codec_get_frames(&got, frames, 3, m->payload_bytes - 1, &e), -1);
    ck_assert_int_eq(codec_get_frames(&got, frames, 2, SIZE_MAX, &e), -1);
    /* Another major version says so, and the request it asks about. */
    uint8_t *major = memchr(envelope, 0x10, n); /* field 2, varint */
    ck_assert_ptr_nonnull(major);
    major[1] = 2;
    ck_assert_int_eq(codec_get_frames(&got, frames, 3, SIZE_MAX, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    mem_free(copies[1]);
    mem_free(copies[2]);
    message_free(m);
    trajectory_free(t);
}
END_TEST

SUITE("wire/codec", 60, a_trajectory_comes_back_as_it_was, clean_latents_come_back_in_the_place_of_images, a_spoiled_trajectory_is_refused_by_field,
      any_single_changed_byte_is_read_or_refused, a_run_comes_back_as_it_was,
      a_run_out_of_bounds_is_refused_by_field, small_messages_come_back_as_they_were,
      reports_and_status_come_back_as_they_were,
      a_bomb_of_empty_submessages_stays_within_the_budget, each_kind_has_the_bytes_it_always_had,
      every_flipped_bit_of_a_message_is_noticed)
