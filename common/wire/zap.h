/* The authenticator: answers ZeroMQ's ZAP requests (RFC 27) on inproc://zeromq.zap.01 from a thread
 * of its own.  CURVE keys on the allow-list are let in with their party as User-Id; everything
 * else, the NULL and PLAIN mechanisms too, is refused.  The file is read again when it changes;
 * while it cannot be read the last good list stands.  A key taken off the list keeps its open
 * connection until that ends. */
#ifndef DAGLINE_WIRE_ZAP_H
#define DAGLINE_WIRE_ZAP_H

#include "base/err.h"

#define ZAP_DOMAIN_NAME "dagline"

struct zap;

/* context: a ZeroMQ context.  Returns once the handler is bound; must come before any bind. */
int zap_open(struct zap **out, void *context, const char *allow_path, struct err *e) MUST_USE;
/* From then on no new client is accepted.  Accepts NULL. */
void zap_close(struct zap *z);

#endif
