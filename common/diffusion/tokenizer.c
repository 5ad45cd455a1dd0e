#include "diffusion/tokenizer.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "diffusion/bpe.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define FILE_BYTES_MAX_TOKENIZER (64u << 20)
#define DEFAULT_LENGTH 77
#define SYMBOL_BYTES_MAX 1024

static const char BOS_TEXT[] = "<|startoftext|>", EOS_TEXT[] = "<|endoftext|>";

struct tokenizer {
    int32_t bytes[2][256]; /* [last of its piece][byte] -> id; -1 where the vocabulary lacks it */
    struct bpe merges;
    int32_t bos, eos, pad, unk;
    int length, vocab_size;
};

/* ---- opening: vocabulary, merges, special tokens
 * ---------------------------------------------------- */

static int32_t id_of(const struct json *vocab, const char *symbol)
{
    int64_t id;
    const struct json *value = json_get(vocab, symbol);
    if (value == NULL || json_as_int(value, symbol, 0, TOKENIZER_VOCAB_MAX - 1, &id, NULL) < 0)
        return -1;
    return (int32_t)id;
}

static int check_vocab(struct tokenizer *t, const struct json *vocab, struct err *e)
{
    const char *symbol;
    const struct json *value;
    for (void *c = NULL; json_next(vocab, &c, &symbol, &value);) {
        int64_t id;
        if (json_as_int(value, symbol, 0, TOKENIZER_VOCAB_MAX - 1, &id, e) < 0)
            return err_wrap(e, "vocabulary");
        if (id >= t->vocab_size)
            t->vocab_size = (int)id + 1;
    }
    return 0;
}

/* Byte -> the printable character that stands for it in the vocabulary: itself where it is
 * printable, the others are numbered from U+0100 on, in order. */
static void find_byte_symbols(struct tokenizer *t, const struct json *vocab)
{
    int others = 0;
    for (int byte = 0; byte < 256; byte++) {
        const int printable =
            (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        const utf8proc_int32_t code = printable ? byte : 256 + others++;
        char symbol[16] = {0};
        const utf8proc_ssize_t n = utf8proc_encode_char(code, (utf8proc_uint8_t *)symbol);
        t->bytes[0][byte] = id_of(vocab, symbol);
        snprintf(symbol + n, sizeof symbol - (size_t)n, "</w>");
        t->bytes[1][byte] = id_of(vocab, symbol);
    }
}

static int add_merge(struct tokenizer *t, const struct json *vocab, const char *left, size_t n_left,
                     const char *right, size_t n_right, int32_t rank, struct err *e)
{
    char symbol[3][2 * SYMBOL_BYTES_MAX + 1];
    if (n_left == 0 || n_right == 0 || n_left > SYMBOL_BYTES_MAX || n_right > SYMBOL_BYTES_MAX)
        return err_set(e, ERR_INVALID, "merge %d is not two symbols", rank + 1);
    snprintf(symbol[0], sizeof symbol[0], "%.*s", (int)n_left, left);
    snprintf(symbol[1], sizeof symbol[1], "%.*s", (int)n_right, right);
    snprintf(symbol[2], sizeof symbol[2], "%.*s%.*s", (int)n_left, left, (int)n_right, right);
    const int32_t a = id_of(vocab, symbol[0]), b = id_of(vocab, symbol[1]),
                  ab = id_of(vocab, symbol[2]);
    if (a < 0 || b < 0 || ab < 0)
        return err_set(e, ERR_INVALID,
                       "merge %d '%.40s %.40s' names a symbol that the vocabulary lacks", rank + 1,
                       symbol[0], symbol[1]);
    if (bpe_add(&t->merges, a, b, ab, rank) < 0)
        return err_set(e, ERR_INVALID, "merge %d '%.40s %.40s' is there twice", rank + 1, symbol[0],
                       symbol[1]);
    return 0;
}

/* One line of merges.txt: two symbols and a blank between them. */
static int add_merge_line(struct tokenizer *t, const struct json *vocab, const char *line, size_t n,
                          int32_t rank, struct err *e)
{
    const char *blank = memchr(line, ' ', n);
    if (blank == NULL)
        return err_set(e, ERR_INVALID, "merge %d is not two symbols", rank + 1);
    const size_t left = (size_t)(blank - line);
    return add_merge(t, vocab, line, left, blank + 1, n - left - 1, rank, e);
}

static size_t count_lines(const char *text)
{
    size_t lines = 1;
    for (; *text != 0; text++)
        lines += *text == '\n';
    return lines;
}

/* merges.txt: a version line, then one merge a line. */
static int read_merges_text(struct tokenizer *t, const struct json *vocab, const char *text,
                            struct err *e)
{
    int32_t rank = 0;
    bpe_init(&t->merges, count_lines(text));
    const char *line = strncmp(text, "#version", 8) == 0 ? strchr(text, '\n') : text;
    while (line != NULL && *line != 0) {
        size_t n = strcspn(line, "\n");
        const char *next = line[n] == 0 ? NULL : line + n + 1;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (n > 0 && add_merge_line(t, vocab, line, n, rank++, e) < 0)
            return -1;
        line = next;
    }
    return 0;
}

/* tokenizer.json has merges as "a b" or as ["a","b"]. */
static int read_merges_list(struct tokenizer *t, const struct json *vocab,
                            const struct json *merges, struct err *e)
{
    const size_t count = json_count(merges);
    bpe_init(&t->merges, count);
    for (size_t i = 0; i < count; i++) {
        const struct json *merge = json_at(merges, i);
        const char *left, *right;
        if (json_is_list(merge) && json_count(merge) == 2) {
            if (json_as_string(json_at(merge, 0), "merge", SYMBOL_BYTES_MAX, &left, e) < 0 ||
                json_as_string(json_at(merge, 1), "merge", SYMBOL_BYTES_MAX, &right, e) < 0 ||
                add_merge(t, vocab, left, strlen(left), right, strlen(right), (int32_t)i, e) < 0)
                return -1;
        } else if (json_as_string(merge, "merge", 2 * SYMBOL_BYTES_MAX, &left, e) < 0 ||
                   add_merge_line(t, vocab, left, strlen(left), (int32_t)i, e) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A special token of one of the settings files: "text" or {"content": "text"}; `known` where
 * absent. */
static const char *special_text(const struct json *config, const char *field, const char *known)
{
    const struct json *value = config != NULL ? json_get(config, field) : NULL;
    const char *text;
    if (value != NULL && json_is_object(value))
        value = json_get(value, "content");
    if (value == NULL || json_as_string(value, field, SYMBOL_BYTES_MAX, &text, NULL) < 0)
        return known;
    return text;
}

/* special_tokens_map.json wins over tokenizer_config.json: Stable Diffusion 2 says "!" for the
 * padding in the one and <|endoftext|> in the other, and was trained with "!". */
static int read_specials(struct tokenizer *t, const struct json *vocab, const struct json *config,
                         const struct json *map, struct err *e)
{
    struct {
        const char *field, *known;
        int32_t *id;
    } specials[] = {{"bos_token", BOS_TEXT, &t->bos},
                    {"eos_token", EOS_TEXT, &t->eos},
                    {"pad_token", EOS_TEXT, &t->pad},
                    {"unk_token", EOS_TEXT, &t->unk}};
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
        const char *text = special_text(config, specials[i].field, specials[i].known);
        text = special_text(map, specials[i].field, text);
        *specials[i].id = id_of(vocab, text);
        if (*specials[i].id < 0)
            return err_set(e, ERR_INVALID, "%s '%.80s' is not in the vocabulary", specials[i].field,
                           text);
    }
    /* writers of tokenizer_config.json put 1e30 where they know no length */
    double length = DEFAULT_LENGTH;
    if (config != NULL &&
        json_get_number_or(config, "model_max_length", 2.0, 1e300, DEFAULT_LENGTH, &length, e) < 0)
        return -1;
    t->length = length > TOKENIZER_LENGTH_MAX ? DEFAULT_LENGTH : (int)length;
    return 0;
}

/* NULL in *out where the file does not exist. */
static int read_optional(struct json **out, const char *folder, const char *name, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    *out = NULL;
    if (file_join(path, folder, name, e) < 0)
        return -1;
    return file_exists(path) ? json_read_object(out, path, FILE_BYTES_MAX_TOKENIZER, e) : 0;
}

/* What the folder's files say; any of them may be absent. */
struct folder_files {
    struct json *vocab, *whole, *config, *map;
    char *merges;
};

static int read_folder(struct folder_files *f, const char *folder, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    if (read_optional(&f->vocab, folder, "vocab.json", e) < 0 ||
        read_optional(&f->config, folder, "tokenizer_config.json", e) < 0 ||
        read_optional(&f->map, folder, "special_tokens_map.json", e) < 0)
        return -1;
    if (f->vocab == NULL)
        return read_optional(&f->whole, folder, "tokenizer.json", e);
    if (file_join(path, folder, "merges.txt", e) < 0)
        return -1;
    return file_read_all(path, FILE_BYTES_MAX_TOKENIZER, &f->merges, NULL, e);
}

static int build(struct tokenizer *t, const struct folder_files *f, struct err *e)
{
    const struct json *vocab = f->vocab, *merges = NULL, *model;
    if (f->whole != NULL && (json_get_object(f->whole, "model", &model, e) < 0 ||
                             json_get_object(model, "vocab", &vocab, e) < 0 ||
                             json_get_list(model, "merges", TOKENIZER_VOCAB_MAX, &merges, e) < 0))
        return err_wrap(e, "tokenizer.json");
    if (vocab == NULL)
        return err_set(e, ERR_NOT_FOUND, "neither vocab.json nor tokenizer.json is there");
    if (check_vocab(t, vocab, e) < 0)
        return -1;
    find_byte_symbols(t, vocab);
    if (read_specials(t, vocab, f->config, f->map, e) < 0)
        return -1;
    return merges != NULL ? read_merges_list(t, vocab, merges, e)
                          : read_merges_text(t, vocab, f->merges, e);
}

int tokenizer_open(struct tokenizer **out, const char *folder, struct err *e)
{
    struct tokenizer *t = mem_new(1, sizeof *t);
    struct folder_files f = {0};
    int rc = read_folder(&f, folder, e);
    if (rc == 0)
        rc = build(t, &f, e);
    json_free(f.vocab);
    json_free(f.whole);
    json_free(f.config);
    json_free(f.map);
    mem_free(f.merges);
    if (rc < 0) {
        tokenizer_close(t);
        return err_wrap(e, "tokenizer %s", folder);
    }
    *out = t;
    return 0;
}

void tokenizer_close(struct tokenizer *t)
{
    if (t != NULL)
        bpe_done(&t->merges);
    mem_free(t);
}

int tokenizer_length(const struct tokenizer *t)
{
    return t->length;
}

int tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab_size;
}

/* ---- cleaning: entities, NFC, white space, case
 * ------------------------------------------------------- */

/* The character that "&name;" or "&#n;" at text stands for, its end in *end; 0 where it is neither.
 */
static utf8proc_int32_t entity_at(const char *text, const char **end)
{
    static const struct {
        const char *name;
        utf8proc_int32_t code;
    } known[] = {{"&amp;", '&'},  {"&lt;", '<'},    {"&gt;", '>'},
                 {"&quot;", '"'}, {"&apos;", '\''}, {"&nbsp;", 0xa0}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(text, known[i].name, strlen(known[i].name)) == 0) {
            *end = text + strlen(known[i].name);
            return known[i].code;
        }
    if (strncmp(text, "&#", 2) != 0)
        return 0;
    const int hex = text[2] == 'x' || text[2] == 'X';
    const char *digits = text + 2 + hex;
    const size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
    if (n == 0 || n > 8 || digits[n] != ';')
        return 0;
    const unsigned long code = strtoul(digits, NULL, hex ? 16 : 10);
    *end = digits + n + 1;
    return code > 0 && code <= 0x10ffff && utf8proc_codepoint_valid((utf8proc_int32_t)code)
               ? (utf8proc_int32_t)code
               : 0;
}

/* In place: what an entity stands for is never longer than the entity. */
static void unescape_entities(char *text)
{
    char *out = text;
    for (const char *in = text; *in != 0;) {
        const char *end = in;
        const utf8proc_int32_t code = *in == '&' ? entity_at(in, &end) : 0;
        if (code == 0) {
            *out++ = *in++;
        } else {
            out += utf8proc_encode_char(code, (utf8proc_uint8_t *)out);
            in = end;
        }
    }
    *out = 0;
}

static bool is_space(utf8proc_int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return (c >= 0x09 && c <= 0x0d) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

static bool is_letter(utf8proc_int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

static bool is_number(utf8proc_int32_t c)
{
    const utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

/* The text in NFC and lower case as characters (white space is left to the pieces, which drop it);
 * *out is the caller's. */
static int clean(const char *text, utf8proc_int32_t **out, size_t *n, struct err *e)
{
    const size_t bytes = strlen(text);
    if (bytes > TOKENIZER_TEXT_BYTES_MAX)
        return err_set(e, ERR_INVALID, "the text is %zu bytes, at most %u are encoded", bytes,
                       TOKENIZER_TEXT_BYTES_MAX);
    char *unescaped = mem_strdup(text);
    unescape_entities(unescaped); /* twice, as CLIP's own cleaning does */
    unescape_entities(unescaped);
    const utf8proc_option_t nfc = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    /* no character has a canonical decomposition of more than 4; one place more for each that lower
     * case makes two of */
    const size_t capacity = 8 * strlen(unescaped) + 8;
    utf8proc_int32_t *codes = mem_new(capacity, sizeof *codes);
    utf8proc_ssize_t count =
        utf8proc_decompose((const utf8proc_uint8_t *)unescaped, (utf8proc_ssize_t)strlen(unescaped),
                           codes, (utf8proc_ssize_t)capacity / 2, nfc);
    mem_free(unescaped);
    if (count >= 0 && (size_t)count <= capacity / 2)
        count = utf8proc_normalize_utf32(codes, count, nfc);
    if (count < 0 || (size_t)count > capacity / 2) {
        mem_free(codes);
        return err_set(e, ERR_INVALID, "the text is not UTF-8");
    }
    /* U+0130 alone becomes two characters */
    size_t dotted = 0;
    for (utf8proc_ssize_t i = 0; i < count; i++)
        dotted += codes[i] == 0x130;
    *n = (size_t)count + dotted;
    for (size_t from = (size_t)count, to = *n; from > 0; from--) {
        const utf8proc_int32_t c = codes[from - 1];
        if (c == 0x130)
            codes[--to] = 0x307;
        codes[--to] = c == 0x130 ? 'i' : utf8proc_tolower(c);
    }
    *out = codes;
    return 0;
}

/* ---- pieces
 * ------------------------------------------------------------------------------------------- */

static size_t prefix_ascii(const utf8proc_int32_t *c, size_t n, const char *text)
{
    size_t i = 0;
    for (; text[i] != 0; i++)
        if (i >= n || c[i] != text[i])
            return 0;
    return i;
}

static size_t span(const utf8proc_int32_t *c, size_t n, bool (*belongs)(utf8proc_int32_t))
{
    size_t i = 0;
    while (i < n && belongs(c[i]))
        i++;
    return i;
}

static bool is_other(utf8proc_int32_t c)
{
    return !is_space(c) && !is_letter(c) && !is_number(c);
}

/* The length of the piece that begins at c (n > 0, not white space), by the alternatives of CLIP's
 * pattern in their order. */
static size_t piece_at(const utf8proc_int32_t *c, size_t n)
{
    static const char *const contractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof contractions / sizeof *contractions; i++) {
        const size_t length = prefix_ascii(c, n, contractions[i]);
        if (length > 0)
            return length;
    }
    if (is_letter(c[0]))
        return span(c, n, is_letter);
    return is_number(c[0]) ? 1 : span(c, n, is_other);
}

struct id_list {
    int32_t *ids;
    size_t max, count;
};

static void put_id(struct id_list *list, int32_t id)
{
    if (list->count < list->max)
        list->ids[list->count] = id;
    list->count++;
}

/* One piece -> bytes -> symbols -> merged ids.  symbols: room for 4 per character. */
static void put_piece(const struct tokenizer *t, struct id_list *list, const utf8proc_int32_t *c,
                      size_t n, int32_t *symbols)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        utf8proc_uint8_t utf8[4];
        const utf8proc_ssize_t bytes = utf8proc_encode_char(c[i], utf8);
        for (utf8proc_ssize_t b = 0; b < bytes; b++) {
            const bool last = i + 1 == n && b + 1 == bytes;
            const int32_t id = t->bytes[last][utf8[b]];
            symbols[count++] = id >= 0 ? id : t->unk;
        }
    }
    count = bpe_apply(&t->merges, symbols, count);
    for (size_t i = 0; i < count; i++)
        put_id(list, symbols[i]);
}

int tokenizer_pieces(const struct tokenizer *t, const char *text, int32_t *ids, size_t max,
                     size_t *count, struct err *e)
{
    utf8proc_int32_t *c = NULL;
    size_t n = 0;
    struct id_list list = {.ids = ids, .max = max};
    if (clean(text, &c, &n, e) < 0)
        return -1;
    int32_t *symbols = mem_new(4 * n, sizeof *symbols);
    for (size_t at = 0; at < n;) {
        const size_t bos = prefix_ascii(c + at, n - at, BOS_TEXT),
                     eos = prefix_ascii(c + at, n - at, EOS_TEXT);
        size_t length = bos + eos; /* one of them at most */
        if (length > 0) {
            put_id(&list, bos > 0 ? t->bos : t->eos);
        } else if (is_space(c[at])) {
            length = 1;
        } else {
            length = piece_at(c + at, n - at);
            put_piece(t, &list, c + at, length, symbols);
        }
        at += length;
    }
    mem_free(symbols);
    mem_free(c);
    *count = list.count;
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, int32_t *ids, int length,
                     bool *truncated, struct err *e)
{
    assert(length >= 2 && length <= TOKENIZER_LENGTH_MAX);
    const size_t room = (size_t)length - 2;
    size_t count;
    if (tokenizer_pieces(t, text, ids + 1, room, &count, e) < 0)
        return -1;
    if (truncated != NULL)
        *truncated = count > room;
    const size_t used = count < room ? count : room;
    ids[0] = t->bos;
    ids[used + 1] = t->eos;
    for (size_t i = used + 2; i < (size_t)length; i++)
        ids[i] = t->pad;
    return 0;
}
