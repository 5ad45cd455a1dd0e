/* Several rewards as one, over the built-in ones. */
#include "base/config.h"
#include "scorer/backend.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define N 3

static struct reward_params items[CONFIG_COPIES_MAX], alone;
static struct config_copies rewards;
static struct backend backend;
static struct backend_result last;
static struct backend_score kept[N];
static int completions;
static uint8_t rgb[N][16 * 16 * 3];

static void on_done(void *arg, const struct backend_result *r)
{
    (void)arg;
    last = *r;
    completions++;
    if (r->failure == BACKEND_OK)
        memcpy(kept, r->scores, r->count * sizeof *kept);
}

static void load(const char *const *settings)
{
    static const struct config_app app = {.name = "test"};
    rewards.items = items;
    const struct config_binding bindings[] = {{&rewards_table, &rewards}, {&reward_table, &alone}};
    char *const none[] = {(char *)(uintptr_t) "test", NULL};
    struct err e = {0};
    static struct config *c;
    config_free(c); /* names and values live in the structs */
    c = config_new(&app, bindings, 2);
    ck_assert_int_eq(config_load(c, 1, none, NULL, &e), 0);
    for (; *settings != NULL; settings++) {
        char key[80];
        const size_t n = strcspn(*settings, "=");
        snprintf(key, sizeof key, "%.*s", (int)n, *settings);
        ck_assert_msg(config_put(c, key, *settings + n + 1, "test", &e) == 0, "%s", e.text);
    }
}

/* Scores the three pictures under these tags; false and the reason where that fails. */
static int ask(enum backend_combination how, const char *const *settings, const char *const *tags,
               struct err *e)
{
    struct backend_item batch[N];
    load(settings);
    if (backend_open_combined(&backend, &rewards, how, &(struct backend_context){0}, on_done, NULL, e) < 0)
        return -1;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < sizeof rgb[i]; k++) /* grey, half red, noise */
            rgb[i][k] = (uint8_t)(i == 0   ? 128
                                  : i == 1 ? (k % 3 == 0 && k % 96 < 48 ? 255 : 0)
                                           : k * 37 * (k + 11));
        batch[i] = (struct backend_item){.rgb = rgb[i],
                                         .height = 16,
                                         .width = 16,
                                         .prompt = "p",
                                         .metadata = "",
                                         .tag = tags != NULL ? tags[i] : ""};
    }
    completions = 0;
    ck_assert(backend.ready(backend.self));
    ck_assert_uint_gt(backend.room(backend.self), 0);
    const int rc = backend.submit(backend.self, 9, batch, N, e);
    ck_assert_int_eq(completions, rc == 0 ? 1 : 0);
    backend.close(backend.self);
    return rc;
}
#define SET(...) ((const char *const[]){__VA_ARGS__, NULL})
#define A "rewards.a.backend=builtin:colourfulness"
#define B "rewards.b.backend=builtin:jpeg_compressibility"

/* What each of the two says alone. */
static void alone_scores(double a[N], double b[N])
{
    struct err e = {0};
    ck_assert_msg(ask(COMBINE_SUM, SET(A, B, "rewards.b.weight=0"), NULL, &e) == 0, "%s", e.text);
    for (int i = 0; i < N; i++) {
        ck_assert_uint_eq(kept[i].component_count, 2);
        ck_assert_str_eq(kept[i].components[1].name, "b");
        a[i] = kept[i].value;
        b[i] = kept[i].components[1].value;
        ck_assert_double_eq(kept[i].components[0].value, a[i]);
    }
    ck_assert_double_gt(a[1], a[0]);
    ck_assert_double_lt(b[2], b[0]);
}

START_TEST(rewards_are_added_multiplied_or_the_least_is_taken)
{
    struct err e = {0};
    double a[N], b[N];
    alone_scores(a, b);
    ck_assert_int_eq(
        ask(COMBINE_SUM,
            SET(A, B, "rewards.a.weight=2", "rewards.b.scale=10", "rewards.b.offset=1"), NULL, &e),
        0);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(kept[i].value, 2 * a[i] + 10 * b[i] + 1, 1e-12);
    ck_assert_int_eq(ask(COMBINE_PRODUCT, SET(A, B), NULL, &e), 0);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(kept[i].value, a[i] * b[i], 1e-12);
    ck_assert_int_eq(ask(COMBINE_MIN, SET(A, B, "rewards.b.offset=2"), NULL, &e), 0);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(kept[i].value, fmin(a[i], b[i] + 2), 1e-12);
}
END_TEST

START_TEST(values_are_taken_against_their_own_last_ones)
{
    struct err e = {0};
    double a[N], b[N];
    alone_scores(a, b);
    const double mean = (a[0] + a[1] + a[2]) / 3.0;
    const double deviation = sqrt(((a[0] - mean) * (a[0] - mean) + (a[1] - mean) * (a[1] - mean) +
                                   (a[2] - mean) * (a[2] - mean)) / 3.0);
    ck_assert_msg(ask(COMBINE_SUM, SET(A, B, "rewards.a.normalise=zscore", "rewards.a.weight=3"), NULL, &e) == 0,
                  "%s", e.text);
    for (int i = 0; i < N; i++) {
        ck_assert_double_eq_tol(kept[i].value, 3.0 * (a[i] - mean) / deviation + b[i], 1e-9);
        ck_assert_double_eq(kept[i].components[0].value, a[i]); /* what was said is kept */
    }
    ck_assert_int_eq(ask(COMBINE_SUM, SET(A, "rewards.a.normalise=percentile"), NULL, &e), 0);
    for (int i = 0; i < N; i++) {
        double below = 0.5;
        for (int k = 0; k < N; k++)
            below += k != i && a[k] < a[i] ? 1.0 : 0.0;
        ck_assert_double_eq_tol(kept[i].value, below / N, 1e-12);
    }
}
END_TEST

START_TEST(a_gate_bounds_the_whole)
{
    struct err e = {0};
    double a[N], b[N];
    char gate[64];
    alone_scores(a, b);
    snprintf(gate, sizeof gate, "rewards.a.gate=%.17g", 0.5 * (a[0] + a[1]));
    ck_assert_int_eq(
        ask(COMBINE_SUM, SET(A, B, "rewards.b.offset=100", gate, "rewards.a.gated=-7"), NULL, &e),
        0);
    ck_assert_double_eq(kept[0].value, -7);
    ck_assert_double_eq_tol(kept[1].value, a[1] + b[1] + 100, 1e-12);
}
END_TEST

START_TEST(tags_choose_the_rewards_of_a_prompt)
{
    static const char *const tags[N] = {"count", "colour", "both"};
    struct err e = {0};
    double a[N], b[N];
    alone_scores(a, b);
    ck_assert_msg(ask(COMBINE_SUM,
                      SET(A, B, "rewards.a.tags=colour, both", "rewards.b.tags=count,both"), tags,
                      &e) == 0,
                  "%s", e.text);
    ck_assert_double_eq_tol(kept[0].value, b[0], 1e-12);
    ck_assert_double_eq_tol(kept[1].value, a[1], 1e-12);
    ck_assert_double_eq_tol(kept[2].value, a[2] + b[2], 1e-12);
    ck_assert_uint_eq(kept[0].component_count, 1);
    ck_assert_int_eq(ask(COMBINE_SUM, SET(A, "rewards.a.tags=colour"), tags, &e), -1);
    ck_assert_int_eq(e.code, ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.text, "no reward is meant for prompts of the tag 'count'"));
}
END_TEST

START_TEST(one_that_fails_fails_the_batch_and_says_which)
{
    struct err e = {0};
    ck_assert_int_eq(ask(COMBINE_SUM, SET(A, B, "rewards.b.score_max=-1000"), NULL, &e), 0);
    ck_assert_int_eq(last.failure, BACKEND_ANSWER);
    ck_assert_int_eq(strncmp(last.reason, "b: score ", 9), 0);
    ck_assert_int_eq(ask(COMBINE_PRODUCT, SET(A, B, "rewards.a.weight=2"), NULL, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "rewards.a: weight 2 means nothing in a product"));
    ck_assert_int_eq(ask(COMBINE_SUM, SET(A, "rewards.x.backend=builtin:other"), NULL, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "rewards.x: "));
}
END_TEST

SUITE("scorer/combined", 30, rewards_are_added_multiplied_or_the_least_is_taken,
      values_are_taken_against_their_own_last_ones, a_gate_bounds_the_whole, tags_choose_the_rewards_of_a_prompt,
      one_that_fails_fails_the_batch_and_says_which)
