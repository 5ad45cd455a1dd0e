#include "base/json.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* struct json is jansson's json_t under a name that needs no jansson.h. */
static json_t *theirs(const struct json *v)
{
    return (json_t *)(uintptr_t)v; /* jansson's getters lack const where they do not write */
}

static struct json *ours(json_t *v)
{
    return (struct json *)v;
}

static void *must(void *p)
{
    assert(p != NULL); /* only without memory for a few bytes, or for text that was made valid before */
    return p;
}

/* ---- parsing ------------------------------------------------------------------------------------ */

/* jansson allows 2048 levels; ours are counted before it sees the text. */
static int check_depth(const char *text, size_t bytes, struct err *e)
{
    int depth = 0, line = 1;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];
        line += c == '\n';
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return err_set(e, ERR_INVALID, "line %d: nested deeper than %d levels", line, JSON_DEPTH_MAX);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return 0;
}

int json_parse(struct json **out, const char *text, size_t bytes, size_t bytes_max, struct err *e)
{
    *out = NULL;
    if (bytes > bytes_max)
        return err_set(e, ERR_FULL, "JSON of %zu bytes is larger than the bound of %zu", bytes, bytes_max);
    if (bytes == 0) /* jansson would speak of a wrong argument */
        return err_set(e, ERR_INVALID, "empty, expected JSON");
    if (check_depth(text, bytes, e) < 0)
        return -1;
    json_error_t why;
    json_t *v = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (v == NULL)
        return err_set(e, ERR_INVALID, "line %d column %d: %s", why.line, why.column, why.text);
    *out = ours(v);
    return 0;
}

struct json *json_next_line(const char **at, const char *end)
{
    while (*at < end) {
        const char *const line = *at, *const stop = memchr(line, '\n', (size_t)(end - line));
        const size_t bytes = (size_t)((stop != NULL ? stop : end) - line);
        struct json *v;
        struct err unreadable;
        *at = stop != NULL ? stop + 1 : end;
        if (json_parse(&v, line, bytes, JSON_LINE_BYTES_MAX, &unreadable) == 0)
            return v;
    }
    return NULL;
}

int json_read_file(struct json **out, const char *path, size_t bytes_max, struct err *e)
{
    char *text;
    size_t bytes;
    *out = NULL;
    if (file_read_all(path, bytes_max, &text, &bytes, e) < 0)
        return -1;
    const int rc = json_parse(out, text, bytes, bytes_max, e);
    mem_free(text);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

int json_read_object(struct json **out, const char *path, size_t bytes_max, struct err *e)
{
    if (json_read_file(out, path, bytes_max, e) < 0)
        return -1;
    if ((json_is_object)(*out))
        return 0;
    json_free(*out);
    *out = NULL;
    return err_set(e, ERR_INVALID, "%s: not a JSON object", path);
}

void json_free(struct json *v)
{
    json_decref(theirs(v));
}

/* ---- questions ---------------------------------------------------------------------------------- */

/* The names are in parentheses because jansson has macros of the same name. */
bool(json_is_object)(const struct json *v)
{
    return v != NULL && json_typeof(theirs(v)) == JSON_OBJECT;
}

bool json_is_list(const struct json *v)
{
    return v != NULL && json_typeof(theirs(v)) == JSON_ARRAY;
}

const char *json_type_name(const struct json *v)
{
    if (v == NULL)
        return "nothing";
    switch (json_typeof(theirs(v))) {
    case JSON_OBJECT: return "object";
    case JSON_ARRAY: return "list";
    case JSON_STRING: return "string";
    case JSON_INTEGER: return "integer";
    case JSON_REAL: return "number";
    case JSON_TRUE:
    case JSON_FALSE: return "boolean";
    case JSON_NULL: return "null";
    }
    return "unknown";
}

const struct json *json_get(const struct json *object, const char *field)
{
    assert((json_is_object)(object));
    return ours(json_object_get(theirs(object), field));
}

size_t json_count(const struct json *v)
{
    return json_is_list(v) ? json_array_size(theirs(v)) : json_object_size(theirs(v));
}

const struct json *json_at(const struct json *list, size_t i)
{
    assert(json_is_list(list) && i < json_array_size(theirs(list)));
    return ours(json_array_get(theirs(list), i));
}

bool json_next(const struct json *object, void **cursor, const char **key, const struct json **value)
{
    assert((json_is_object)(object));
    *cursor = *cursor == NULL ? json_object_iter(theirs(object)) : json_object_iter_next(theirs(object), *cursor);
    if (*cursor == NULL)
        return false;
    *key = json_object_iter_key(*cursor);
    *value = ours(json_object_iter_value(*cursor));
    return true;
}

/* ---- typed values ------------------------------------------------------------------------------- */

static int wrong_type(const struct json *v, const char *what, const char *expected, struct err *e)
{
    if (v == NULL)
        return err_set(e, ERR_INVALID, "\"%s\" is missing, expected %s", what, expected);
    return err_set(e, ERR_INVALID, "\"%s\" is %s, expected %s", what, json_type_name(v), expected);
}

int json_as_int(const struct json *v, const char *what, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    if (v == NULL || json_typeof(theirs(v)) != JSON_INTEGER)
        return wrong_type(v, what, "integer", e);
    const int64_t value = json_integer_value(theirs(v));
    if (value < min || value > max)
        return err_set(e, ERR_INVALID, "\"%s\" is %lld, expected %lld to %lld", what, (long long)value, (long long)min,
                       (long long)max);
    *out = value;
    return 0;
}

int json_as_number(const struct json *v, const char *what, double min, double max, double *out, struct err *e)
{
    if (v == NULL || (json_typeof(theirs(v)) != JSON_INTEGER && json_typeof(theirs(v)) != JSON_REAL))
        return wrong_type(v, what, "number", e);
    const double value = json_number_value(theirs(v));
    if (!(value >= min && value <= max))
        return err_set(e, ERR_INVALID, "\"%s\" is %g, expected %g to %g", what, value, min, max);
    *out = value;
    return 0;
}

int json_as_bool(const struct json *v, const char *what, bool *out, struct err *e)
{
    if (v == NULL || (json_typeof(theirs(v)) != JSON_TRUE && json_typeof(theirs(v)) != JSON_FALSE))
        return wrong_type(v, what, "true or false", e);
    *out = json_typeof(theirs(v)) == JSON_TRUE;
    return 0;
}

int json_as_string(const struct json *v, const char *what, size_t bytes_max, const char **out, struct err *e)
{
    if (v == NULL || json_typeof(theirs(v)) != JSON_STRING)
        return wrong_type(v, what, "string", e);
    const size_t bytes = json_string_length(theirs(v));
    if (bytes > bytes_max)
        return err_set(e, ERR_INVALID, "\"%s\" has %zu bytes, expected at most %zu", what, bytes, bytes_max);
    *out = json_string_value(theirs(v));
    return 0;
}

static bool is_absent(const struct json *v)
{
    return v == NULL || json_typeof(theirs(v)) == JSON_NULL;
}

int json_get_int(const struct json *object, const char *field, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    return json_as_int(json_get(object, field), field, min, max, out, e);
}

int json_get_int_or(const struct json *object, const char *field, int64_t min, int64_t max, int64_t otherwise,
                    int64_t *out, struct err *e)
{
    const struct json *v = json_get(object, field);
    if (!is_absent(v))
        return json_as_int(v, field, min, max, out, e);
    *out = otherwise;
    return 0;
}

int json_get_number(const struct json *object, const char *field, double min, double max, double *out, struct err *e)
{
    return json_as_number(json_get(object, field), field, min, max, out, e);
}

int json_get_number_or(const struct json *object, const char *field, double min, double max, double otherwise,
                       double *out, struct err *e)
{
    const struct json *v = json_get(object, field);
    if (!is_absent(v))
        return json_as_number(v, field, min, max, out, e);
    *out = otherwise;
    return 0;
}

int json_get_bool(const struct json *object, const char *field, bool *out, struct err *e)
{
    return json_as_bool(json_get(object, field), field, out, e);
}

int json_get_bool_or(const struct json *object, const char *field, bool otherwise, bool *out, struct err *e)
{
    const struct json *v = json_get(object, field);
    if (!is_absent(v))
        return json_as_bool(v, field, out, e);
    *out = otherwise;
    return 0;
}

int json_get_string(const struct json *object, const char *field, size_t bytes_max, const char **out, struct err *e)
{
    return json_as_string(json_get(object, field), field, bytes_max, out, e);
}

int json_get_string_or(const struct json *object, const char *field, size_t bytes_max, const char *otherwise,
                       const char **out, struct err *e)
{
    const struct json *v = json_get(object, field);
    if (!is_absent(v))
        return json_as_string(v, field, bytes_max, out, e);
    *out = otherwise;
    return 0;
}

int json_get_list(const struct json *object, const char *field, size_t count_max, const struct json **out, struct err *e)
{
    const struct json *v = json_get(object, field);
    if (!json_is_list(v))
        return wrong_type(v, field, "list", e);
    if (json_count(v) > count_max)
        return err_set(e, ERR_INVALID, "\"%s\" has %zu items, expected at most %zu", field, json_count(v), count_max);
    *out = v;
    return 0;
}

int json_get_list_or(const struct json *object, const char *field, size_t count_max, const struct json **out,
                     struct err *e)
{
    if (!is_absent(json_get(object, field)))
        return json_get_list(object, field, count_max, out, e);
    *out = NULL;
    return 0;
}

int json_get_object(const struct json *object, const char *field, const struct json **out, struct err *e)
{
    const struct json *v = json_get(object, field);
    if (!(json_is_object)(v))
        return wrong_type(v, field, "object", e);
    *out = v;
    return 0;
}

int json_get_object_or(const struct json *object, const char *field, const struct json **out, struct err *e)
{
    if (!is_absent(json_get(object, field)))
        return json_get_object(object, field, out, e);
    *out = NULL;
    return 0;
}

int json_get_ints(const struct json *object, const char *field, int64_t min, int64_t max, int64_t *out,
                  size_t count_max, size_t *count, struct err *e)
{
    const struct json *list;
    if (json_get_list(object, field, count_max, &list, e) < 0)
        return -1;
    for (size_t i = 0; i < json_count(list); i++)
        if (json_as_int(json_at(list, i), field, min, max, &out[i], e) < 0)
            return err_wrap(e, "item %zu", i);
    *count = json_count(list);
    return 0;
}

/* ---- building ----------------------------------------------------------------------------------- */

struct json *json_new_object(void)
{
    return must(ours(json_object()));
}

struct json *json_new_list(void)
{
    return must(ours(json_array()));
}

struct json *json_clone(const struct json *v)
{
    return must(ours(json_deep_copy(theirs(v))));
}

static json_t *number(double value)
{
    return must(isfinite(value) ? json_real(value) : json_null());
}

static json_t *string(const char *value)
{
    json_t *v = json_string(value);
    if (v != NULL)
        return v;
    char *clean = mem_strdup(value);
    const size_t bytes = strlen(clean);
    for (size_t i = 0; i < bytes;) {
        uint32_t code;
        const size_t n = utf8_next(clean + i, bytes - i, &code);
        if (n == 0)
            clean[i] = '?';
        i += n == 0 ? 1 : n;
    }
    v = json_string(clean);
    mem_free(clean);
    return must(v);
}

static void set(struct json *object, const char *field, json_t *value)
{
    assert((json_is_object)(object));
    const int rc = json_object_set_new(theirs(object), field, value);
    assert(rc == 0); /* field names are valid UTF-8, by contract */
}

void json_set(struct json *object, const char *field, struct json **value)
{
    set(object, field, theirs(*value));
    *value = NULL;
}

void json_set_int(struct json *object, const char *field, int64_t value)
{
    set(object, field, must(json_integer(value)));
}

void json_set_number(struct json *object, const char *field, double value)
{
    set(object, field, number(value));
}

void json_set_bool(struct json *object, const char *field, bool value)
{
    set(object, field, must(json_boolean(value)));
}

void json_set_string(struct json *object, const char *field, const char *value)
{
    set(object, field, string(value));
}

void json_set_null(struct json *object, const char *field)
{
    set(object, field, must(json_null()));
}

static void append(struct json *list, json_t *value)
{
    assert(json_is_list(list));
    const int rc = json_array_append_new(theirs(list), value);
    assert(rc == 0);
}

void json_append(struct json *list, struct json **value)
{
    append(list, theirs(*value));
    *value = NULL;
}

void json_append_int(struct json *list, int64_t value)
{
    append(list, must(json_integer(value)));
}

void json_append_number(struct json *list, double value)
{
    append(list, number(value));
}

void json_append_string(struct json *list, const char *value)
{
    append(list, string(value));
}

void json_append_null(struct json *list)
{
    append(list, json_null());
}

/* ---- printing ----------------------------------------------------------------------------------- */

/* jansson prints reals with a fixed number of digits, so 0.1 would read 0.10000000000000001. */
static void print_real(struct buf *b, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_add_text(b, text);
    if (strpbrk(text, ".e") == NULL)
        buf_add_text(b, ".0"); /* a real stays a real when it is read again */
}

static void print_string(struct buf *b, const char *text, size_t bytes)
{
    buf_add_byte(b, '"');
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            buf_format(b, "\\%c", c);
        else if (c == '\n')
            buf_add_text(b, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_format(b, "\\u%04x", c);
        else
            buf_add_byte(b, text[i]);
    }
    buf_add_byte(b, '"');
}

static void new_line(struct buf *b, enum json_style style, int depth)
{
    if (style == JSON_INDENTED)
        buf_format(b, "\n%*s", 2 * depth, "");
}

static void print_value(struct buf *b, json_t *v, enum json_style style, int depth)
{
    assert(depth <= 2 * JSON_DEPTH_MAX); /* what we build is never deep */
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        buf_add_byte(b, '{');
        bool first = true;
        for (void *it = json_object_iter(v); it != NULL; it = json_object_iter_next(v, it)) {
            if (!first)
                buf_add_byte(b, ',');
            first = false;
            new_line(b, style, depth + 1);
            print_string(b, json_object_iter_key(it), strlen(json_object_iter_key(it)));
            buf_add_text(b, style == JSON_INDENTED ? ": " : ":");
            print_value(b, json_object_iter_value(it), style, depth + 1);
        }
        if (!first)
            new_line(b, style, depth);
        buf_add_byte(b, '}');
        break;
    }
    case JSON_ARRAY:
        buf_add_byte(b, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i > 0)
                buf_add_byte(b, ',');
            new_line(b, style, depth + 1);
            print_value(b, json_array_get(v, i), style, depth + 1);
        }
        if (json_array_size(v) > 0)
            new_line(b, style, depth);
        buf_add_byte(b, ']');
        break;
    case JSON_STRING: print_string(b, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: buf_format(b, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: print_real(b, json_real_value(v)); break;
    case JSON_TRUE: buf_add_text(b, "true"); break;
    case JSON_FALSE: buf_add_text(b, "false"); break;
    case JSON_NULL: buf_add_text(b, "null"); break;
    }
}

char *json_print(const struct json *v, enum json_style style, size_t *bytes)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 4); /* as large as what the caller built */
    print_value(&b, theirs(v), style, 0);
    if (style == JSON_INDENTED)
        buf_add_byte(&b, '\n');
    return buf_take(&b, bytes);
}
