/* Scores that are remembered: a real Redis, a reward service that counts its calls. */
#include "base/clock.h"
#include "base/log.h"
#include "replay/replay.h"
#include "scorer/backend.h"
#include "support/bad_http.h"
#include "support/proc.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define N 6

static char folder[PROC_PATH_BYTES];
static struct proc_redis redis;
static struct loop *loop;
static struct replay *replay;
static struct bad_http *service;
static struct backend backend;
static struct reward_params params;

static uint8_t pixels[2 * N][8 * 8 * 3];
static enum backend_failure failure;
static struct backend_score scores[N];
static size_t count;
static int completions;

static void on_done(void *arg, const struct backend_result *r)
{
    (void)arg;
    completions++;
    failure = r->failure;
    count = r->count;
    if (r->failure == BACKEND_OK)
        memcpy(scores, r->scores, r->count * sizeof *scores);
}

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

static void open_backend(void)
{
    struct err e = {0};
    const struct backend_context context = {.loop = loop, .replay = replay};
    ck_assert_msg(backend_open(&backend, &params, &context, on_done, NULL, &e) == 0, "%s", e.text);
    for (const int64_t end = clock_mono_ms(NULL) + 10000; !backend.ready(backend.self);) {
        ck_assert_int_eq(loop_poll(loop, 100, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
    bad_http_mode(service, BAD_GOOD, 0); /* counts from 0 */
}

static void setup(void)
{
    struct err e = {0};
    log_sink(quiet, NULL);
    proc_folder(folder);
    proc_redis_start(&redis, folder, NULL);
    const struct replay_options o = {.address = redis.address,
                                     .user = "",
                                     .password = "",
                                     .run_id = "test",
                                     .bytes_max = 64 << 20,
                                     .items_min = 1,
                                     .timeout_ms = 2000};
    ck_assert_msg(replay_open(&replay, &o, &e) == 0, "%s", e.text);
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    service = bad_http_start(BAD_GOOD);
    params = (struct reward_params){.backend = "oip-v2",
                                    .model = "m",
                                    .batch = 64,
                                    .concurrency = 2,
                                    .timeout_ms = 2000,
                                    .deadline_ms = 5000,
                                    .retries = 0,
                                    .backoff_ms = 10,
                                    .answer_max_bytes = 64 << 10,
                                    .scale = 1,
                                    .score_min = -1,
                                    .score_max = 1,
                                    .cache = 1000};
    snprintf(params.url, sizeof params.url, "http://127.0.0.1:%u/", bad_http_port(service));
    for (int i = 0; i < 2 * N; i++)
        memset(pixels[i], i, sizeof pixels[i]);
    open_backend();
}

static void teardown(void)
{
    backend.close(backend.self);
    loop_close(loop);
    bad_http_stop(service);
    replay_close(replay);
    proc_redis_kill(&redis);
    proc_folder_remove(folder);
}

/* Pictures first.. of N with this metadata. */
static void ask(int first, const char *metadata)
{
    struct backend_item items[N];
    struct err e = {0};
    for (int i = 0; i < N; i++)
        items[i] = (struct backend_item){
            .rgb = pixels[first + i], .height = 8, .width = 8, .prompt = "p", .metadata = metadata};
    completions = 0;
    ck_assert_msg(backend.submit(backend.self, 7, items, N, &e) == 0, "%s", e.text);
    for (const int64_t end = clock_mono_ms(NULL) + 10000; completions == 0;) {
        ck_assert_int_eq(loop_poll(loop, 100, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
    ck_assert_int_eq(completions, 1);
    for (size_t i = 0; failure == BACKEND_OK && i < N; i++) {
        ck_assert_uint_eq(count, N);
        ck_assert_msg(scores[i].value == 0.5 && scores[i].component_count == 1 &&
                          strcmp(scores[i].components[0].name, "strict") == 0 && scores[i].components[0].value == 1.0,
                      "score %zu", i);
    }
}

static void expect(enum backend_failure want, unsigned posts)
{
    ck_assert_msg(failure == want, "%s", backend_failure_name(failure));
    ck_assert_uint_eq(bad_http_posts(service), posts);
}

START_TEST(what_was_said_once_is_not_asked_again)
{
    setup();
    ask(0, "");
    expect(BACKEND_OK, 1);
    ask(0, "");
    expect(BACKEND_OK, 1);
    struct backend_counters c;
    backend.counters(backend.self, &c);
    ck_assert_uint_eq(c.cache_hits, N);
    /* half of them are new: one call, all have their score */
    ask(N / 2, "");
    expect(BACKEND_OK, 2);
    backend.counters(backend.self, &c);
    ck_assert_uint_eq(c.cache_hits, N + N / 2);
    /* another question about the same picture */
    ask(0, "{\"target\":1}");
    expect(BACKEND_OK, 3);
    /* after a restart it is known; to another model of the service it is not */
    backend.close(backend.self);
    open_backend();
    ask(0, "");
    expect(BACKEND_OK, 0);
    backend.close(backend.self);
    snprintf(params.model_version, sizeof params.model_version, "2");
    open_backend();
    ask(0, "");
    expect(BACKEND_OK, 1);
    teardown();
}
END_TEST

START_TEST(failures_are_not_remembered)
{
    setup();
    bad_http_mode(service, BAD_NAN, 1);
    ask(0, "");
    expect(BACKEND_ANSWER, 1);
    ask(0, "");
    expect(BACKEND_OK, 2);
    ask(0, "");
    expect(BACKEND_OK, 2);
    teardown();
}
END_TEST

START_TEST(without_redis_the_service_is_asked)
{
    setup();
    ask(0, "");
    expect(BACKEND_OK, 1);
    proc_redis_kill(&redis);
    ask(0, "");
    expect(BACKEND_OK, 2);
    proc_redis_again(&redis, NULL);
    teardown();
}
END_TEST

SUITE("system/score_cache", 60, what_was_said_once_is_not_asked_again, failures_are_not_remembered,
      without_redis_the_service_is_asked)
