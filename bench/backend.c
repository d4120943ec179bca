/* The backend of the benchmarks, so plain that it is never what is measured: one thread, one epoll set, keep-alive always.
 *
 *   backend SIZE PORT...      answers every request with SIZE bytes, after its body (if Content-Length says there is one)
 *
 * X-Backend names the port that was asked, so that one process can stand for several backends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, FILES = 65536, PORTS = 64, HEAD = 4096 };
typedef struct {
    int port;              /* index into `answers` */
    int listening, in_body;
    int used;              /* bytes of `head` */
    long long body;        /* of the request, still to come */
    size_t left;           /* of the answer, still to be sent */
    char head[HEAD];
} connection_t;
typedef struct { char *bytes; size_t size; } answer_t;

static connection_t *connections[FILES];
static answer_t answers[PORTS];
static int poll_fd;

static void watch(int fd, unsigned events, int how) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(poll_fd, how, fd, &event);
}

/* 0: all of the answer is sent; 1: the rest waits for room; -1: the connection is over. */
static int answer(int fd, connection_t *c) {
    answer_t *a = &answers[c->port];
    while (c->left) {
        ssize_t n = send(fd, a->bytes + a->size - c->left, c->left, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 1 : -1;
        c->left -= (size_t)n;
    }
    return 0;
}

static long long content_length(char *head, const char *end) {
    for (char *line = strstr(head, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "content-length:", 15)) return atoll(line + 17);
    return 0;
}

/* Take `n` bytes that have come; answer each request that is complete. As answer() returns. */
static int eat(int fd, connection_t *c, char *at, ssize_t n) {
    while (n > 0) {
        if (!c->in_body) {
            ssize_t some = n < HEAD - 1 - c->used ? n : HEAD - 1 - c->used;
            memcpy(c->head + c->used, at, (size_t)some);
            c->head[c->used + some] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) {
                c->used += (int)some, at += some, n -= some;
                if (c->used == HEAD - 1) return -1;
                continue;
            }
            some = end + 4 - c->head - c->used;
            at += some, n -= some;
            c->body = content_length(c->head, end), c->used = 0, c->in_body = 1;
        }
        ssize_t some = c->body < n ? (ssize_t)c->body : n;
        c->body -= some, at += some, n -= some;
        if (c->body) continue;
        c->in_body = 0, c->left = answers[c->port].size;
        int waits = answer(fd, c);
        if (waits) return n ? -1 : waits; /* more requests behind one whose answer waits: no gateway does that */
    }
    return 0;
}

static void drop(int fd) {
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static void serve(int fd, unsigned events) {
    static char in[65536];
    connection_t *c = connections[fd];
    int waits = c->left ? answer(fd, c) : 0;
    if (!waits && events & EPOLLOUT) watch(fd, EPOLLIN, EPOLL_CTL_MOD);
    if (!waits && events & ~(unsigned)EPOLLOUT) {
        ssize_t n = recv(fd, in, sizeof in, 0);
        waits = n > 0 ? eat(fd, c, in, n) : n < 0 && errno == EAGAIN ? 0 : -1;
        if (waits > 0) watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
    }
    if (waits < 0) drop(fd);
}

static void meet(int listener) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        connection_t *c = fd < FILES ? calloc(1, sizeof *c) : NULL;
        if (!c) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->port = connections[listener]->port;
        connections[fd] = c;
        watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static int listen_on(int n, int port, size_t size) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) { perror("bind"); return -1; }
    char *bytes = malloc(256 + size);
    int head = snprintf(bytes, 256, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Backend: %d\r\nContent-Length: %zu\r\n\r\n",
                        port, size);
    memset(bytes + head, '.', size);
    answers[n] = (answer_t){bytes, (size_t)head + size};
    connections[fd] = calloc(1, sizeof **connections);
    connections[fd]->port = n, connections[fd]->listening = 1;
    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc - 2 > PORTS) { fprintf(stderr, "usage: backend SIZE PORT...\n"); return 2; }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poll_fd = epoll_create1(0);
    for (int i = 2; i < argc; i++) if (listen_on(i - 2, atoi(argv[i]), (size_t)atoll(argv[1]))) return 1;
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (connections[fd]->listening) meet(fd);
            else serve(fd, events[i].events);
        }
    }
}
