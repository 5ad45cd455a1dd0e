#include "dagline/cmd_parity.h"

#include "dagline/parity.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: dagline parity DIR [--fast]\n"
    "  DIR     model/, reference.safetensors, unet_param_grads.safetensors, lora/\n"
    "  --fast  the fast kernels instead of the BLAS reference path\n"
    "One line for each output and each gradient: largest error relative to the largest\n"
    "reference value. Exit status 1 where one exceeds 2e-5 (outputs) or 2e-4 (gradients).\n";

struct tally {
    size_t lines, over;
};

static void show(void *arg, const struct parity_line *l)
{
    struct tally *const t = arg;
    const int over = !(l->error <= l->limit);
    t->lines++;
    t->over += over ? 1u : 0u;
    printf("%-8.2e %s%s\n", l->error, l->name, over ? "  OVER THE LIMIT" : "");
}

int cmd_parity(int argc, char **argv)
{
    const char *folder = NULL;
    bool fast = false;
    struct tally t = {0, 0};
    struct err e;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--fast") == 0) {
            fast = true;
        } else if (argv[i][0] == '-' || folder != NULL) {
            fprintf(stderr, "dagline parity: unexpected '%s'\n%s", argv[i], usage);
            return 2;
        } else {
            folder = argv[i];
        }
    }
    if (folder == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    if (parity_run(folder, !fast, show, &t, &e) < 0) {
        fprintf(stderr, "dagline parity: %s\n", e.text);
        return 1;
    }
    printf("%zu compared, %zu over the limit\n", t.lines, t.over);
    return t.over == 0 ? 0 : 1;
}
