#include "shapes/tokens.h"

#include "base/buf.h"
#include "base/file.h"
#include "shapes/world.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WORD_END "</w>"
#define FILE_BYTES_MAX (256u << 10)

const char *tokens_word(size_t i)
{
    static const char *const words[] = {
        "a",       "an",        "the",        "in",     "on",      "of",    "and",
        "top",     "bottom",    "left",       "right",  "center",  "above", "below",
        "two",     "three",     "four",       "small",  "large",   "red",   "orange",
        "yellow",  "green",     "blue",       "purple", "white",   "black", "circle",
        "square",  "triangle",  "diamond",    "star",   "cross",   "ring",  "circles",
        "squares", "triangles", "diamonds",   "stars",  "crosses", "rings", "gray",
        "cream",   "navy",      "teal",       "sky",    "pink",    "plain", "gradient",
        "striped", "checkered", "background",
    };
    return i < sizeof words / sizeof *words ? words[i] : NULL;
}

/* ---- merges
 * -------------------------------------------------------------------------------------- */

static int rank_of(const struct tokens *t, const char *left, const char *right)
{
    for (int i = 0; i < t->merges; i++)
        if (strcmp(t->merge[i].left, left) == 0 && strcmp(t->merge[i].right, right) == 0)
            return i;
    return TOKENS_MERGES_MAX;
}

static void join(char parts[][TOKENS_WORD_BYTES_MAX], int *n, int at)
{
    const size_t used = strlen(parts[at]), more = strlen(parts[at + 1]);
    assert(used + more < TOKENS_WORD_BYTES_MAX);
    memcpy(parts[at] + used, parts[at + 1], more + 1);
    memmove(parts[at + 1], parts[at + 2], (size_t)(*n - at - 2) * TOKENS_WORD_BYTES_MAX);
    --*n;
}

int tokens_split(const struct tokens *t, const char *word,
                 char parts[TOKENS_WORD_BYTES_MAX][TOKENS_WORD_BYTES_MAX])
{
    int n = (int)strlen(word);
    assert(n > 0 && (size_t)n < TOKENS_WORD_BYTES_MAX - sizeof WORD_END + 1);
    for (int i = 0; i < n; i++)
        snprintf(parts[i], TOKENS_WORD_BYTES_MAX, "%c%s", word[i], i == n - 1 ? WORD_END : "");
    for (;;) {
        int best = TOKENS_MERGES_MAX;
        for (int i = 0; i + 1 < n; i++) {
            const int rank = rank_of(t, parts[i], parts[i + 1]);
            best = rank < best ? rank : best;
        }
        if (best == TOKENS_MERGES_MAX)
            return n;
        for (int i = 0; i + 1 < n; i++)
            if (rank_of(t, parts[i], parts[i + 1]) == best)
                join(parts, &n, i);
    }
}

void tokens_init(struct tokens *t)
{
    char parts[TOKENS_WORD_BYTES_MAX][TOKENS_WORD_BYTES_MAX];
    const char *word;
    t->merges = 0;
    /* Later merges have higher ranks, so they never change how an earlier word is put together. */
    for (size_t w = 0; (word = tokens_word(w)) != NULL; w++)
        for (int n = tokens_split(t, word, parts); n > 1;) {
            assert(t->merges < TOKENS_MERGES_MAX);
            struct tokens_merge *m = &t->merge[t->merges++];
            memcpy(m->left, parts[0], sizeof m->left);
            memcpy(m->right, parts[1], sizeof m->right);
            join(parts, &n, 0);
        }
    t->begin_id = 512 + t->merges;
    t->end_id = t->begin_id + 1;
    t->vocabulary = t->end_id + 1;
}

/* ---- files
 * --------------------------------------------------------------------------------------- */

/* CLIP's printable stand-in for the i-th byte symbol, as UTF-8 with JSON's escapes: the printable
 * bytes of Latin-1 first, each as itself, then the other 68 as U+0100 and up. */
static void add_symbol(struct buf *b, int i)
{
    const int code = i < 94    ? 33 + i
                     : i < 106 ? 161 + i - 94
                     : i < 188 ? 174 + i - 106
                               : 256 + i - 188;
    if (code == '"' || code == '\\')
        buf_add_byte(b, '\\');
    if (code < 128) {
        buf_add_byte(b, (char)code);
    } else {
        buf_add_byte(b, (char)(0xc0 | code >> 6));
        buf_add_byte(b, (char)(0x80 | (code & 63)));
    }
}

static void fill_vocabulary(struct buf *b, const struct tokens *t)
{
    buf_add_byte(b, '{');
    for (int i = 0; i < 512; i++) {
        buf_add_byte(b, '"');
        add_symbol(b, i % 256);
        buf_format(b, "%s\": %d, ", i < 256 ? "" : WORD_END, i);
    }
    for (int i = 0; i < t->merges; i++)
        buf_format(b, "\"%s%s\": %d, ", t->merge[i].left, t->merge[i].right, 512 + i);
    buf_format(b, "\"<|startoftext|>\": %d, \"<|endoftext|>\": %d}\n", t->begin_id, t->end_id);
}

static void fill_merges(struct buf *b, const struct tokens *t)
{
    buf_add_text(b, "#version: 0.2\n");
    for (int i = 0; i < t->merges; i++)
        buf_format(b, "%s %s\n", t->merge[i].left, t->merge[i].right);
}

static void fill_config(struct buf *b, const struct tokens *t)
{
    (void)t;
    buf_format(b,
               "{\n  \"add_prefix_space\": false,\n  \"bos_token\": \"<|startoftext|>\",\n"
               "  \"do_lower_case\": true,\n  \"eos_token\": \"<|endoftext|>\",\n"
               "  \"errors\": \"replace\",\n  \"model_max_length\": %d,\n"
               "  \"pad_token\": \"<|endoftext|>\",\n  \"tokenizer_class\": \"CLIPTokenizer\",\n"
               "  \"unk_token\": \"<|endoftext|>\"\n}\n",
               TOKENS_LENGTH_MAX);
}

static void fill_special(struct buf *b, const struct tokens *t)
{
    (void)t;
    buf_add_text(b,
                 "{\n  \"bos_token\": \"<|startoftext|>\",\n  \"eos_token\": \"<|endoftext|>\",\n"
                 "  \"pad_token\": \"<|endoftext|>\",\n  \"unk_token\": \"<|endoftext|>\"\n}\n");
}

int shapes_tokenizer_write(const char *folder, struct err *e)
{
    static const struct {
        const char *name;
        void (*fill)(struct buf *b, const struct tokens *t);
    } files[] = {{"vocab.json", fill_vocabulary},
                 {"merges.txt", fill_merges},
                 {"tokenizer_config.json", fill_config},
                 {"special_tokens_map.json", fill_special}};
    struct tokens t;
    struct buf b;
    int rc = -1;
    tokens_init(&t);
    buf_init(&b, FILE_BYTES_MAX);
    if (file_make_folders(folder, e) < 0)
        goto out;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[FILE_PATH_BYTES_MAX];
        buf_clear(&b);
        files[i].fill(&b, &t);
        if (buf_check(&b, files[i].name, e) < 0 || file_join(path, folder, files[i].name, e) < 0 ||
            file_replace(path, b.data, b.bytes, 0644, e) < 0)
            goto out;
    }
    rc = 0;
out:
    buf_done(&b);
    return rc < 0 ? err_wrap(e, "the shapes tokenizer") : 0;
}
