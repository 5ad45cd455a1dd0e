/* Reading the configs of a model folder: what is shared by the parsers of its components. */
#ifndef DAGLINE_DIFFUSION_CONFIG_CHECK_H
#define DAGLINE_DIFFUSION_CONFIG_CHECK_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

/* One field that has to have the one value that is implemented. A JSON literal: "null", "false",
 * "1", "\"silu\"". */
struct config_fixed {
    const char *field;
    const char *accepted; /* alternatives are separated by '|'; absent is always fine */
};

/* ERR_INVALID names the first field with another value, the value and what is accepted. */
int config_check_fixed(const struct json *config, const struct config_fixed *fields, size_t count,
                       struct err *e) MUST_USE;

/* An integer field in [min, max] with a default. */
int config_size(const struct json *config, const char *field, size_t min, size_t max,
                size_t otherwise, size_t *out, struct err *e) MUST_USE;

/* Exactly `count` sizes: a list of that length, or one integer for all. */
int config_sizes(const struct json *config, const char *field, size_t min, size_t max,
                 size_t otherwise, size_t count, size_t *out, struct err *e) MUST_USE;

/* A list of 1..count_max sizes; *count is 0 where the field is absent. */
int config_size_list(const struct json *config, const char *field, size_t min, size_t max,
                     size_t count_max, size_t *out, size_t *count, struct err *e) MUST_USE;

/* A list of exactly `count` strings, each one of names[0..n_names); out[i] is the index. */
int config_names(const struct json *config, const char *field, const char *const *names,
                 size_t n_names, size_t count, size_t *out, struct err *e) MUST_USE;

#endif
