/* The HTTP backend against a service that misbehaves. */
#include "scorer/backend.h"

#include "base/clock.h"
#include "base/log.h"
#include "support/bad_http.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 5

static uint8_t pixels[8 * 8 * 3];
static struct backend_result last;
static struct backend_score kept[N];
static int completions;

static void on_done(void *arg, const struct backend_result *r)
{
    (void)arg;
    last = *r;
    completions++;
    if (r->failure == BACKEND_OK)
        memcpy(kept, r->scores, r->count * sizeof *kept);
}

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

static struct reward_params params(uint16_t port)
{
    struct reward_params p = {.backend = "oip-v2", .model = "m",
                              .batch = 64,
                              .concurrency = 2,
                              .timeout_ms = 700,
                              .deadline_ms = 5000,
                              .retries = 2,
                              .backoff_ms = 10,
                              .answer_max_bytes = 64 << 10,
                              .scale = 1,
                              .score_min = -1,
                              .score_max = 1,
                              .binary = true};
    snprintf(p.url, sizeof p.url, "http://127.0.0.1:%u/", port);
    return p;
}

static struct loop *loop;
static struct backend backend;

static void open_backend(const struct reward_params *p)
{
    struct err e = {0};
    log_sink(quiet, NULL);
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    ck_assert_msg(backend_open_http(&backend, p, loop, on_done, NULL, &e) == 0, "%s", e.text);
    const int64_t end = clock_mono_ms(NULL) + 10000;
    while (!backend.ready(backend.self)) {
        ck_assert_int_eq(loop_poll(loop, 100, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
}

static void close_backend(void)
{
    backend.close(backend.self);
    loop_close(loop);
}

/* Submits N images and waits for the completion. */
static void ask(void)
{
    struct backend_item items[N];
    struct err e = {0};
    for (size_t i = 0; i < N; i++)
        items[i] = (struct backend_item){
            .rgb = pixels, .height = 8, .width = 8, .prompt = "p", .metadata = ""};
    completions = 0;
    ck_assert_uint_gt(backend.room(backend.self), 0);
    ck_assert_msg(backend.submit(backend.self, 77, items, N, &e) == 0, "%s", e.text);
    const int64_t end = clock_mono_ms(NULL) + 20000;
    while (completions == 0) {
        ck_assert_int_eq(loop_poll(loop, 100, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
    ck_assert_int_eq(completions, 1);
    ck_assert_uint_eq(last.batch, 77);
}

START_TEST(every_misbehaviour_has_its_class_and_none_is_a_score)
{
    static const struct {
        enum bad_mode mode;
        enum backend_failure want;
        unsigned posts; /* tries: 1 where another try cannot help */
        const char *reason;
    } cases[] = {
        {BAD_500, BACKEND_SERVER, 3, "500: oops"},
        {BAD_429, BACKEND_BUSY, 3, "429"},
        {BAD_QUOTA, BACKEND_REFUSED, 1, "429"},
        {BAD_400, BACKEND_REFUSED, 1, "no such tensor"},
        {BAD_404, BACKEND_REFUSED, 1, "404"},
        {BAD_204, BACKEND_ANSWER, 1, "204"},
        {BAD_REDIRECT, BACKEND_REDIRECT, 1, "302"},
        {BAD_CLOSE, BACKEND_TRANSPORT, 4,
         ""}, /* curl takes the first for a kept-alive connection gone stale */
        {BAD_CUT, BACKEND_TRANSPORT, 3, ""},
        {BAD_DRIP, BACKEND_TIMEOUT, 3, ""},
        {BAD_SILENT, BACKEND_TIMEOUT, 3, ""},
        {BAD_HUGE_LENGTH, BACKEND_TOO_LARGE, 1, "answer is larger than 65536"},
        {BAD_ENDLESS_CHUNKS, BACKEND_TOO_LARGE, 1, "65536"},
        {BAD_HUGE_HEADERS, BACKEND_TOO_LARGE, 1, "headers are larger than 65536"},
        {BAD_GARBAGE, BACKEND_ANSWER, 1, ""},
        {BAD_EMPTY, BACKEND_ANSWER, 1, "empty"},
        {BAD_SHORT_COUNT, BACKEND_ANSWER, 1, "shape"},
        {BAD_LONG_COUNT, BACKEND_ANSWER, 1, "shape"},
        {BAD_SHAPE_LIE, BACKEND_ANSWER, 1, "4 values"},
        {BAD_NAN, BACKEND_ANSWER, 1, ""},
        {BAD_STRING, BACKEND_ANSWER, 1, "value 4"},
        {BAD_NULL, BACKEND_ANSWER, 1, "value 4"},
        {BAD_1E999, BACKEND_ANSWER, 1, ""},
        {BAD_DUPLICATE_KEY, BACKEND_ANSWER, 1, "uplicate"},
        {BAD_DUPLICATE_OUTPUT, BACKEND_ANSWER, 1, "twice"},
        {BAD_MISSING_OUTPUT, BACKEND_ANSWER, 1, "strict is missing"},
        {BAD_OTHER_ID, BACKEND_ANSWER, 1, "another"},
        {BAD_TRAILING, BACKEND_ANSWER, 1, ""},
        {BAD_DEEP, BACKEND_ANSWER, 1, ""},
        {BAD_RANGE, BACKEND_ANSWER, 1, "score 4 is 7"},
        {BAD_GZIP, BACKEND_ANSWER, 1, ""},
        {BAD_BINARY_NAN, BACKEND_ANSWER, 1, "value 4"},
        {BAD_BINARY_SHORT, BACKEND_ANSWER, 1, "binary_data_size"},
        {BAD_ERROR_200, BACKEND_ANSWER, 1, "the service says: the model crashed"},
    };
    struct bad_http *b = bad_http_start(BAD_GOOD);
    const struct reward_params p = params(bad_http_port(b));
    open_backend(&p);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bad_http_mode(b, cases[i].mode, 0);
        ask();
        ck_assert_msg(last.failure == cases[i].want, "mode %d: %s (%s), want %s",
                      (int)cases[i].mode, backend_failure_name(last.failure), last.reason,
                      backend_failure_name(cases[i].want));
        ck_assert_msg(strstr(last.reason, cases[i].reason) != NULL, "mode %d: reason %s",
                      (int)cases[i].mode, last.reason);
        ck_assert_msg(bad_http_posts(b) == cases[i].posts, "mode %d: %u posts, want %u",
                      (int)cases[i].mode, bad_http_posts(b), cases[i].posts);
        /* and the next good answer is a good one */
        bad_http_mode(b, BAD_GOOD, 0);
        ask();
        ck_assert_msg(last.failure == BACKEND_OK, "after mode %d: %s", (int)cases[i].mode,
                      last.reason);
    }
    printf("%zu misbehaviours, each classified\n", sizeof cases / sizeof *cases);
    close_backend();
    bad_http_stop(b);
}
END_TEST

START_TEST(a_good_answer_gives_scores_and_components)
{
    struct bad_http *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(bad_http_port(b));
    for (int binary = 0; binary < 2; binary++) {
        p.binary = binary;
        open_backend(&p);
        ask();
        ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
        for (size_t i = 0; i < N; i++) {
            ck_assert_msg(kept[i].value == 0.5, "%g", kept[i].value);
            ck_assert_uint_eq(kept[i].component_count, 1);
            ck_assert_str_eq(kept[i].components[0].name, "strict");
            ck_assert_msg(kept[i].components[0].value == 1.0, "strict");
        }
        close_backend();
    }
    bad_http_stop(b);
}
END_TEST

START_TEST(what_heals_is_tried_again_and_retry_after_is_honoured)
{
    struct bad_http *b = bad_http_start(BAD_GOOD);
    const struct reward_params p = params(bad_http_port(b));
    open_backend(&p);
    bad_http_mode(b, BAD_500, 2);
    ask();
    ck_assert_int_eq(last.failure, BACKEND_OK);
    ck_assert_uint_eq(bad_http_posts(b), 3);
    bad_http_mode(b, BAD_503_RETRY_AFTER, 1);
    const int64_t began = clock_mono_ms(NULL);
    ask();
    ck_assert_int_eq(last.failure, BACKEND_OK);
    ck_assert_int_ge(clock_mono_ms(NULL) - began, 1000);
    struct backend_counters c;
    backend.counters(backend.self, &c);
    ck_assert_uint_eq(c.calls, 5);
    ck_assert_uint_eq(c.retries, 3);
    close_backend();
    bad_http_stop(b);
}
END_TEST

START_TEST(a_question_has_one_key_and_another_rewards_has_another)
{
    struct bad_http *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(bad_http_port(b));
    uint64_t key[3];
    for (int i = 0; i < 3; i++) {
        open_backend(&p);
        ask();
        ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
        key[i] = bad_http_id(b);
        ask();
        ck_assert_uint_eq(bad_http_id(b), key[i]);
        close_backend();
        if (i == 1)
            snprintf(p.output, sizeof p.output, "strict");
    }
    ck_assert_uint_ne(key[0], 0);
    ck_assert_uint_eq(key[1], key[0]);
    ck_assert_uint_ne(key[2], key[1]);
    bad_http_stop(b);
}
END_TEST

START_TEST(overload_lowers_the_number_of_calls_at_once)
{
    struct bad_http *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(bad_http_port(b));
    p.concurrency = 8;
    p.retries = 0;
    open_backend(&p);
    ck_assert_uint_eq(backend.room(backend.self), 8);
    bad_http_mode(b, BAD_429, 0);
    ask();
    ck_assert_uint_eq(backend.room(backend.self), 4);
    ask();
    ask();
    ask();
    ck_assert_uint_eq(backend.room(backend.self), 1);
    bad_http_mode(b, BAD_GOOD, 0);
    for (int i = 0; i < 4; i++)
        ask();
    ck_assert_uint_gt(backend.room(backend.self), 1);
    close_backend();
    bad_http_stop(b);
}
END_TEST

START_TEST(addresses_and_urls_that_no_service_has_are_refused)
{
    static const char *const bad[] = {
        "ftp://h", "file:///etc/passwd", "http://user@h", "http://h/?x",
        "h:80",    "http://h h",         "unix:/x"};
    struct err e = {0};
    struct reward_params p = params(1);
    log_sink(quiet, NULL);
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(p.url, sizeof p.url, "%s", bad[i]);
        ck_assert_msg(backend_open_http(&backend, &p, loop, on_done, NULL, &e) == -1, "%s", bad[i]);
    }
    snprintf(p.url, sizeof p.url, "http://127.0.0.1:1");
    snprintf(p.model, sizeof p.model, "../../admin");
    ck_assert_int_eq(backend_open_http(&backend, &p, loop, on_done, NULL, &e), -1);
    /* a metadata service's address is never dialled: nothing waits for a timeout here */
    snprintf(p.model, sizeof p.model, "m");
    snprintf(p.url, sizeof p.url, "http://169.254.169.254");
    ck_assert_int_eq(backend_open_http(&backend, &p, loop, on_done, NULL, &e), 0);
    const int64_t end = clock_mono_ms(NULL) + 300;
    while (clock_mono_ms(NULL) < end)
        ck_assert_int_eq(loop_poll(loop, 50, &e), 0);
    ck_assert(!backend.ready(backend.self));
    const char *const why = backend.waiting(backend.self);
    ck_assert_msg(strstr(why, "169.254.169.254: the service's address is link-local") != NULL, "%s", why);
    close_backend();
}
END_TEST

START_TEST(the_memory_bound_is_that_of_the_largest_batch)
{
    struct err e = {0};
    struct reward_params p = params(1);
    p.batch = 4;
    p.batch_max_bytes = 2500;
    log_sink(quiet, NULL);
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    ck_assert_int_eq(backend_open_http(&backend, &p, loop, on_done, NULL, &e), 0);
    const uint64_t none = backend.bytes_bound(backend.self, 0), byte = (backend.bytes_bound(backend.self, 1) - none) / 4;
    ck_assert_uint_gt(byte, 0);
    ck_assert_uint_eq(backend.bytes_bound(backend.self, 500), none + byte * 2000);
    ck_assert_uint_eq(backend.bytes_bound(backend.self, 1000), none + byte * 2500); /* two of them, and some */
    ck_assert_uint_eq(backend.bytes_bound(backend.self, 5000), none + byte * 5000); /* one alone */
    close_backend();
}
END_TEST

/* Until `millis` have passed. */
static void run_loop(int millis)
{
    struct err e = {0};
    for (const int64_t end = clock_mono_ms(NULL) + millis; clock_mono_ms(NULL) < end;)
        ck_assert_int_eq(loop_poll(loop, 20, &e), 0);
}

static void two_urls(struct reward_params *p, const struct bad_http *a, const struct bad_http *b)
{
    snprintf(p->url, sizeof p->url, "http://127.0.0.1:%u, http://127.0.0.1:%u", bad_http_port(a),
             bad_http_port(b));
}

START_TEST(endpoints_share_the_calls_and_a_dead_one_is_left_alone)
{
    struct bad_http *a = bad_http_start(BAD_GOOD), *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(0);
    p.retries = 4;
    two_urls(&p, a, b);
    open_backend(&p);
    run_loop(200); /* both have said what they take */
    ck_assert_uint_eq(backend.room(backend.self), 4);
    for (int i = 0; i < 10; i++)
        ask();
    ck_assert_msg(bad_http_posts(a) >= 3 && bad_http_posts(b) >= 3, "%u and %u", bad_http_posts(a),
                  bad_http_posts(b));
    /* one of them fails now: every batch has its scores, and it is asked less and less */
    bad_http_mode(a, BAD_500, 0);
    for (int i = 0; i < 40; i++) {
        ask();
        ck_assert_msg(last.failure == BACKEND_OK, "%d: %s", i, last.reason);
    }
    ck_assert_uint_le(bad_http_posts(a), ENDPOINT_FAULTS_MAX + 2);
    ck_assert_uint_ge(bad_http_posts(b), 40);
    /* and is taken back when it has recovered */
    bad_http_mode(a, BAD_GOOD, 0);
    run_loop(2 * ENDPOINT_PAUSE_MS + 200);
    for (int i = 0; i < 10; i++)
        ask();
    ck_assert_uint_ge(bad_http_posts(a), 3);
    close_backend();
    bad_http_stop(a);
    bad_http_stop(b);
}
END_TEST

START_TEST(with_every_endpoint_open_nothing_is_sent_and_batches_wait)
{
    struct bad_http *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(bad_http_port(b));
    p.retries = 100;
    p.deadline_ms = 10000;
    open_backend(&p);
    bad_http_mode(b, BAD_500, ENDPOINT_FAULTS_MAX);
    const int64_t began = clock_mono_ms(NULL);
    ask(); /* five faults, a pause of a second, one probe */
    ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
    ck_assert_uint_eq(bad_http_posts(b), ENDPOINT_FAULTS_MAX + 1);
    ck_assert_int_ge(clock_mono_ms(NULL) - began, ENDPOINT_PAUSE_MS);
    /* the deadline holds while the breaker is open, and what the service did is said */
    close_backend();
    p.deadline_ms = 700;
    open_backend(&p);
    bad_http_mode(b, BAD_500, 0);
    ask();
    ck_assert_msg(last.failure == BACKEND_SERVER && strstr(last.reason, "500: oops (gave up at the deadline)") != NULL,
                  "%s: %s", backend_failure_name(last.failure), last.reason);
    close_backend();
    bad_http_stop(b);
}
END_TEST

START_TEST(a_slow_call_is_sent_once_more_elsewhere)
{
    struct bad_http *a = bad_http_start(BAD_GOOD), *b = bad_http_start(BAD_GOOD);
    struct backend_counters c;
    for (int hedge = 0; hedge < 2; hedge++) {
        struct reward_params p = params(0);
        p.timeout_ms = 3000;
        p.hedge = hedge;
        two_urls(&p, a, b);
        bad_http_mode(a, BAD_GOOD, 0);
        bad_http_mode(b, BAD_GOOD, 0);
        open_backend(&p);
        run_loop(200);
        for (int i = 0; i < 60; i++)
            ask();
        /* both are quick; now one of them says nothing to a single call */
        bad_http_mode(a, BAD_SILENT, 1);
        int64_t slowest = 0;
        for (int i = 0; i < 4; i++) {
            const int64_t began = clock_mono_ms(NULL);
            ask();
            ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
            if (clock_mono_ms(NULL) - began > slowest)
                slowest = clock_mono_ms(NULL) - began;
        }
        backend.counters(backend.self, &c);
        if (hedge) {
            ck_assert_uint_ge(c.hedges, 1);
            ck_assert_msg(slowest < 2000, "%lld ms", (long long)slowest);
        } else {
            ck_assert_uint_eq(c.hedges, 0);
            ck_assert_msg(slowest >= 3000, "%lld ms", (long long)slowest);
        }
        close_backend();
    }
    bad_http_stop(a);
    bad_http_stop(b);
}
END_TEST

START_TEST(a_hedge_that_fails_leaves_the_answer_to_the_first_try)
{
    static const enum bad_mode modes[] = {BAD_404, BAD_GARBAGE, BAD_500};
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        struct bad_http *a = bad_http_start(BAD_GOOD), *b = bad_http_start(BAD_GOOD);
        struct reward_params p = params(0);
        struct backend_counters before, after;
        p.timeout_ms = 3000;
        p.retries = 0;
        p.hedge = true;
        two_urls(&p, a, b);
        open_backend(&p);
        run_loop(200);
        for (int i = 0; i < 60; i++)
            ask();
        bad_http_delay(a, 300);
        bad_http_mode(b, modes[m], 0);
        unsigned hedged = 0;
        for (int i = 0; i < 4; i++) {
            backend.counters(backend.self, &before);
            ask();
            backend.counters(backend.self, &after);
            if (after.hedges == before.hedges)
                continue; /* the broken one was the first */
            hedged++;
            ck_assert_msg(last.failure == BACKEND_OK, "mode %d: %s", (int)modes[m], last.reason);
        }
        ck_assert_uint_ge(hedged, 1);
        close_backend();
        bad_http_stop(a);
        bad_http_stop(b);
    }
}
END_TEST

START_TEST(endpoints_of_different_models_are_not_mixed)
{
    struct bad_http *a = bad_http_start(BAD_GOOD), *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(0);
    bad_http_other_tensors(b);
    two_urls(&p, a, b);
    open_backend(&p);
    run_loop(300);
    const unsigned before = bad_http_posts(a) + bad_http_posts(b);
    for (int i = 0; i < 6; i++) {
        ask();
        ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
    }
    ck_assert_uint_eq(before, 0);
    ck_assert_msg(bad_http_posts(a) == 0 || bad_http_posts(b) == 0, "%u and %u", bad_http_posts(a),
                  bad_http_posts(b));
    close_backend();
    bad_http_stop(a);
    bad_http_stop(b);
}
END_TEST

/* Answers of which a fifth are bad, each in another way: what is taken for a score was said, and
 * the rest is a failure.  ANSWERS=1000000 in the environment asks for more of them. */
START_TEST(of_many_answers_none_is_made_up)
{
    struct bad_http *b = bad_http_start(BAD_GOOD);
    struct reward_params p = params(bad_http_port(b));
    const char *more = getenv("ANSWERS");
    const size_t want = more != NULL ? strtoul(more, NULL, 10) : 20000;
    size_t good = 0, failed = 0;
    p.retries = 0;
    open_backend(&p);
    bad_http_mode(b, BAD_GOOD, 0); /* counts from 0 */
    bad_http_mix(b, 20);
    for (size_t answers = 0; answers < want; answers += N) {
        memset(kept, 0, sizeof kept);
        ask();
        if (last.failure != BACKEND_OK) {
            ck_assert_msg(last.reason[0] != 0, "%s without a reason", backend_failure_name(last.failure));
            failed += N;
            continue;
        }
        good += N;
        for (size_t i = 0; i < N; i++)
            ck_assert_msg(kept[i].value == 0.5 && kept[i].component_count == 1 &&
                              kept[i].components[0].value == 1.0,
                          "made up: %g", kept[i].value);
    }
    /* A connection that ends before the first byte is dialled again by libcurl: one POST more.  On a busy machine a good
     * answer may be late as well. */
    const size_t bad = bad_http_bad(b), again = bad_http_posts(b) - (good + failed) / N;
    ck_assert_msg(failed / N + again >= bad, "%zu bad calls: %zu failed, %zu made again", bad, failed / N, again);
    printf("%zu answers, %zu of %u calls bad: %zu failures, 0 made up\n", good + failed, bad,
           bad_http_posts(b), failed);
    close_backend();
    bad_http_stop(b);
}
END_TEST

SUITE("scorer/backend_http", 900, every_misbehaviour_has_its_class_and_none_is_a_score,
      a_good_answer_gives_scores_and_components,
      what_heals_is_tried_again_and_retry_after_is_honoured,
      a_question_has_one_key_and_another_rewards_has_another, overload_lowers_the_number_of_calls_at_once,
      endpoints_share_the_calls_and_a_dead_one_is_left_alone,
      with_every_endpoint_open_nothing_is_sent_and_batches_wait,
      of_many_answers_none_is_made_up, a_slow_call_is_sent_once_more_elsewhere,
      a_hedge_that_fails_leaves_the_answer_to_the_first_try, endpoints_of_different_models_are_not_mixed,
      addresses_and_urls_that_no_service_has_are_refused, the_memory_bound_is_that_of_the_largest_batch)
