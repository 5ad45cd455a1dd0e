#include "io/health.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define HOST_BYTES 256
#define TIMEOUT_S 5

bool health_wanted(int *argc, char **argv)
{
    bool wanted = false;
    int kept = 0;
    for (int i = 0; i < *argc; i++)
        if (i > 0 && strcmp(argv[i], "--healthcheck") == 0)
            wanted = true;
        else
            argv[kept++] = argv[i];
    argv[kept] = NULL;
    *argc = kept;
    return wanted;
}

static int split(const char *listen, char host[HOST_BYTES], const char **port, struct err *e)
{
    const char *colon = strrchr(listen, ':');
    if (colon == NULL || (size_t)(colon - listen) >= HOST_BYTES)
        return err_set(e, ERR_UNAVAILABLE, "health: '%s' is not HOST:PORT", listen);
    snprintf(host, HOST_BYTES, "%.*s", (int)(colon - listen), listen);
    const size_t n = strlen(host);
    if (n > 1 && host[0] == '[') {
        memmove(host, host + 1, n - 2);
        host[n - 2] = 0;
    }
    if (strcmp(host, "0.0.0.0") == 0)
        snprintf(host, HOST_BYTES, "127.0.0.1");
    else if (strcmp(host, "::") == 0)
        snprintf(host, HOST_BYTES, "::1");
    *port = colon + 1;
    return 0;
}

static int dial(const char *host, const char *port, struct err *e)
{
    const struct addrinfo want = {.ai_socktype = SOCK_STREAM};
    const struct timeval limit = {.tv_sec = TIMEOUT_S};
    struct addrinfo *found;
    if (getaddrinfo(host, port, &want, &found) != 0)
        return err_set(e, ERR_UNAVAILABLE, "health: no address for %s:%s", host, port);
    int fd = -1;
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0)
        err_set(e, ERR_UNAVAILABLE, "health: nobody listens on %s:%s", host, port);
    return fd;
}

int health_ask(const char *listen, struct err *e)
{
    static const char request[] =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char host[HOST_BYTES], reply[64];
    const char *port = "";
    if (split(listen, host, &port, e) < 0)
        return -1;
    const int fd = dial(host, port, e);
    if (fd < 0)
        return -1;
    size_t have = 0;
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)(sizeof request - 1))
        for (ssize_t n; have < sizeof reply - 1 &&
                        (n = recv(fd, reply + have, sizeof reply - 1 - have, 0)) > 0;)
            have += (size_t)n;
    close(fd);
    reply[have] = 0;
    int status = 0;
    if (sscanf(reply, "HTTP/1.%*c %d", &status) != 1)
        return err_set(e, ERR_UNAVAILABLE, "health: %s does not answer", listen);
    return status == 200 ? 0 : err_set(e, ERR_UNAVAILABLE, "health: status %d", status);
}
