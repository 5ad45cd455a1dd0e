/* The scorer among real neighbours: dagline-store, redis-server, dagline-shapes-judge or a
 * misbehaving reward service; the test is the sampler. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "replay/replay.h"
#include "run/run_chain.h"
#include "support/bad_http.h"
#include "support/proc.h"
#include "support/suite.h"
#include "support/trajectories.h"
#include "wire/store_client.h"
#include "wire/wire.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ITEMS_MAX 256
#define HELLO_MS 200
#define RESEND_MS 3000
#define ARGS_MAX 64

static char folder[PROC_PATH_BYTES];
static struct proc_redis redis;
static struct proc store, scorer, judge;
static uint16_t judge_port, page_port;
static char settings[ARGS_MAX][2 * PROC_PATH_BYTES];

/* argv of a service with every endpoint in the test's folder; `extra`: NULL-ended "key=value"s. */
static void start_service(struct proc *p, const char *binary, const char *const *extra)
{
    char path[PROC_PATH_BYTES], root[PROC_PATH_BYTES], log[PROC_PATH_BYTES + 40];
    proc_binary(path, binary);
    snprintf(root, sizeof root, "%s", path);
    *strstr(root, "/build/") = 0;
    size_t n = 0;
    const char *f = folder;
    snprintf(settings[n++], sizeof *settings, "net.store=ipc://%s/store.sock", f);
    snprintf(settings[n++], sizeof *settings, "net.news=ipc://%s/news.sock", f);
    snprintf(settings[n++], sizeof *settings, "net.scorer=ipc://%s/scorer.sock", f);
    snprintf(settings[n++], sizeof *settings, "store.data=%s/store", f);
    snprintf(settings[n++], sizeof *settings, "store.model=%s/tests/golden/tiny-sd/model", root);
    snprintf(settings[n++], sizeof *settings, "store.prompts=%s/prompts.txt", f);
    snprintf(settings[n++], sizeof *settings, "store.listen=");
    snprintf(settings[n++], sizeof *settings, "replay.address=%s", redis.address);
    snprintf(settings[n++], sizeof *settings, "replay.samples_per_insert=0");
    snprintf(settings[n++], sizeof *settings, "reward.url=http://127.0.0.1:%u", judge_port);
    snprintf(settings[n++], sizeof *settings, "scorer.listen=127.0.0.1:%u", page_port);
    snprintf(settings[n++], sizeof *settings, "judge.listen=127.0.0.1:%u", judge_port);
    for (; extra != NULL && *extra != NULL; extra++)
        snprintf(settings[n++], sizeof *settings, "%s", *extra);
    const char *argv[2 * ARGS_MAX + 2] = {path};
    for (size_t i = 0; i < n; i++) {
        argv[1 + 2 * i] = "--set";
        argv[2 + 2 * i] = settings[i];
    }
    snprintf(log, sizeof log, "%.180s/%s.log", folder, binary);
    proc_start(p, argv, log);
}

static void setup(void)
{
    char path[PROC_PATH_BYTES + 16];
    proc_folder(folder);
    proc_redis_start(&redis, folder, NULL);
    snprintf(path, sizeof path, "%s/prompts.txt", folder);
    FILE *f = fopen(path, "w");
    fprintf(f, "a red circle\na blue square\n");
    fclose(f);
    judge_port = proc_free_port();
    page_port = proc_free_port();
    start_service(&store, "dagline-store", NULL);
}

static void teardown(void)
{
    proc_kill(&scorer);
    proc_kill(&judge);
    proc_kill(&store);
    proc_redis_kill(&redis);
    proc_folder_remove(folder);
}

/* ---- the test as a sampler ---- */

struct sent {
    struct trajectory *t;
    uint64_t bytes;
    int64_t sent_ms; /* -1: not in this session */
    enum ack_outcome outcome;
    char reason[CODEC_REASON_BYTES];
};

struct sampler {
    struct wire_net *net;
    struct wire *wire;
    struct store_client *client;
    struct run_spec run;
    uint8_t chain[HASH_SHA256_BYTES];
    uint64_t session, items_granted, bytes_granted, items_sent, bytes_sent;
    uint32_t sessions;
    int64_t hello_ms;
    size_t count, answered;
    struct sent items[ITEMS_MAX];
};

static void sampler_dial(struct sampler *s)
{
    struct err e = {0};
    char endpoint[WIRE_ENDPOINT_BYTES_MAX];
    memset(s, 0, sizeof *s);
    ck_assert_int_eq(
        wire_net_open(
            &s->net, &(struct wire_net_options){.party = PARTY_SAMPLER, .sender = "sampler/t"}, &e),
        0);
    snprintf(endpoint, sizeof endpoint, "ipc://%.200s/store.sock", folder);
    ck_assert_int_eq(
        store_client_open(&s->client, s->net,
                          &(struct store_client_options){.endpoint = endpoint, .timeout_ms = 30000},
                          &e),
        0);
    ck_assert_msg(store_client_run(s->client, &s->run, &e) == 0, "%s", e.text);
    run_chain_digest(s->chain, &s->run);
    snprintf(endpoint, sizeof endpoint, "ipc://%.200s/scorer.sock", folder);
    ck_assert_int_eq(wire_open(&s->wire, s->net, WIRE_SCORER_CLIENT, endpoint, &e), 0);
}

static void sampler_done(struct sampler *s)
{
    for (size_t i = 0; i < s->count; i++)
        trajectory_free(s->items[i].t);
    wire_close(s->wire);
    store_client_close(s->client);
    run_spec_done(&s->run);
    wire_net_close(s->net);
}

static struct trajectory *make(struct sampler *s, uint64_t counter)
{
    struct trajectory *t =
        trajectories_make(5, counter, &(struct trajectory_shape){.latent_side = s->run.latent_height});
    trajectory_id(t->id, s->run.run_id, 5, counter);
    memcpy(t->schedule_digest, s->chain, sizeof t->schedule_digest);
    return t;
}

static void add(struct sampler *s, struct trajectory *t)
{
    ck_assert_uint_lt(s->count, ITEMS_MAX);
    s->items[s->count++] = (struct sent){.t = t, .bytes = codec_trajectory_bytes(t), .sent_ms = -1};
}

static void take_credit(struct sampler *s, const struct message *m)
{
    struct credit c;
    struct err e;
    ck_assert_int_eq(codec_get_credit(m, &c, &e), 0);
    if (c.session != s->session) {
        s->session = c.session;
        s->sessions++;
        s->items_granted = s->bytes_granted = s->items_sent = s->bytes_sent = 0;
        for (size_t i = 0; i < s->count; i++)
            s->items[i].sent_ms = -1;
    }
    s->items_granted = c.items > s->items_granted ? c.items : s->items_granted;
    s->bytes_granted = c.bytes > s->bytes_granted ? c.bytes : s->bytes_granted;
}

static void take_ack(struct sampler *s, const struct message *m)
{
    struct ack a;
    struct err e;
    ck_assert_int_eq(codec_get_ack(m, &a, &e), 0);
    for (size_t i = 0; i < s->count; i++)
        if (memcmp(s->items[i].t->id, a.id, sizeof a.id) == 0 && s->items[i].outcome == ACK_NONE) {
            s->items[i].outcome = a.outcome;
            memcpy(s->items[i].reason, a.reason, sizeof a.reason);
            s->answered++;
            return;
        }
}

/* One round: hello, what may be sent, what came. */
static void sampler_round(struct sampler *s)
{
    struct err e;
    const int64_t now_ms = clock_mono_ms(NULL);
    if (now_ms - s->hello_ms >= HELLO_MS && s->count > 0) {
        struct message *m = message_new(MESSAGE_HELLO);
        codec_put_hello(m, &(struct hello){.item_bytes = s->items[0].bytes, .slot = 5});
        if (wire_send(s->wire, &m, &e) < 0)
            message_free(m);
        s->hello_ms = now_ms;
    }
    for (size_t i = 0; i < s->count; i++) {
        struct sent *x = &s->items[i];
        const bool due =
            x->outcome == ACK_NONE && (x->sent_ms < 0 || now_ms - x->sent_ms > RESEND_MS);
        if (!due || s->items_sent >= s->items_granted ||
            s->bytes_sent + x->bytes > s->bytes_granted)
            continue;
        struct message *m = message_new(MESSAGE_TRAJECTORY);
        ck_assert_int_eq(codec_put_trajectory(m, x->t, &e), 0);
        if (wire_send(s->wire, &m, &e) < 0) {
            message_free(m);
            break;
        }
        x->sent_ms = now_ms;
        s->items_sent++;
        s->bytes_sent += x->bytes;
    }
    for (struct message *m; wire_recv(s->wire, &m, 5, &e) == 0; message_free(m)) {
        if (m->kind == MESSAGE_CREDIT)
            take_credit(s, m);
        else if (m->kind == MESSAGE_ACK)
            take_ack(s, m);
    }
}

static void sampler_until(struct sampler *s, size_t answered)
{
    const int64_t end = clock_mono_ms(NULL) + 60000;
    while (s->answered < answered) {
        sampler_round(s);
        if (clock_mono_ms(NULL) > end) {
            char path[PROC_PATH_BYTES + 32];
            snprintf(path, sizeof path, "%s/dagline-scorer.log", folder);
            ck_abort_msg("%zu of %zu answered; scorer: %s", s->answered, answered, proc_read(path));
        }
    }
}

static size_t outcomes(const struct sampler *s, enum ack_outcome outcome)
{
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += s->items[i].outcome == outcome;
    return n;
}

static struct replay *look_into_replay(const struct sampler *s)
{
    struct replay *r = NULL;
    struct err e = {0};
    const struct replay_options o = {.address = redis.address,
                                     .user = "",
                                     .password = "",
                                     .run_id = s->run.run_id,
                                     .bytes_max = 1 << 30,
                                     .items_min = 1,
                                     .uses_max = 1,
                                     .timeout_ms = 5000};
    ck_assert_msg(replay_open(&r, &o, &e) == 0, "%s", e.text);
    return r;
}

static struct replay_stats replay_state(struct replay *r)
{
    struct replay_stats st;
    ck_assert_int_eq(replay_stats(r, &st, NULL), 0);
    return st;
}

/* ---- claims ---- */

START_TEST(the_judge_scores_over_http_and_only_what_is_stored_is_acknowledged)
{
    setup();
    start_service(&judge, "dagline-shapes-judge", NULL);
    start_service(&scorer, "dagline-scorer", NULL);
    struct sampler s;
    sampler_dial(&s);
    for (uint64_t i = 0; i < 24; i++)
        add(&s, make(&s, i));
    sampler_until(&s, 24);
    ck_assert_uint_eq(outcomes(&s, ACK_STORED), 24);
    struct replay *r = look_into_replay(&s);
    ck_assert_uint_eq(replay_state(r).items, 24);
    struct trajectory *out[24];
    struct err e = {0};
    ck_assert_int_eq(replay_fence(r, 1, &e), 0);
    ck_assert_msg(
        replay_batch(r, &(struct replay_batch_request){.step = 1, .count = 24}, out, &e) == 0, "%s",
        e.text);
    for (size_t i = 0; i < 24; i++) {
        ck_assert_msg(out[i]->reward >= 0.0 && out[i]->reward <= 1.0, "reward %g", out[i]->reward);
        ck_assert_str_eq(out[i]->components[0].name, "raw");
        ck_assert_str_eq(out[i]->components[1].name, "strict");
        ck_assert_uint_eq(out[i]->component_count, 8);
        ck_assert_uint_gt(out[i]->thumbnail_bytes, 100);
        ck_assert_mem_eq(out[i]->thumbnail, "\xff\xd8\xff", 3); /* JPEG */
        ck_assert_msg(out[i]->states[3].terminal && out[i]->states[3].reward == out[i]->reward,
                      "terminal reward");
        trajectory_free(out[i]);
    }
    replay_close(r);

    /* what was stored is known; what is not of this run's making is refused with the reason */
    const size_t n = s.count;
    add(&s, make(&s, 3));
    s.items[3].outcome = ACK_NONE;
    struct trajectory *chain = make(&s, 100), *id = make(&s, 101), *policy = make(&s, 102);
    chain->schedule_digest[0] ^= 1;
    id->id[0] ^= 1;
    policy->policy_version = 9;
    trajectories_policy_digest(policy->policy_digest, 9);
    add(&s, chain);
    add(&s, id);
    add(&s, policy);
    /* nor what the trainer would read past the end of */
    struct trajectory *size = trajectories_make(5, 103, &(struct trajectory_shape){.latent_side = 4});
    trajectory_id(size->id, s.run.run_id, 5, 103);
    memcpy(size->schedule_digest, s.chain, sizeof size->schedule_digest);
    struct trajectory *late = make(&s, 104);
    for (uint32_t i = 0; i < late->state_count; i++)
        late->states[i].step += s.run.steps;
    for (uint32_t i = 0; i < late->transition_count; i++)
        late->transitions[i].step += s.run.steps;
    add(&s, size);
    add(&s, late);
    /* a policy is known by its version and its digest together */
    uint64_t token;
    struct policy_publish published = {.version = 1};
    ck_assert_msg(store_client_token_take(s.client, &token, &e) == 0 &&
                      store_client_blob_put(s.client, "a policy", 8, published.digest, &e) == 0 &&
                      store_client_policy_publish(s.client, &published, NULL, &e) == 0,
                  "%s", e.text);
    for (uint64_t version = 1; version <= 2; version++) {
        struct trajectory *t = make(&s, 104 + version);
        t->policy_version = version;
        memcpy(t->policy_digest, published.digest, sizeof t->policy_digest);
        add(&s, t);
    }
    sampler_until(&s, n + 8);
    ck_assert_int_eq(s.items[3].outcome, ACK_DUPLICATE);
    for (size_t i = n + 1; i < n + 6; i++)
        ck_assert_msg(s.items[i].outcome == ACK_REJECTED, "item %zu: outcome %d", i,
                      (int)s.items[i].outcome);
    ck_assert_ptr_nonnull(strstr(s.items[n + 1].reason, "chain"));
    ck_assert_ptr_nonnull(strstr(s.items[n + 3].reason, "digest"));
    ck_assert_ptr_nonnull(strstr(s.items[n + 4].reason, "latents"));
    ck_assert_ptr_nonnull(strstr(s.items[n + 5].reason, "step"));
    ck_assert_int_eq(s.items[n + 6].outcome, ACK_STORED);
    ck_assert_int_eq(s.items[n + 7].outcome, ACK_REJECTED);
    ck_assert_ptr_nonnull(strstr(s.items[n + 7].reason, "as policy 1, not 2"));

    char path[PROC_PATH_BYTES], set[64];
    snprintf(set, sizeof set, "scorer.listen=127.0.0.1:%u", page_port);
    proc_binary(path, "dagline-scorer");
    struct proc ask;
    proc_start(&ask, (const char *const[]){path, "--healthcheck", "--set", set, NULL}, NULL);
    ck_assert_int_eq(proc_wait(&ask, 20000), 0);
    proc_signal(&scorer, SIGTERM);
    ck_assert_int_eq(proc_wait(&scorer, 20000), 0);
    sampler_done(&s);
    teardown();
}
END_TEST

START_TEST(a_service_that_misbehaves_half_the_time_never_makes_a_reward_up)
{
    setup();
    struct bad_http *b = bad_http_start(BAD_GOOD);
    judge_port = bad_http_port(b);
    bad_http_mix(b, 50);
    start_service(&scorer, "dagline-scorer",
                  (const char *const[]){"reward.retries=1", "reward.backoff=5ms",
                                        "reward.timeout=500ms", "reward.batch=16",
                                        "reward.score_max=1", "reward.scale=2", "reward.offset=1",
                                        "reward.answer_max=64KiB", "reward.model=m", NULL});
    struct sampler s;
    sampler_dial(&s);
    for (uint64_t i = 0; i < 150; i++)
        add(&s, make(&s, i));
    sampler_until(&s, 150);
    const size_t stored = outcomes(&s, ACK_STORED), failed = outcomes(&s, ACK_FAILED);
    ck_assert_uint_eq(stored + failed, 150);
    ck_assert_uint_gt(stored, 0);
    ck_assert_uint_gt(failed, 0);
    struct replay *r = look_into_replay(&s);
    struct err e = {0};
    ck_assert_uint_eq(replay_state(r).items, stored);
    ck_assert_int_eq(replay_fence(r, 1, &e), 0);
    struct trajectory *out[ITEMS_MAX];
    ck_assert_msg(replay_batch(r,
                               &(struct replay_batch_request){.step = 1, .count = (uint32_t)stored},
                               out, &e) == 0,
                  "%s", e.text);
    for (size_t i = 0; i < stored; i++) {
        ck_assert_msg(out[i]->reward == 2.0, "reward %g", out[i]->reward);
        for (uint32_t k = 1; k < out[i]->state_count; k++)
            ck_assert_msg(out[i]->states[k].reward == 2.0, "state reward %g",
                          out[i]->states[k].reward);
        trajectory_free(out[i]);
    }
    for (size_t i = 0; i < s.count; i++)
        if (s.items[i].outcome == ACK_FAILED)
            ck_assert_msg(strchr(s.items[i].reason, ':') != NULL, "untyped failure %s",
                          s.items[i].reason);
    printf("%u calls, half of them bad: %zu stored, %zu failed, 0 made up\n", bad_http_posts(b),
           stored, failed);
    replay_close(r);
    sampler_done(&s);
    teardown();
}
END_TEST

START_TEST(kills_of_scorer_redis_and_judge_lose_and_double_nothing)
{
    setup();
    start_service(&judge, "dagline-shapes-judge", NULL);
    start_service(&scorer, "dagline-scorer",
                  (const char *const[]){"reward.backoff=20ms", "reward.retries=50", NULL});
    struct sampler s;
    sampler_dial(&s);
    for (uint64_t i = 0; i < 200; i++)
        add(&s, make(&s, i));
    for (int k = 0; k < 20; k++) {
        sampler_until(&s, (size_t)(k + 1) * 8);
        if (k % 3 == 1) {
            proc_redis_kill(&redis);
            proc_redis_again(&redis, NULL);
        } else if (k % 3 == 2) {
            proc_kill(&judge);
            start_service(&judge, "dagline-shapes-judge", NULL);
        } else {
            proc_kill(&scorer);
            start_service(&scorer, "dagline-scorer",
                          (const char *const[]){"reward.backoff=20ms", "reward.retries=50", NULL});
        }
    }
    sampler_until(&s, 200);
    ck_assert_uint_eq(outcomes(&s, ACK_STORED) + outcomes(&s, ACK_DUPLICATE), 200);
    struct replay *r = look_into_replay(&s);
    const struct replay_stats st = replay_state(r);
    ck_assert_uint_eq(st.items, 200);
    ck_assert_uint_eq(st.inserted, 200);
    ck_assert_uint_eq(st.conflicts, 0);
    printf("20 kills: 200 trajectories stored once each, in %u sessions\n", s.sessions);
    replay_close(r);
    sampler_done(&s);
    teardown();
}
END_TEST

START_TEST(credit_follows_the_replays_room)
{
    setup();
    start_service(&judge, "dagline-shapes-judge", NULL);
    start_service(&scorer, "dagline-scorer",
                  (const char *const[]){"replay.samples_per_insert=1", "replay.items_min=6",
                                        "replay.ahead_max=4", NULL});
    struct sampler s;
    sampler_dial(&s);
    for (uint64_t i = 0; i < 30; i++)
        add(&s, make(&s, i));
    sampler_until(&s, 10);
    for (int i = 0; i < 40; i++)
        sampler_round(&s);
    ck_assert_uint_eq(s.answered, 10); /* and not one more, until the trainer has used some */
    ck_assert_uint_eq(s.items_granted, 10);
    struct replay *r = look_into_replay(&s);
    struct trajectory *out[6];
    struct err e = {0};
    ck_assert_int_eq(replay_fence(r, 1, &e), 0);
    ck_assert_msg(replay_batch(r, &(struct replay_batch_request){.step = 1, .count = 6}, out, &e) ==
                      0,
                  "%s", e.text);
    for (size_t i = 0; i < 6; i++)
        trajectory_free(out[i]);
    sampler_until(&s, 16);
    for (int i = 0; i < 40; i++)
        sampler_round(&s);
    ck_assert_uint_eq(s.answered, 16);
    replay_close(r);
    sampler_done(&s);
    teardown();
}
END_TEST

/* While its reward takes its time a trajectory may come again and again: it is in hand once, and takes no more of the budget. */
START_TEST(what_comes_again_while_it_is_in_hand_holds_no_more)
{
    enum { TIMES = 60 };
    setup();
    struct bad_http *b = bad_http_start(BAD_GOOD);
    judge_port = bad_http_port(b);
    bad_http_mode(b, BAD_SILENT, 1);
    start_service(&scorer, "dagline-scorer",
                  (const char *const[]){"reward.timeout=2500ms", "reward.retries=2", "reward.model=m", "scorer.budget=1MiB", NULL});
    struct sampler s;
    sampler_dial(&s);
    add(&s, make(&s, 1));
    ck_assert_uint_gt(TIMES * s.items[0].bytes, 2 << 20);
    const int64_t end = clock_mono_ms(NULL) + 20000;
    while (s.items_sent < TIMES && clock_mono_ms(NULL) < end) {
        s.items[0].sent_ms = -1;
        sampler_round(&s);
    }
    ck_assert_uint_eq(s.items_sent, TIMES);
    ck_assert_uint_eq(s.answered, 0);
    sampler_until(&s, 1);
    ck_assert_int_eq(s.items[0].outcome, ACK_STORED);
    sampler_done(&s);
    teardown();
}
END_TEST

SUITE("system/scorer", 150, the_judge_scores_over_http_and_only_what_is_stored_is_acknowledged,
      a_service_that_misbehaves_half_the_time_never_makes_a_reward_up,
      kills_of_scorer_redis_and_judge_lose_and_double_nothing,
      what_comes_again_while_it_is_in_hand_holds_no_more, credit_follows_the_replays_room)
