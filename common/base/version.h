/* What this binary was built from.  No timestamps: the same sources give the same bytes. */
#ifndef DAGLINE_BASE_VERSION_H
#define DAGLINE_BASE_VERSION_H

#define VERSION_TEXT "0.1.0"

/* The commit, 12 hex digits, with "+" where the tree had changes; "unknown" outside of git. */
const char *version_git(void);

/* "dagline 0.1.0 (1a2b3c4d5e6f)". */
const char *version_line(void);

/* The libraries that the build was made against: "libzmq 4.3.4, libprotobuf-c 1.4.1, ...". */
const char *version_libraries(void);

#endif
