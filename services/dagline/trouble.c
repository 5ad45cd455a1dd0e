#include "dagline/trouble.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define TAIL_BYTES ((size_t)256 << 10)

static const char *text_of(const struct json *line, const char *field)
{
    const char *text;
    struct err e;
    return json_get_string_or(line, field, TROUBLE_WORDS_BYTES_MAX, "", &text, &e) == 0 ? text : "";
}

/* "reward service waiting: url=... tries=4 ..." */
static void put_words(struct trouble *t, const struct json *line)
{
    static const char head[] = " time level service event ";
    struct buf out;
    const char *key;
    const struct json *value;
    buf_init(&out, sizeof t->words - 1);
    for (const char *p = text_of(line, "event"); *p != 0; p++)
        buf_add_byte(&out, *p == '_' ? ' ' : *p);
    buf_add_byte(&out, ':');
    for (void *c = NULL; json_next(line, &c, &key, &value);) {
        char word[64];
        snprintf(word, sizeof word, " %s ", key);
        if (strstr(head, word) != NULL)
            continue;
        char *text = json_print(value, JSON_LINE, NULL);
        buf_format(&out, " %s=%s", key, text);
        mem_free(text);
    }
    snprintf(t->words, sizeof t->words, "%s", buf_text(&out));
    buf_done(&out);
}

static bool take_line(struct trouble *t, const struct json *line)
{
    const char *level = text_of(line, "level"), *time = text_of(line, "time");
    if ((strcmp(level, "warn") != 0 && strcmp(level, "error") != 0) || strlen(time) != CLOCK_TEXT_BYTES - 1 ||
        strcmp(time, t->since) <= 0)
        return false;
    snprintf(t->since, sizeof t->since, "%s", time);
    put_words(t, line);
    return true;
}

bool trouble_take(struct trouble *t, const char *log)
{
    FILE *f = fopen(log, "r");
    bool taken = false;
    if (f == NULL)
        return false;
    char *const tail = mem_new(TAIL_BYTES, 1);
    if (fseek(f, -(long)TAIL_BYTES, SEEK_END) < 0)
        rewind(f);
    const char *at = tail, *const end = tail + fread(tail, 1, TAIL_BYTES, f);
    fclose(f);
    for (struct json *line; (line = json_next_line(&at, end)) != NULL; json_free(line))
        taken = (json_is_object(line) && take_line(t, line)) || taken;
    mem_free(tail);
    return taken;
}
