#include "io/csv.h"

#include <stdbool.h>
#include <string.h>

struct csv csv_open(const char *text, size_t bytes, char separator)
{
    struct csv c = {.text = text, .bytes = bytes, .separator = separator};
    buf_init(&c.row, CSV_ROW_BYTES_MAX);
    return c;
}

void csv_close(struct csv *c)
{
    buf_done(&c->row);
}

/* Length of the line break at the place, or 0. */
static size_t line_break(const struct csv *c)
{
    if (c->at < c->bytes && c->text[c->at] == '\n')
        return 1;
    return c->at + 1 < c->bytes && c->text[c->at] == '\r' && c->text[c->at + 1] == '\n' ? 2 : 0;
}

static bool at_field_end(const struct csv *c)
{
    return c->at == c->bytes || c->text[c->at] == c->separator || line_break(c) > 0;
}

/* A field in quotes, from behind the first one; *lines are those it spans. */
static int quoted(struct csv *c, size_t *lines, struct err *e)
{
    for (; c->at < c->bytes; c->at++) {
        const char byte = c->text[c->at];
        if (byte == '"') {
            if (++c->at < c->bytes && c->text[c->at] == '"') {
                buf_add_byte(&c->row, '"');
                continue;
            }
            return at_field_end(c)
                       ? 0
                       : err_set(e, ERR_INVALID, "line %zu: text behind a closing quote", c->line);
        }
        *lines += byte == '\n';
        buf_add_byte(&c->row, byte);
    }
    return err_set(e, ERR_INVALID, "line %zu: a quote that is not closed", c->line);
}

static int field(struct csv *c, size_t *lines, struct err *e)
{
    if (c->at < c->bytes && c->text[c->at] == '"') {
        c->at++;
        return quoted(c, lines, e);
    }
    for (; !at_field_end(c); c->at++)
        buf_add_byte(&c->row, c->text[c->at]);
    return 0;
}

int csv_row(struct csv *c, struct err *e)
{
    size_t start[CSV_FIELDS_MAX], lines = 0;
    for (size_t n; (n = line_break(c)) > 0; c->at += n)
        c->line++;
    if (c->at == c->bytes)
        return 0;
    c->line++;
    c->count = 0;
    buf_clear(&c->row);
    for (;;) {
        if (c->count == CSV_FIELDS_MAX)
            return err_set(e, ERR_INVALID, "line %zu: more than %d fields", c->line,
                           CSV_FIELDS_MAX);
        start[c->count++] = c->row.bytes;
        const size_t from = c->at;
        if (field(c, &lines, e) < 0)
            return -1;
        if (memchr(c->text + from, 0, c->at - from) != NULL)
            return err_set(e, ERR_INVALID, "line %zu: a NUL byte", c->line);
        buf_add_byte(&c->row, 0);
        if (c->at == c->bytes || c->text[c->at] != c->separator)
            break;
        c->at++;
    }
    if (buf_check(&c->row, "row", e) < 0)
        return err_wrap(e, "line %zu", c->line);
    for (size_t i = 0; i < c->count; i++)
        c->field[i] = c->row.data + start[i];
    c->at += line_break(c);
    c->line += lines;
    return 1;
}
