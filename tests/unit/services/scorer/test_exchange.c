/* Names that turn: a resolver of our own stands in the place of the C library's, and says something else each time it is
 * asked, as the DNS server of an attacker does. */
#include "scorer/exchange.h"

#include "base/clock.h"
#include "support/bad_http.h"
#include "support/suite.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MS 10000
#define NAME "rewards.example.org"

static const char *const *answers; /* of one lookup: addresses, NULL-ended */
static atomic_int lookups;

struct answer {
    struct addrinfo info;
    struct sockaddr_in address;
};

/* What libcurl calls: the definition in the program comes before the C library's. */
int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
    (void)hints;
    *out = NULL;
    if (strcmp(name, NAME) != 0)
        return EAI_NONAME;
    lookups++;
    size_t n = 0;
    while (answers[n] != NULL)
        n++;
    for (size_t i = n; i > 0; i--) {
        struct answer *a = calloc(1, sizeof *a);
        a->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
        if (a == NULL || inet_pton(AF_INET, answers[i - 1], &a->address.sin_addr) != 1)
            abort();
        a->info = (struct addrinfo){.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP,
                                    .ai_addrlen = sizeof a->address, .ai_addr = (struct sockaddr *)&a->address,
                                    .ai_next = *out};
        *out = &a->info;
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    for (struct addrinfo *next; list != NULL; list = next) {
        next = list->ai_next;
        free(list); /* the first member of its answer */
    }
}

static struct exchange_result last;
static char reason[256];
static bool ended;

static int on_end(void *arg, const struct exchange_result *r, struct err *e)
{
    (void)arg, (void)e;
    last = *r;
    snprintf(reason, sizeof reason, "%s", r->reason != NULL ? r->reason : "");
    ended = true;
    return 0;
}

/* One POST by a pool that has never heard of the name. */
static void ask(uint16_t port, bool allow_private)
{
    static const struct exchange_options options = {"", "", "", 4};
    struct address_rule rule = {.allow_private = allow_private};
    char url[64], base[ADDRESS_URL_BYTES_MAX];
    struct exchange_pool *pool;
    struct exchange *x;
    struct loop *loop;
    struct err e;
    snprintf(url, sizeof url, "http://" NAME ":%u/", port);
    ck_assert_int_eq(address_read_url(base, &rule, url, &e), 0);
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    ck_assert_int_eq(exchange_pool_open(&pool, loop, &options, &e), 0);
    ck_assert_int_eq(exchange_new(&x, pool, 1 << 16, on_end, NULL, &e), 0);
    ended = false;
    const struct exchange_request q = {.url = base, .rule = &rule, .body = "{}", .body_bytes = 2, .timeout_ms = ANSWER_MS / 2};
    ck_assert_int_eq(exchange_begin(x, &q, &e), 0);
    const int64_t until = clock_mono_ms(NULL) + ANSWER_MS;
    while (!ended) {
        ck_assert_int_eq(loop_poll(loop, 50, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), until);
    }
    exchange_free(x);
    exchange_pool_close(pool);
    loop_close(loop);
}
#define ANSWERS(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(a_name_that_turns_is_refused_where_it_turns_to)
{
    struct bad_http *server = bad_http_start(BAD_GOOD);
    const uint16_t port = bad_http_port(server);

    /* meant to be private: asked and answered */
    answers = ANSWERS("127.0.0.1");
    ask(port, true);
    ck_assert_int_eq(last.end, EXCHANGE_ANSWERED);
    ck_assert_uint_eq(bad_http_posts(server), 1);
    ck_assert_int_eq(lookups, 1);

    /* then it stands for what nobody may ask: a cloud's metadata service, the network of this host */
    static const char *const never[] = {"169.254.169.254", "169.254.7.7", "100.100.100.200", "0.0.0.0", "224.0.0.1"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        answers = ANSWERS(never[i]);
        ask(port, true);
        ck_assert_int_eq(last.end, EXCHANGE_HOPELESS);
        ck_assert_msg(strstr(reason, "link-local, multicast, unspecified or a cloud's metadata") != NULL, "%s: %s", never[i],
                      reason);
    }
    /* or for a public address, to which pictures do not go in the clear */
    answers = ANSWERS("203.0.113.9");
    ask(port, true);
    ck_assert_int_eq(last.end, EXCHANGE_HOPELESS);
    ck_assert_msg(strstr(reason, "http to a public address") != NULL, "%s", reason);

    /* a public name that turns inwards, alone or behind a public address */
    answers = ANSWERS("127.0.0.1");
    ask(port, false);
    ck_assert_int_eq(last.end, EXCHANGE_HOPELESS);
    ck_assert_msg(strstr(reason, "private address") != NULL, "%s", reason);
    answers = ANSWERS("203.0.113.9", "127.0.0.1", "10.0.0.1");
    ask(port, false);
    ck_assert_int_eq(last.end, EXCHANGE_HOPELESS);

    ck_assert_uint_eq(bad_http_posts(server), 1); /* the one that was meant */
    ck_assert_int_eq(lookups, 9);
    bad_http_stop(server);
}
END_TEST

SUITE("scorer/exchange", 120, a_name_that_turns_is_refused_where_it_turns_to)
