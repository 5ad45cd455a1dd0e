/* One verb of the command line, from its one settings table: arguments, --help and its like, the
 * work, the exit status.
 *
 *     static int work(const void *params, const char *const *arguments, size_t count, struct err
 * *e); int cmd_keys(int argc, char **argv)
 *     {
 *         struct keys_params p;
 *         return command_main(&(struct command){.name = "dagline keys", .about = "...", .table =
 * &keys_table, .params = &p, .work = work}, argc, argv);
 *     } */
#ifndef DAGLINE_DAGLINE_COMMAND_H
#define DAGLINE_DAGLINE_COMMAND_H

#include "base/config.h"

struct command {
    const char *name;      /* "dagline keys" */
    const char *about;     /* one line for --help */
    const char *arguments; /* "DIR" in the usage line; NULL: there are none */
    const char *output;    /* the field that -o sets; NULL: no -o */
    size_t arguments_min, arguments_max;
    const struct config_table *table;
    void *params; /* the table's struct */
    /* Borrows everything.  0; a positive exit status of its own, with nothing more to say; or -1
     * with *e, where ERR_USAGE is for a command line that makes no sense. */
    int (*work)(const void *params, const char *const *arguments, size_t count, struct err *e);
};

/* argv[0] is the verb.  Returns the exit status: 0, 1 for a failure, 2 for usage; errors are on
 * stderr by then. */
int command_main(const struct command *command, int argc, char **argv);

#endif
