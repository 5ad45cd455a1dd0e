/* Where the embedded model of the shapes world lies: in a checkout, or where `make install` puts it. */
#ifndef DAGLINE_DAGLINE_EMBEDDED_MODEL_H
#define DAGLINE_DAGLINE_EMBEDDED_MODEL_H

#include "base/err.h"
#include "base/file.h"

/* Its folder, and in `preset` the settings that `dagline run` begins with. */
int embedded_model_find(char folder[FILE_PATH_BYTES_MAX], char preset[FILE_PATH_BYTES_MAX], struct err *e) MUST_USE;

/* `model` where one was given, else the embedded model's folder. */
int embedded_model_unless(char folder[FILE_PATH_BYTES_MAX], const char *model, struct err *e) MUST_USE;

#endif
