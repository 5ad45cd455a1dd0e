/* A sweep of real runs: one that is stopped goes on where it was, and what is finished is not made again. */
#include "base/file.h"
#include "support/proc.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUN_MS 240000

static char folder[PROC_PATH_BYTES], binary[PROC_PATH_BYTES], log_path[PROC_PATH_BYTES + 32];

static void start(struct proc *p, const char *lr)
{
    char dir[PROC_PATH_BYTES + 8], axis[64];
    snprintf(dir, sizeof dir, "%s/sweep", folder);
    snprintf(axis, sizeof axis, "trainer.lr=%s", lr);
    proc_start(p,
               (const char *const[]){binary, "sweep", "--dir", dir, axis, "--set", "run.iterations=2", "--set",
                                     "run.steps=3", "--set", "run.forward_looking=no", "--set", "sampler.batch=8", "--set",
                                     "trainer.batch=8", "--set", "replay.items_min=8", "--set", "local.evaluate_prompts=0", NULL},
               log_path);
}

static char *text_of(const char *name)
{
    char path[3 * PROC_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return proc_read(path);
}

static size_t count_of(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

START_TEST(a_stopped_sweep_goes_on_and_nothing_is_made_twice)
{
    struct proc p;
    proc_folder(folder);
    proc_binary(binary, "dagline");
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    setenv("DAGLINE_TRAINER__LR", "0.5", 1); /* the axis is stronger */
    setenv("DAGLINE_TRAINER__BETA", "7", 1);
    start(&p, "1e-4,2e-4");
    for (int i = 0;; i++) { /* the first run is made, the second under way */
        char path[PROC_PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s/sweep/sweep.md", folder);
        if (file_exists(path))
            break;
        ck_assert_int_lt(i, RUN_MS / 10);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    proc_signal(&p, SIGTERM);
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 1);
    char *text = text_of("log");
    ck_assert_msg(strstr(text, "the same command goes on") != NULL, "%s", text);
    ck_assert_uint_eq(count_of(text, "1/2  lr=1e-4"), 1);
    char dir[PROC_PATH_BYTES], config[PROC_PATH_BYTES + 16];
    const char *const named = strstr(strstr(text, "1/2  lr=1e-4"), "/sweep/");
    ck_assert_int_eq(sscanf(named, "/%100s", dir), 1);
    free(text);
    snprintf(config, sizeof config, "%s/config.yaml", dir);
    text = text_of(config);
    ck_assert_msg(strstr(text, "lr: 1e-4") != NULL && strstr(text, "beta: 7") != NULL, "%s", text);
    free(text);

    start(&p, "1e-4,2e-4");
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    start(&p, "2e-4,1e-4"); /* other order, the same runs */
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    ck_assert_int_lt(ended.tv_sec - begun.tv_sec, 5); /* a run takes that long to start */
    text = text_of("sweep/sweep.md");
    ck_assert_msg(strstr(text, "| lr=1e-4 | 1 | 0.") != NULL && strstr(text, "| lr=2e-4 | 1 | 0.") != NULL, "%s",
                  text);
    free(text);

    start(&p, "1e-4,9"); /* out of bounds: the trainer says so */
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 1);
    text = text_of("log");
    ck_assert_msg(strstr(text, "lr=9  failed, see ") != NULL && strstr(text, "accepted: a number, 0 to 1") != NULL, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "1 of 2 runs failed"));
    free(text);
    proc_folder_remove(folder);
}
END_TEST

SUITE("sweep", 300, a_stopped_sweep_goes_on_and_nothing_is_made_twice)
