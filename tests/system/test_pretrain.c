/* Pretraining in miniature: a killed run ends with the same model as one that was not; the model's
 * files agree with what was trained; distillation imitates the guidance it is told. */
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "support/proc.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_MS 120000

static char folder[PROC_PATH_BYTES], binary[PROC_PATH_BYTES];

static void start(struct proc *p, const char *name, const char *guidance)
{
    char work[PROC_PATH_BYTES + 32], out[PROC_PATH_BYTES + 32], log[PROC_PATH_BYTES + 32];
    snprintf(work, sizeof work, "%s/%s", folder, name);
    snprintf(out, sizeof out, "%s/%s-out", folder, name);
    snprintf(log, sizeof log, "%s/%s.log", folder, name);
    proc_start(p,
               (const char *const[]){binary, "pretrain", "--work", work, "--out", out, "--threads",
                                     "2", "--vae-steps", "3", "--vae-batch", "4", "--decoder-steps",
                                     "2", "--unet-steps", "3", "--unet-batch", "4", "--distil-steps", "1",
                                     "--distil-guidance", guidance, NULL},
               log);
}

static void digest(uint8_t out[HASH_SHA256_BYTES], const char *name, const char *file)
{
    char path[PROC_PATH_BYTES + 128], *bytes;
    size_t n;
    struct err e;
    snprintf(path, sizeof path, "%s/%s-out/%s", folder, name, file);
    ck_assert_msg(file_read_all(path, 1 << 26, &bytes, &n, &e) == 0, "%s", e.text);
    hash_sha256(out, bytes, n);
    mem_free(bytes);
}

START_TEST(a_killed_run_ends_with_the_same_model)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "vae/diffusion_pytorch_model.safetensors",
                                        "text_encoder/model.safetensors", "vae/config.json"};
    struct proc p;
    char state[PROC_PATH_BYTES + 32];
    proc_folder(folder);
    proc_binary(binary, "dagline");
    start(&p, "straight", "3");
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    start(&p, "killed", "3");
    snprintf(state, sizeof state, "%s/killed/decoder.state", folder);
    for (int i = 0; access(state, F_OK) != 0; i++) {
        ck_assert_int_lt(i, RUN_MS / 2);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    proc_kill(&p);
    start(&p, "killed", "3");
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        uint8_t a[HASH_SHA256_BYTES], b[HASH_SHA256_BYTES];
        digest(a, "straight", files[i]);
        digest(b, "killed", files[i]);
        ck_assert_msg(memcmp(a, b, sizeof a) == 0, "%s differs", files[i]);
    }

    /* the UNet saw latents times the measured factor, so that is what the folder must say */
    char path[PROC_PATH_BYTES + 64];
    struct json *vae;
    struct err e;
    double factor = 0.0;
    snprintf(path, sizeof path, "%s/straight-out/vae/config.json", folder);
    ck_assert_msg(json_read_file(&vae, path, 1 << 16, &e) == 0, "%s", e.text);
    ck_assert_int_eq(json_get_number(vae, "scaling_factor", 1e-6, 1e6, &factor, &e), 0);
    ck_assert(factor != 1.0);
    json_free(vae);
    proc_folder_remove(folder);
}
END_TEST

/* The loss of distillation's first step, before anything was learnt from it. */
static double distil_loss(const char *name)
{
    char path[PROC_PATH_BYTES + 64], *log;
    size_t n;
    struct err e;
    double loss = -1.0;
    snprintf(path, sizeof path, "%s/%s/log.jsonl", folder, name);
    ck_assert_msg(file_read_all(path, 1 << 20, &log, &n, &e) == 0, "%s", e.text);
    for (const char *line = log; line < log + n; line = strchr(line, '\n') + 1) {
        struct json *record;
        const char *stage;
        ck_assert_int_eq(json_parse(&record, line, (size_t)(strchr(line, '\n') - line), 1 << 16, &e), 0);
        ck_assert_int_eq(json_get_string(record, "stage", 32, &stage, &e), 0);
        if (strcmp(stage, "distil") == 0)
            ck_assert_int_eq(json_get_number(record, "loss", 0.0, 1e9, &loss, &e), 0);
        json_free(record);
    }
    mem_free(log);
    return loss;
}

START_TEST(distillation_imitates_guidance)
{
    struct proc p;
    proc_folder(folder);
    proc_binary(binary, "dagline");
    start(&p, "none", "1");
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    start(&p, "three", "3");
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    /* guidance 1 is what the model predicts already */
    const double none = distil_loss("none"), three = distil_loss("three");
    ck_assert_msg(none >= 0.0 && none < 1e-9, "%g", none);
    ck_assert_msg(three > 100.0 * none && three > 1e-9, "%g beside %g", three, none);
    proc_folder_remove(folder);
}
END_TEST

SUITE("system/pretrain", 300, a_killed_run_ends_with_the_same_model, distillation_imitates_guidance)
