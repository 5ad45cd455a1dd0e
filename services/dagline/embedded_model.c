#include "dagline/embedded_model.h"

#include "dagline/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int embedded_model_find(char folder[FILE_PATH_BYTES_MAX], char preset[FILE_PATH_BYTES_MAX], struct err *e)
{
    char binaries[FILE_PATH_BYTES_MAX];
    static const char *const places[] = {"../../../models/shapes", "../share/dagline/models/shapes"};
    if (process_own_folder(binaries, e) < 0)
        return -1;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char path[2 * FILE_PATH_BYTES_MAX];
        snprintf(path, sizeof path, "%s/%s", binaries, places[i]);
        if (strlen(path) < FILE_PATH_BYTES_MAX && access(path, R_OK) == 0 && realpath(path, folder) != NULL)
            return file_join(preset, folder, "run.yaml", e);
    }
    return err_set(e, ERR_NOT_FOUND, "the embedded model is neither in a checkout nor installed beside this binary");
}
