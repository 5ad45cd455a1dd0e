#include "dagline/cmd_tokenize.h"

#include "base/file.h"
#include "dagline/command.h"
#include "dagline/embedded_model.h"
#include "diffusion/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define TOKENIZE_PARAMS(P, S)                                                                      \
    P(S, text, model, "", "", "1000", "", "model folder; empty: the embedded model")               \
    P(S, flag, pad, "no", "", "", "",                                                              \
      "what the text encoder gets: start, pieces, end, padding to the model's length")
CONFIG_STRUCT(tokenize_params, TOKENIZE_PARAMS);
CONFIG_TABLE_OPTIONS(tokenize_table, "tokenize", "with which tokenizer", tokenize_params,
                     TOKENIZE_PARAMS);

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
    if (rc == 0 && ferror(stdin))
        rc = err_sys(e, errno, "read standard input");
    free(line);
    return rc;
}

static int tokenize(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct tokenize_params *o = params;
    char model[FILE_PATH_BYTES_MAX], folder[FILE_PATH_BYTES_MAX];
    struct tokenizer *t = NULL;
    (void)arguments, (void)count;
    const int rc = embedded_model_unless(model, o->model, e) < 0 ||
                           file_join(folder, model, "tokenizer", e) < 0 || tokenizer_open(&t, folder, e) < 0
                       ? -1
                       : each_line(t, o->pad, e);
    tokenizer_close(t);
    return rc;
}

int cmd_tokenize(int argc, char **argv)
{
    struct tokenize_params p;
    const struct command command = {
        .name = "dagline tokenize",
        .about = "reads lines of text from stdin and prints the token ids of each",
        .table = &tokenize_table,
        .params = &p,
        .work = tokenize,
    };
    return command_main(&command, argc, argv);
}
