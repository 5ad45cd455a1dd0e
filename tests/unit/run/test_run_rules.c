#include "run/run_rules.h"

#include "support/suite.h"

#include <string.h>

static const struct run_spec good = {.eta = 1, .transition_fraction = 1, .group_size = 4};

START_TEST(an_objective_is_refused_the_run_that_lacks_what_it_reads)
{
    static const struct {
        const char *objectives, *want;
        struct run_spec run;
    } bad[] = {
        {"vargrad relative_vargrad group_softmax", "run.group_size", {.eta = 1, .transition_fraction = 1, .group_size = 1}},
        {"dag_subtb tb vargrad rtb relative_vargrad group_softmax", "run.transition_fraction",
         {.eta = 1, .transition_fraction = 0.5, .group_size = 4}},
        {"dag_db dag_subtb dag_kl tb vargrad", "run.eta", {.eta = 0.5, .transition_fraction = 1, .group_size = 4}},
    };
    struct err e;
    int kinds = 0;
    for (const char *name = OBJECTIVE_NAMES; *name != 0; kinds++) {
        char text[64] = " ";
        enum objective_kind kind;
        strncat(text, name, strcspn(name, "|"));
        ck_assert_msg(objective_named(&kind, text + 1) && (int)kind == kinds, "%s", text);
        ck_assert_msg(run_rules_objective(&good, kind, &e) == 0, "%s: %s", text, e.text);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            char all[128] = " ", one[64];
            strncat(all, bad[i].objectives, 100);
            strncat(all, " ", 2);
            memcpy(one, text, sizeof one);
            strncat(one, " ", 2);
            const bool refused = run_rules_objective(&bad[i].run, kind, &e) < 0;
            ck_assert_msg(refused == (strstr(all, one) != NULL), "%s, case %zu", text, i);
            ck_assert_msg(!refused || strstr(e.text, bad[i].want) != NULL, "%s: %s", text, e.text);
        }
        name += strcspn(name, "|");
        name += *name == '|';
    }
    ck_assert_int_eq(kinds, OBJECTIVE_KINDS);
    enum objective_kind none;
    ck_assert(!objective_named(&none, "dag") && !objective_named(&none, "") && !objective_named(&none, "dag_db|dag_subtb"));
}
END_TEST

START_TEST(in_lockstep_an_update_is_an_iteration)
{
    struct run_spec run = good;
    struct err e;
    run.lockstep_batch = 64;
    ck_assert_int_eq(run_rules_batch(&run, 32, &e), 0);
    run.lockstep = true;
    ck_assert_int_eq(run_rules_batch(&run, 64, &e), 0);
    ck_assert_int_eq(run_rules_batch(&run, 32, &e), -1);
    ck_assert_msg(strstr(e.text, "run.lockstep_batch is 64 and trainer.batch is 32") != NULL, "%s", e.text);
}
END_TEST

SUITE("run/rules", 10, an_objective_is_refused_the_run_that_lacks_what_it_reads, in_lockstep_an_update_is_an_iteration)
