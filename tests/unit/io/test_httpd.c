#include "base/clock.h"
#include "base/mem.h"
#include "io/httpd.h"
#include "support/suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;
static atomic_int hold; /* /slow waits while this is set */

static void handle(void *arg, const struct httpd_request *q, struct httpd_reply *r)
{
    (void)arg;
    atomic_fetch_add(&calls, 1);
    if (strcmp(q->path, "/echo") == 0) {
        const char *tag = httpd_header(q, "x-tag"), *k = httpd_query(q, "k");
        buf_format(&r->body, "%s %zu %s %s ", q->method, q->body_bytes, tag != NULL ? tag : "-", k != NULL ? k : "-");
        buf_add(&r->body, q->body, q->body_bytes);
    } else if (strcmp(q->path, "/busy") == 0) {
        r->status = 503;
        r->retry_after_s = 7;
    } else if (strcmp(q->path, "/slow") == 0) {
        while (atomic_load(&hold))
            clock_sleep_ns(NULL, CLOCK_NS_PER_MS);
        buf_add_text(&r->body, "done");
    } else if (strcmp(q->path, "/huge") == 0) {
        for (int i = 0; i < 3000; i++)
            buf_add_text(&r->body, "0123456789");
    } else {
        r->status = 404;
    }
}

static struct httpd *server;

static void start(unsigned threads)
{
    struct err e = {0};
    const struct httpd_options o = {.listen = "127.0.0.1:0", .threads = threads, .connections_max = 8, .body_bytes_max = 1000, .reply_bytes_max = 20000};
    ck_assert_msg(httpd_start(&server, &o, handle, NULL, &e) == 0, "%s", e.text);
    ck_assert_uint_ne(httpd_port(server), 0);
}

/* From 127.0.0.`own`. */
static int dial_from(unsigned own)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000000u + own)}};
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&from, sizeof from), 0);
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(httpd_port(server)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static int dial(void)
{
    return dial_from(1);
}

static void say(int fd, const char *text)
{
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads until `needle` is there or the connection ends. */
static const char *hear(int fd, const char *needle)
{
    static char text[65536];
    size_t used = 0;
    text[0] = 0;
    while (strstr(text, needle) == NULL) {
        const ssize_t n = recv(fd, text + used, sizeof text - 1 - used, 0);
        if (n <= 0)
            break;
        used += (size_t)n;
        text[used] = 0;
    }
    return text;
}

static const char *ask(const char *request, const char *needle)
{
    const int fd = dial();
    say(fd, request);
    const char *answer = hear(fd, needle);
    close(fd);
    return answer;
}

START_TEST(a_body_header_and_query_reach_the_handler)
{
    start(1);
    const char *got = ask("POST /echo?k=a%20b HTTP/1.1\r\nHost: x\r\nX-Tag: t\r\nContent-Length: 5\r\n\r\nhello", "hello");
    ck_assert_msg(strstr(got, "HTTP/1.1 200 OK\r\n") == got, "%s", got);
    ck_assert_msg(strstr(got, "\r\n\r\nPOST 5 t a b hello") != NULL, "%s", got);
    ck_assert_ptr_nonnull(strstr(got, "Content-Type: text/plain; charset=utf-8\r\n"));
    httpd_stop(server, 1000);
}
END_TEST

START_TEST(a_connection_is_kept_for_the_next_request)
{
    start(2);
    const int fd = dial();
    for (int i = 0; i < 3; i++) {
        say(fd, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
        ck_assert_ptr_nonnull(strstr(hear(fd, "GET 0 - - "), "GET 0 - - "));
    }
    close(fd);
    ck_assert_int_eq(atomic_load(&calls), 3);
    httpd_stop(server, 1000);
}
END_TEST

START_TEST(a_head_is_answered_as_a_get_without_its_body)
{
    start(1);
    const char *got = ask("HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "no such text");
    ck_assert_msg(strstr(got, "HTTP/1.1 200 OK\r\n") == got, "%s", got);
    ck_assert_msg(strstr(got, "Content-Length: 10\r\n") != NULL, "%s", got); /* of "GET 0 - - " */
    ck_assert_str_eq(strstr(got, "\r\n\r\n"), "\r\n\r\n");
    httpd_stop(server, 1000);
}
END_TEST

START_TEST(errors_have_their_status_name_and_retry_after)
{
    start(1);
    const char *got = ask("GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "\r\n\r\nNot Found\n");
    ck_assert_msg(strstr(got, "HTTP/1.1 404 ") == got && strstr(got, "\r\n\r\nNot Found\n") != NULL, "%s", got);
    got = ask("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n", "Service Unavailable\n");
    ck_assert_msg(strstr(got, "Retry-After: 7\r\n") != NULL, "%s", got);
    got = ask("GET /huge HTTP/1.1\r\nHost: x\r\n\r\n", "Internal Server Error\n");
    ck_assert_msg(strstr(got, "HTTP/1.1 500 ") == got, "%s", got);
    httpd_stop(server, 1000);
}
END_TEST

START_TEST(a_body_beyond_the_bound_never_reaches_the_handler)
{
    start(1);
    const char *got = ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", "\r\n\r\n");
    ck_assert_msg(strstr(got, "HTTP/1.1 413 ") == got, "%s", got);
    got = ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", "\r\n\r\n");
    ck_assert_msg(strstr(got, " 200 ") == NULL, "%s", got);
    /* chunks without end: the connection is closed */
    const int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    char chunk[512] = "190\r\n";
    memset(chunk + 5, 'x', 400);
    memcpy(chunk + 405, "\r\n", 3);
    for (int i = 0; i < 100; i++)
        if (send(fd, chunk, strlen(chunk), MSG_NOSIGNAL) < 0)
            break;
    ck_assert_ptr_null(strstr(hear(fd, "HTTP/1.1 200"), "HTTP/1.1 200"));
    close(fd);
    got = ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc");
    ck_assert_msg(strstr(got, "POST 3 - - abc") != NULL, "%s", got);
    ck_assert_int_eq(atomic_load(&calls), 1);
    httpd_stop(server, 1000);
}
END_TEST

static void *stop_server(void *arg)
{
    (void)arg;
    httpd_stop(server, 5000);
    return NULL;
}

START_TEST(stopping_lets_the_request_in_hand_finish)
{
    start(2);
    pthread_t stopper;
    atomic_store(&hold, 1);
    const int fd = dial();
    say(fd, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    while (atomic_load(&calls) == 0)
        clock_sleep_ns(NULL, CLOCK_NS_PER_MS);
    ck_assert_int_eq(pthread_create(&stopper, NULL, stop_server, NULL), 0);
    atomic_store(&hold, 0);
    const char *got = hear(fd, "done");
    ck_assert_msg(strstr(got, "\r\n\r\ndone") != NULL, "%s", got);
    pthread_join(stopper, NULL);
    close(fd);
}
END_TEST

START_TEST(a_connection_beyond_the_bound_waits_for_a_place)
{
    start(1);
    int fd[8];
    for (int i = 0; i < 8; i++) {
        fd[i] = dial();
        say(fd[i], "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
        hear(fd[i], "GET 0 - - ");
    }
    const int more = dial(); /* waits in the kernel's queue */
    say(more, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    struct pollfd p = {.fd = more, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 200), 0);
    ck_assert_int_eq(atomic_load(&calls), 8);
    close(fd[0]);
    ck_assert_ptr_nonnull(strstr(hear(more, "GET 0 - - "), "GET 0 - - "));
    close(more);
    for (int i = 1; i < 8; i++)
        close(fd[i]);
    httpd_stop(server, 1000);
}
END_TEST

START_TEST(one_clients_idle_connections_leave_room_for_the_others)
{
    enum { EACH = 3, MAX = 8 };
    const struct httpd_options o = {.listen = "127.0.0.1:0", .connections_max = MAX, .connections_each = EACH};
    struct err e = {0};
    int fd[MAX];
    ck_assert_msg(httpd_start(&server, &o, handle, NULL, &e) == 0, "%s", e.text);
    for (int i = 0; i < MAX; i++)
        fd[i] = dial_from(2);
    ck_assert_str_eq(hear(fd[MAX - 1], "none"), ""); /* closed */
    const int other = dial();
    say(other, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    ck_assert_ptr_nonnull(strstr(hear(other, "GET 0 - - "), "GET 0 - - "));
    close(other);
    for (int i = 0; i < MAX; i++)
        close(fd[i]);
    httpd_stop(server, 1000);
}
END_TEST

START_TEST(a_taken_port_or_a_bad_address_is_an_error)
{
    start(1);
    struct err e = {0};
    struct httpd *second;
    char listen[64];
    snprintf(listen, sizeof listen, "127.0.0.1:%u", httpd_port(server));
    ck_assert_int_eq(httpd_start(&second, &(struct httpd_options){.listen = listen}, handle, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_IO);
    static const char *const bad[] = {"",           "9100",           ":9100",           "127.0.0.1:", "example.org:80",
                                      "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1: 9100", "127.0.0.1:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(httpd_start(&second, &(struct httpd_options){.listen = bad[i]}, handle, NULL, &e) == -1, "case %zu", i);
        ck_assert_int_eq(e.code, ERR_INVALID);
    }
    httpd_stop(server, 0);
    httpd_stop(NULL, 0);
}
END_TEST

SUITE("io/httpd", 30, a_body_header_and_query_reach_the_handler, a_connection_is_kept_for_the_next_request,
      a_head_is_answered_as_a_get_without_its_body,
      errors_have_their_status_name_and_retry_after, a_body_beyond_the_bound_never_reaches_the_handler,
      stopping_lets_the_request_in_hand_finish, a_connection_beyond_the_bound_waits_for_a_place,
      one_clients_idle_connections_leave_room_for_the_others, a_taken_port_or_a_bad_address_is_an_error)
