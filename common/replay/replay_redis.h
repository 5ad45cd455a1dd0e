/* The only door to hiredis: one blocking connection, pipelines, and checked transactions.
 *
 * A pipeline is begun, filled and run; the replies stay with the connection until the next begin.
 *     redis_begin(c);
 *     redis_add(c, "GET %s", key);
 *     if (redis_run(c, e) < 0) ...
 *     const struct redis_value *v = redis_reply(c, 0);
 * Formats are hiredis's: %s (string), %b (pointer, size_t), %llu and the like; every conversion is
 * one argument or part of one, spaces in values are safe.
 *
 * A reply is refused beyond reply_bytes_max, counted as it arrives (hiredis buffers a bulk string
 * of any announced length): the connection is dropped.  A lost connection is ERR_UNAVAILABLE; only
 * redis_ready opens it again, so that a WATCH can never be lost between two pipelines.  Writing to
 * a closed connection must not end the process: redis_open ignores SIGPIPE where nobody handles it.
 * Thread rule: one connection belongs to one thread. */
#ifndef DAGLINE_REPLAY_REPLAY_REDIS_H
#define DAGLINE_REPLAY_REPLAY_REDIS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDIS_BACKOFF_MS_MIN 10
#define REDIS_BACKOFF_MS_MAX 1000
#define REDIS_COMMANDS_MAX 65536

enum redis_type { REDIS_NIL, REDIS_TEXT, REDIS_NUMBER, REDIS_LIST, REDIS_STATUS, REDIS_FAULT };

struct redis_value {
    enum redis_type type;
    const char *text; /* TEXT, STATUS, FAULT: NUL-terminated, may hold NULs before */
    size_t bytes;
    int64_t number;
    const struct redis_value *items; /* LIST [count] */
    size_t count;
};

struct redis_options {
    const char *address; /* "unix:/path" or "host:port" */
    const char *user;    /* "" = default user */
    const char *password;
    uint32_t timeout_ms; /* of connecting, and of every wait for bytes */
    size_t reply_bytes_max;
};

struct redis;

/* Does not connect yet; refuses an address that is neither form. */
int redis_open(struct redis **out, const struct redis_options *o, struct err *e) MUST_USE;
void redis_close(struct redis *c);

/* Connected, authenticated, not loading.  Tries at most once, and not before the backoff (full
 * jitter, doubling to REDIS_BACKOFF_MS_MAX) allows; else ERR_UNAVAILABLE.  *fresh: this call
 * connected. */
int redis_ready(struct redis *c, bool *fresh, struct err *e) MUST_USE;

void redis_begin(struct redis *c);
void redis_add(struct redis *c, const char *fmt, ...);
/* The command `verb key words...`; words are NUL-terminated. */
void redis_add_words(struct redis *c, const char *verb, const char *key, const char *const *words,
                     size_t n);

/* Sends the pipeline and reads as many replies.  A reply may be a FAULT: see redis_fault. */
int redis_run(struct redis *c, struct err *e) MUST_USE;
/* redis_run, and any FAULT among the replies is an error. */
int redis_run_checked(struct redis *c, struct err *e) MUST_USE;
size_t redis_reply_count(const struct redis *c);
const struct redis_value *redis_reply(const struct redis *c, size_t i);

/* Turns a FAULT into the error that a caller can branch on: OOM is ERR_FULL, LOADING, MISCONF,
 * READONLY and BUSY are ERR_UNAVAILABLE, everything else ERR_INVALID. */
int redis_fault(const struct redis_value *v, struct err *e);

/* MULTI ... EXEC in one round trip: redis_multi_begin, redis_add..., redis_multi_exec.  Every reply
 * is checked: the MULTI, each QUEUED, the number of results, and that none of them is an error.
 * *committed is false where a watched key changed (nothing was done). */
void redis_multi_begin(struct redis *c);
int redis_multi_exec(struct redis *c, bool *committed, struct err *e) MUST_USE;

/* The value as an unsigned number; `fallback` for NIL and for text that is no number. */
uint64_t redis_u64(const struct redis_value *v, uint64_t fallback);

/* Times that a connection was made. */
uint64_t redis_connects(const struct redis *c);

#endif
