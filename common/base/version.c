#include "base/version.h"

#ifndef DAGLINE_GIT
#define DAGLINE_GIT ""
#endif
#ifndef DAGLINE_LIBRARIES
#define DAGLINE_LIBRARIES ""
#endif

/* Outside of git the build gives an empty commit, or a lone "+". */
const char *version_git(void)
{
    return sizeof DAGLINE_GIT > 8 ? DAGLINE_GIT : "unknown";
}

const char *version_line(void)
{
    return sizeof DAGLINE_GIT > 8 ? "dagline " VERSION_TEXT " (" DAGLINE_GIT ")" : "dagline " VERSION_TEXT;
}

const char *version_libraries(void)
{
    return DAGLINE_LIBRARIES;
}
