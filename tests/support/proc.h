/* Child processes of tests: real binaries and a real redis-server, each in a temp folder.  They
 * stay in the test's process group, which Check kills as a whole when the test ends, however it
 * ends. */
#ifndef DAGLINE_TESTS_PROC_H
#define DAGLINE_TESTS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_PATH_BYTES 256

struct proc {
    pid_t pid; /* 0: not running */
};

/* Starts argv (NULL-ended; argv[0] is a path or looked up in PATH); stdout and stderr are appended
 * to `log` (NULL: inherited).  Signals are unblocked.  Aborts the test on failure. */
void proc_start(struct proc *p, const char *const *argv, const char *log);

/* Sends a signal and does not wait. */
void proc_signal(const struct proc *p, int signal);

/* Waits for the end: the exit status, 128 + signal, or -1 where it still runs after timeout_ms. */
int proc_wait(struct proc *p, int timeout_ms);

/* SIGKILL and wait; nothing where it does not run. */
void proc_kill(struct proc *p);

/* build/MODE/bin/NAME of the build that this test belongs to. */
void proc_binary(char out[PROC_PATH_BYTES], const char *name);

/* A new folder below /tmp, for the logs of processes: it stays where the test fails.  Files alone: support/folder.h. */
void proc_folder(char out[PROC_PATH_BYTES]);
void proc_folder_remove(const char *folder);

/* A loopback TCP port that nobody listened on a moment ago. */
uint16_t proc_free_port(void);

/* Waits until somebody listens on the loopback port; aborts the test after timeout_ms. */
void proc_wait_port(uint16_t port, int timeout_ms);

/* The whole text of a small file, "" where it does not exist; the caller frees with free(). */
char *proc_read(const char *path);

/* redis-server's arguments: a unix socket alone, no snapshots, an append-only file synced every second. */
#define PROC_REDIS_ARGUMENTS(socket, folder)                                                                   \
    "redis-server", "--port", "0", "--unixsocket", (socket), "--dir", (folder), "--appendonly", "yes",         \
        "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"

/* A private redis-server on a unix socket in `folder`: no TCP port, noeviction, AOF everysec. */
struct proc_redis {
    struct proc proc;
    char folder[PROC_PATH_BYTES], socket[PROC_PATH_BYTES], address[PROC_PATH_BYTES + 8];
    char log[PROC_PATH_BYTES];
};
/* `extra`: NULL-ended further arguments of redis-server, or NULL.  Returns when it answers. */
void proc_redis_start(struct proc_redis *r, const char *folder, const char *const *extra);
/* SIGKILL, then the same server again on the same data. */
void proc_redis_kill(struct proc_redis *r);
void proc_redis_again(struct proc_redis *r, const char *const *extra);
/* Whether it answers a PING, now (false while it loads its data). */
bool proc_redis_answers(const struct proc_redis *r);
/* One command by redis-cli-like inline protocol, its reply's first line in out. */
void proc_redis_say(const struct proc_redis *r, const char *command, char *out, size_t bytes);

#endif
