/* URLs of reward services and the addresses they turn out to stand for: what is accepted has a scheme, no trailing
 * slash, and reads back as itself; a refusal is one line; no address of a metadata service is ever let through. */
#include "base/mem.h"
#include "scorer/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first bytes as an address. */
static void dial(const struct address_rule *rule, const uint8_t *data, size_t size)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in.sin_addr, data, size < sizeof in.sin_addr ? size : sizeof in.sin_addr);
    memcpy(&in6.sin6_addr, data, size < sizeof in6.sin6_addr ? size : sizeof in6.sin6_addr);
    const bool link_local = ntohl(in.sin_addr.s_addr) >> 16 == 0xa9fe;
    if (link_local && address_refusal(rule, (const struct sockaddr *)&in) == NULL)
        abort();
    if ((IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr) || IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) &&
        address_refusal(rule, (const struct sockaddr *)&in6) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char base[ADDRESS_URL_BYTES_MAX], again[ADDRESS_URL_BYTES_MAX];
    struct address_rule rule = {.allow_private = true, .allow_plain = true}, same = rule;
    struct err e = {0};
    char *text = mem_new(size + 1, 1);
    if (size > 0)
        memcpy(text, data, size);
    if (address_read_url(base, &rule, text, &e) == 0) {
        const size_t n = strlen(base);
        if (strncmp(base, rule.plain ? "http://" : "https://", rule.plain ? 7 : 8) != 0 || base[n - 1] == '/' ||
            strpbrk(base, " @?#\\\n") != NULL)
            abort();
        if (address_read_url(again, &same, base, &e) < 0 || strcmp(base, again) != 0 || same.local != rule.local)
            abort();
    } else if (e.text[0] == '\0' || strchr(e.text, '\n') != NULL) {
        abort();
    }
    dial(&rule, data, size);
    mem_free(text);
    return 0;
}
