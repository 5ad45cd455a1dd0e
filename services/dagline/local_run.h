/* `dagline run`: a whole run on one machine, with the same binaries and the same wire as in the containers: a private Redis
 * and the services over ipc sockets in a run directory.  Services that die are started again; Ctrl-C ends the run with a
 * checkpoint and its report; the same directory given again goes on where it was.
 *
 *   run directory: config.yaml, store/ (checkpoints, blobs), replay/ (Redis), cache/, log/SERVICE.log,
 *   metrics.jsonl and tensorboard/ (links into store/), progress.png, report.md and report.json, policy.safetensors,
 *   evaluation/ (what a reward of one's own was asked about); while it runs store.endpoint: where its store is asked */
#ifndef DAGLINE_DAGLINE_LOCAL_RUN_H
#define DAGLINE_DAGLINE_LOCAL_RUN_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define LOCAL_RUN_ENDPOINT "store.endpoint"

struct local_run_options {
    const char *dir;      /* made */
    const char *model;    /* store.model, for the commands that are printed; NULL: the embedded one */
    const char *settings; /* YAML for all services */
    const char *binaries; /* folder of the dagline-* binaries */
    int samplers;
    bool judge;           /* the reward is the shapes judge, as a service of its own on loopback */
    const char *judge_listen; /* its address; NULL: a free port of loopback */
    const char *redis;    /* redis-server */
    int64_t replay_bytes; /* Redis's maxmemory */
    int evaluate_prompts; /* for the table before/after: of each tag, or all in all without the judge; 0: none */
    int evaluate_pictures;
    uint64_t evaluate_seed;
    const char *evaluate_file;   /* without the judge: held-out prompts (run/prompt_file.h); "": those of the run */
    const char *evaluate_column; /* of a table: the prompts' */
    int64_t silence_ms;   /* without an update, until the services' last warning is told; then twice as long */
};

int local_run(const struct local_run_options *o, struct err *e) MUST_USE;

#endif
