#include "base/config_yaml.h"

#include "base/buf.h"
#include "base/config.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define KEYS_MAX CONFIG_GIVEN_MAX

struct reader {
    yaml_parser_t parser;
    const char *name;
    config_yaml_put *put;
    void *arg;
    char **keys; /* seen so far: a key given twice hides one of its values */
    int *lines;
    size_t count;
    struct err *e;
};

static int bad(const struct reader *r, int line, const char *what)
{
    return err_set(r->e, ERR_INVALID, "%s:%d: %s", r->name, line, what);
}

static int next_event(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event) == 1)
        return 0;
    const int line = (int)r->parser.problem_mark.line + 1;
    return bad(r, line, r->parser.problem != NULL ? r->parser.problem : "cannot be read as YAML");
}

static int line_of(const yaml_event_t *event)
{
    return (int)event->start_mark.line + 1;
}

static int put(struct reader *r, const char *key, const char *value, int line)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->keys[i], key) == 0)
            return err_set(r->e, ERR_INVALID, "%s:%d: %s is given again (first in line %d)", r->name, line, key,
                           r->lines[i]);
    if (r->count == KEYS_MAX)
        return bad(r, line, "too many settings");
    r->keys[r->count] = mem_strdup(key);
    r->lines[r->count++] = line;
    return r->put(r->arg, key, value, line, r->e);
}

/* The text of a scalar; NULL and an error for anything else.  A null is refused here: it is what a
 * forgotten value looks like. */
static const char *scalar_text(const struct reader *r, const yaml_event_t *event, const char *key)
{
    const int line = line_of(event);
    if (event->type != YAML_SCALAR_EVENT) {
        err_set(r->e, ERR_INVALID, "%s:%d: %s is not a plain value", r->name, line, key);
        return NULL;
    }
    const char *text = (const char *)event->data.scalar.value;
    if (event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL) {
        bad(r, line, "anchors and tags are not part of a settings file");
        return NULL;
    }
    if (strlen(text) != event->data.scalar.length) {
        bad(r, line, "a value holds a NUL byte");
        return NULL;
    }
    const int plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && (text[0] == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)) {
        err_set(r->e, ERR_INVALID, "%s:%d: %s has no value (write \"\" for an empty one)", r->name, line, key);
        return NULL;
    }
    return text;
}

/* A list of scalars, after its start: its items joined with commas. */
static int read_list(struct reader *r, const char *key, int line)
{
    struct buf joined;
    int rc = -1;
    buf_init(&joined, CONFIG_TEXT_BYTES_MAX - 1);
    for (bool first = true;; first = false) {
        yaml_event_t event;
        if (next_event(r, &event) < 0)
            goto out;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        const char *text = scalar_text(r, &event, key);
        if (text != NULL && strchr(text, ',') != NULL) {
            bad(r, line_of(&event), "an item of a list may not hold a comma");
            text = NULL;
        }
        if (text != NULL) {
            if (!first)
                buf_add_byte(&joined, ',');
            buf_add_text(&joined, text);
        }
        yaml_event_delete(&event);
        if (text == NULL)
            goto out;
    }
    if (buf_check(&joined, key, r->e) < 0)
        err_wrap(r->e, "%s:%d", r->name, line);
    else
        rc = put(r, key, buf_text(&joined), line);
out:
    buf_done(&joined);
    return rc;
}

static int join_key(const struct reader *r, char out[CONFIG_KEY_BYTES_MAX], const char *prefix, const char *name, int line)
{
    const int n = snprintf(out, CONFIG_KEY_BYTES_MAX, "%s%s%s", prefix, prefix[0] != 0 ? "." : "", name);
    return n < 0 || n >= CONFIG_KEY_BYTES_MAX ? bad(r, line, "the key is too long") : 0;
}

/* A mapping, after its start. */
static int read_mapping(struct reader *r, const char *prefix, int depth)
{
    for (;;) {
        yaml_event_t event;
        char key[CONFIG_KEY_BYTES_MAX];
        if (next_event(r, &event) < 0)
            return -1;
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return 0;
        }
        const int line = line_of(&event);
        const char *name = scalar_text(r, &event, prefix[0] != 0 ? prefix : "the key");
        int rc = name == NULL ? -1 : join_key(r, key, prefix, name, line);
        yaml_event_delete(&event);
        if (rc < 0 || next_event(r, &event) < 0)
            return -1;
        const int at = line_of(&event);
        if (event.type == YAML_MAPPING_START_EVENT) {
            if (event.data.mapping_start.anchor != NULL || event.data.mapping_start.tag != NULL)
                rc = bad(r, at, "anchors and tags are not part of a settings file");
            else if (depth == CONFIG_YAML_DEPTH_MAX)
                rc = bad(r, at, "nested too deep");
            yaml_event_delete(&event);
            if (rc == 0)
                rc = read_mapping(r, key, depth + 1);
        } else if (event.type == YAML_SEQUENCE_START_EVENT) {
            if (event.data.sequence_start.anchor != NULL || event.data.sequence_start.tag != NULL)
                rc = bad(r, at, "anchors and tags are not part of a settings file");
            yaml_event_delete(&event);
            if (rc == 0)
                rc = read_list(r, key, at);
        } else {
            const char *text = scalar_text(r, &event, key);
            rc = text == NULL ? -1 : put(r, key, text, at);
            yaml_event_delete(&event);
        }
        if (rc < 0)
            return -1;
    }
}

/* STREAM-START, then nothing or one document whose root is a mapping (or empty), STREAM-END. */
static int read_stream(struct reader *r)
{
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        int rc = 0;
        if (next_event(r, &event) < 0)
            return -1;
        const yaml_event_type_t type = event.type;
        const int line = line_of(&event);
        if (type == YAML_DOCUMENT_START_EVENT && seen)
            rc = bad(r, line, "a settings file is one document");
        else if (type == YAML_MAPPING_START_EVENT && event.data.mapping_start.anchor == NULL &&
                 event.data.mapping_start.tag == NULL)
            rc = read_mapping(r, "", 1);
        else if (type == YAML_SCALAR_EVENT ? event.data.scalar.length > 0
                                           : type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                                                 type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT)
            rc = bad(r, line, "expected settings as \"section:\" with indented \"name: value\" lines");
        seen = seen || type == YAML_DOCUMENT_START_EVENT;
        yaml_event_delete(&event);
        if (rc < 0 || type == YAML_STREAM_END_EVENT)
            return rc;
    }
}

int config_yaml_read(const char *text, size_t bytes, const char *name, config_yaml_put *put_setting, void *arg,
                     struct err *e)
{
    struct reader r = {.name = name, .put = put_setting, .arg = arg, .e = e};
    if (yaml_parser_initialize(&r.parser) != 1)
        return err_set(e, ERR_IO, "%s: no memory for the YAML parser", name);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    r.keys = mem_new(KEYS_MAX, sizeof *r.keys);
    r.lines = mem_new(KEYS_MAX, sizeof *r.lines);
    const int rc = read_stream(&r);
    for (size_t i = 0; i < r.count; i++)
        mem_free(r.keys[i]);
    mem_free(r.keys);
    mem_free(r.lines);
    yaml_parser_delete(&r.parser);
    return rc;
}
