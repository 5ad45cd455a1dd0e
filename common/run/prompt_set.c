#include "run/prompt_set.h"

#include "base/mem.h"
#include "base/rng.h"
#include "rollout/trajectory.h"

#include <stdbool.h>
#include <string.h>

/* Streams of prompt draws; trajectories use 128-bit ids, which never collide with a small stream number. */
#define PROMPT_STREAM 0x70726f6d70747300u

static int parse_line(struct run_prompt *out, const char *line, size_t bytes, struct err *e)
{
    struct json *v = NULL;
    const char *text, *tag;
    const struct json *metadata;
    int rc = -1;
    if (json_parse(&v, line, bytes, PROMPT_SET_LINE_BYTES_MAX, e) < 0)
        return -1;
    if (!json_is_object(v)) {
        err_set(e, ERR_INVALID, "not an object");
        goto out;
    }
    if (json_get_string(v, "prompt", TRAJECTORY_PROMPT_BYTES_MAX, &text, e) < 0 ||
        json_get_string_or(v, "tag", TRAJECTORY_TAG_BYTES_MAX - 1, "", &tag, e) < 0 ||
        json_get_object_or(v, "metadata", &metadata, e) < 0)
        goto out;
    out->text = mem_strdup(text);
    out->tag = mem_strdup(tag);
    out->metadata = metadata == NULL ? mem_strdup("") : json_print(metadata, JSON_LINE, NULL);
    rc = strlen(out->metadata) <= TRAJECTORY_METADATA_BYTES_MAX
             ? 0
             : err_set(e, ERR_INVALID, "metadata has more than %d bytes",
                       TRAJECTORY_METADATA_BYTES_MAX);
out:
    json_free(v);
    return rc;
}

char *prompt_set_line(const char *prompt, const char *tag, const struct json *metadata)
{
    struct json *line = json_new_object();
    json_set_string(line, "prompt", prompt);
    json_set_string(line, "tag", tag);
    if (metadata != NULL) {
        struct json *copy = json_clone(metadata);
        json_set(line, "metadata", &copy);
    }
    char *text = json_print(line, JSON_LINE, NULL);
    json_free(line);
    return text;
}

static bool is_blank(const char *text, size_t bytes)
{
    while (bytes > 0 && strchr(" \t\r", text[bytes - 1]) != NULL && text[bytes - 1] != 0)
        bytes--;
    return bytes == 0;
}

int prompt_set_parse(struct prompt_set *out, const char *jsonl, size_t bytes, struct err *e)
{
    memset(out, 0, sizeof *out);
    size_t room = 0, number = 0;
    for (const char *at = jsonl, *end = jsonl + bytes; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const size_t length = (size_t)((newline != NULL ? newline : end) - at);
        number++;
        if (!is_blank(at, length)) {
            if (out->count == room) {
                room = room == 0 ? 256 : 2 * room;
                out->item = mem_grow(out->item, room, sizeof *out->item);
            }
            out->item[out->count] = (struct run_prompt){0};
            const int rc = parse_line(&out->item[out->count], at, length, e);
            out->count += out->item[out->count].text != NULL;
            if (rc < 0) {
                prompt_set_done(out);
                return err_wrap(e, "prompts, line %zu", number);
            }
        }
        at += length + 1;
    }
    if (out->count == 0)
        return err_set(e, ERR_INVALID, "prompts: no prompt in %zu bytes", bytes);
    return 0;
}

static void drop(const char *text)
{
    mem_free((void *)(uintptr_t)text);
}

void prompt_set_done(struct prompt_set *p)
{
    for (size_t i = 0; i < p->count; i++) {
        drop(p->item[i].text);
        drop(p->item[i].tag);
        drop(p->item[i].metadata);
    }
    mem_free(p->item);
    memset(p, 0, sizeof *p);
}

size_t prompt_set_draw(size_t count, uint64_t seed, uint32_t slot, uint64_t group)
{
    struct rng g = rng_stream(seed ^ (group >> 32), PROMPT_STREAM + slot, (uint32_t)group);
    return (size_t)rng_below(&g, count);
}
