#include "diffusion/config_check.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define VALUE_TEXT_MAX 80

/* A short JSON-like text of a scalar, for comparing and for messages. */
static void value_text(const struct json *v, char text[VALUE_TEXT_MAX])
{
    int64_t i;
    double d;
    bool b;
    const char *s;
    const char *const type = json_type_name(v);
    if (strcmp(type, "integer") == 0 && json_as_int(v, "", INT64_MIN, INT64_MAX, &i, NULL) == 0)
        snprintf(text, VALUE_TEXT_MAX, "%lld", (long long)i);
    else if (strcmp(type, "number") == 0 && json_as_number(v, "", -1e300, 1e300, &d, NULL) == 0)
        snprintf(text, VALUE_TEXT_MAX, "%g", d);
    else if (strcmp(type, "boolean") == 0 && json_as_bool(v, "", &b, NULL) == 0)
        snprintf(text, VALUE_TEXT_MAX, "%s", b ? "true" : "false");
    else if (strcmp(type, "string") == 0 && json_as_string(v, "", 1u << 20, &s, NULL) == 0)
        snprintf(text, VALUE_TEXT_MAX, "\"%.70s\"", s);
    else
        snprintf(text, VALUE_TEXT_MAX, "%s", strcmp(type, "null") == 0 ? "null" : type);
}

static bool among(const char *text, const char *accepted)
{
    const size_t n = strlen(text);
    for (const char *at = accepted; at != NULL; at = strchr(at, '|')) {
        at += *at == '|';
        if (strncmp(at, text, n) == 0 && (at[n] == '|' || at[n] == '\0'))
            return true;
    }
    return false;
}

int config_check_fixed(const struct json *config, const struct config_fixed *fields, size_t count,
                       struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        char text[VALUE_TEXT_MAX];
        const struct json *const v = json_get(config, fields[i].field);
        if (v == NULL)
            continue;
        value_text(v, text);
        if (!among(text, fields[i].accepted))
            return err_set(e, ERR_INVALID,
                           "%s is %s, which this engine does not implement (it has %s)",
                           fields[i].field, text, fields[i].accepted);
    }
    return 0;
}

int config_size(const struct json *config, const char *field, size_t min, size_t max,
                size_t otherwise, size_t *out, struct err *e)
{
    int64_t v;
    if (json_get_int_or(config, field, (int64_t)min, (int64_t)max, (int64_t)otherwise, &v, e) < 0)
        return -1;
    *out = (size_t)v;
    return 0;
}

int config_sizes(const struct json *config, const char *field, size_t min, size_t max,
                 size_t otherwise, size_t count, size_t *out, struct err *e)
{
    const struct json *const v = json_get(config, field);
    if (v == NULL || !json_is_list(v)) {
        size_t one;
        if (config_size(config, field, min, max, otherwise, &one, e) < 0)
            return -1;
        for (size_t i = 0; i < count; i++)
            out[i] = one;
        return 0;
    }
    size_t got;
    if (config_size_list(config, field, min, max, count, out, &got, e) < 0)
        return -1;
    if (got != count)
        return err_set(e, ERR_INVALID, "%s has %zu entries, expected %zu or one number", field, got,
                       count);
    return 0;
}

int config_size_list(const struct json *config, const char *field, size_t min, size_t max,
                     size_t count_max, size_t *out, size_t *count, struct err *e)
{
    const struct json *list;
    *count = 0;
    if (json_get_list_or(config, field, count_max, &list, e) < 0)
        return -1;
    for (size_t i = 0; list != NULL && i < json_count(list); i++) {
        int64_t v;
        if (json_as_int(json_at(list, i), field, (int64_t)min, (int64_t)max, &v, e) < 0)
            return -1;
        out[(*count)++] = (size_t)v;
    }
    return 0;
}

int config_names(const struct json *config, const char *field, const char *const *names,
                 size_t n_names, size_t count, size_t *out, struct err *e)
{
    const struct json *list;
    if (json_get_list(config, field, count, &list, e) < 0)
        return -1;
    if (json_count(list) != count)
        return err_set(e, ERR_INVALID, "%s has %zu entries, expected %zu", field, json_count(list),
                       count);
    for (size_t i = 0; i < count; i++) {
        const char *name;
        if (json_as_string(json_at(list, i), field, 256, &name, e) < 0)
            return -1;
        size_t k = 0;
        while (k < n_names && strcmp(name, names[k]) != 0)
            k++;
        if (k == n_names)
            return err_set(
                e, ERR_INVALID,
                "%s[%zu] is \"%s\", which this engine does not implement (it has %s%s%s)", field, i,
                name, names[0], n_names > 1 ? ", " : "", n_names > 1 ? names[1] : "");
        out[i] = k;
    }
    return 0;
}
