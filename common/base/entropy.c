#include "base/entropy.h"

#include <sys/random.h>
#include <sys/types.h>

int entropy_fill(void *out, size_t bytes, struct err *e)
{
    return getrandom(out, bytes, 0) == (ssize_t)bytes ? 0 : err_set(e, ERR_IO, "no random bytes from the system");
}
