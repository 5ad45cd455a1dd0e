/* Tables as text: RFC 4180 with commas or tabs, quoted fields with doubled quotes and line breaks
 * inside, CRLF or LF.
 *
 *     struct csv c = csv_open(text, bytes, ',');
 *     while ((got = csv_row(&c, e)) > 0)
 *         ... c.count fields, c.field[0] ...
 *     csv_close(&c);
 * Thread rule: one thread. */
#ifndef DAGLINE_IO_CSV_H
#define DAGLINE_IO_CSV_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>

#define CSV_FIELDS_MAX 256
#define CSV_ROW_BYTES_MAX (1u << 20)

struct csv {
    const char *text; /* borrowed */
    size_t bytes, at, line;
    char separator;
    struct buf row; /* the fields' text */
    size_t count;
    const char *field[CSV_FIELDS_MAX]; /* of the last row; valid until the next */
};

struct csv csv_open(const char *text, size_t bytes, char separator);
void csv_close(struct csv *c);

/* 1 and a row; 0 at the end; -1 for what is no table: an open quote, text behind one, a NUL byte,
 * too many fields. Empty lines are skipped.  c->line is the line that the row began on. */
int csv_row(struct csv *c, struct err *e) MUST_USE;

#endif
