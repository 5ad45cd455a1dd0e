#include "support/checker.h"

#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define WORD_BYTES_MAX 4096 /* ids and counters: nothing longer is read */
#define COMMAND_BYTES_MAX 256

static void *grow(void *p, size_t count, size_t bytes)
{
    p = realloc(p, count * bytes);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* ---- RESP ---- */

static void hang_up(struct checker *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->in_at = c->in_end = 0;
}

static bool dial(struct checker *c)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = 5};
    if (c->fd >= 0)
        return true;
    snprintf(a.sun_path, sizeof a.sun_path, "%s", c->socket);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) == 0)
        return true;
    hang_up(c);
    return false;
}

static int get_byte(struct checker *c)
{
    if (c->in_at == c->in_end) {
        const ssize_t n = read(c->fd, c->in, sizeof c->in);
        if (n <= 0)
            return -1;
        c->in_at = 0;
        c->in_end = (size_t)n;
    }
    return (unsigned char)c->in[c->in_at++];
}

/* Up to CRLF, without it. */
static bool get_line(struct checker *c, char line[WORD_BYTES_MAX])
{
    size_t n = 0;
    for (int b; (b = get_byte(c)) != '\n';) {
        if (b < 0 || n + 1 == WORD_BYTES_MAX)
            return false;
        line[n++] = (char)b;
    }
    line[n > 0 ? n - 1 : 0] = 0;
    return true;
}

static void add_word(struct checker *c, const char *word)
{
    c->words = grow(c->words, c->word_count + 1, sizeof *c->words);
    c->words[c->word_count] = word == NULL ? NULL : strdup(word);
    c->word_count++;
}

static bool get_bulk(struct checker *c, long n)
{
    char word[WORD_BYTES_MAX];
    if (n < 0) {
        add_word(c, NULL);
        return true;
    }
    if (n + 2 >= WORD_BYTES_MAX)
        return false;
    for (long i = 0; i < n + 2; i++) {
        const int b = get_byte(c);
        if (b < 0)
            return false;
        word[i] = (char)b;
    }
    word[n] = 0;
    add_word(c, word);
    return true;
}

/* One reply; lists, and lists in lists, are flattened into c->words. */
static bool get_reply(struct checker *c)
{
    char line[WORD_BYTES_MAX];
    for (long left = 1; left > 0; left--) {
        if (!get_line(c, line))
            return false;
        if (line[0] == '*')
            left += strtol(line + 1, NULL, 10) > 0 ? strtol(line + 1, NULL, 10) : 0;
        else if (line[0] == '$' && !get_bulk(c, strtol(line + 1, NULL, 10)))
            return false;
        else if (line[0] == '-') /* -LOADING: as good as away */
            return false;
        else if (line[0] == ':' || line[0] == '+')
            add_word(c, line + 1);
    }
    return true;
}

static void forget_words(struct checker *c)
{
    for (size_t i = 0; i < c->word_count; i++)
        free(c->words[i]);
    c->word_count = 0;
}

/* One inline command; false while Redis is away. */
static bool ask(struct checker *c, const char *command, ...) __attribute__((format(printf, 2, 3)));
static bool ask(struct checker *c, const char *command, ...)
{
    char line[COMMAND_BYTES_MAX];
    va_list list;
    forget_words(c);
    va_start(list, command);
    const int n = vsnprintf(line, sizeof line - 2, command, list);
    va_end(list);
    ck_assert_int_lt(n, (int)sizeof line - 2);
    memcpy(line + n, "\r\n", 2);
    if (dial(c) && send(c->fd, line, (size_t)n + 2, MSG_NOSIGNAL) == n + 2 && get_reply(c))
        return true;
    hang_up(c);
    return false;
}

static uint64_t number(const struct checker *c, size_t i)
{
    return i < c->word_count && c->words[i] != NULL ? strtoull(c->words[i], NULL, 10) : 0;
}

#define ASK(c, ...) ck_assert_msg(ask(c, __VA_ARGS__), "redis does not answer the audit")

/* ---- the journal ---- */

void checker_open(struct checker *c, const char *socket_path, const char *run_id,
                  const char *journal)
{
    memset(c, 0, sizeof *c);
    c->fd = -1;
    ck_assert_int_lt(snprintf(c->socket, sizeof c->socket, "%s", socket_path),
                     (int)sizeof c->socket);
    snprintf(c->prefix, sizeof c->prefix, "dagline:{%s}:", run_id);
    c->journal = fopen(journal, "a");
    ck_assert_msg(c->journal != NULL, "%s: %s", journal, strerror(errno));
}

void checker_close(struct checker *c)
{
    hang_up(c);
    forget_words(c);
    free(c->words);
    free(c->acked);
    free(c->trained);
    free(c->steps);
    fclose(c->journal);
}

void checker_acked_hex(struct checker *c, const char *hex)
{
    c->acked = grow(c->acked, c->acked_count + 1, sizeof *c->acked);
    struct checker_id *x = &c->acked[c->acked_count++];
    snprintf(x->hex, sizeof x->hex, "%.32s", hex);
    x->step = 0;
    fprintf(c->journal, "%s\n", x->hex);
    fflush(c->journal);
}

void checker_acked(struct checker *c, const uint8_t id[CHECKER_ID_BYTES])
{
    char hex[CHECKER_HEX_BYTES];
    for (size_t i = 0; i < CHECKER_ID_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", id[i]);
    checker_acked_hex(c, hex);
}

/* ---- batches while the run goes on ---- */

static bool was_seen(const struct checker *c, uint64_t step)
{
    for (size_t i = c->step_count; i > 0; i--)
        if (c->steps[i - 1] == step)
            return true;
    return false;
}

/* The batch of a step that was seen before is what it was. */
static void compare_batch(struct checker *c, uint64_t step)
{
    size_t at = 0;
    for (size_t i = 0; i < c->trained_count; i++)
        if (c->trained[i].step == step) {
            const bool same = at < c->word_count && c->words[at] != NULL &&
                              strcmp(c->words[at], c->trained[i].hex) == 0;
            at++;
            if (!same) {
                c->changed++;
                return;
            }
        }
    c->changed += at != c->word_count;
}

static void look_at(struct checker *c, uint64_t step)
{
    if (!ask(c, "LRANGE %sb:%llu 0 -1", c->prefix, (unsigned long long)step) || c->word_count == 0)
        return; /* committed meanwhile */
    if (was_seen(c, step)) {
        compare_batch(c, step);
        return;
    }
    c->steps = grow(c->steps, c->step_count + 1, sizeof *c->steps);
    c->steps[c->step_count++] = step;
    c->trained = grow(c->trained, c->trained_count + c->word_count, sizeof *c->trained);
    for (size_t i = 0; i < c->word_count; i++) {
        struct checker_id *x = &c->trained[c->trained_count++];
        snprintf(x->hex, sizeof x->hex, "%.32s", c->words[i] != NULL ? c->words[i] : "");
        x->step = step;
    }
}

void checker_look(struct checker *c)
{
    uint64_t steps[64];
    if (!ask(c, "ZRANGE %sz:batches 0 63", c->prefix))
        return;
    const size_t n = c->word_count < 64 ? c->word_count : 64;
    for (size_t i = 0; i < n; i++)
        steps[i] = number(c, i);
    for (size_t i = 0; i < n; i++)
        look_at(c, steps[i]);
}

/* ---- the audit ---- */

static int by_hex(const void *a, const void *b)
{
    return strcmp(((const struct checker_id *)a)->hex, ((const struct checker_id *)b)->hex);
}

static void tell(size_t *count, const char *what, const char *hex)
{
    if ((*count)++ == 0)
        printf("violation: %s %s\n", what, hex);
}

static void audit_acked(struct checker *c, struct checker_found *f)
{
    qsort(c->acked, c->acked_count, sizeof *c->acked, by_hex);
    for (size_t i = 0; i < c->acked_count; i++) {
        const char *id = c->acked[i].hex, *p = c->prefix;
        if (i > 0 && strcmp(id, c->acked[i - 1].hex) == 0)
            continue; /* acknowledged again after a resend */
        f->acked++;
        ASK(c, "EXISTS %st:%s", p, id);
        const uint64_t tombs = number(c, 0);
        ASK(c, "EXISTS %si:%s %sm:%s %sx:%s", p, id, p, id, p, id);
        const uint64_t parts = number(c, 0);
        if (tombs == 0 && parts == 0)
            tell(&f->lost, "acknowledged and gone:", id);
        else if (parts != 0 && parts != 3)
            tell(&f->torn, "acknowledged and torn apart:", id);
    }
}

/* Every key of one kind ("i:", "t:"); those that `other` has too are counted in *both. */
static size_t count_keys(struct checker *c, const char *kind, const char *other, size_t *both)
{
    ASK(c, "KEYS %s%s*", c->prefix, kind);
    const size_t n = c->word_count;
    char(*ids)[CHECKER_HEX_BYTES] = grow(NULL, n + 1, sizeof *ids);
    for (size_t i = 0; i < n; i++)
        snprintf(ids[i], sizeof ids[i], "%.32s", c->words[i] + strlen(c->prefix) + strlen(kind));
    for (size_t i = 0; other != NULL && i < n; i++) {
        ASK(c, "EXISTS %s%s%s", c->prefix, other, ids[i]);
        if (number(c, 0) != 0)
            tell(both, "stored again after it was used up:", ids[i]);
    }
    free(ids);
    return n;
}

static void audit_trained(struct checker *c, struct checker_found *f)
{
    qsort(c->trained, c->trained_count, sizeof *c->trained, by_hex);
    for (size_t i = 1; i < c->trained_count; i++)
        if (strcmp(c->trained[i].hex, c->trained[i - 1].hex) == 0)
            tell(&f->doubled, "in two batches, or twice in one:", c->trained[i].hex);
}

size_t checker_audit(struct checker *c, size_t batch, struct checker_found *f)
{
    memset(f, 0, sizeof *f);
    f->batches = c->step_count;
    f->trained = c->trained_count;
    f->changed = c->changed;
    if (f->changed > 0)
        printf("violation: %zu logged batches changed\n", f->changed);
    audit_acked(c, f);
    f->present = count_keys(c, "i:", NULL, NULL);
    f->tombstones = count_keys(c, "t:", "i:", &f->both);
    audit_trained(c, f);
    ASK(c, "HMGET %sstats inserted sampled batch_step", c->prefix);
    const uint64_t inserted = number(c, 0), sampled = number(c, 1), steps = number(c, 2);
    if (inserted != f->present + f->tombstones || sampled != batch * steps) {
        f->uncounted++;
        printf("violation: %llu admitted, %zu present, %zu used up; %llu handed out in %llu steps "
               "of %zu\n",
               (unsigned long long)inserted, f->present, f->tombstones, (unsigned long long)sampled,
               (unsigned long long)steps, batch);
    }
    return f->lost + f->torn + f->both + f->doubled + f->uncounted + f->changed;
}
