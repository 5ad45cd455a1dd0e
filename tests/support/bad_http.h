/* A reward service that misbehaves as told: an HTTP server in threads of the test, on a loopback
 * port. Its metadata is good (image UINT8 [N,H,W,3], prompt BYTES, score FP32, strict FP32); what
 * it does to a POST is the mode. */
#ifndef DAGLINE_TESTS_BAD_HTTP_H
#define DAGLINE_TESTS_BAD_HTTP_H

#include <stddef.h>
#include <stdint.h>

enum bad_mode {
    BAD_GOOD, /* score = 0.5, strict = 1 for every image */
    BAD_500,
    BAD_503_RETRY_AFTER, /* Retry-After: 1 */
    BAD_429,
    BAD_400,
    BAD_404,
    BAD_204,
    BAD_REDIRECT,    /* 302 to file:///etc/passwd */
    BAD_CLOSE,       /* no answer at all */
    BAD_CUT,         /* Content-Length larger than what comes */
    BAD_DRIP,        /* a byte a second, for ever */
    BAD_SILENT,      /* accepts and says nothing */
    BAD_HUGE_LENGTH, /* announces and sends 64 MiB */
    BAD_ENDLESS_CHUNKS,
    BAD_HUGE_HEADERS,
    BAD_GARBAGE,
    BAD_EMPTY,
    BAD_SHORT_COUNT,
    BAD_LONG_COUNT,
    BAD_SHAPE_LIE, /* shape says N, data has N - 1 */
    BAD_NAN,
    BAD_STRING,
    BAD_NULL,
    BAD_1E999,
    BAD_DUPLICATE_KEY,
    BAD_DUPLICATE_OUTPUT,
    BAD_MISSING_OUTPUT,
    BAD_OTHER_ID,
    BAD_TRAILING,
    BAD_DEEP,
    BAD_RANGE, /* score 7 */
    BAD_GZIP,  /* says gzip, unasked */
    BAD_BINARY_NAN,
    BAD_BINARY_SHORT,
    BAD_QUOTA, /* 429 that no waiting mends */
    BAD_ERROR_200, /* {"error": ...} with status 200 */
    BAD_MODES
};

struct bad_http;

struct bad_http *bad_http_start(enum bad_mode mode);
void bad_http_stop(struct bad_http *b);
uint16_t bad_http_port(const struct bad_http *b);

/* From now on; the first `times` POSTs get it, the later ones are good; 0: all of them. */
void bad_http_mode(struct bad_http *b, enum bad_mode mode, unsigned times);
/* Of every 100 POSTs `percent` are answered by another bad mode each, the others well. */
void bad_http_mix(struct bad_http *b, unsigned percent);
/* The metadata, too, of another model: without `strict`. */
void bad_http_other_tensors(struct bad_http *b);
/* Answers come so long after the request. */
void bad_http_delay(struct bad_http *b, unsigned millis);
/* How many POSTs were answered by another mode than BAD_GOOD. */
unsigned bad_http_bad(struct bad_http *b);
/* How many POSTs came. */
unsigned bad_http_posts(struct bad_http *b);
/* The first 60 bits of the last one's `id`, which is hexadecimal. */
uint64_t bad_http_id(struct bad_http *b);

#endif
