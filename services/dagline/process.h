/* Child processes of `dagline run`: started with their output in a log file, noticed when they end, started again with
 * a growing delay when that was not asked for.
 * A child is in a process group of its own, so that Ctrl-C reaches the parent alone, which then ends the
 * children in order; and it is told to end when the parent dies.
 * Thread rule: one thread. */
#ifndef DAGLINE_DAGLINE_PROCESS_H
#define DAGLINE_DAGLINE_PROCESS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_ARGUMENTS_MAX 32
#define PROCESS_BACKOFF_MS_MIN 100
#define PROCESS_BACKOFF_MS_MAX 5000
#define PROCESS_STEADY_MS 10000 /* alive for so long: the next end is the first again */

struct process {
    char name[32];                              /* for messages and the log file */
    char *arguments[PROCESS_ARGUMENTS_MAX + 1]; /* owned, NULL-ended; [0] is the binary */
    char *log;                                  /* owned path; output is appended */
    pid_t pid;                                  /* 0: not running */
    int exit_status;                            /* of the last end: 0..255, or 128 + signal */
    double ended_cpu_s;                         /* processor time of its ended lives */
    bool wanted;                                /* started again when it ends */
    uint32_t restarts, ends_in_a_row;
    int64_t started_ms, restart_ms;             /* restart_ms: not before */
};

/* Fields of p are set up; nothing runs.  `arguments` is NULL-ended and copied. */
void process_init(struct process *p, const char *name, const char *log, const char *const *arguments);
void process_done(struct process *p);

int process_start(struct process *p, struct err *e) MUST_USE;

/* Notices an end and starts again what is wanted and due. True where the process ended since the last call. */
bool process_watch(struct process *p, int64_t now_ms);

/* No restarts from now on; SIGTERM. */
void process_end(struct process *p);
/* Waits up to timeout_ms for it to be gone, or until stop (NULL: never) says so; true where it is gone. */
bool process_wait(struct process *p, int timeout_ms, bool (*stop)(void));
/* Waits up to timeout_ms for it to be gone, then kills it. */
void process_wait_gone(struct process *p, int timeout_ms);

/* Processor seconds so far, user and system, of all of its lives. */
double process_cpu_s(const struct process *p);

/* The last line of its log, or the error that this line tells, for one that points at the cause; "" where there is none. */
void process_last_line(const struct process *p, char *out, size_t bytes);

/* The folder of the running binary, which holds the others too. */
int process_own_folder(char folder[FILE_PATH_BYTES_MAX], struct err *e) MUST_USE;

/* What a shell in the working directory calls the running binary by: "dagline" where PATH finds one in that folder, else its
 * path, the shorter for being below the working directory. */
void process_own_command(struct buf *out);

#endif
