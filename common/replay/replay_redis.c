#include "replay/replay_redis.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define HOST_BYTES_MAX 256
#define WAIT_MS_MAX                                                                                \
    20 /* slept where the backoff forbids a try, so that a caller's loop does not spin */

struct redis {
    char host[HOST_BYTES_MAX]; /* or the socket's path */
    int port;                  /* 0: unix socket */
    char *user, *password;
    uint32_t timeout_ms;
    size_t reply_bytes_max;

    redisContext *context; /* NULL: not connected */
    uint64_t connects;
    int64_t next_try_ms;
    uint32_t backoff_ms;
    uint64_t jitter;

    size_t asked;         /* commands in the pipeline */
    bool malformed;       /* a command could not be formatted: the pipeline is not sent */
    redisReply **replies; /* [replied], kept until the next begin */
    struct redis_value *values;
    size_t replied, capacity;
};

static int parse_address(struct redis *c, const char *address, struct err *e)
{
    if (strncmp(address, "unix:", 5) == 0) {
        if (address[5] != '/' || strlen(address + 5) >= 108)
            return err_set(e, ERR_INVALID,
                           "redis address %s: unix: needs an absolute path below 108 bytes",
                           address);
        snprintf(c->host, sizeof c->host, "%s", address + 5);
        return 0;
    }
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    const long port = colon == NULL ? 0 : strtol(colon + 1, &end, 10);
    const size_t host_bytes = colon == NULL ? 0 : (size_t)(colon - address);
    if (host_bytes == 0 || host_bytes >= sizeof c->host || *end != 0 || end == colon + 1 ||
        port < 1 || port > 65535)
        return err_set(e, ERR_INVALID, "redis address %s: write unix:/path/redis.sock or host:port",
                       address);
    memcpy(c->host, address, host_bytes);
    c->host[host_bytes] = 0;
    c->port = (int)port;
    return 0;
}

static void ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
        struct sigaction ignore = {.sa_handler = SIG_IGN};
        sigaction(SIGPIPE, &ignore, NULL);
    }
}

int redis_open(struct redis **out, const struct redis_options *o, struct err *e)
{
    assert(o->address != NULL && o->timeout_ms > 0 && o->reply_bytes_max > 0);
    struct redis *c = mem_new(1, sizeof *c);
    if (parse_address(c, o->address, e) < 0) {
        mem_free(c);
        return -1;
    }
    c->user = mem_strdup(o->user == NULL ? "" : o->user);
    c->password = mem_strdup(o->password == NULL ? "" : o->password);
    c->timeout_ms = o->timeout_ms;
    c->reply_bytes_max = o->reply_bytes_max;
    c->backoff_ms = REDIS_BACKOFF_MS_MIN;
    c->jitter = (uint64_t)clock_mono_ns(NULL) ^ ((uint64_t)getpid() << 32);
    ignore_sigpipe();
    *out = c;
    return 0;
}

static void drop_replies(struct redis *c)
{
    for (size_t i = 0; i < c->replied; i++) {
        freeReplyObject(c->replies[i]);
        if (c->values[i].type == REDIS_LIST)
            mem_free((void *)(uintptr_t)c->values[i].items);
    }
    c->replied = 0;
}

static void disconnect(struct redis *c)
{
    if (c->context != NULL)
        redisFree(c->context);
    c->context = NULL;
}

/* Through a volatile pointer: a store before free is not dead. */
static void wipe(char *secret)
{
    for (volatile char *p = secret; p != NULL && *p != 0; p++)
        *p = 0;
}

void redis_close(struct redis *c)
{
    if (c == NULL)
        return;
    drop_replies(c);
    disconnect(c);
    mem_free(c->replies);
    mem_free(c->values);
    mem_free(c->user);
    wipe(c->password);
    mem_free(c->password);
    mem_free(c);
}

uint64_t redis_connects(const struct redis *c)
{
    return c->connects;
}

/* ---- pipelines ---- */

void redis_begin(struct redis *c)
{
    drop_replies(c);
    c->asked = 0;
    c->malformed = false;
}

void redis_add(struct redis *c, const char *fmt, ...)
{
    assert(c->asked < REDIS_COMMANDS_MAX);
    c->asked++;
    if (c->context == NULL)
        return;
    va_list ap;
    va_start(ap, fmt);
    if (redisvAppendCommand(c->context, fmt, ap) != REDIS_OK)
        c->malformed = true;
    va_end(ap);
}

void redis_add_words(struct redis *c, const char *verb, const char *key, const char *const *words,
                     size_t n)
{
    assert(c->asked < REDIS_COMMANDS_MAX && n < REDIS_COMMANDS_MAX);
    c->asked++;
    if (c->context == NULL)
        return;
    const char **argv = mem_new(n + 2, sizeof *argv);
    argv[0] = verb;
    argv[1] = key;
    if (n > 0)
        memcpy(argv + 2, words, n * sizeof *argv);
    if (redisAppendCommandArgv(c->context, (int)n + 2, argv, NULL) != REDIS_OK)
        c->malformed = true;
    mem_free(argv);
}

static int lost(struct redis *c, struct err *e, const char *what)
{
    char why[160];
    snprintf(why, sizeof why, "%s",
             c->context != NULL && c->context->err ? c->context->errstr : what);
    disconnect(c);
    return err_set(e, ERR_UNAVAILABLE, "redis %s: %s", c->host, why);
}

static int send_all(struct redis *c, struct err *e)
{
    int done = 0;
    while (!done)
        if (redisBufferWrite(c->context, &done) != REDIS_OK)
            return lost(c, e, "writing failed");
    return 0;
}

/* One reply, its bytes counted as they come: the announced length of a bulk string is not trusted.
 */
static int read_one(struct redis *c, redisReply **out, struct err *e)
{
    size_t seen = 0;
    for (;;) {
        void *reply = NULL;
        if (redisGetReplyFromReader(c->context, &reply) != REDIS_OK)
            return lost(c, e, "malformed reply");
        if (reply != NULL) {
            *out = reply;
            return 0;
        }
        const size_t before = c->context->reader->len;
        if (redisBufferRead(c->context) != REDIS_OK)
            return lost(c, e, errno == EAGAIN ? "no answer in time" : "reading failed");
        seen += c->context->reader->len - before;
        if (seen > c->reply_bytes_max)
            return lost(c, e, "a reply is larger than the limit");
    }
}

static enum redis_type type_of(const redisReply *r)
{
    switch (r->type) {
    case REDIS_REPLY_STRING:
        return REDIS_TEXT;
    case REDIS_REPLY_INTEGER:
        return REDIS_NUMBER;
    case REDIS_REPLY_ARRAY:
        return REDIS_LIST;
    case REDIS_REPLY_STATUS:
        return REDIS_STATUS;
    case REDIS_REPLY_ERROR:
        return REDIS_FAULT;
    default:
        return REDIS_NIL;
    }
}

static struct redis_value scalar_view(const redisReply *r)
{
    const bool text = r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ||
                      r->type == REDIS_REPLY_ERROR;
    return (struct redis_value){
        .type = type_of(r),
        .text = text ? r->str : "",
        .bytes = text ? r->len : 0,
        .number = r->type == REDIS_REPLY_INTEGER ? r->integer : 0,
    };
}

/* Lists are one level deep in every command that the replay uses; a deeper one is seen as empty. */
static struct redis_value view(const redisReply *r)
{
    struct redis_value v = scalar_view(r);
    if (v.type == REDIS_LIST) {
        struct redis_value *items = mem_new(r->elements, sizeof *items);
        for (size_t i = 0; i < r->elements; i++)
            items[i] = scalar_view(r->element[i]);
        v.items = items;
        v.count = r->elements;
    }
    return v;
}

int redis_run(struct redis *c, struct err *e)
{
    if (c->context == NULL)
        return err_set(e, ERR_UNAVAILABLE, "redis %s: not connected", c->host);
    if (c->malformed) {
        disconnect(c); /* half a pipeline is in its buffer */
        return err_set(e, ERR_INVALID, "redis %s: a command could not be formatted", c->host);
    }
    assert(c->replied == 0);
    if (send_all(c, e) < 0)
        return -1;
    if (c->capacity < c->asked) {
        c->replies = mem_grow(c->replies, c->asked, sizeof *c->replies);
        c->values = mem_grow(c->values, c->asked, sizeof *c->values);
        c->capacity = c->asked;
    }
    while (c->replied < c->asked) {
        redisReply *reply = NULL;
        if (read_one(c, &reply, e) < 0)
            return -1;
        c->replies[c->replied] = reply;
        c->values[c->replied] = view(reply);
        c->replied++;
    }
    return 0;
}

size_t redis_reply_count(const struct redis *c)
{
    return c->replied;
}

const struct redis_value *redis_reply(const struct redis *c, size_t i)
{
    assert(i < c->replied);
    return &c->values[i];
}

int redis_fault(const struct redis_value *v, struct err *e)
{
    static const struct {
        const char *prefix;
        enum err_code code;
    } known[] = {
        {"OOM", ERR_FULL},
        {"LOADING", ERR_UNAVAILABLE},
        {"MISCONF", ERR_UNAVAILABLE},
        {"BUSY", ERR_UNAVAILABLE},
        {"READONLY", ERR_UNAVAILABLE},
        {"MASTERDOWN", ERR_UNAVAILABLE},
        {"TRYAGAIN", ERR_UNAVAILABLE},
        {"NOREPLICAS", ERR_UNAVAILABLE},
        {"CLUSTERDOWN", ERR_UNAVAILABLE},
        {"ERR max number of clients", ERR_UNAVAILABLE},
    };
    assert(v->type == REDIS_FAULT);
    enum err_code code = ERR_INVALID;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(v->text, known[i].prefix, strlen(known[i].prefix)) == 0)
            code = known[i].code;
    return err_set(e, code, "redis answered: %.200s", v->text);
}

int redis_run_checked(struct redis *c, struct err *e)
{
    if (redis_run(c, e) < 0)
        return -1;
    for (size_t i = 0; i < c->replied; i++)
        if (c->values[i].type == REDIS_FAULT)
            return redis_fault(&c->values[i], e);
    return 0;
}

void redis_multi_begin(struct redis *c)
{
    redis_begin(c);
    redis_add(c, "MULTI");
}

int redis_multi_exec(struct redis *c, bool *committed, struct err *e)
{
    *committed = false;
    redis_add(c, "EXEC");
    /* A command refused while queueing (OOM, no permission) makes EXEC answer EXECABORT; the first
     * fault in order is the cause. */
    if (redis_run_checked(c, e) < 0)
        return -1;
    for (size_t i = 0; i + 1 < c->replied; i++) {
        const char *want = i == 0 ? "OK" : "QUEUED";
        if (c->values[i].type != REDIS_STATUS || strcmp(c->values[i].text, want) != 0)
            return lost(c, e, "a transaction was not queued as asked");
    }
    const struct redis_value *exec = &c->values[c->replied - 1];
    if (exec->type == REDIS_NIL)
        return 0;
    if (exec->type != REDIS_LIST || exec->count != c->replied - 2)
        return lost(c, e, "a transaction answered with another number of results");
    for (size_t i = 0; i < exec->count; i++)
        if (exec->items[i].type == REDIS_FAULT)
            return redis_fault(&exec->items[i], e);
    *committed = true;
    return 0;
}

uint64_t redis_u64(const struct redis_value *v, uint64_t fallback)
{
    if (v->type == REDIS_NUMBER)
        return v->number < 0 ? fallback : (uint64_t)v->number;
    if (v->type != REDIS_TEXT || v->bytes == 0 || v->text[0] < '0' || v->text[0] > '9')
        return fallback;
    char *end = NULL;
    errno = 0;
    const unsigned long long n = strtoull(v->text, &end, 10);
    return *end != 0 || errno != 0 ? fallback : n;
}

/* ---- connecting ---- */

static uint64_t next_jitter(struct redis *c)
{
    c->jitter ^= c->jitter << 13;
    c->jitter ^= c->jitter >> 7;
    c->jitter ^= c->jitter << 17;
    return c->jitter;
}

static int connect_once(struct redis *c, struct err *e)
{
    const struct timeval tv = {.tv_sec = c->timeout_ms / 1000,
                               .tv_usec = (suseconds_t)(c->timeout_ms % 1000) * 1000};
    c->context = c->port == 0 ? redisConnectUnixWithTimeout(c->host, tv)
                              : redisConnectWithTimeout(c->host, c->port, tv);
    if (c->context == NULL || c->context->err)
        return lost(c, e, "no connection");
    if (redisSetTimeout(c->context, tv) != REDIS_OK)
        return lost(c, e, "no timeout on the socket");
    if (c->port != 0 && redisEnableKeepAlive(c->context) != REDIS_OK)
        return lost(c, e, "no keepalive on the socket");
    redis_begin(c);
    if (c->password[0] != 0 && c->user[0] != 0)
        redis_add(c, "AUTH %s %s", c->user, c->password);
    else if (c->password[0] != 0)
        redis_add(c, "AUTH %s", c->password);
    redis_add(c, "PING");
    if (redis_run_checked(c, e) < 0) {
        disconnect(c);
        return err_wrap(e, "connecting to %s", c->host);
    }
    return 0;
}

int redis_ready(struct redis *c, bool *fresh, struct err *e)
{
    *fresh = false;
    if (c->context != NULL)
        return 0;
    const int64_t now_ms = clock_mono_ms(NULL);
    if (now_ms < c->next_try_ms) {
        const int64_t left_ms = c->next_try_ms - now_ms;
        clock_sleep_ns(NULL, (left_ms < WAIT_MS_MAX ? left_ms : WAIT_MS_MAX) * CLOCK_NS_PER_MS);
        if (left_ms > WAIT_MS_MAX)
            return err_set(e, ERR_UNAVAILABLE, "redis %s: waiting to connect again", c->host);
    }
    redis_begin(c);
    if (connect_once(c, e) < 0) {
        c->next_try_ms = clock_mono_ms(NULL) + (int64_t)(next_jitter(c) % c->backoff_ms);
        c->backoff_ms =
            c->backoff_ms * 2 < REDIS_BACKOFF_MS_MAX ? c->backoff_ms * 2 : REDIS_BACKOFF_MS_MAX;
        return -1;
    }
    c->backoff_ms = REDIS_BACKOFF_MS_MIN;
    c->connects++;
    *fresh = true;
    return 0;
}
