#include "dagline/cmd_tokenize.h"

#include "base/file.h"
#include "diffusion/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static const char usage[] =
    "usage: dagline tokenize --model DIR [--pad]\n"
    "Reads lines of text from stdin and prints the ids of each: the pieces alone, or with --pad\n"
    "what the text encoder gets (start, pieces, end, padding to the model's length).\n";

static int pieces(const struct tokenizer *t, const char *text, struct err *e)
{
    static int32_t ids[TOKENIZER_TEXT_BYTES_MAX];
    size_t count;
    if (tokenizer_pieces(t, text, ids, sizeof ids / sizeof *ids, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        printf("%s%d", i == 0 ? "" : " ", (int)ids[i]);
    putchar('\n');
    return 0;
}

static int padded(const struct tokenizer *t, const char *text, struct err *e)
{
    int32_t ids[TOKENIZER_LENGTH_MAX];
    const int length = tokenizer_length(t);
    if (tokenizer_encode(t, text, ids, length, NULL, e) < 0)
        return -1;
    for (int i = 0; i < length; i++)
        printf("%s%d", i == 0 ? "" : " ", (int)ids[i]);
    putchar('\n');
    return 0;
}

static int each_line(const struct tokenizer *t, bool pad, struct err *e)
{
    char *line = NULL;
    size_t room = 0;
    unsigned long number = 0;
    int rc = 0;
    for (ssize_t n; rc == 0 && (n = getline(&line, &room, stdin)) >= 0;) {
        number++;
        if (n > 0 && line[n - 1] == '\n')
            line[--n] = '\0';
        if (strlen(line) != (size_t)n)
            rc = err_set(e, ERR_INVALID, "a NUL byte in the text");
        else
            rc = pad ? padded(t, line, e) : pieces(t, line, e);
        if (rc < 0)
            err_wrap(e, "line %lu", number);
    }
    free(line);
    return rc;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *model = NULL;
    bool pad = false;
    char folder[FILE_PATH_BYTES_MAX];
    struct tokenizer *t = NULL;
    struct err e;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--pad") == 0) {
            pad = true;
        } else if (strcmp(argv[i], "--model") == 0 && i + 1 < argc) {
            model = argv[++i];
        } else {
            fprintf(stderr, "dagline tokenize: unexpected '%s'\n%s", argv[i], usage);
            return 2;
        }
    }
    if (model == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    int rc = file_join(folder, model, "tokenizer", &e);
    if (rc == 0)
        rc = tokenizer_open(&t, folder, &e);
    if (rc == 0)
        rc = each_line(t, pad, &e);
    tokenizer_close(t);
    if (rc < 0)
        fprintf(stderr, "dagline tokenize: %s\n", e.text);
    return rc < 0 ? 1 : 0;
}
