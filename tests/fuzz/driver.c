/* Replays tests/fuzz/corpus/NAME/ through a fuzz target, for builds without libFuzzer: every input
 * that was ever worth keeping runs in `make test`, with whatever sanitizer MODE has.
 * usage: fuzz_NAME [FOLDER_OR_FILE...]    without arguments: the corpus of that name */
#include "base/file.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_BYTES_MAX (16 << 20)
#define INPUTS_MAX 100000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct replay {
    const char *folder;
    size_t count;
};

static int replay_file(struct replay *r, const char *path, struct err *e)
{
    char *data;
    size_t bytes;
    if (file_read_all(path, INPUT_BYTES_MAX, &data, &bytes, e) < 0)
        return -1;
    /* A copy of exactly this size: reading one byte beyond it is seen by the sanitizer. */
    uint8_t *exact = malloc(bytes > 0 ? bytes : 1);
    if (exact == NULL)
        return err_set(e, ERR_IO, "no memory for %s", path);
    memcpy(exact, data, bytes);
    mem_free(data);
    LLVMFuzzerTestOneInput(exact, bytes);
    free(exact);
    r->count++;
    return 0;
}

static int replay_entry(const char *name, void *arg, struct err *e)
{
    struct replay *r = arg;
    char path[FILE_PATH_BYTES_MAX];
    if (file_join(path, r->folder, name, e) < 0)
        return -1;
    return replay_file(r, path, e);
}

/* build/MODE/tests/fuzz/fuzz_NAME -> tests/fuzz/corpus/NAME, from the repository's root or, failing
 * that, from where the binary lies. */
static int find_corpus(const char *argv0, char out[FILE_PATH_BYTES_MAX], struct err *e)
{
    char self[FILE_PATH_BYTES_MAX];
    const char *base = strrchr(argv0, '/');
    const char *name = base != NULL ? base + 1 : argv0;
    if (strncmp(name, "fuzz_", 5) != 0)
        return err_set(e, ERR_USAGE, "%s: the binary must be named fuzz_NAME", argv0);
    snprintf(out, FILE_PATH_BYTES_MAX, "tests/fuzz/corpus/%s", name + 5);
    if (file_exists(out))
        return 0;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 5; up++) { /* the file, fuzz, tests, MODE, build */
        char *slash = strrchr(self, '/');
        if (slash != NULL)
            *slash = 0;
    }
    if ((size_t)snprintf(out, FILE_PATH_BYTES_MAX, "%.3000s/tests/fuzz/corpus/%s", self, name + 5) < FILE_PATH_BYTES_MAX &&
        file_exists(out))
        return 0;
    return err_set(e, ERR_NOT_FOUND, "no corpus tests/fuzz/corpus/%s", name + 5);
}

int main(int argc, char **argv)
{
    struct err e = {0};
    struct replay r = {0};
    char corpus[FILE_PATH_BYTES_MAX];
    int rc = 0;
    if (argc < 2) {
        rc = find_corpus(argv[0], corpus, &e);
        r.folder = corpus;
        if (rc == 0)
            rc = file_list(corpus, INPUTS_MAX, replay_entry, &r, &e);
    }
    for (int i = 1; rc == 0 && i < argc; i++) {
        r.folder = argv[i];
        uint64_t bytes;
        if (file_size(argv[i], &bytes, NULL) == 0)
            rc = replay_file(&r, argv[i], &e);
        else
            rc = file_list(argv[i], INPUTS_MAX, replay_entry, &r, &e);
    }
    if (rc == 0 && r.count == 0)
        rc = err_set(&e, ERR_NOT_FOUND, "%s: no input to replay", r.folder);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], e.text);
        return 1;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    printf("replayed %zu inputs\n", r.count + 1);
    return 0;
}
