#include "nn/param.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct param_init zero = {PARAM_INIT_ZERO, 0.0};

static int add(struct params *p, const char *name, int64_t rows, int64_t columns, bool tight)
{
    return params_add(p, name, 2, (const int64_t[]){rows, columns}, tight, zero);
}

static void seal(struct params *p)
{
    struct err e;
    ck_assert_msg(params_seal(p, &e) == 0, "%s", e.text);
}

START_TEST(tight_parameters_form_one_matrix_in_values_and_gradients)
{
    struct params *const p = params_new();
    const int first = add(p, "a", 3, 5, false), q = add(p, "q", 3, 5, false);
    const int k = add(p, "k", 3, 5, true), v = add(p, "v", 3, 5, true);
    seal(p);
    ck_assert_ptr_eq(params_at(p, k)->value, params_at(p, q)->value + 15);
    ck_assert_ptr_eq(params_at(p, v)->value, params_at(p, k)->value + 15);
    ck_assert_uint_eq(params_at(p, v)->grad, params_at(p, q)->grad + 30);
    ck_assert_uint_eq((uintptr_t)params_at(p, first)->value % 64, 0);
    ck_assert_uint_eq((uintptr_t)params_at(p, q)->value % 64, 0);
    params_free(p);
}
END_TEST

START_TEST(a_second_seal_leaves_the_first_parameters_where_they_are)
{
    struct params *const p = params_new();
    const int a = add(p, "a", 4, 4, false);
    seal(p);
    const real *const before = params_at(p, a)->value;
    params_at(p, a)->value[3] = 7;
    ck_assert_int_eq(add(p, "a", 4, 4, false), a);
    for (int i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof name, "b.%d", i);
        add(p, name, 2, 3, false);
    }
    seal(p);
    ck_assert_ptr_eq(params_at(p, a)->value, before);
    ck_assert(params_at(p, a)->value[3] == 7);
    ck_assert_int_eq(params_find(p, "b.999"), 1000);
    ck_assert_int_eq(params_find(p, "b.1000"), PARAM_NONE);
    params_free(p);
}
END_TEST

START_TEST(runs_cover_the_trainable_parameters_once_and_nothing_else)
{
    struct params *const p = params_new();
    const char *const names[] = {"x.w", "x.b", "y.w", "y.b", "z.w"};
    for (size_t i = 0; i < 5; i++)
        add(p, names[i], 3, 7, i == 1);
    seal(p);
    add(p, "late.w", 5, 5, false);
    seal(p);
    for (int all = 0; all < 2; all++) {
        params_set_trainable(p, "", "", all == 1);
        params_set_trainable(p, "y.", "", true);
        params_set_trainable(p, "late", "", true);
        size_t at = 0, runs = 0;
        struct param_run r;
        bool seen[6] = {false};
        while (params_next_run(p, &at, &r)) {
            runs++;
            for (int id = 0; id < 6; id++) {
                const struct param *const a = params_at(p, id);
                if (a->value < r.value || a->value >= r.value + r.count)
                    continue;
                ck_assert(a->trainable && !seen[id]);
                ck_assert_uint_eq((size_t)(a->value - r.value), a->grad - r.grad);
                seen[id] = true;
            }
            ck_assert_uint_le(r.grad + r.count, params_grad_count(p));
        }
        ck_assert_uint_eq(runs, 2); /* two slabs */
        for (int id = 0; id < 6; id++)
            ck_assert(seen[id] == params_at(p, id)->trainable);
    }
    params_free(p);
}
END_TEST

START_TEST(fresh_values_depend_on_seed_and_name_alone)
{
    const struct param_init uniform = {PARAM_INIT_UNIFORM, 0.25}, normal = {PARAM_INIT_NORMAL, 2.0};
    const int64_t n = 10000;
    struct params *const p = params_new(), *const q = params_new();
    const int u = params_add(p, "u", 1, &n, false, uniform),
              g = params_add(p, "g", 1, &n, false, normal);
    const int g2 = params_add(q, "g", 1, &n, false, normal),
              u2 = params_add(q, "u", 1, &n, false, uniform);
    double sum = 0.0, square = 0.0, largest = 0.0;
    seal(p);
    seal(q);
    params_init(p, 0, 11);
    params_init(q, 0, 11);
    ck_assert(memcmp(params_at(p, u)->value, params_at(q, u2)->value, (size_t)n * sizeof(real)) ==
              0);
    ck_assert(memcmp(params_at(p, g)->value, params_at(q, g2)->value, (size_t)n * sizeof(real)) ==
              0);
    for (int64_t i = 0; i < n; i++) {
        const double x = (double)params_at(p, g)->value[i];
        sum += x;
        square += x * x;
        largest = fmax(largest, fabs((double)params_at(p, u)->value[i]));
    }
    ck_assert_msg(fabs(sum / (double)n) < 0.1 && fabs(sqrt(square / (double)n) - 2.0) < 0.1,
                  "%g %g", sum, square);
    ck_assert(largest <= 0.25 && largest > 0.249);
    params_init(q, 0, 12);
    ck_assert(memcmp(params_at(p, u)->value, params_at(q, u2)->value, 64) != 0);
    params_free(p);
    params_free(q);
}
END_TEST

static int fills, drops;

static void count_fill(void *form, const real *value, const void *state)
{
    *(real *)form = 2 * value[0] + *(const real *)state;
    fills++;
}

static void count_drop(void *state)
{
    (void)state;
    drops++;
}

START_TEST(prepared_forms_follow_the_values_they_were_made_from)
{
    static real offset = 100;
    struct params *const p = params_new();
    struct err e;
    const int a = add(p, "a", 1, 1, false), b = add(p, "b", 1, 1, false);
    seal(p);
    const struct param_form form = {sizeof(real), count_fill, count_drop, &offset};
    const int slot = params_add_form(p, a, "key", 3, form);
    ck_assert_int_eq(params_find_form(p, a, "key", 3), slot);
    ck_assert_int_eq(params_find_form(p, b, "key", 3), PARAM_NONE);
    ck_assert_int_eq(params_find_form(p, a, "kez", 3), PARAM_NONE);
    params_at(p, a)->value[0] = 3;
    ck_assert(params_refresh(p, NULL, &e) == 0 && params_refresh(p, NULL, &e) == 0);
    ck_assert_int_eq(fills, 1);
    ck_assert(*(const real *)params_prepared(p, slot) == 106);
    params_at(p, a)->value[0] = 4;
    params_touch_trainable(p);
    ck_assert(params_refresh(p, NULL, &e) == 0);
    ck_assert(*(const real *)params_prepared(p, slot) == 108);
    params_set_trainable(p, "a", "", false); /* frozen: an update leaves its form alone */
    params_touch_trainable(p);
    ck_assert(params_refresh(p, NULL, &e) == 0);
    ck_assert_int_eq(fills, 2);
    params_free(p);
    ck_assert_int_eq(drops, 1);
}
END_TEST

static void copy_fill(void *form, const real *value, const void *state)
{
    (void)state;
    memcpy(form, value, sizeof *value);
}

static void no_drop(void *state)
{
    (void)state;
}

START_TEST(every_stale_form_is_filled_once_by_any_number_of_threads)
{
    for (size_t threads = 1; threads <= 4; threads++) {
        struct params *const p = params_new();
        struct pool *pool;
        struct err e;
        int id[9], slot[9];
        ck_assert_msg(pool_new(&pool, threads, &e) == 0, "%s", e.text);
        for (int i = 0; i < 9; i++) {
            char name[16];
            snprintf(name, sizeof name, "w%d", i);
            id[i] = add(p, name, 1, 1, false);
        }
        seal(p);
        for (int i = 0; i < 9; i++)
            slot[i] = params_add_form(p, id[i], "copy", 4,
                                      (struct param_form){sizeof(real) * (size_t)(1 + i % 4), copy_fill, no_drop, NULL});
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 9; i++)
                params_at(p, id[i])->value[0] = (real)(10 * round + i);
            params_touch_all(p);
            ck_assert_msg(params_refresh(p, pool, &e) == 0, "%s", e.text);
            for (int i = 0; i < 9; i++)
                ck_assert(*(const real *)params_prepared(p, slot[i]) == (real)(10 * round + i));
        }
        pool_free(pool);
        params_free(p);
    }
}
END_TEST

SUITE("nn/param", 20, tight_parameters_form_one_matrix_in_values_and_gradients,
      a_second_seal_leaves_the_first_parameters_where_they_are,
      runs_cover_the_trainable_parameters_once_and_nothing_else,
      fresh_values_depend_on_seed_and_name_alone,
      prepared_forms_follow_the_values_they_were_made_from,
      every_stale_form_is_filled_once_by_any_number_of_threads)
