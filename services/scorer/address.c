#include "scorer/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum reach { REACH_NEVER, REACH_PRIVATE, REACH_PUBLIC };

struct net4 {
    uint32_t address;
    int bits;
    enum reach reach;
};

static const struct net4 nets4[] = {
    {0x00000000, 8, REACH_NEVER},   /* this network */
    {0xa9fe0000, 16, REACH_NEVER},  /* link-local, with the clouds' metadata */
    {0x646464c8, 32, REACH_NEVER},  /* 100.100.100.200, metadata */
    {0xc00000c0, 32, REACH_NEVER},  /* 192.0.0.192, metadata */
    {0xa83f8110, 32, REACH_NEVER},  /* 168.63.129.16, metadata */
    {0xe0000000, 3, REACH_NEVER},   /* multicast, reserved, broadcast */
    {0x7f000000, 8, REACH_PRIVATE}, /* loopback */
    {0x0a000000, 8, REACH_PRIVATE},  {0xac100000, 12, REACH_PRIVATE},
    {0xc0a80000, 16, REACH_PRIVATE}, {0x64400000, 10, REACH_PRIVATE},
};

static enum reach reach4(uint32_t ip)
{
    for (size_t i = 0; i < sizeof nets4 / sizeof *nets4; i++)
        if ((ip ^ nets4[i].address) >> (32 - nets4[i].bits) == 0)
            return nets4[i].reach;
    return REACH_PUBLIC;
}

static enum reach reach6(const struct in6_addr *a)
{
    static const uint8_t metadata[16] = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};
    /* an IPv4 address inside: mapped, compatible, or behind NAT64 - there is a plainer way to write it */
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (IN6_IS_ADDR_LOOPBACK(a))
        return REACH_PRIVATE;
    if (IN6_IS_ADDR_UNSPECIFIED(a) || IN6_IS_ADDR_LINKLOCAL(a) || IN6_IS_ADDR_MULTICAST(a) || IN6_IS_ADDR_V4MAPPED(a) ||
        IN6_IS_ADDR_V4COMPAT(a) || memcmp(a, nat64, sizeof nat64) == 0 || memcmp(a, metadata, sizeof metadata) == 0)
        return REACH_NEVER;
    return (a->s6_addr[0] & 0xfe) == 0xfc ? REACH_PRIVATE : REACH_PUBLIC;
}

const char *address_refusal(const struct address_rule *rule, const struct sockaddr *address)
{
    enum reach reach = REACH_NEVER;
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        reach = reach4(ntohl(in.sin_addr.s_addr));
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof in);
        reach = reach6(&in.sin6_addr);
    }
    if (reach == REACH_NEVER)
        return "the service's address is link-local, multicast, unspecified or a cloud's metadata service";
    if (reach == REACH_PRIVATE && !rule->local && !rule->allow_private)
        return "the service's name stands for a private address; reward.allow_private=yes if that is meant";
    if (reach == REACH_PUBLIC && rule->plain && !rule->allow_plain)
        return "http to a public address would show pictures and tokens to the network; use https, or "
               "reward.allow_plain=yes";
    return NULL;
}

static bool host_is_local(const char *host)
{
    const size_t n = strlen(host);
    struct in_addr in;
    static const char suffix[] = ".localhost";
    return host[0] == '[' || inet_pton(AF_INET, host, &in) == 1 || strchr(host, '.') == NULL ||
           (n >= sizeof suffix && strcasecmp(host + n - (sizeof suffix - 1), suffix) == 0);
}

/* Digits, dots and hexadecimal that are no four numbers: 127.1, 0x7f000001, 2130706433, 0177.0.0.1. */
static bool host_is_odd_number(const char *host)
{
    struct in_addr in;
    const char *last = strrchr(host, '.');
    last = last == NULL ? host : last + 1;
    const bool number = last[strspn(last, "0123456789")] == 0 || strncasecmp(last, "0x", 2) == 0;
    return number && inet_pton(AF_INET, host, &in) != 1;
}

static int check_host(const char *url, const char *host, struct err *e)
{
    struct in6_addr in6;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    if (host[0] == '[') {
        char inner[64];
        const size_t n = strlen(host);
        snprintf(inner, sizeof inner, "%.*s", n > 2 ? (int)(n - 2) : 0, host + 1);
        return n < sizeof inner && host[n - 1] == ']' && inet_pton(AF_INET6, inner, &in6) == 1
                   ? 0
                   : err_set(e, ERR_INVALID, "%s: [%s] is no IPv6 address", url, inner);
    }
    if (host[0] == 0 || host[0] == '.' || host[strspn(host, letters)] != 0)
        return err_set(e, ERR_INVALID, "%s: \"%s\" is no host", url, host);
    if (host_is_odd_number(host))
        return err_set(e, ERR_INVALID, "%s: write the address as four decimal numbers", url);
    return 0;
}

int address_read_url(char base[ADDRESS_URL_BYTES_MAX], struct address_rule *rule, const char *url, struct err *e)
{
    char host[256];
    size_t n = strlen(url);
    const bool plain = strncmp(url, "http://", 7) == 0;
    if (!plain && strncmp(url, "https://", 8) != 0)
        return err_set(e, ERR_INVALID, "%s: write http://HOST:PORT or https://HOST:PORT", url);
    for (const char *c = url; *c != 0; c++)
        if (*c <= ' ' || strchr("@?#\\%", *c) != NULL || *c > '~')
            return err_set(e, ERR_INVALID, "%s: no user, query, fragment, escape or space may be in it", url);
    const char *at = url + (plain ? 7 : 8);
    const size_t host_n = at[0] == '[' ? strcspn(at, "/]") + (at[strcspn(at, "/]")] == ']') : strcspn(at, ":/");
    if (host_n >= sizeof host)
        return err_set(e, ERR_INVALID, "%s: the host is longer than %zu bytes", url, sizeof host - 1);
    snprintf(host, sizeof host, "%.*s", (int)host_n, at);
    if (check_host(url, host, e) < 0)
        return -1;
    at += host_n;
    if (*at == ':') {
        const size_t digits = strspn(at + 1, "0123456789");
        long port = 0;
        for (size_t i = 0; i < digits && port <= 65535; i++)
            port = 10 * port + (at[1 + i] - '0');
        at += 1 + digits;
        if (digits == 0 || port < 1 || port > 65535 || (*at != 0 && *at != '/'))
            return err_set(e, ERR_INVALID, "%s: the port is a number from 1 to 65535", url);
    } else if (*at != 0 && *at != '/') {
        return err_set(e, ERR_INVALID, "%s: after the host comes :PORT or a path", url);
    }
    if (strstr(at, "/../") != NULL || (n >= 3 && strcmp(url + n - 3, "/..") == 0))
        return err_set(e, ERR_INVALID, "%s: no \"..\" may be in the path", url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n >= ADDRESS_URL_BYTES_MAX)
        return err_set(e, ERR_INVALID, "%s: longer than %d bytes", url, ADDRESS_URL_BYTES_MAX - 1);
    snprintf(base, ADDRESS_URL_BYTES_MAX, "%.*s", (int)n, url);
    rule->plain = plain;
    rule->local = host_is_local(host);
    return 0;
}
