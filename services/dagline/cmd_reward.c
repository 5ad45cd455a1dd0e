#include "dagline/cmd_reward.h"

#include "dagline/process.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: dagline reward check URL [--set reward.model=NAME ...]      which form it speaks, how fast, the settings for it\n"
    "       dagline reward score [SETTINGS] --prompt TEXT PICTURE.png...  scores, one line a picture\n";

int cmd_reward(int argc, char **argv)
{
    char folder[FILE_PATH_BYTES_MAX], binary[FILE_PATH_BYTES_MAX];
    struct err e;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc < 2 || (strcmp(argv[1], "check") != 0 && strcmp(argv[1], "score") != 0)) {
        fputs(usage, stderr);
        return 2;
    }
    if (process_own_folder(folder, &e) == 0 && file_join(binary, folder, "dagline-scorer", &e) == 0) {
        execv(binary, argv); /* argv[1] is what it looks at */
        err_sys(&e, errno, "%s", binary);
    }
    fprintf(stderr, "dagline reward: %s\n", e.text);
    return 1;
}
