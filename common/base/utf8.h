/* UTF-8, one character at a time; strict: no overlong forms, no surrogates, nothing above U+10FFFF.
 * Threads: pure functions. */
#ifndef DAGLINE_BASE_UTF8_H
#define DAGLINE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length (1..4) of the character at p, of which `left` >= 1 bytes may be read, and its code point;
 * 0 where the bytes are not valid. */
size_t utf8_next(const char *p, size_t left, uint32_t *code);

bool utf8_valid(const char *text, size_t bytes);

/* The bytes of the whole characters of valid text that fit into bytes_max. */
size_t utf8_fit(const char *text, size_t bytes_max);

/* Control characters, and those that would steer a terminal or reorder what a reader sees (C1, bidi
 * controls, line and paragraph separators, the byte order mark).  Newline and tab are among them. */
bool utf8_is_control(uint32_t code);

#endif
