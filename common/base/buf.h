/* Growable bytes with a bound that is given when the buffer is made: text pages, HTTP bodies, encoded
 * messages.  There is always a NUL after the last byte, outside `bytes`, so that text can be read as
 * a C string.
 *
 * Going over the bound adds nothing and makes the buffer `overflowed`; the writers do not report each
 * time, the caller asks once at the end (buf_check).  Threads: a buffer belongs to one thread.
 *
 *     struct buf b;
 *     buf_init(&b, 64 * 1024);
 *     buf_format(&b, "step %d\n", step);
 *     if (buf_check(&b, "status page", e) < 0) ...
 *     buf_done(&b); */
#ifndef DAGLINE_BASE_BUF_H
#define DAGLINE_BASE_BUF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;       /* NULL until something was added; else NUL-terminated */
    size_t bytes;     /* used, without the NUL */
    size_t capacity;  /* allocated, with the NUL */
    size_t bytes_max; /* the bound on `bytes` */
    bool overflowed;  /* something did not fit: the contents are incomplete */
};

/* Empty, nothing allocated. */
void buf_init(struct buf *b, size_t bytes_max);

/* Frees; the buffer is then empty with the same bound.  Accepts zeroed memory. */
void buf_done(struct buf *b);

/* Empties but keeps the memory; clears `overflowed`. */
void buf_clear(struct buf *b);

/* Append.  data may be NULL where bytes is 0; data must not lie in the buffer. */
void buf_add(struct buf *b, const void *data, size_t bytes);
void buf_add_text(struct buf *b, const char *text);
void buf_add_byte(struct buf *b, char byte);
void buf_add_base64(struct buf *b, const void *data, size_t n); /* RFC 4648, padded, one line */
void buf_add_shell_word(struct buf *b, const char *word);        /* quoted where a shell would take it apart */
void buf_format(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Appends `bytes` uninitialised bytes and returns where they start; NULL if they do not fit. */
void *buf_reserve(struct buf *b, size_t bytes) MUST_USE;

/* The contents as text; "" while there are none.  Valid until the next change. */
const char *buf_text(const struct buf *b);

/* ERR_FULL, naming `what` and the bound, where something did not fit. */
int buf_check(const struct buf *b, const char *what, struct err *e) MUST_USE;

/* Hands the memory to the caller (mem_free), who finds a NUL at [*bytes]; never NULL.  The buffer is
 * empty afterwards.  bytes may be NULL. */
char *buf_take(struct buf *b, size_t *bytes) MUST_USE;

#endif
