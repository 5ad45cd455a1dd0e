/* JSON, read strictly and written plainly: a thin door over jansson, which nobody else includes.
 *
 * Reading takes outside data: one UTF-8 document whose top is an object or a list, at most bytes_max
 * bytes and JSON_DEPTH_MAX levels, no duplicate keys, no NUL in strings, integers within 64 bits,
 * nothing after the end.  Errors say line and column, or the field and what it should have been.
 *
 * Ownership: json_parse and json_new_* give a value to free with json_free; everything reached
 * through a value (json_get, strings, list items) is borrowed and lives as long as the whole.
 * json_set and json_append take the value over and null the caller's pointer.
 * Threads: a value belongs to one thread at a time. */
#ifndef DAGLINE_BASE_JSON_H
#define DAGLINE_BASE_JSON_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 64

struct json; /* one value of any type */

int json_parse(struct json **out, const char *text, size_t bytes, size_t bytes_max, struct err *e) MUST_USE;

/* file_read_all and json_parse; the error begins with the path. */
int json_read_file(struct json **out, const char *path, size_t bytes_max, struct err *e) MUST_USE;
/* The same of a file that holds an object. */
int json_read_object(struct json **out, const char *path, size_t bytes_max, struct err *e) MUST_USE;

/* The next value of text that has one a line, from *at on, which moves behind it; NULL at the end.  A line that is not a
 * value, such as one that a crash cut off, or that is longer than JSON_LINE_BYTES_MAX is passed over. */
#define JSON_LINE_BYTES_MAX 65536
struct json *json_next_line(const char **at, const char *end);

/* Frees a value that the caller owns, with all below it.  Accepts NULL. */
void json_free(struct json *v);

/* ---- questions ---------------------------------------------------------------------------------- */

bool json_is_object(const struct json *v);
bool json_is_list(const struct json *v);

/* "object", "list", "string", "integer", "number", "boolean", "null"; "nothing" for NULL. */
const char *json_type_name(const struct json *v);

/* The field's value, or NULL where it is absent (v must be an object). JSON null is a value. */
const struct json *json_get(const struct json *object, const char *field);

/* Items of a list, or fields of an object. */
size_t json_count(const struct json *v);

/* Item i < json_count of a list. */
const struct json *json_at(const struct json *list, size_t i);

/* Walks an object in the order of the document.  `cursor` starts as NULL; false at the end.
 *     for (void *c = NULL; json_next(object, &c, &key, &value);) */
bool json_next(const struct json *object, void **cursor, const char **key, const struct json **value);

/* ---- typed fields of an object ------------------------------------------------------------------
 * On failure ERR_INVALID names the field, what was found and what is accepted; *out is untouched.
 * The _or forms give `otherwise` for a field that is absent or null, and fail as the others do for one
 * of the wrong type or out of bounds. */
int json_get_int(const struct json *object, const char *field, int64_t min, int64_t max, int64_t *out,
                 struct err *e) MUST_USE;
int json_get_int_or(const struct json *object, const char *field, int64_t min, int64_t max,
                    int64_t otherwise, int64_t *out, struct err *e) MUST_USE;

/* An integer or a real number, finite, within [min, max]. */
int json_get_number(const struct json *object, const char *field, double min, double max, double *out,
                    struct err *e) MUST_USE;
int json_get_number_or(const struct json *object, const char *field, double min, double max,
                       double otherwise, double *out, struct err *e) MUST_USE;

int json_get_bool(const struct json *object, const char *field, bool *out, struct err *e) MUST_USE;
int json_get_bool_or(const struct json *object, const char *field, bool otherwise, bool *out,
                     struct err *e) MUST_USE;

/* A string of at most bytes_max bytes (without the NUL), borrowed. */
int json_get_string(const struct json *object, const char *field, size_t bytes_max, const char **out,
                    struct err *e) MUST_USE;
int json_get_string_or(const struct json *object, const char *field, size_t bytes_max,
                       const char *otherwise, const char **out, struct err *e) MUST_USE;

/* A list of at most count_max items; an object. Borrowed; the _or forms give NULL where absent. */
int json_get_list(const struct json *object, const char *field, size_t count_max,
                  const struct json **out, struct err *e) MUST_USE;
int json_get_list_or(const struct json *object, const char *field, size_t count_max,
                     const struct json **out, struct err *e) MUST_USE;
int json_get_object(const struct json *object, const char *field, const struct json **out,
                    struct err *e) MUST_USE;
int json_get_object_or(const struct json *object, const char *field, const struct json **out,
                       struct err *e) MUST_USE;

/* ---- typed values on their own (list items); `what` names the value in the error ---------------- */
int json_as_int(const struct json *v, const char *what, int64_t min, int64_t max, int64_t *out,
                struct err *e) MUST_USE;
int json_as_number(const struct json *v, const char *what, double min, double max, double *out,
                   struct err *e) MUST_USE;
int json_as_bool(const struct json *v, const char *what, bool *out, struct err *e) MUST_USE;
int json_as_string(const struct json *v, const char *what, size_t bytes_max, const char **out,
                   struct err *e) MUST_USE;

/* A list of integers into out[0..*count); more than count_max is an error. */
int json_get_ints(const struct json *object, const char *field, int64_t min, int64_t max, int64_t *out,
                  size_t count_max, size_t *count, struct err *e) MUST_USE;

/* ---- writing ------------------------------------------------------------------------------------
 * Setting a field again replaces it; fields keep the order in which they were first set.  Text that is
 * not valid UTF-8 has its bad bytes replaced by '?'.  JSON has no NaN or infinity: such numbers are
 * written as null, so that a reader sees that there was no value. */
struct json *json_new_object(void) MUST_USE;
struct json *json_new_list(void) MUST_USE;
/* A value of its own, equal to v (for keeping part of a document, or unknown fields). */
struct json *json_clone(const struct json *v) MUST_USE;

void json_set(struct json *object, const char *field, struct json **value); /* field: valid UTF-8 */
void json_set_int(struct json *object, const char *field, int64_t value);
void json_set_number(struct json *object, const char *field, double value);
void json_set_bool(struct json *object, const char *field, bool value);
void json_set_string(struct json *object, const char *field, const char *value);
void json_set_null(struct json *object, const char *field);

void json_append(struct json *list, struct json **value);
void json_append_int(struct json *list, int64_t value);
void json_append_number(struct json *list, double value);
void json_append_string(struct json *list, const char *value);
void json_append_null(struct json *list);

/* The document as text with a NUL: one line, or indented by two spaces with a final newline.  Reals
 * are printed with the fewest digits that read back as the same double.  The caller frees with
 * mem_free; bytes may be NULL. */
enum json_style { JSON_LINE, JSON_INDENTED };
char *json_print(const struct json *v, enum json_style style, size_t *bytes) MUST_USE;

#endif
