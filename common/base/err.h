/* Errors as values.  A fallible function returns 0 or -1 and takes a struct err last; the function
 * that finds the cause writes the message, callers only prepend what they know (err_wrap).
 *
 * The message is one line: what is wrong, where, and how to mend it.  Codes exist only where a
 * caller branches; for everything else ERR_INVALID or ERR_IO and the text are enough.
 * Thread rule: a struct err belongs to one thread.  A NULL err is allowed everywhere. */
#ifndef DAGLINE_BASE_ERR_H
#define DAGLINE_BASE_ERR_H

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

#define ERR_TEXT_BYTES_MAX 1024

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,     /* outside data or settings that cannot be used as they are */
    ERR_SHAPE,       /* a tensor of another shape or dtype than asked for */
    ERR_NOT_FOUND,   /* the named thing does not exist */
    ERR_IO,          /* a system call failed; errno's text is in the message */
    ERR_TIMEOUT,     /* nothing came in time; normal for polling calls */
    ERR_UNAVAILABLE, /* a peer is not reachable now; trying again may succeed */
    ERR_CLOSED,      /* the peer or the queue is gone for good */
    ERR_FULL,        /* a configured bound is reached; the caller must wait */
    ERR_STALE,       /* refused: an older fencing token or version than one already seen */
    ERR_CONFLICT,    /* refused: the same id with other contents */
    ERR_NONFINITE,   /* NaN or infinity where a finite number must be */
    ERR_USAGE,       /* the command line is wrong: exit status 2 */
};

struct err {
    enum err_code code;
    char text[ERR_TEXT_BYTES_MAX];
};

/* Writes the cause and returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Prepends "context: " to the message that is there, keeps the code, returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* err_set with ERR_IO and ": strerror(errno_value)" appended. */
int err_sys(struct err *e, int errno_value, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A stable lower-case name of the code for logs and replies ("not_found"); never NULL. */
const char *err_name(enum err_code code);

#endif
