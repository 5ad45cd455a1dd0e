#include "trainer/params.h"
#include "trainer/trainer.h"

#include "support/suite.h"

#include <stdint.h>
#include <string.h>

/* 0 and the options, or -1 and why: two settings at the most, as KEY=VALUE. */
static int apply(struct trainer_options *o, const char *first, const char *second, struct err *e)
{
    static struct trainer_params p;
    static struct config *c; /* the options point into it */
    static const struct config_app app = {.name = "test"};
    const struct config_binding binding = {&trainer_table, &p};
    char *const argv[] = {(char *)(uintptr_t) "test", (char *)(uintptr_t) "--set",  (char *)(uintptr_t)first,
                          (char *)(uintptr_t) "--set", (char *)(uintptr_t)second, NULL};
    char *const environment[] = {NULL};
    config_free(c);
    c = config_new(&app, &binding, 1);
    if (config_load(c, second != NULL ? 5 : 3, argv, environment, e) < 0)
        ck_abort_msg("%s", e->text);
    memset(o, 0, sizeof *o);
    return trainer_params_apply(o, &p, e);
}

START_TEST(levels_of_the_flow_network_are_multiples_of_eight)
{
    static const char *const bad[] = {"trainer.flow_channels=16,20", "trainer.flow_channels=wide", "trainer.flow_channels="};
    struct trainer_options o;
    struct err e;
    ck_assert_int_eq(apply(&o, "trainer.flow_channels=8,24", NULL, &e), 0);
    ck_assert_uint_eq(o.learner.flow_levels, 2);
    ck_assert_uint_eq(o.learner.flow_channels[1], 24);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(apply(&o, bad[i], NULL, &e) < 0, "%s", bad[i]);
        ck_assert_msg(strncmp(e.text, "trainer.flow_channels", 21) == 0, "%s", e.text);
    }
}
END_TEST

START_TEST(actions_drawn_anew_want_no_forward_looking_reward)
{
    struct trainer_options o;
    struct err e;
    ck_assert_int_eq(apply(&o, "trainer.objective=dag_kl", "trainer.ratio=clipped", &e), 0);
    ck_assert_int_eq(apply(&o, "trainer.objective=dag_db", "trainer.ratio=resampled", &e), 0); /* which does not read it */
    ck_assert_int_lt(apply(&o, "trainer.objective=dag_kl", "trainer.ratio=resampled", &e), 0);
    ck_assert_msg(strstr(e.text, "trainer.psi: none") != NULL, "%s", e.text);
}
END_TEST

SUITE("trainer/params", 10, levels_of_the_flow_network_are_multiples_of_eight,
      actions_drawn_anew_want_no_forward_looking_reward)
