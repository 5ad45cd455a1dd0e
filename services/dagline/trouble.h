/* What a service last warned of, from its log, in words for a terminal.  Threads: any. */
#ifndef DAGLINE_DAGLINE_TROUBLE_H
#define DAGLINE_DAGLINE_TROUBLE_H

#include "base/clock.h"

#include <stdbool.h>

#define TROUBLE_WORDS_BYTES_MAX 1024

struct trouble {
    char since[CLOCK_TEXT_BYTES]; /* only what came later counts; then when it came */
    char words[TROUBLE_WORDS_BYTES_MAX]; /* reward service waiting: url="http://127.0.0.1:9" tries=4 ... */
};

/* Takes the newest warning or error of the log where it is later than t->since; false where there is none.  Lines that
 * are not JSON, as with log.format=human, are passed over, and so is all but the end of a long log. */
bool trouble_take(struct trouble *t, const char *log);

#endif
