#include "base/buf.h"

#include "base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CAPACITY_MIN 64

void buf_init(struct buf *b, size_t bytes_max)
{
    assert(bytes_max < SIZE_MAX / 2);
    *b = (struct buf){.bytes_max = bytes_max};
}

void buf_done(struct buf *b)
{
    mem_free(b->data);
    buf_init(b, b->bytes_max);
}

void buf_clear(struct buf *b)
{
    b->bytes = 0;
    b->overflowed = false;
    if (b->data != NULL)
        b->data[0] = 0;
}

void *buf_reserve(struct buf *b, size_t bytes)
{
    if (bytes > b->bytes_max - b->bytes) {
        b->overflowed = true;
        return NULL;
    }
    const size_t need = b->bytes + bytes + 1;
    if (need > b->capacity) {
        size_t capacity = b->capacity < CAPACITY_MIN ? CAPACITY_MIN : b->capacity * 2;
        if (capacity > b->bytes_max + 1)
            capacity = b->bytes_max + 1;
        if (capacity < need)
            capacity = need;
        b->data = mem_grow(b->data, capacity, 1);
        b->capacity = capacity;
    }
    char *at = b->data + b->bytes;
    b->bytes += bytes;
    b->data[b->bytes] = 0;
    return at;
}

void buf_add(struct buf *b, const void *data, size_t bytes)
{
    char *at = buf_reserve(b, bytes);
    if (at != NULL && bytes > 0)
        memcpy(at, data, bytes);
}

void buf_add_text(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_add_base64(struct buf *b, const void *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = data;
    for (size_t i = 0; i < n; i += 3) {
        const unsigned v = (unsigned)in[i] << 16 | (i + 1 < n ? (unsigned)in[i + 1] << 8 : 0) | (i + 2 < n ? in[i + 2] : 0);
        const char four[] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                             i + 2 < n ? digits[v & 63] : '='};
        buf_add(b, four, sizeof four);
    }
}

void buf_add_byte(struct buf *b, char byte)
{
    buf_add(b, &byte, 1);
}

void buf_add_shell_word(struct buf *b, const char *word)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=:,./@%";
    if (*word != 0 && word[strspn(word, plain)] == 0) {
        buf_add_text(b, word);
        return;
    }
    buf_add_byte(b, '\'');
    for (; *word != 0; word++)
        if (*word == '\'')
            buf_add_text(b, "'\\''");
        else
            buf_add_byte(b, *word);
    buf_add_byte(b, '\'');
}

void buf_format(struct buf *b, const char *fmt, ...)
{
    char small[512];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    assert(n >= 0); /* only a bad conversion fails, and the compiler checks those */
    if ((size_t)n < sizeof small) {
        buf_add(b, small, (size_t)n);
    } else {
        char *at = buf_reserve(b, (size_t)n);
        if (at != NULL)
            vsnprintf(at, (size_t)n + 1, fmt, again);
    }
    va_end(again);
}

const char *buf_text(const struct buf *b)
{
    return b->data != NULL ? b->data : "";
}

int buf_check(const struct buf *b, const char *what, struct err *e)
{
    if (b->overflowed)
        return err_set(e, ERR_FULL, "%s is larger than its bound of %zu bytes", what, b->bytes_max);
    return 0;
}

char *buf_take(struct buf *b, size_t *bytes)
{
    char *data = b->data != NULL ? b->data : mem_new(1, 1);
    if (bytes != NULL)
        *bytes = b->bytes;
    buf_init(b, b->bytes_max);
    return data;
}
