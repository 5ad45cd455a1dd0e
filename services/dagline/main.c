#include "dagline/cmd_bench.h"
#include "dagline/cmd_eval.h"
#include "dagline/cmd_export.h"
#include "dagline/cmd_generate.h"
#include "dagline/cmd_keys.h"
#include "dagline/cmd_parity.h"
#include "dagline/cmd_pretrain.h"
#include "dagline/cmd_reward.h"
#include "dagline/cmd_run.h"
#include "dagline/cmd_status.h"
#include "dagline/cmd_sweep.h"
#include "dagline/cmd_tokenize.h"
#include "dagline/cmd_world.h"

#include "base/version.h"

#include <stdio.h>
#include <string.h>

struct verb {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the verb; returns the exit status */
    const char *what;
};

static const struct verb verbs[] = {
    {"bench", cmd_bench, "time a network on this machine"},
    {"eval", cmd_eval, "what a model of the embedded world can do, by the judge"},
    {"export", cmd_export, "a trained policy as a diffusers folder"},
    {"generate", cmd_generate, "draw a picture from a prompt"},
    {"keys", cmd_keys, "make the key pairs and the allow-list of a deployment"},
    {"parity", cmd_parity, "hold the engine against a folder of reference values"},
    {"pretrain", cmd_pretrain, "train the embedded model from scratch"},
    {"reward", cmd_reward, "try a reward service: what it speaks, what it says about pictures"},
    {"run", cmd_run, "a whole run on this machine"},
    {"status", cmd_status, "policy, checkpoint and services of a run, by digest"},
    {"sweep", cmd_sweep, "runs over settings, with a table and a figure"},
    {"tokenize", cmd_tokenize, "token ids of lines of text"},
    {"world", cmd_world, "pictures, prompts and the judge of the embedded world"},
};

static void help(FILE *to)
{
    fprintf(to, "usage: dagline VERB ...      dagline VERB --help for each\n");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].what);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s\n", version_line());
        return 0;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    fprintf(stderr, "dagline: no verb '%s'; dagline --help lists them\n", argv[1]);
    return 2;
}
