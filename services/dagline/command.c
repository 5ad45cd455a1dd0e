#include "dagline/command.h"

#include <errno.h>
#include <stdio.h>

static int work(const struct command *command, const struct config *c, struct err *e)
{
    const char *const *arguments;
    const size_t count = config_arguments(c, &arguments);
    if (count < command->arguments_min || count > command->arguments_max)
        return err_set(e, ERR_USAGE, "usage: %s [OPTION...] %s", command->name, command->arguments);
    const int rc = command->work(command->params, arguments, count, e);
    /* what was to be said and could not is a failure: a full disk, say */
    return rc == 0 && (fflush(stdout) != 0 || ferror(stdout)) ? err_sys(e, errno, "write standard output") : rc;
}

int command_main(const struct command *command, int argc, char **argv)
{
    const struct config_binding binding = {command->table, command->params};
    const struct config_app app = {.name = command->name,
                                   .about = command->about,
                                   .arguments = command->arguments,
                                   .output = command->output,
                                   .foreign = config_sections};
    struct config *c = config_new(&app, &binding, 1);
    int status = config_main(c, argc, argv);
    if (status < 0) {
        struct err e = {0};
        status = work(command, c, &e);
        if (status < 0) {
            fflush(stdout);
            fprintf(stderr, "%s: %s%s\n", command->name, e.text,
                    e.code == ERR_USAGE ? " (see --help)" : "");
            status = e.code == ERR_USAGE ? 2 : 1;
        }
    }
    config_free(c);
    return status;
}
