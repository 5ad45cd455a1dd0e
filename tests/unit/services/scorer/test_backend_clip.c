/* Rewards of a CLIP model as a backend: computed beside the loop, the same numbers as the model alone gives. */
#include "base/clock.h"
#include "scorer/backend.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FOLDER "tests/golden/tiny-clip"
#define N 5

static struct backend_result last;
static double value[N];
static int completions, ticks;

static void on_done(void *arg, const struct backend_result *r)
{
    (void)arg;
    completions++;
    last = *r;
    for (size_t i = 0; r->failure == BACKEND_OK && i < r->count; i++)
        value[i] = r->scores[i].value;
}

static int on_tick(void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    ticks++;
    return 0;
}

static struct reward_params params(const char *backend)
{
    struct reward_params p = {
        .score_min = -1e30, .score_max = 1e30, .clip = FOLDER, .head = FOLDER "/head.safetensors", .clip_threads = 1};
    snprintf(p.backend, sizeof p.backend, "%s", backend);
    return p;
}

static uint8_t pixels[N][24 * 16 * 3];

static const char *prompt_of(size_t i)
{
    return i % 2 == 0 ? "a circle" : "two stars";
}

/* What was submitted is the caller's again at once. */
static void ask(struct backend *b, struct loop *loop)
{
    static uint8_t rgb[N][sizeof pixels[0]];
    char prompts[N][16];
    struct backend_item items[N];
    struct err e = {0};
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < sizeof pixels[i]; k++)
            pixels[i][k] = (uint8_t)(i * 40 + k % (7 + i) * 5);
        memcpy(rgb[i], pixels[i], sizeof rgb[i]);
        snprintf(prompts[i], sizeof prompts[i], "%s", prompt_of(i));
        items[i] =
            (struct backend_item){.rgb = rgb[i], .height = 24, .width = 16, .prompt = prompts[i], .metadata = ""};
    }
    completions = 0;
    ck_assert_uint_eq(b->room(b->self), 1);
    ck_assert_int_eq(b->submit(b->self, 3, items, N, &e), 0);
    memset(rgb, 0xff, sizeof rgb);
    memset(prompts, 0, sizeof prompts);
    memset(items, 0, sizeof items);
    ck_assert_int_eq(completions, 0); /* later, from the loop */
    for (const int64_t end = clock_mono_ms(NULL) + 20000; completions == 0;) {
        ck_assert_int_eq(loop_poll(loop, 50, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
    ck_assert_int_eq(completions, 1);
    ck_assert_uint_eq(last.batch, 3);
}

START_TEST(scores_are_those_of_the_model_for_what_was_submitted)
{
    static const char *const names[] = {"builtin:aesthetic", "builtin:clipscore", "builtin:pickscore", "builtin:hpsv2"};
    struct loop *loop;
    struct err e = {0};
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    const struct backend_context context = {.loop = loop};
    for (int kind = 0; kind < CLIP_REWARD_KINDS; kind++) {
        const struct reward_params p = params(names[kind]);
        struct backend b;
        ck_assert_msg(backend_open(&b, &p, &context, on_done, NULL, &e) == 0, "%s", e.text);
        for (int round = 0; round < 2; round++) {
            ask(&b, loop);
            ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
            ck_assert_uint_eq(last.count, N);
            struct clip_reward *r;
            ck_assert_int_eq(clip_reward_open(&r, (enum clip_reward_kind)kind, FOLDER, p.head, 1, &e), 0);
            for (size_t i = 0; i < N; i++) {
                const struct image picture = {.width = 16, .height = 24, .rgb = pixels[i]};
                const char *const prompt = prompt_of(i);
                double want;
                ck_assert_int_eq(clip_reward_of(r, &picture, &prompt, 1, &want, &e), 0);
                ck_assert_msg(fabs(value[i] - want) < 1e-4, "%s %zu: %g, wanted %g", names[kind], i, value[i], want);
            }
            clip_reward_close(r);
        }
        struct backend_counters c;
        b.counters(b.self, &c);
        ck_assert_uint_eq(c.calls, 2);
        ck_assert_uint_gt(b.bytes_bound(b.self, 0), 100000);
        ck_assert_uint_eq(b.bytes_bound(b.self, 1000), b.bytes_bound(b.self, 0) + 32000);
        b.close(b.self);
    }
    loop_close(loop);
}
END_TEST

START_TEST(what_is_out_of_bounds_is_no_score)
{
    struct loop *loop;
    struct err e = {0};
    struct backend b;
    struct reward_params p = params("builtin:aesthetic");
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    const struct backend_context context = {.loop = loop};
    p.score_min = 1e6;
    ck_assert_msg(backend_open(&b, &p, &context, on_done, NULL, &e) == 0, "%s", e.text);
    ask(&b, loop);
    ck_assert_int_eq(last.failure, BACKEND_ANSWER);
    ck_assert_ptr_nonnull(strstr(last.reason, "outside"));
    b.close(b.self);
    /* what is missing is said */
    p.clip[0] = 0;
    ck_assert_int_eq(backend_open(&b, &p, &context, on_done, NULL, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "reward.clip"));
    p = params("builtin:aesthetic");
    p.head[0] = 0;
    ck_assert_int_eq(backend_open(&b, &p, &context, on_done, NULL, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "head"));
    loop_close(loop);
}
END_TEST

START_TEST(closing_waits_for_the_batch_under_way)
{
    struct loop *loop;
    struct err e = {0};
    struct backend b;
    const struct reward_params p = params("builtin:clipscore");
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    ck_assert_int_eq(loop_add_timer(loop, 1, on_tick, NULL, NULL, &e), 0);
    const struct backend_context context = {.loop = loop};
    ck_assert_msg(backend_open(&b, &p, &context, on_done, NULL, &e) == 0, "%s", e.text);
    struct backend_item item = {.rgb = pixels[0], .height = 24, .width = 16, .prompt = "p", .metadata = ""};
    ck_assert_int_eq(b.submit(b.self, 1, &item, 1, &e), 0);
    ck_assert_uint_eq(b.room(b.self), 0);
    b.close(b.self);
    loop_close(loop);
}
END_TEST

SUITE("scorer/backend_clip", 60, scores_are_those_of_the_model_for_what_was_submitted,
      what_is_out_of_bounds_is_no_score, closing_waits_for_the_batch_under_way)
