/* Python pickles as plain data: written for reward services that speak them, read without anything
 * that could run.
 *
 * Reading is a small stack machine that knows the opcodes of data (protocols 0 to 5) and builds
 * values, never objects: of globals only what numpy scalars and arrays, bytes of old protocols and
 * OrderedDict need is known, by name, and each is rebuilt here from its bytes; any other is refused
 * with its name.  Recursion, memory and the size of what sharing could blow up are bounded.  The
 * result is JSON, so that one pointer (pointer.h) serves every form:
 *
 *   None                     null
 *   bool, int, float, str    themselves (int: 64 bits)
 *   bytes                    text where it is UTF-8, else refused when it is used
 *   list, tuple, numpy array list
 *   dict                     object (keys: str, or int as its digits)
 *   numpy scalar             its value
 *
 * NaN and infinities become null: no form takes either for a score.
 *
 * Writing is protocol 3 of str, bytes, bool, int, list and dict.  Pure; any thread. */
#ifndef DAGLINE_SCORER_PICKLE_H
#define DAGLINE_SCORER_PICKLE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

#define PICKLE_VALUES_MAX (1u << 18) /* made while reading; and in the result */
#define PICKLE_DEPTH_MAX 48
/* Text and keys of the result, in bytes: so many times the pickle's size, and so many more. */
#define PICKLE_TEXT_FACTOR 4
#define PICKLE_TEXT_BYTES_LEAST (256u << 10)

/* One pickle, nothing behind it.  ERR_INVALID says where and what. */
int pickle_read(struct json **out, const void *data, size_t bytes, struct err *e) MUST_USE;

void pickle_begin(struct buf *b);
void pickle_text(struct buf *b, const char *text);
void pickle_bytes(struct buf *b, const void *data, size_t n);
void pickle_bool(struct buf *b, bool v);
void pickle_list_begin(struct buf *b); /* then its values */
void pickle_list_end(struct buf *b);
void pickle_dict_begin(struct buf *b); /* then keys and values in turn */
void pickle_dict_end(struct buf *b);
/* A JSON value: what prompts' metadata are. */
void pickle_json(struct buf *b, const struct json *v);
void pickle_end(struct buf *b);

#endif
