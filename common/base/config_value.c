#define _DEFAULT_SOURCE /* explicit_bzero */
/* The values of settings: text to member by kind, bounds, and the words that describe them. */
#include "base/config_private.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct unit {
    const char *name;
    double factor;
};

static const struct unit size_units[] = {{"", 1.0},        {"B", 1.0},           {"KiB", 1024.0}, {"MiB", 1048576.0},
                                         {"GiB", 1073741824.0}, {"TiB", 1099511627776.0}, {NULL, 0.0}};
static const struct unit duration_units[] = {{"ms", 1.0},       {"s", 1000.0},     {"m", 60000.0},
                                             {"h", 3600000.0}, {"d", 86400000.0}, {NULL, 0.0}};

static const char *kind_words(enum config_kind kind)
{
    switch (kind) {
    case CONFIG_integer: return "an integer";
    case CONFIG_real: return "a number";
    case CONFIG_flag: return "true or false";
    case CONFIG_text: return "text";
    case CONFIG_choice: return "one of";
    case CONFIG_size: return "a size such as 64KiB, 16MiB or 1GiB";
    case CONFIG_duration: return "a duration such as 250ms, 5s, 2m or 1h";
    case CONFIG_secret: return "the path of a file that holds the secret";
    }
    return "";
}

void config_value_describe(const struct config_field *f, struct buf *out)
{
    buf_add_text(out, kind_words(f->kind));
    if (f->kind == CONFIG_choice) {
        buf_add_byte(out, ' ');
        buf_add_text(out, f->min);
    } else if (f->kind == CONFIG_text || f->kind == CONFIG_secret) {
        buf_format(out, ", at most %s bytes", f->max[0] != 0 ? f->max : "1023");
    } else if (f->min[0] != 0 && f->max[0] != 0) {
        buf_format(out, ", %s to %s", f->min, f->max);
    } else if (f->min[0] != 0) {
        buf_format(out, ", at least %s", f->min);
    } else if (f->max[0] != 0) {
        buf_format(out, ", at most %s", f->max);
    }
    if (f->unit[0] != 0)
        buf_format(out, ", %s", f->unit);
}

static int refused(const struct config_field *f, const char *text, const char *why, struct err *e)
{
    struct buf accepted;
    buf_init(&accepted, 400);
    config_value_describe(f, &accepted);
    err_set(e, ERR_INVALID, "\"%.200s\" %s; accepted: %s", text, why, buf_text(&accepted));
    buf_done(&accepted);
    return -1;
}

/* ---- numbers ------------------------------------------------------------------------------------ */

/* strtoll and strtod skip spaces and read hex, infinities and NaN; settings do not. */
static bool looks_decimal(const char *text)
{
    const char *p = text + (text[0] == '-' || text[0] == '+');
    return ((*p >= '0' && *p <= '9') || *p == '.') && strpbrk(text, "xXpP") == NULL;
}

static const char *parse_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    if (!looks_decimal(text))
        return "is not an integer";
    const long long v = strtoll(text, &end, 10);
    if (*end != 0 || end == text)
        return "is not an integer";
    if (errno == ERANGE)
        return "does not fit 64 bits";
    *out = v;
    return NULL;
}

static const char *parse_real(const char *text, double *out)
{
    char *end;
    if (!looks_decimal(text))
        return "is not a number";
    const double v = strtod(text, &end);
    if (*end != 0 || end == text)
        return "is not a number";
    if (!isfinite(v))
        return "is too large";
    *out = v;
    return NULL;
}

/* A decimal number and one of the units, as a whole number of the smallest unit. */
static const char *parse_with_unit(const char *text, const struct unit *units, bool zero_alone, int64_t *out)
{
    char *end;
    if (!looks_decimal(text))
        return "is not a number with a unit";
    const double v = strtod(text, &end);
    if (end == text)
        return "is not a number with a unit";
    while (*end == ' ')
        end++;
    const struct unit *u = units;
    while (u->name != NULL && strcmp(u->name, end) != 0)
        u++;
    if (u->name == NULL && !(zero_alone && *end == 0 && v == 0.0))
        return *end == 0 ? "has no unit" : "has an unknown unit";
    const double whole = v * (u->name != NULL ? u->factor : 1.0);
    if (!(fabs(whole) < 4e18))
        return "is too large";
    if (whole != floor(whole))
        return "is a fraction of the smallest unit";
    *out = (int64_t)whole;
    return NULL;
}

static const char *parse_whole(const struct config_field *f, const char *text, int64_t *out)
{
    if (f->kind == CONFIG_size)
        return parse_with_unit(text, size_units, false, out);
    if (f->kind == CONFIG_duration)
        return parse_with_unit(text, duration_units, true, out);
    return parse_int(text, out);
}

static int set_whole(const struct config_field *f, const char *text, void *member, struct err *e)
{
    int64_t v = 0, min = INT64_MIN, max = INT64_MAX;
    const char *why = parse_whole(f, text, &v);
    if (why != NULL)
        return refused(f, text, why, e);
    if (f->min[0] != 0) {
        why = parse_whole(f, f->min, &min);
        assert(why == NULL); /* a bound in the table */
    }
    if (f->max[0] != 0) {
        why = parse_whole(f, f->max, &max);
        assert(why == NULL);
    }
    if (v < min || v > max)
        return refused(f, text, v < min ? "is too small" : "is too large", e);
    memcpy(member, &v, sizeof v);
    return 0;
}

static int set_real(const struct config_field *f, const char *text, void *member, struct err *e)
{
    double v = 0.0, min = -HUGE_VAL, max = HUGE_VAL;
    const char *why = parse_real(text, &v);
    if (why != NULL)
        return refused(f, text, why, e);
    if (f->min[0] != 0) {
        why = parse_real(f->min, &min);
        assert(why == NULL);
    }
    if (f->max[0] != 0) {
        why = parse_real(f->max, &max);
        assert(why == NULL);
    }
    if (v < min || v > max)
        return refused(f, text, v < min ? "is too small" : "is too large", e);
    memcpy(member, &v, sizeof v);
    return 0;
}

/* ---- words -------------------------------------------------------------------------------------- */

static int set_flag(const struct config_field *f, const char *text, void *member, struct err *e)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0) {
            const bool v = i % 2 == 1;
            memcpy(member, &v, sizeof v);
            return 0;
        }
    return refused(f, text, "is neither", e);
}

static int set_choice(const struct config_field *f, const char *text, void *member, struct err *e)
{
    const size_t length = strlen(text);
    int index = 0;
    for (const char *p = f->min;; index++) {
        const size_t n = strcspn(p, "|");
        if (n == length && strncmp(p, text, n) == 0) {
            memcpy(member, &index, sizeof index);
            return 0;
        }
        if (p[n] == 0)
            return refused(f, text, "is not among them", e);
        p += n + 1;
    }
}

static int set_text(const struct config_field *f, const char *text, char *member, struct err *e)
{
    const size_t bytes = strlen(text);
    int64_t max = CONFIG_TEXT_BYTES_MAX - 1;
    if (f->max[0] != 0) {
        const char *why = parse_int(f->max, &max);
        assert(why == NULL && max < CONFIG_TEXT_BYTES_MAX);
    }
    if (bytes > (size_t)max)
        return refused(f, text, "is too long", e);
    for (size_t i = 0; i < bytes;) {
        uint32_t code;
        const size_t n = utf8_next(text + i, bytes - i, &code);
        if (n == 0)
            return refused(f, text, "is not UTF-8", e);
        if (utf8_is_control(code) && code != '\n' && code != '\t')
            return refused(f, text, "holds a control character", e);
        i += n;
    }
    memcpy(member, text, bytes + 1);
    return 0;
}

int config_value_parse(const struct config_field *f, const char *text, void *member, struct err *e)
{
    switch (f->kind) {
    case CONFIG_integer:
    case CONFIG_size:
    case CONFIG_duration: return set_whole(f, text, member, e);
    case CONFIG_real: return set_real(f, text, member, e);
    case CONFIG_flag: return set_flag(f, text, member, e);
    case CONFIG_choice: return set_choice(f, text, member, e);
    case CONFIG_text:
    case CONFIG_secret: return set_text(f, text, member, e);
    }
    return err_set(e, ERR_INVALID, "a setting of no known kind");
}

/* ---- helpers for the users of settings ----------------------------------------------------------- */

int config_read_secret(const char *path, char *out, size_t out_bytes, struct err *e)
{
    char *text;
    size_t bytes;
    struct stat st;
    out[0] = 0;
    if (stat(path, &st) == 0 && (st.st_mode & S_IWOTH) != 0)
        return err_set(e, ERR_INVALID, "secret file %s: anyone may write it; run chmod o-w on it", path);
    if (file_read_all(path, out_bytes, &text, &bytes, e) < 0)
        return err_wrap(e, "secret file");
    if (bytes > 0 && text[bytes - 1] == '\n')
        bytes--;
    if (bytes > 0 && text[bytes - 1] == '\r')
        bytes--;
    int rc = 0;
    const char *const wrong = bytes == 0                      ? "is empty"
                              : bytes >= out_bytes            ? "is too long"
                              : memchr(text, 0, bytes) != NULL ? "holds a NUL byte"
                              : memchr(text, '\n', bytes) != NULL || memchr(text, '\r', bytes) != NULL
                                  ? "holds more than one line" /* in a header the second would be one of its own */
                                  : NULL;
    if (wrong != NULL) {
        rc = err_set(e, ERR_INVALID, "secret file %s: %s", path, wrong);
    } else {
        memcpy(out, text, bytes);
        out[bytes] = 0;
    }
    explicit_bzero(text, bytes);
    mem_free(text);
    return rc;
}

bool config_list_next(const char **cursor, char *item, size_t item_bytes)
{
    for (;;) {
        const char *p = *cursor;
        if (*p == 0)
            return false;
        size_t n = strcspn(p, ",");
        *cursor = p + n + (p[n] == ',');
        while (n > 0 && *p == ' ') {
            p++;
            n--;
        }
        while (n > 0 && p[n - 1] == ' ')
            n--;
        if (n == 0)
            continue;
        if (n >= item_bytes)
            n = item_bytes - 1;
        memcpy(item, p, n);
        item[n] = 0;
        return true;
    }
}
