#include "run/prompt_file.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/csv.h"
#include "rollout/trajectory.h"
#include "run/prompt_set.h"
#include "wire/codec.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LINE_BYTES_MAX ((size_t)1 << 20)

static bool ends_with(const char *text, const char *tail)
{
    const size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

static int add_prompt(size_t *count, struct buf *out, const struct json *in, const char *text,
                      struct err *e)
{
    const char *prompt = text, *tag = "";
    const struct json *metadata = NULL;
    if (in != NULL &&
        (json_get_string(in, "prompt", TRAJECTORY_PROMPT_BYTES_MAX, &prompt, e) < 0 ||
         json_get_string_or(in, "tag", TRAJECTORY_TAG_BYTES_MAX - 1, "", &tag, e) < 0 ||
         json_get_object_or(in, "metadata", &metadata, e) < 0))
        return -1;
    if (strlen(prompt) > TRAJECTORY_PROMPT_BYTES_MAX)
        return err_set(e, ERR_INVALID, "longer than %d bytes", TRAJECTORY_PROMPT_BYTES_MAX);
    if (*count == CODEC_PROMPTS_MAX)
        return err_set(e, ERR_INVALID, "more than %d prompts", CODEC_PROMPTS_MAX);
    if (metadata != NULL) {
        size_t n;
        mem_free(json_print(metadata, JSON_LINE, &n));
        if (n > TRAJECTORY_METADATA_BYTES_MAX)
            return err_set(e, ERR_INVALID, "metadata: longer than %d bytes", TRAJECTORY_METADATA_BYTES_MAX);
    }
    char *line = prompt_set_line(prompt, tag, metadata);
    buf_format(out, "%s\n", line);
    mem_free(line);
    ++*count;
    return 0;
}

/* JSON strings would hold '?' where it is not. */
static int not_utf8(struct err *e)
{
    return err_set(e, ERR_INVALID, "not UTF-8: convert the file");
}

static int read_line(size_t *count, struct buf *out, const char *line, size_t n,
                     bool lines_json, struct err *e)
{
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t'))
        n--;
    if (n == 0)
        return 0;
    if (lines_json) {
        struct json *in;
        if (json_parse(&in, line, n, LINE_BYTES_MAX, e) < 0)
            return -1;
        int rc = json_is_object(in) ? add_prompt(count, out, in, NULL, e)
                                    : err_set(e, ERR_INVALID, "not an object");
        json_free(in);
        return rc;
    }
    if (memchr(line, 0, n) != NULL || n > TRAJECTORY_PROMPT_BYTES_MAX)
        return err_set(e, ERR_INVALID, "longer than %d bytes, or not text",
                       TRAJECTORY_PROMPT_BYTES_MAX);
    if (!utf8_valid(line, n))
        return not_utf8(e);
    char text[TRAJECTORY_PROMPT_BYTES_MAX + 1];
    memcpy(text, line, n);
    text[n] = 0;
    return add_prompt(count, out, NULL, text, e);
}

static int read_lines(size_t *count, struct buf *out, const char *text, size_t bytes,
                      bool lines_json, struct err *e)
{
    size_t number = 0;
    for (size_t at = 0; at < bytes;) {
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t n = end == NULL ? bytes - at : (size_t)(end - (text + at));
        number++;
        if (read_line(count, out, text + at, n, lines_json, e) < 0)
            return err_wrap(e, "line %zu", number);
        at += n + 1;
    }
    return 0;
}

/* A table's row: the columns of prompt and tag, every other one as metadata under its name. */
static int read_row(size_t *count, struct buf *out, const struct csv *row,
                    const struct json *header, const char *column, struct err *e)
{
    struct json *in = json_new_object(), *metadata = json_new_object();
    if (row->count != json_count(header)) {
        json_free(in);
        json_free(metadata);
        return err_set(e, ERR_INVALID, "%zu fields, the header has %zu", row->count,
                       json_count(header));
    }
    for (size_t i = 0; i < row->count; i++) {
        const char *name;
        struct err none;
        if (!utf8_valid(row->field[i], strlen(row->field[i]))) {
            json_free(in);
            json_free(metadata);
            return not_utf8(e);
        }
        if (json_as_string(json_at(header, i), "", SIZE_MAX, &name, &none) < 0)
            continue;
        const bool own = strcmp(name, column) == 0;
        json_set_string(own || strcmp(name, "tag") == 0 ? in : metadata, own ? "prompt" : name,
                        row->field[i]);
    }
    if (json_count(metadata) > 0)
        json_set(in, "metadata", &metadata);
    json_free(metadata);
    const int rc = add_prompt(count, out, in, NULL, e);
    json_free(in);
    return rc;
}

/* The header's names, each once and as text. */
static int read_header(struct json *header, const struct csv *row, const char *column,
                       struct err *e)
{
    bool found = false;
    for (size_t i = 0; i < row->count; i++) {
        if (row->field[i][0] == 0 || !utf8_valid(row->field[i], strlen(row->field[i])))
            return err_set(e, ERR_INVALID, "column %zu has no name", i + 1);
        for (size_t k = 0; k < i; k++)
            if (strcmp(row->field[i], row->field[k]) == 0)
                return err_set(e, ERR_INVALID, "two columns are named %s", row->field[i]);
        found |= strcmp(row->field[i], column) == 0;
        json_append_string(header, row->field[i]);
    }
    return found ? 0
                 : err_set(e, ERR_INVALID,
                           "no column is named %s: set store.prompts_column to the prompts' one",
                           column);
}

static int read_table(size_t *count, struct buf *out, const char *text, size_t bytes,
                      char separator, const char *column, struct err *e)
{
    struct csv c = csv_open(text, bytes, separator);
    struct json *header = json_new_list();
    int got = csv_row(&c, e), rc = got < 0 ? -1 : 0;
    if (got > 0)
        rc = read_header(header, &c, column, e);
    while (rc == 0 && got > 0 && (got = csv_row(&c, e)) != 0) {
        rc = got < 0 ? -1 : read_row(count, out, &c, header, column, e);
        if (rc < 0 && got > 0)
            err_wrap(e, "line %zu", c.line);
    }
    json_free(header);
    csv_close(&c);
    return rc;
}

int prompt_file_parse(struct buf *out, size_t *count, const char *path, const char *text, size_t bytes, const char *column,
                      struct err *e)
{
    const bool lines_json = ends_with(path, ".jsonl"), lines = lines_json || ends_with(path, ".txt");
    const bool commas = ends_with(path, ".csv");
    *count = 0;
    if (!lines && !commas && !ends_with(path, ".tsv"))
        return err_set(e, ERR_INVALID, "'%s' must be a .txt, .jsonl, .csv or .tsv file", path);
    /* spreadsheets begin their UTF-8 with a byte order mark, which is no part of the first name or prompt */
    const size_t mark = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    int rc = lines ? read_lines(count, out, text + mark, bytes - mark, lines_json, e)
                   : read_table(count, out, text + mark, bytes - mark, commas ? ',' : '\t', column, e);
    if (rc == 0 && *count == 0)
        rc = err_set(e, ERR_INVALID, "no prompts in it");
    if (rc == 0)
        rc = buf_check(out, "prompts", e);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

int prompt_file_read(struct buf *out, size_t *count, const char *path, const char *column, struct err *e)
{
    char *text = NULL;
    size_t bytes;
    if (file_read_all(path, PROMPT_SET_BYTES_MAX, &text, &bytes, e) < 0)
        return -1;
    const int rc = prompt_file_parse(out, count, path, text, bytes, column, e);
    mem_free(text);
    return rc;
}
