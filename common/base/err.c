#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages are one line whatever they quote: control bytes of foreign text become '?'. */
static void one_line(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p != 0; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (e == NULL)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    one_line(e->text);
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (e == NULL)
        return -1;
    char cause[ERR_TEXT_BYTES_MAX];
    memcpy(cause, e->text, sizeof cause);
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    const size_t used = n < 0 ? 0 : (size_t)n;
    if (used + 3 < sizeof e->text)
        snprintf(e->text + used, sizeof e->text - used, ": %.*s", (int)(sizeof e->text - used - 3), cause);
    one_line(e->text);
    return -1;
}

int err_sys(struct err *e, int errno_value, const char *fmt, ...)
{
    if (e == NULL)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    e->code = ERR_IO;
    const int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    const size_t used = n < 0 ? 0 : (size_t)n;
    if (used + 3 < sizeof e->text) {
        char why[128];
        if (strerror_r(errno_value, why, sizeof why) != 0)
            snprintf(why, sizeof why, "errno %d", errno_value);
        snprintf(e->text + used, sizeof e->text - used, ": %s", why);
    }
    one_line(e->text);
    return -1;
}

const char *err_name(enum err_code code)
{
    switch (code) {
    case ERR_NONE: return "none";
    case ERR_INVALID: return "invalid";
    case ERR_SHAPE: return "shape";
    case ERR_NOT_FOUND: return "not_found";
    case ERR_IO: return "io";
    case ERR_TIMEOUT: return "timeout";
    case ERR_UNAVAILABLE: return "unavailable";
    case ERR_CLOSED: return "closed";
    case ERR_FULL: return "full";
    case ERR_STALE: return "stale";
    case ERR_CONFLICT: return "conflict";
    case ERR_NONFINITE: return "nonfinite";
    case ERR_USAGE: return "usage";
    }
    return "unknown";
}
