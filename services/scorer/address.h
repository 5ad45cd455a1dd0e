/* Which addresses a reward service may have.  The URL comes from the settings alone, never from a message; what it
 * resolves to is looked at again when the socket is made, so that no name can be turned towards another address later.
 *
 *   never         link-local, unspecified, multicast and broadcast addresses, and the metadata services of clouds
 *   local names   (localhost, NAME.localhost, a name without a dot as in compose files, an address written out) may
 *                 stand for loopback and private addresses
 *   other names   only for public addresses, unless reward.allow_private
 *   http          only to loopback and private addresses, unless reward.allow_plain
 *
 * Pure: no name is resolved here.  Threads: any. */
#ifndef DAGLINE_SCORER_ADDRESS_H
#define DAGLINE_SCORER_ADDRESS_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/socket.h>

#define ADDRESS_URL_BYTES_MAX 1024

struct address_rule {
    bool plain; /* http */
    bool local; /* the host is written as an address or a local name */
    bool allow_private, allow_plain;
};

/* An http or https URL of a service: host, port and perhaps a path; no user, query or fragment.  Writes it without
 * trailing slashes to `base`, and what follows for its addresses to *rule; the two allowances stay as they are.
 * ERR_INVALID with one line that begins with the URL. */
int address_read_url(char base[ADDRESS_URL_BYTES_MAX], struct address_rule *rule, const char *url,
                     struct err *e) MUST_USE;

/* NULL: it may be dialled; else why not, a text that stays. */
const char *address_refusal(const struct address_rule *rule, const struct sockaddr *address);

#endif
