#include "dagline/cmd_keys.h"

#include "dagline/command.h"
#include "wire/keys.h"

#include <stdio.h>

#define KEYS_PARAMS(P, S) P(S, flag, quiet, "no", "", "", "", "say nothing where all went well")
CONFIG_STRUCT(keys_params, KEYS_PARAMS);
CONFIG_TABLE_OPTIONS(keys_table, "keys", "of a deployment", keys_params, KEYS_PARAMS);

static int make_keys(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct keys_params *o = params;
    (void)count;
    if (keys_create_folder(arguments[0], e) < 0)
        return -1;
    if (!o->quiet)
        printf("keys and allow-list in %s; set net.keys=%s\n", arguments[0], arguments[0]);
    return 0;
}

int cmd_keys(int argc, char **argv)
{
    struct keys_params p;
    const struct command command = {
        .name = "dagline keys",
        .about = "makes DIR with NAME.key (secret, mode 0400) and NAME.pub for store, scorer, "
                 "sampler, trainer and dagline, and "
                 "DIR/allow, the list of who may connect; keys that are there stay.  Give each "
                 "service only what it needs: its "
                 "own .key and .pub; store.pub and scorer.pub; and, to store and scorer, allow",
        .arguments = "DIR",
        .arguments_min = 1,
        .arguments_max = 1,
        .table = &keys_table,
        .params = &p,
        .work = make_keys,
    };
    return command_main(&command, argc, argv);
}
