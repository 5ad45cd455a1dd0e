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
    return err_set(e, ERR_NOT_FOUND,
                   "the embedded model is neither in a checkout nor installed beside this binary; make install puts it there");
}

int embedded_model_unless(char folder[FILE_PATH_BYTES_MAX], const char *model, struct err *e)
{
    char preset[FILE_PATH_BYTES_MAX];
    if (model[0] == 0)
        return embedded_model_find(folder, preset, e) < 0 ? err_wrap(e, "--model FOLDER is not given") : 0;
    return snprintf(folder, FILE_PATH_BYTES_MAX, "%s", model) < FILE_PATH_BYTES_MAX
               ? 0
               : err_set(e, ERR_INVALID, "--model is longer than %d bytes", FILE_PATH_BYTES_MAX - 1);
}
