#include "dagline/cmd_keys.h"

#include "wire/keys.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "usage: dagline keys DIR\n"
                            "Makes DIR with NAME.key (secret, mode 0400) and NAME.pub for store, "
                            "scorer, sampler, trainer and\n"
                            "dagline, and DIR/allow, the list of who may connect. Keys that are "
                            "there stay. Give each service only\n"
                            "what it needs: its own .key and .pub; store.pub and scorer.pub; and, "
                            "to store and scorer, allow.\n";

int cmd_keys(int argc, char **argv)
{
    struct err e;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc != 2 || argv[1][0] == '-') {
        fputs(usage, stderr);
        return 2;
    }
    if (keys_create_folder(argv[1], &e) < 0) {
        fprintf(stderr, "dagline keys: %s\n", e.text);
        return 1;
    }
    printf("keys and allow-list in %s; set net.keys=%s\n", argv[1], argv[1]);
    return 0;
}
