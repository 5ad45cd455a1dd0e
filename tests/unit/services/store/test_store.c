#include "store/run.h"
#include "store/store.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/trajectory.h"
#include "support/folder.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static struct run_params run;
static int loud;

static void count_loud(const char *line, void *arg)
{
    (void)arg;
    loud += strstr(line, "checkpoint_damaged") != NULL;
}

/* A model folder that holds just what the store looks at. */
static void setup(void)
{
    struct err e;
    ck_assert_int_eq(file_make_folders(in_test_folder("model/unet"), &e), 0);
    put_in_test_folder("model/model_index.json", "{}");
    put_in_test_folder("model/unet/config.json", "{\"sample_size\": 8}");
    put_in_test_folder("model/unet/weights.safetensors", "the weights");
    put_in_test_folder("model/unet/weights.fp16.safetensors", "a variant");
    put_in_test_folder("model/unet/weights-00001-of-00001.safetensors", "a shard of the same");
    put_in_test_folder("model/unet/weights.safetensors.index.json", "{}");
    put_in_test_folder("model/unet/only.fp16.safetensors", "no other form");
    put_in_test_folder("model/unet/cut-00001-of-00001.safetensors", "a shard");
    put_in_test_folder("model/unet/cut.safetensors.index.json", "{}");
    put_in_test_folder("model/README.md", "not a part");
    put_in_test_folder("prompts.txt", "a red circle\n\n  a blue square \r\n");
    run = (struct run_params){.seed = 1,
                              .steps = 20,
                              .eta = 1,
                              .guidance = 1,
                              .variance = 1,
                              .variance_floor = 0.25,
                              .transition_fraction = 1,
                              .group_size = 1,
                              .lockstep_batch = 64,
                              .iterations = 10};
    log_sink(count_loud, NULL);
}

static int try_open(struct store **s, struct err *e)
{
    const struct store_options o = {.data = in_test_folder("data"),
                                    .model = in_test_folder("model"),
                                    .prompts = in_test_folder("prompts.txt"),
                                    .run = &run,
                                    .settings = "",
                                    .keep_checkpoints = 2,
                                    .keep_policies = 2};
    return store_open(s, &o, e);
}

static struct store *open_store(void)
{
    struct store *s;
    struct err e;
    ck_assert_msg(try_open(&s, &e) == 0, "%s", e.text);
    return s;
}

/* Sends m (and frees it); the reply must be of kind `want`. */
static struct message *ask(struct store *s, struct message *m, enum message_kind want)
{
    struct message *reply = store_answer(s, m);
    struct err said = {0}, e;
    if (reply->kind == MESSAGE_ERROR)
        ck_assert_int_eq(codec_get_error(reply, &said, &e), 0);
    ck_assert_msg(reply->kind == want, "%s answered with %s: %s", message_kind_name(m->kind),
                  message_kind_name(reply->kind), said.text);
    message_free(m);
    return reply;
}

static void refused(struct store *s, struct message *m, enum err_code code)
{
    struct err said, e;
    struct message *reply = ask(s, m, MESSAGE_ERROR);
    ck_assert_int_eq(codec_get_error(reply, &said, &e), 0);
    ck_assert_msg(said.code == code, "%s: %s", err_name(said.code), said.text);
    message_free(reply);
}

static struct message *empty(enum message_kind kind)
{
    struct message *m = message_new(kind);
    codec_put_empty(m);
    return m;
}

static uint64_t take_token(struct store *s)
{
    struct err e;
    uint64_t token;
    struct message *reply = ask(s, empty(MESSAGE_TAKE_TOKEN), MESSAGE_TOKEN);
    ck_assert_int_eq(codec_get_token(reply, &token, &e), 0);
    message_free(reply);
    return token;
}

static uint32_t take_slot(struct store *s)
{
    struct err e;
    uint32_t slot;
    struct message *m = message_new(MESSAGE_TAKE_SLOT);
    codec_put_take_slot(m, "host");
    m = ask(s, m, MESSAGE_SLOT);
    ck_assert_int_eq(codec_get_slot(m, &slot, &e), 0);
    message_free(m);
    return slot;
}

static struct message *chunk_of(const struct blob_chunk *chunk, const void *data, size_t n,
                                uint64_t token)
{
    struct message *m = message_new(MESSAGE_PUT_BLOB);
    uint8_t *copy = mem_new(n, 1);
    if (n > 0)
        memcpy(copy, data, n);
    message_own_payload(m, copy, n);
    codec_put_put_blob(m, chunk);
    m->token = token;
    return m;
}

static uint64_t have_of(struct message *reply)
{
    struct blob_have have;
    struct err e;
    ck_assert_int_eq(codec_get_put(reply, &have, &e), 0);
    message_free(reply);
    return have.bytes_have;
}

static void put_text(struct store *s, const char *text, uint64_t token, uint8_t digest[32])
{
    struct blob_chunk chunk = {.bytes_total = strlen(text)};
    hash_sha256(chunk.digest, text, strlen(text));
    memcpy(digest, chunk.digest, 32);
    ck_assert_uint_eq(have_of(ask(s, chunk_of(&chunk, text, strlen(text), token), MESSAGE_PUT)),
                      strlen(text));
}

static struct message *publish_policy(uint64_t version, const uint8_t *digest, uint64_t token)
{
    struct policy_publish p = {.version = version};
    struct message *m = message_new(MESSAGE_PUBLISH_POLICY);
    memcpy(p.digest, digest, 32);
    codec_put_publish_policy(m, &p);
    m->token = token;
    return m;
}

static struct message *publish_checkpoint(uint64_t step, const char *text, const uint8_t *digest,
                                          uint64_t token)
{
    struct checkpoint_ref ck = {.step = step, .blob_count = 1};
    struct message *m = message_new(MESSAGE_PUBLISH_CHECKPOINT);
    snprintf(ck.blobs[0].name, sizeof ck.blobs[0].name, "state");
    memcpy(ck.blobs[0].digest, digest, 32);
    ck.blobs[0].bytes = strlen(text);
    codec_put_publish_checkpoint(m, &ck);
    m->token = token;
    return m;
}

static void checkpoint(struct store *s, uint64_t step, const char *text, uint64_t token)
{
    uint8_t digest[32];
    put_text(s, text, token, digest);
    message_free(ask(s, publish_checkpoint(step, text, digest, token), MESSAGE_CHECKPOINT));
}

static struct checkpoint_ref newest_checkpoint(struct store *s)
{
    struct checkpoint_ref ck;
    struct err e;
    struct message *m = ask(s, empty(MESSAGE_GET_CHECKPOINT), MESSAGE_CHECKPOINT);
    ck_assert_int_eq(codec_get_checkpoint(m, &ck, &e), 0);
    message_free(m);
    return ck;
}

static struct policy_ref newest_policy(struct store *s)
{
    struct policy_ref p;
    struct err e;
    struct message *m = message_new(MESSAGE_GET_POLICY);
    codec_put_get_policy(m, NULL);
    m = ask(s, m, MESSAGE_POLICY);
    ck_assert_int_eq(codec_get_policy(m, &p, &e), 0);
    message_free(m);
    return p;
}

static struct message *get_blob(const uint8_t *digest)
{
    struct blob_range r = {.length_max = 1024};
    struct message *m = message_new(MESSAGE_GET_BLOB);
    memcpy(r.digest, digest, 32);
    codec_put_get_blob(m, &r);
    return m;
}

static const char *blob_path(const char *text)
{
    static char name[128];
    uint8_t digest[32];
    char hex[65];
    hash_sha256(digest, text, strlen(text));
    hash_hex(hex, digest, 32);
    snprintf(name, sizeof name, "data/blobs/%.2s/%s", hex, hex);
    return in_test_folder(name);
}

START_TEST(the_run_holds_the_model_files_and_the_prompts)
{
    setup();
    struct store *s = open_store();
    const struct run_spec *r = store_run(s);
    static const char *const files[] = {"model_index.json",
                                        "unet/config.json",
                                        "unet/cut-00001-of-00001.safetensors",
                                        "unet/cut.safetensors.index.json",
                                        "unet/only.fp16.safetensors",
                                        "unet/weights.safetensors"};
    ck_assert_uint_eq(r->model_count, sizeof files / sizeof *files);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ck_assert_str_eq(r->model[i].path, files[i]);
    ck_assert_uint_eq(r->prompt_count, 2);
    ck_assert_uint_eq(r->latent_height, 8);
    ck_assert_uint_eq(strlen(r->run_id), CODEC_RUN_ID_BYTES - 1);
    struct message *m = ask(s, get_blob(r->prompts_digest), MESSAGE_BLOB);
    char got[256];
    snprintf(got, sizeof got, "%.*s", (int)m->payload_bytes, (const char *)m->payload);
    ck_assert_ptr_nonnull(strstr(got, "\"a red circle\""));
    ck_assert_ptr_nonnull(strstr(got, "a blue square\""));
    message_free(m);
    store_close(s);
}
END_TEST

/* What the store makes of a table, the caller's; NULL and the error where it refuses it. */
static char *imported(const char *name, const char *table, const char *column, struct err *e)
{
    struct run_spec r = {0};
    struct blobs *b;
    char *text = NULL;
    put_in_test_folder(name, table);
    ck_assert_msg(blobs_open(&b, in_test_folder("blobs"), e) == 0, "%s", e->text);
    if (run_import_prompts(&r, b, in_test_folder(name), column, e) == 0) {
        size_t n;
        uint64_t total;
        text = mem_new(4096, 1);
        ck_assert_int_eq(blobs_get(b, r.prompts_digest, 0, 4095, (uint8_t *)text, &n, &total, e), 0);
    }
    blobs_close(b);
    return text;
}

START_TEST(tables_of_prompts_are_read_by_their_header)
{
    static const struct {
        const char *name, *column, *table, *want;
    } good[] = {
        {"a.csv", "prompt", "tag,prompt\r\ncount,\"two cats, one \"\"red\"\"\"\r\n,a dog\r\n",
         "{\"prompt\":\"two cats, one \\\"red\\\"\",\"tag\":\"count\"}\n{\"prompt\":\"a dog\",\"tag\":\"\"}\n"},
        {"a.tsv", "text", "id\ttext\n7\ta \"quoted\" cat\n\n8\ta dog",
         "{\"prompt\":\"a \\\"quoted\\\" cat\",\"tag\":\"\",\"metadata\":{\"id\":\"7\"}}\n"
         "{\"prompt\":\"a dog\",\"tag\":\"\",\"metadata\":{\"id\":\"8\"}}\n"},
        {"mark.csv", "prompt", "\xef\xbb\xbfprompt\r\na dog\r\n", "{\"prompt\":\"a dog\",\"tag\":\"\"}\n"},
        {"mark.txt", "prompt", "\xef\xbb\xbf" "a dog\n", "{\"prompt\":\"a dog\",\"tag\":\"\"}\n"},
        {"mark.jsonl", "prompt", "\xef\xbb\xbf{\"prompt\":\"a dog\"}\n", "{\"prompt\":\"a dog\",\"tag\":\"\"}\n"},
    };
    static const struct {
        const char *table, *want;
    } bad[] = {
        {"text\na\n", "no column is named prompt: set store.prompts_column"},
        {"prompt,prompt\na,b\n", "two columns are named prompt"},
        {"prompt,\na,b\n", "column 2 has no name"},
        {"prompt,x\na\n", "line 2: 1 fields, the header has 2"},
        {"prompt\n\n\"open\n", "line 3: a quote that is not closed"},
        {"prompt\n\"a\"b\n", "line 2: text behind a closing quote"},
        {"prompt\na\ncaf\xe9\n", "line 3: not UTF-8"},
        {"prompt,x\na,caf\xe9\n", "line 2: not UTF-8"},
        {"prompt\n", "no prompts in it"},
        {"", "no prompts in it"},
    };
    struct err e = {0};
    setup();
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char *text = imported(good[i].name, good[i].table, good[i].column, &e);
        ck_assert_msg(text != NULL, "%s", e.text);
        ck_assert_str_eq(text, good[i].want);
        mem_free(text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_ptr_null(imported("bad.csv", bad[i].table, "prompt", &e));
        ck_assert_msg(strstr(e.text, bad[i].want) != NULL, "table %zu: got '%s' want '%s'", i, e.text, bad[i].want);
    }
    ck_assert_ptr_null(imported("latin.txt", "a dog\ncaf\xe9\n", "prompt", &e));
    ck_assert_msg(strstr(e.text, "latin.txt: line 2: not UTF-8") != NULL, "%s", e.text);
}
END_TEST

START_TEST(the_same_settings_are_the_same_run_and_others_are_refused)
{
    setup();
    struct store *s = open_store();
    char id[CODEC_RUN_ID_BYTES];
    struct err e;
    snprintf(id, sizeof id, "%s", store_run(s)->run_id);
    store_close(s);
    run.iterations = 20; /* a run may be made longer */
    s = open_store();
    ck_assert_str_eq(store_run(s)->run_id, id);
    store_close(s);
    run.steps = 12;
    ck_assert_int_eq(try_open(&s, &e), -1);
    ck_assert_msg(strstr(e.text, "run.steps=20, not run.steps=12") != NULL, "%s", e.text);
}
END_TEST

/* Trajectories draw by the first half of the id; what is kept of them elsewhere goes by the whole. */
START_TEST(another_folder_is_another_run_that_draws_the_same)
{
    enum { HALF = TRAJECTORY_RUN_DIGITS };
    char id[CODEC_RUN_ID_BYTES];
    struct err e;
    setup();
    struct store *s = open_store();
    snprintf(id, sizeof id, "%s", store_run(s)->run_id);
    store_close(s);
    ck_assert_uint_eq(strspn(id, "0123456789abcdef"), sizeof id - 1);
    ck_assert_int_eq(file_remove_tree(in_test_folder("data"), &e), 0);
    s = open_store();
    ck_assert_mem_eq(store_run(s)->run_id, id, HALF);
    ck_assert_str_ne(store_run(s)->run_id + HALF, id + HALF);
    store_close(s);

    /* a folder from before there was a second half */
    char *text;
    ck_assert_int_eq(file_read_all(in_test_folder("data/run.json"), 4096, &text, NULL, &e), 0);
    id[HALF] = 0;
    char *rest = strstr(text, id) + HALF;
    memmove(rest, rest + HALF, strlen(rest + HALF) + 1);
    put_in_test_folder("data/run.json", text);
    mem_free(text);
    s = open_store();
    ck_assert_str_eq(store_run(s)->run_id, id);
    store_close(s);
}
END_TEST

/* What makes a run another one: everything that its trajectories depend on, a file's place in the model included. */
START_TEST(every_setting_that_trajectories_depend_on_is_in_a_runs_identity)
{
    enum { CHANGES = 19 };
    char *identity[CHANGES + 1];
    for (int i = 0; i <= CHANGES; i++) {
        struct run_spec r = {.seed = 1, .steps = 20, .group_size = 1, .lockstep_batch = 64};
        snprintf(r.variance, sizeof r.variance, i == 1 ? "large" : "floor");
        r.model_digest[0] = i == 2;
        r.prompts_digest[31] = i == 3;
        r.seed += i == 4;
        r.steps += i == 5;
        r.eta += i == 6 ? 1e-9 : 0.0;
        r.guidance += i == 7 ? 1e-9 : 0.0;
        r.variance_floor += i == 8 ? 1e-9 : 0.0;
        r.last_step_mean = i == 9;
        r.latent_height = i == 10;
        r.latent_width = i == 11;
        r.transition_fraction += i == 12 ? 1e-9 : 0.0;
        r.group_size += i == 13;
        r.forward_looking = i == 14;
        r.forward_looking_abar += i == 15 ? 1e-9 : 0.0;
        r.forward_looking_base = i == 16;
        r.undecoded = i == 17;
        r.lockstep = i == 18;
        r.lockstep_batch += i == 19;
        r.iterations = (uint64_t)i; /* a run may be made longer */
        identity[i] = run_identity(&r);
        for (int k = 0; k < i; k++)
            ck_assert_msg(strcmp(identity[i], identity[k]) != 0, "change %d makes the run of change %d", i, k);
    }
    for (int i = 0; i <= CHANGES; i++)
        mem_free(identity[i]);

    struct run_spec a = {0}, b = {0};
    struct blobs *blobs;
    struct err e;
    setup();
    ck_assert_msg(blobs_open(&blobs, in_test_folder("blobs"), &e) == 0, "%s", e.text);
    ck_assert_int_eq(run_import_model(&a, blobs, in_test_folder("model"), &e), 0);
    ck_assert_int_eq(file_remove_tree(in_test_folder("model/unet/only.fp16.safetensors"), &e), 0);
    put_in_test_folder("model/unet/once.fp16.safetensors", "no other form");
    ck_assert_int_eq(run_import_model(&b, blobs, in_test_folder("model"), &e), 0);
    ck_assert_mem_ne(a.model_digest, b.model_digest, sizeof a.model_digest);
    run_spec_done(&a);
    run_spec_done(&b);
    blobs_close(blobs);
}
END_TEST

START_TEST(two_stores_on_one_folder_are_refused)
{
    setup();
    struct store *s = open_store(), *other;
    struct err e;
    ck_assert_int_eq(try_open(&other, &e), -1);
    ck_assert_int_eq(e.code, ERR_CONFLICT);
    store_close(s);
    store_close(open_store());
}
END_TEST

START_TEST(slots_and_tokens_never_come_twice_across_restarts)
{
    setup();
    uint64_t token = 0;
    uint32_t slot = 0;
    for (int i = 0; i < 6; i++) { /* each on its own: one must not save the other by the way */
        struct store *s = open_store();
        if (i % 2 == 0)
            ck_assert_uint_eq(take_slot(s), slot++);
        else
            ck_assert_uint_eq(take_token(s), ++token);
        store_close(s);
    }
}
END_TEST

static uint64_t take_token_as(struct store *s, const char *peer, uint64_t request)
{
    struct err e;
    uint64_t token;
    struct message *m = empty(MESSAGE_TAKE_TOKEN);
    m->peer_bytes = strlen(peer);
    memcpy(m->peer, peer, m->peer_bytes);
    m->request = request;
    m = ask(s, m, MESSAGE_TOKEN);
    ck_assert_int_eq(codec_get_token(m, &token, &e), 0);
    message_free(m);
    return token;
}

START_TEST(a_repeated_request_gets_the_token_it_was_given)
{
    setup();
    struct store *s = open_store();
    ck_assert_uint_eq(take_token_as(s, "one", 3), 1);
    ck_assert_uint_eq(take_token_as(s, "one", 3), 1);
    ck_assert_uint_eq(take_token_as(s, "two", 3), 2);
    ck_assert_uint_eq(take_token_as(s, "one", 3), 1); /* a late copy fences nobody out */
    checkpoint(s, 10, "by two", 2);
    ck_assert_uint_eq(take_token_as(s, "two", 4), 3);
    store_close(s);
}
END_TEST

START_TEST(an_upload_resumes_and_repeated_chunks_are_acknowledged_again)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    static const char text[] = "0123456789";
    struct blob_chunk c = {.bytes_total = 10};
    hash_sha256(c.digest, text, 10);
    static const struct {
        uint64_t offset;
        size_t bytes;
        uint64_t have;
    } steps[] = {{0, 0, 0}, {0, 4, 4}, {0, 4, 4},  {7, 3, 4},
                 {4, 3, 7}, {0, 0, 7}, {7, 3, 10}, {7, 3, 10}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        c.offset = steps[i].offset;
        const uint64_t have =
            have_of(ask(s, chunk_of(&c, text + c.offset, steps[i].bytes, token), MESSAGE_PUT));
        ck_assert_msg(have == steps[i].have, "step %zu: have %llu", i, (unsigned long long)have);
    }
    struct message *m = ask(s, get_blob(c.digest), MESSAGE_BLOB);
    ck_assert_uint_eq(m->payload_bytes, 10);
    ck_assert_mem_eq(m->payload, text, 10);
    message_free(m);
    store_close(s);
}
END_TEST

static bool wants_nothing(void *arg, const uint8_t *digest)
{
    (void)arg;
    (void)digest;
    return false;
}

START_TEST(what_was_uploaded_just_before_a_restart_outlives_the_first_sweep)
{
    struct blobs *b;
    struct err e;
    uint8_t digest[CODEC_DIGEST_BYTES];
    uint64_t bytes;
    setup();
    ck_assert_msg(blobs_open(&b, in_test_folder("blobs"), &e) == 0, "%s", e.text);
    ck_assert_int_eq(blobs_import_bytes(b, "weights", 7, digest, &e), 0);
    blobs_close(b);
    /* its manifest may still be on the way */
    ck_assert_msg(blobs_open(&b, in_test_folder("blobs"), &e) == 0, "%s", e.text);
    ck_assert_uint_eq(blobs_sweep(b, wants_nothing, NULL), 0);
    ck_assert_msg(blobs_verify(b, digest, &bytes, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(blobs_sweep(b, wants_nothing, NULL), 1);
    ck_assert_int_eq(blobs_verify(b, digest, &bytes, &e), -1);
    blobs_close(b);
}
END_TEST

START_TEST(what_was_uploaded_or_asked_for_again_outlives_the_next_sweep_alone)
{
    struct blobs *b;
    struct err e;
    uint8_t digest[CODEC_DIGEST_BYTES];
    setup();
    ck_assert_msg(blobs_open(&b, in_test_folder("blobs"), &e) == 0, "%s", e.text);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(blobs_sweep(b, wants_nothing, NULL), 0);
    for (int i = 0; i < 2; i++) { /* it is there already the second time: its manifest is on the way again */
        ck_assert_int_eq(blobs_import_bytes(b, "weights", 7, digest, &e), 0);
        ck_assert_uint_eq(blobs_sweep(b, wants_nothing, NULL), 0);
    }
    ck_assert_uint_eq(blobs_sweep(b, wants_nothing, NULL), 1);
    blobs_close(b);
}
END_TEST

START_TEST(of_more_uploads_than_there_is_room_for_the_one_left_longest_begins_again)
{
    static const char *const text[] = {"0a", "1a", "2a", "3a", "4a", "5a", "6a", "7a", "8a"};
    struct blobs *b;
    struct err e;
    uint64_t have;
    struct blob_chunk c[9];
    ck_assert_int_eq(BLOBS_UPLOADS_MAX, 8);
    setup();
    ck_assert_msg(blobs_open(&b, in_test_folder("blobs"), &e) == 0, "%s", e.text);
    for (int i = 0; i < 9; i++) {
        c[i] = (struct blob_chunk){.bytes_total = 2};
        hash_sha256(c[i].digest, text[i], 2);
        ck_assert_int_eq(blobs_put(b, &c[i], (const uint8_t *)text[i], 1, &have, &e), 0);
        ck_assert_uint_eq(have, 1);
        ck_assert_int_eq(blobs_put(b, &c[0], (const uint8_t *)text[0], 0, &have, &e), 0); /* goes on, slowly */
        ck_assert_uint_eq(have, 1);
    }
    for (int i = 8; i >= 0; i--) {
        c[i].offset = 1;
        ck_assert_int_eq(blobs_put(b, &c[i], (const uint8_t *)text[i] + 1, 1, &have, &e), 0);
        ck_assert_msg(have == (i == 1 ? 0 : 2), "upload %d has %llu", i, (unsigned long long)have);
    }
    blobs_close(b);
}
END_TEST

START_TEST(bytes_that_do_not_have_their_digest_leave_nothing)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    struct blob_chunk c = {.bytes_total = 5};
    hash_sha256(c.digest, "right", 5);
    refused(s, chunk_of(&c, "wrong", 5, token), ERR_CONFLICT);
    refused(s, get_blob(c.digest), ERR_NOT_FOUND);
    ck_assert(!file_exists(blob_path("right")));
    store_close(s);
}
END_TEST

/* A limit on the size of a file stands in for a full disk: the reservation fails the same way. */
START_TEST(an_upload_that_does_not_fit_the_disk_leaves_nothing)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    const struct rlimit small = {65536, 65536};
    struct blob_chunk c = {.digest = {7}, .bytes_total = 65537};
    char part[128];
    checkpoint(s, 1, "kept", token);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    refused(s, chunk_of(&c, "", 0, token), ERR_IO);
    snprintf(part, sizeof part, "data/blobs/07/07%062d.part", 0);
    ck_assert(!file_exists(in_test_folder(part)));
    ck_assert_uint_eq(newest_checkpoint(s).step, 1);
    checkpoint(s, 2, "goes on", token);
    store_close(s);
}
END_TEST

START_TEST(a_fenced_trainer_changes_nothing)
{
    setup();
    struct store *s = open_store();
    const uint64_t old = take_token(s);
    uint8_t a[32], b[32];
    put_text(s, "policy a", old, a);
    message_free(ask(s, publish_policy(1, a, old), MESSAGE_POLICY));
    const uint64_t new = take_token(s);
    put_text(s, "policy b", new, b);
    refused(s, publish_policy(2, b, old), ERR_STALE);
    refused(s, publish_checkpoint(5, "policy b", b, old), ERR_STALE);
    struct blob_chunk c = {.digest = {1}, .bytes_total = 1};
    refused(s, chunk_of(&c, "x", 1, old), ERR_STALE);
    struct message *m = empty(MESSAGE_STOP);
    m->token = old;
    refused(s, m, ERR_STALE);
    refused(s, publish_policy(2, b, 0), ERR_INVALID);
    refused(s, publish_policy(2, b, new + 1), ERR_INVALID);
    ck_assert_uint_eq(newest_policy(s).version, 1);
    ck_assert_uint_eq(newest_checkpoint(s).blob_count, 0);
    ck_assert(!store_stopped(s));
    store_close(s);
}
END_TEST

START_TEST(a_policy_is_published_once_and_never_goes_back)
{
    setup();
    struct store *s = open_store();
    uint64_t token = take_token(s);
    uint8_t a[32], b[32];
    put_text(s, "policy a", token, a);
    put_text(s, "policy b", token, b);
    message_free(ask(s, publish_policy(3, a, token), MESSAGE_POLICY));
    message_free(ask(s, publish_policy(3, a, token), MESSAGE_POLICY)); /* sent again */
    ck_assert_uint_eq(store_figures(s).policies_published, 1);
    refused(s, publish_policy(3, b, token), ERR_CONFLICT);
    refused(s, publish_policy(2, b, token), ERR_STALE);
    uint8_t nobody[32] = {1};
    refused(s, publish_policy(4, nobody, token), ERR_NOT_FOUND);
    /* A trainer that resumed further back supersedes what the dead one left. */
    token = take_token(s);
    message_free(ask(s, publish_policy(2, b, token), MESSAGE_POLICY));
    ck_assert_uint_eq(newest_policy(s).version, 2);
    message_free(ask(s, publish_policy(3, b, token), MESSAGE_POLICY));
    ck_assert_mem_eq(newest_policy(s).digest, b, 32);
    store_close(s);
    s = open_store();
    ck_assert_uint_eq(newest_policy(s).version, 3);
    ck_assert_mem_eq(newest_policy(s).digest, b, 32);
    store_close(s);
}
END_TEST

START_TEST(only_the_last_k_checkpoints_stay_with_their_blobs)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    static const char *const texts[] = {"one", "two", "three", "four", "five", "six"};
    for (uint64_t i = 0; i < 6; i++)
        checkpoint(s, i + 1, texts[i], token);
    ck_assert(!file_exists(blob_path("one")));
    ck_assert(!file_exists(blob_path("two")));
    ck_assert(file_exists(blob_path("five")));
    ck_assert(file_exists(blob_path("six")));
    ck_assert(!file_exists(in_test_folder("data/checkpoints/000000000004-1.json")));
    ck_assert_uint_eq(newest_checkpoint(s).step, 6);
    /* What the run itself needs is never swept. */
    message_free(ask(s, get_blob(store_run(s)->prompts_digest), MESSAGE_BLOB));
    message_free(ask(s, get_blob(store_run(s)->model[0].digest), MESSAGE_BLOB));
    store_close(s);
}
END_TEST

static void damage(const char *path)
{
    FILE *f = fopen(path, "r+");
    ck_assert_ptr_nonnull(f);
    fputc('X', f);
    fclose(f);
}

START_TEST(a_damaged_checkpoint_gives_way_to_the_one_before_loudly)
{
    setup();
    for (int restart = 0; restart <= 1; restart++) {
        loud = 0;
        if (restart) {
            struct err e;
            ck_assert_int_eq(file_remove_tree(in_test_folder("data"), &e), 0);
        }
        struct store *s = open_store();
        const uint64_t token = take_token(s);
        checkpoint(s, 10, "older", token);
        checkpoint(s, 20, "newer", token);
        ck_assert_uint_eq(newest_checkpoint(s).step, 20);
        damage(blob_path("newer"));
        if (restart) {
            store_close(s);
            s = open_store();
        }
        ck_assert_uint_eq(newest_checkpoint(s).step, 10);
        ck_assert_int_eq(loud, 1);
        uint8_t digest[32];
        hash_sha256(digest, "newer", 5);
        refused(s, get_blob(digest), ERR_NOT_FOUND);
        ck_assert_uint_eq(newest_checkpoint(s).step, 10);
        ck_assert_int_eq(loud, 1);
        store_close(s);
    }
}
END_TEST

START_TEST(a_checkpoint_that_cannot_be_read_now_is_kept)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    checkpoint(s, 10, "older", token);
    checkpoint(s, 20, "newer", token);
    struct rlimit files;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = files.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    refused(s, empty(MESSAGE_GET_CHECKPOINT), ERR_IO);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    ck_assert_uint_eq(newest_checkpoint(s).step, 20);
    ck_assert_int_eq(loud, 0);
    store_close(s);
}
END_TEST

START_TEST(a_damaged_manifest_is_set_aside)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    checkpoint(s, 10, "older", token);
    checkpoint(s, 20, "newer", token);
    store_close(s);
    damage(in_test_folder("data/checkpoints/000000000020-1.json"));
    s = open_store();
    ck_assert_uint_eq(newest_checkpoint(s).step, 10);
    ck_assert(file_exists(in_test_folder("data/checkpoints/000000000020-1.json.corrupt")));
    store_close(s);
}
END_TEST

/* The first trainer is dead; the one that resumed from further back decides. */
START_TEST(a_newer_tokens_checkpoints_supersede_those_of_an_older_one)
{
    setup();
    struct store *s = open_store();
    const uint64_t old = take_token(s);
    checkpoint(s, 10, "ten", old);
    checkpoint(s, 20, "twenty", old);
    const uint64_t new = take_token(s);
    checkpoint(s, 15, "fifteen again", new);
    ck_assert_uint_eq(newest_checkpoint(s).step, 15);
    store_close(s);
    s = open_store();
    ck_assert_uint_eq(newest_checkpoint(s).step, 15);
    checkpoint(s, 20, "twenty again", new);
    ck_assert(!file_exists(in_test_folder("data/checkpoints/000000000020-1.json")));
    /* of the same step the older token's goes though it is one of the last two */
    checkpoint(s, 20, "twenty once more", take_token(s));
    ck_assert(!file_exists(in_test_folder("data/checkpoints/000000000020-2.json")));
    ck_assert(file_exists(in_test_folder("data/checkpoints/000000000015-2.json")));
    store_close(s);
}
END_TEST

/* What still reads as a manifest, and is not the one that was written. */
START_TEST(a_manifest_is_known_by_its_checksum_and_its_name)
{
    setup();
    struct store *s = open_store();
    const uint64_t token = take_token(s);
    checkpoint(s, 10, "older", token);
    checkpoint(s, 20, "newer", token);
    store_close(s);
    char *text, copy[1024];
    struct err e;
    const char *path = in_test_folder("data/checkpoints/000000000020-1.json");
    ck_assert_int_eq(file_read_all(path, sizeof copy - 1, &text, NULL, &e), 0);
    snprintf(copy, sizeof copy, "%s", text);
    put_in_test_folder("data/checkpoints/000000000030-1.json", copy);
    memcpy(strstr(copy, "\"state\""), "\"stale\"", 7);
    put_in_test_folder("data/checkpoints/000000000020-1.json", copy);
    s = open_store();
    ck_assert_uint_eq(newest_checkpoint(s).step, 10);
    ck_assert(file_exists(in_test_folder("data/checkpoints/000000000020-1.json.corrupt")));
    ck_assert(file_exists(in_test_folder("data/checkpoints/000000000030-1.json.corrupt")));
    mem_free(text);
    store_close(s);
}
END_TEST

START_TEST(what_a_crash_left_is_removed_at_start)
{
    setup();
    store_close(open_store());
    put_in_test_folder("data/blobs/ab/abcd.part", "half");
    put_in_test_folder("data/checkpoints/000000000020-1.json.tmp-1-0", "half");
    store_close(open_store());
    ck_assert(!file_exists(in_test_folder("data/blobs/ab/abcd.part")));
    ck_assert(!file_exists(in_test_folder("data/checkpoints/000000000020-1.json.tmp-1-0")));
}
END_TEST

START_TEST(a_repeated_report_is_one_line)
{
    setup();
    struct store *s = open_store();
    struct report r = {.service = "trainer/0", .step = 4, .progress = 9};
    report_add(&r, "loss", 0.5);
    report_add(&r, "bad", (double)__builtin_nan(""));
    for (int i = 0; i < 3; i++) {
        struct message *m = message_new(MESSAGE_REPORT);
        codec_put_report(m, &r);
        message_free(ask(s, m, MESSAGE_OK));
    }
    r.step = 0;
    struct message *m = message_new(MESSAGE_REPORT);
    codec_put_report(m, &r);
    message_free(ask(s, m, MESSAGE_OK));
    char *text;
    struct err e;
    ck_assert_int_eq(file_read_all(in_test_folder("data/metrics.jsonl"), 65536, &text, NULL, &e), 0);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    ck_assert_ptr_nonnull(strstr(text, "loss"));
    mem_free(text);
    struct status st;
    m = ask(s, empty(MESSAGE_GET_STATUS), MESSAGE_STATUS);
    ck_assert_int_eq(codec_get_status(m, &st, &e), 0);
    ck_assert_uint_eq(st.service_count, 1);
    ck_assert_str_eq(st.services[0].service, "trainer/0");
    status_done(&st);
    message_free(m);
    store_close(s);
}
END_TEST

START_TEST(news_tell_the_newest_policy_and_the_stop_again_and_again)
{
    setup();
    struct store *s = open_store();
    message_free(ask(s, empty(MESSAGE_STOP), MESSAGE_OK));
    for (int round = 0; round < 3; round++) {
        struct message *m = store_news(s);
        ck_assert_int_eq(m->kind, MESSAGE_NEWS_POLICY);
        message_free(m);
        m = store_news(s);
        ck_assert_int_eq(m->kind, MESSAGE_NEWS_STOP);
        message_free(m);
        ck_assert_ptr_null(store_news(s));
        store_announce(s);
    }
    /* However much is queued, it stays bounded. */
    for (int i = 0; i < 3 * STORE_NEWS_MAX; i++)
        store_announce(s);
    store_close(s);
}
END_TEST

START_TEST(a_request_of_another_run_is_told_so)
{
    setup();
    struct store *s = open_store();
    struct message *m = empty(MESSAGE_GET_STATUS);
    snprintf(m->run_id, sizeof m->run_id, "0123456789abcdef");
    refused(s, m, ERR_CONFLICT);
    refused(s, empty(MESSAGE_NEWS_STOP), ERR_INVALID);
    m = message_new(MESSAGE_TAKE_SLOT);
    static const uint8_t garbage[] = {0xff, 0xff, 0xff};
    m->body = garbage;
    m->body_bytes = sizeof garbage;
    refused(s, m, ERR_INVALID);
    store_close(s);
}
END_TEST

SUITE("services/store", 60, the_run_holds_the_model_files_and_the_prompts,
      tables_of_prompts_are_read_by_their_header,
      the_same_settings_are_the_same_run_and_others_are_refused,
      another_folder_is_another_run_that_draws_the_same,
      every_setting_that_trajectories_depend_on_is_in_a_runs_identity,
      two_stores_on_one_folder_are_refused, slots_and_tokens_never_come_twice_across_restarts,
      a_repeated_request_gets_the_token_it_was_given,
      what_was_uploaded_just_before_a_restart_outlives_the_first_sweep,
      what_was_uploaded_or_asked_for_again_outlives_the_next_sweep_alone,
      of_more_uploads_than_there_is_room_for_the_one_left_longest_begins_again,
      an_upload_resumes_and_repeated_chunks_are_acknowledged_again,
      bytes_that_do_not_have_their_digest_leave_nothing,
      an_upload_that_does_not_fit_the_disk_leaves_nothing, a_fenced_trainer_changes_nothing,
      a_policy_is_published_once_and_never_goes_back,
      only_the_last_k_checkpoints_stay_with_their_blobs,
      a_damaged_checkpoint_gives_way_to_the_one_before_loudly,
      a_checkpoint_that_cannot_be_read_now_is_kept, a_damaged_manifest_is_set_aside,
      a_newer_tokens_checkpoints_supersede_those_of_an_older_one, a_manifest_is_known_by_its_checksum_and_its_name,
      what_a_crash_left_is_removed_at_start, a_repeated_report_is_one_line,
      news_tell_the_newest_policy_and_the_stop_again_and_again, a_request_of_another_run_is_told_so)
