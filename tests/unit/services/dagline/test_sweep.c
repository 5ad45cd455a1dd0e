/* Sweeps without their runs: the plan from a command line, what a run left behind as numbers and curves, table and figure. */
#include "base/file.h"
#include "base/mem.h"
#include "dagline/sweep_plan.h"
#include "dagline/sweep_report.h"
#include "dagline/sweep_result.h"
#include "support/folder.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void put_file(const char *dir, const char *name, const char *text)
{
    char path[FILE_PATH_BYTES_MAX];
    struct err e;
    ck_assert_int_eq(file_make_folders(dir, &e), 0);
    ck_assert_int_eq(file_join(path, dir, name, &e), 0);
    ck_assert_int_eq(file_replace(path, text, strlen(text), 0644, &e), 0);
}

START_TEST(every_value_meets_every_other_and_seeds_make_no_groups)
{
    static const char *const arguments[] = {"run.seed=7,8", "trainer.lr=1e-4,2e-4", "a/kl.yaml", "trainer.beta=1,2,3",
                                            "db.yaml", "trainer.eps=1"};
    struct sweep_plan p;
    struct err e;
    ck_assert_msg(sweep_plan_read(&p, arguments, 6, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(p.groups, 12);
    ck_assert_uint_eq(p.runs, 24);
    ck_assert_str_eq(p.label[0], "kl lr=1e-4 beta=1");
    ck_assert_str_eq(p.label[1], "kl lr=1e-4 beta=2");
    ck_assert_str_eq(p.label[5], "kl lr=2e-4 beta=3");
    ck_assert_str_eq(p.label[11], "db lr=2e-4 beta=3");
    for (size_t i = 0; i < p.runs; i++) {
        const struct sweep_run *r = &p.run[i];
        ck_assert_uint_eq(r->group, i % 12); /* a first seed of everything before a second of anything */
        ck_assert_str_eq(r->variant, i % 12 < 6 ? "a/kl.yaml" : "db.yaml");
        ck_assert_uint_eq(r->settings, 4);
        ck_assert_str_eq(r->key[2], "trainer.eps");
        ck_assert_str_eq(r->value[2], "1");
        ck_assert_str_eq(r->key[3], "run.seed");
        ck_assert_str_eq(r->value[3], i < 12 ? "7" : "8");
        for (size_t k = 0; k < i; k++) {
            bool same = r->variant == p.run[k].variant;
            for (size_t s = 0; s < 4; s++)
                same &= strcmp(r->value[s], p.run[k].value[s]) == 0;
            ck_assert(!same);
        }
    }
    sweep_plan_done(&p);

    static const char *const alike[] = {"trainer.rate=1,2", "sampler.rate=3,4"};
    ck_assert_int_eq(sweep_plan_read(&p, alike, 2, &e), 0);
    ck_assert_str_eq(p.label[0], "trainer.rate=1 sampler.rate=3");
    sweep_plan_done(&p);

    ck_assert_int_eq(sweep_plan_read(&p, arguments, 0, &e), 0); /* one run, as given */
    ck_assert_uint_eq(p.runs, 1);
    ck_assert_str_eq(p.label[0], "as given");
    sweep_plan_done(&p);
}
END_TEST

START_TEST(a_plan_that_makes_no_sense_is_refused_with_its_reason)
{
    static const struct {
        const char *arguments[2], *says;
    } bad[] = {
        {{"trainer.lr=1e-4,", "a.yaml"}, "trainer.lr has an empty value"},
        {{"trainer.lr=", "a.yaml"}, "empty value"},
        {{"lr=1", "a.yaml"}, "section.name=V1,V2"},
        {{"trainer.lr=1", "trainer.lr=2"}, "trainer.lr is given twice"},
        {{"run.seed=1", "run.seed=2"}, "run.seed is given twice"},
        {{"a.json", "trainer.lr=1"}, "\"a.json\" is neither"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sweep_plan p;
        struct err e;
        ck_assert_int_eq(sweep_plan_read(&p, bad[i].arguments, 2, &e), -1);
        ck_assert_int_eq(e.code, ERR_USAGE);
        ck_assert_msg(strstr(e.text, bad[i].says) != NULL, "%s", e.text);
    }
    char wide[4 * SWEEP_VALUES_MAX + 16] = "trainer.lr=1";
    for (int i = 1; i < SWEEP_VALUES_MAX; i++)
        memcpy(wide + 12 + 2 * (i - 1), ",1", 3);
    char copies[3][sizeof wide];
    const char *axes[3];
    for (int i = 0; i < 3; i++) {
        memcpy(copies[i], wide, sizeof wide);
        copies[i][8] = (char)('a' + i); /* 64^3 runs */
        axes[i] = copies[i];
    }
    struct sweep_plan p;
    struct err e;
    ck_assert_int_eq(sweep_plan_read(&p, axes, 2, &e), 0);
    sweep_plan_done(&p);
    ck_assert_int_eq(sweep_plan_read(&p, axes, 3, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "more than 4096 runs"));
}
END_TEST

#define METRICS_BYTES ((size_t)1 << 17)
#define QUALITY(single, hard, soft, bits) "{\"single\":" single ",\"hard\":" hard ",\"soft\":" soft ",\"diversity_bits\":" bits "}"

/* A run of `updates` whose reward rises from 0.5 by 0.01 an update, and whose trainer was killed after 30: lines 26..30
 * are there twice, and half a line between. */
static void leave_behind(const char *dir, int updates, const char *soft)
{
    char report[1024], *metrics = mem_new(METRICS_BYTES, 1);
    size_t n = 0;
    snprintf(report, sizeof report,
             "{\"run\":\"x\",\"updates\":%d,\"updates_wanted\":40,\"trajectories\":%d,\"seconds\":9.5,"
             "\"reward_first\":0.5,\"reward_last\":0.9,\"before\":" QUALITY("0.5", "0.25", "0.5", "10.0") ",\"after\":" QUALITY("0.75", "0.125", "%s", "8.0") "}",
             updates, 64 * updates, soft);
    put_file(dir, "report.json", report);
    for (int life = 0; life < 2; life++) {
        for (int i = life == 0 ? 1 : 26; i <= (life == 0 ? 30 : updates); i++)
            n += (size_t)snprintf(metrics + n, METRICS_BYTES - n,
                                  "{\"step\":%d,\"reward_mean\":%.3f,\"trajectories\":%d,\"path_kl\":%s,\"spread\":%.2f,"
                                  "\"wait_seconds\":0.5,\"train_seconds\":1.0,\"publish_seconds\":0.25,\"staleness\":2}\n",
                                  i, life == 0 && i > 25 ? 9.0 : 0.5 + 0.01 * i, 64 * i, i % 2 ? "null" : "3.5", 2.0 - 0.01 * i);
        if (life == 0)
            n += (size_t)snprintf(metrics + n, METRICS_BYTES - n, "{\"step\":31,\"rewa\n");
    }
    put_file(dir, "metrics.jsonl", metrics);
    mem_free(metrics);
}

START_TEST(a_run_is_read_as_smoothed_curves_and_repeated_updates_count_once)
{
    struct sweep_result r;
    struct err e;
    const char *const folder = test_folder();
    ck_assert(!sweep_result_complete(folder));
    leave_behind(folder, 40, "0.75");
    ck_assert(sweep_result_complete(folder));
    ck_assert_msg(sweep_result_read(&r, folder, &e) == 0, "%s", e.text);
    ck_assert_int_eq(r.updates, 40);
    ck_assert(r.evaluated);
    ck_assert_double_eq_tol(r.after.soft, 0.75, 1e-12);
    ck_assert_double_eq_tol(r.before.diversity_bits, 10.0, 1e-12);
    ck_assert_uint_eq(r.curves.points, 40);
    /* update i: mean of 0.5 + 0.01 k over k = i-9..i */
    ck_assert_double_eq_tol(r.curves.reward[29], 0.5 + 0.01 * 25.5, 1e-9);
    ck_assert_double_eq_tol(r.curves.reward[39], 0.5 + 0.01 * 35.5, 1e-9);
    ck_assert_double_eq_tol(r.curves.reward[0], 0.51, 1e-9);
    ck_assert_double_eq_tol(r.curves.path_kl[39], 3.5, 1e-9); /* of the updates that measured it */
    ck_assert(isnan(r.curves.path_kl[0]));
    ck_assert_double_eq_tol(r.curves.seconds[39], 40 * 1.75, 1e-9);
    /* 0.7125 lies between updates 25 (0.705) and 26 (0.715) */
    ck_assert_double_eq_tol(sweep_result_reach(&r, 0.7125), 64.0 * 25.75, 1e-6);
    ck_assert_double_eq_tol(sweep_result_reach(&r, 0.1), 640.0, 1e-9); /* not before the first window is full */
    ck_assert(isnan(sweep_result_reach(&r, 0.99)));
    sweep_result_done(&r);

    /* of replayed ones, those that were made count */
    put_file(folder, "metrics.jsonl", "{\"step\":1,\"trajectories\":64,\"replay_inserted\":48}\n"
                                      "{\"step\":2,\"trajectories\":128,\"replay_inserted\":80}\n");
    ck_assert_int_eq(sweep_result_read(&r, folder, &e), 0);
    ck_assert_uint_eq(r.curves.points, 2);
    ck_assert_double_eq_tol(r.curves.trajectories[1], 80.0, 1e-12);
    sweep_result_done(&r);

    leave_behind(folder, 39, "0.75"); /* stopped before its end */
    ck_assert(!sweep_result_complete(folder));
    put_file(folder, "report.json", "{\"updates\":40,\"updates_wanted\":40,\"trajectories\":1,\"seconds\":1,\"after\":{}}");
    ck_assert_int_eq(sweep_result_read(&r, folder, &e), -1);
    ck_assert_msg(strstr(e.text, "report.json") != NULL && strstr(e.text, "before") != NULL, "%s", e.text);
}
END_TEST

START_TEST(the_table_has_the_best_first_and_what_is_missing_is_empty)
{
    static const char *const arguments[] = {"trainer.lr=1,2,3", "run.seed=1,2"}, *const soft[] = {"0.60", "0.80", "", "0.62", "0.84", ""};
    struct sweep_plan p;
    struct sweep_result r[6] = {0};
    struct err e;
    char path[FILE_PATH_BYTES_MAX], *table, *line[3];
    const char *const folder = test_folder();
    ck_assert_int_eq(sweep_plan_read(&p, arguments, 2, &e), 0);
    for (size_t i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%zu", folder, i);
        if (soft[i][0] == 0)
            continue;
        leave_behind(path, 40, soft[i]);
        ck_assert_msg(sweep_result_read(&r[i], path, &e) == 0, "%s", e.text);
    }
    ck_assert_msg(sweep_report_write(folder, "t", &p, r, 0.7125, &e) == 0, "%s", e.text);
    snprintf(path, sizeof path, "%s/sweep.md", folder);
    ck_assert_int_eq(file_read_all(path, 1 << 16, &table, NULL, &e), 0);
    line[0] = strstr(table, "| lr=2 | 2 |");
    line[1] = strstr(table, "| lr=1 | 2 |");
    line[2] = strstr(table, "| lr=3 | 0 | |");
    ck_assert_msg(line[0] != NULL && line[1] > line[0] && line[2] > line[1], "%s", table);
    /* 0.82 and half of the 95 %% interval of two: 12.706 * 0.0283 / sqrt(2) */
    ck_assert_msg(strstr(line[0], "| 0.820 ± 0.254 | +25.0 ± 0.0 | -12.5 ± 0.0 | 0.80x ± 0.00 | 3.5 ± 0.0 | 2.0 ± 0.0 | 2560 ± 0 | 70 ± 0 |") != NULL, "%s", table);
    ck_assert_msg(strstr(line[0], "| 1648 |\n") != NULL, "%s", table);
    snprintf(path, sizeof path, "%s/sweep.png", folder);
    ck_assert(file_exists(path));
    ck_assert_ptr_null(strstr(table, "version"));
    mem_free(table);
    for (size_t k = 0; k < r[1].curves.points; k++) /* one run of lr=1 falls short of the level */
        r[1].curves.reward[k] = 0.5;
    ck_assert_int_eq(sweep_report_write(folder, "t", &p, r, 0.7125, &e), 0);
    snprintf(path, sizeof path, "%s/sweep.md", folder);
    ck_assert_int_eq(file_read_all(path, 1 << 16, &table, NULL, &e), 0);
    ck_assert_msg(strstr(table, "| 1648, 1 of 2 |\n") != NULL, "%s", table);
    mem_free(table);
    snprintf(r[0].version, sizeof r[0].version, "abc");
    snprintf(r[3].version, sizeof r[3].version, "def+");
    ck_assert_int_eq(sweep_report_write(folder, "t", &p, r, 0.7125, &e), 0);
    snprintf(path, sizeof path, "%s/sweep.md", folder);
    ck_assert_int_eq(file_read_all(path, 1 << 16, &table, NULL, &e), 0);
    ck_assert_msg(strstr(table, "Runs of more than one version: ") != NULL && strstr(table, "def+") != NULL, "%s", table);
    mem_free(table);
    for (size_t i = 0; i < 6; i++)
        sweep_result_done(&r[i]);
    sweep_plan_done(&p);
}
END_TEST

SUITE("dagline/sweep", 30, every_value_meets_every_other_and_seeds_make_no_groups,
      a_plan_that_makes_no_sense_is_refused_with_its_reason,
      a_run_is_read_as_smoothed_curves_and_repeated_updates_count_once,
      the_table_has_the_best_first_and_what_is_missing_is_empty)
