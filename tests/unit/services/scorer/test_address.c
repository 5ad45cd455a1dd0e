/* Which URLs and addresses a reward service may have: one table, from the text to the socket. */
#include "scorer/address.h"
#include "support/suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const char *refusal(const struct address_rule *rule, const char *text)
{
    struct sockaddr_storage a = {0};
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(&a, &in, sizeof in);
    } else {
        ck_assert_msg(inet_pton(AF_INET6, text, &in6.sin6_addr) == 1, "%s", text);
        memcpy(&a, &in6, sizeof in6);
    }
    return address_refusal(rule, (const struct sockaddr *)&a);
}

/* url: what is configured; address: what its host turns out to stand for. */
struct row {
    const char *url, *address;
    bool allow_private, allow_plain, want;
};

START_TEST(the_table_of_urls)
{
    static const struct row rows[] = {
        /* local names and written addresses */
        {"http://localhost:8090", "127.0.0.1", false, false, true},
        {"http://127.0.0.1:8090", "127.0.0.1", false, false, true},
        {"http://[::1]:8090", "::1", false, false, true},
        {"http://judge:8090", "172.18.0.5", false, false, true},
        {"http://judge.localhost", "127.0.0.1", false, false, true},
        {"https://10.1.2.3", "10.1.2.3", false, false, true},
        {"http://192.168.1.20:80/", "192.168.1.20", false, false, true},
        {"http://[fd12::1]", "fd12::1", false, false, true},
        /* public names over TLS */
        {"https://api.example.com/v1", "93.184.216.34", false, false, true},
        {"https://api.example.com:8443", "2606:2800:220:1::1", false, false, true},
        /* names turned towards the inside */
        {"https://api.example.com", "127.0.0.1", false, false, false},
        {"https://api.example.com", "10.0.0.1", false, false, false},
        {"https://api.example.com", "172.31.255.255", false, false, false},
        {"https://api.example.com", "192.168.0.1", false, false, false},
        {"https://api.example.com", "100.64.0.1", false, false, false},
        {"https://api.example.com", "::1", false, false, false},
        {"https://api.example.com", "fc00::1", false, false, false},
        {"https://judge.corp.example", "10.0.0.1", true, false, true},
        {"http://judge.corp.example", "10.0.0.1", true, false, true},
        /* what is just outside of a private net */
        {"https://api.example.com", "172.32.0.1", false, false, true},
        {"https://api.example.com", "100.128.0.1", false, false, true},
        /* in the clear */
        {"http://api.example.com", "93.184.216.34", false, false, false},
        {"http://93.184.216.34", "93.184.216.34", false, false, false},
        {"http://93.184.216.34", "93.184.216.34", false, true, true},
        /* never, whatever is allowed */
        {"http://169.254.169.254", "169.254.169.254", true, true, false},
        {"http://metadata", "169.254.169.254", true, true, false},
        {"https://rebind.example.com", "169.254.0.1", true, true, false},
        {"https://rebind.example.com", "100.100.100.200", true, true, false},
        {"https://rebind.example.com", "168.63.129.16", true, true, false},
        {"https://rebind.example.com", "192.0.0.192", true, true, false},
        {"https://rebind.example.com", "0.0.0.0", true, true, false},
        {"https://rebind.example.com", "224.0.0.1", true, true, false},
        {"https://rebind.example.com", "255.255.255.255", true, true, false},
        {"https://rebind.example.com", "::", true, true, false},
        {"https://rebind.example.com", "fe80::1", true, true, false},
        {"https://rebind.example.com", "ff02::1", true, true, false},
        {"https://rebind.example.com", "fd00:ec2::254", true, true, false},
        {"https://rebind.example.com", "::ffff:127.0.0.1", true, true, false},
        {"https://rebind.example.com", "64:ff9b::a9fe:a9fe", true, true, false},
        /* no URL of a service: address NULL */
        {"ftp://h", NULL, true, true, false},
        {"file:///etc/passwd", NULL, true, true, false},
        {"gopher://h", NULL, true, true, false},
        {"unix:/x", NULL, true, true, false},
        {"h:80", NULL, true, true, false},
        {"//h", NULL, true, true, false},
        {"HTTP://h", NULL, true, true, false},
        {"http://", NULL, true, true, false},
        {"http:///x", NULL, true, true, false},
        {"http://user@h", NULL, true, true, false},
        {"http://user:password@h", NULL, true, true, false},
        {"http://h/?x", NULL, true, true, false},
        {"http://h/#x", NULL, true, true, false},
        {"http://h h", NULL, true, true, false},
        {"http://h\\@evil", NULL, true, true, false},
        {"http://h%00.example.com", NULL, true, true, false},
        {"http://h:0", NULL, true, true, false},
        {"http://h:65536", NULL, true, true, false},
        {"http://h:80x", NULL, true, true, false},
        {"http://h:", NULL, true, true, false},
        {"http://127.1", NULL, true, true, false},
        {"http://0x7f000001", NULL, true, true, false},
        {"http://2130706433", NULL, true, true, false},
        {"http://0177.0.0.1", NULL, true, true, false},
        {"http://[::1", NULL, true, true, false},
        {"http://[::1%25lo]", NULL, true, true, false},
        {"http://[localhost]", NULL, true, true, false},
        {"http://h/../admin", NULL, true, true, false},
        {"http://b\xc3\xbc" "cher.example", NULL, true, true, false},
    };
    char base[ADDRESS_URL_BYTES_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct address_rule rule = {.allow_private = r->allow_private, .allow_plain = r->allow_plain};
        struct err e = {0};
        const int rc = address_read_url(base, &rule, r->url, &e);
        if (r->address == NULL) {
            ck_assert_msg(rc < 0 && strncmp(e.text, r->url, strlen(r->url)) == 0, "%s: %d %s", r->url, rc,
                          e.text);
            continue;
        }
        ck_assert_msg(rc == 0, "%s: %s", r->url, e.text);
        const char *why = refusal(&rule, r->address);
        ck_assert_msg((why == NULL) == r->want, "%s at %s: %s", r->url, r->address, why != NULL ? why : "allowed");
    }
    printf("%zu rows\n", sizeof rows / sizeof *rows);
}
END_TEST

START_TEST(the_base_has_no_slash_at_its_end)
{
    char base[ADDRESS_URL_BYTES_MAX];
    struct address_rule rule = {0};
    struct err e;
    ck_assert_int_eq(address_read_url(base, &rule, "http://h:80/v1//", &e), 0);
    ck_assert_str_eq(base, "http://h:80/v1");
    ck_assert(rule.plain && rule.local);
}
END_TEST

SUITE("scorer/address", 30, the_table_of_urls, the_base_has_no_slash_at_its_end)
