/* The backend of gRPC calls, so plain that it is never what is measured: HTTP/2 in clear with prior knowledge, one thread.
 *
 *   calls SIZE PORT...      answers every call with a message of SIZE bytes (5 of them its prefix) and grpc-status 0 as trailer
 *
 * Fields of requests are not read, only where a request ends (END_STREAM). Messages both ways are small: who asks opens its
 * windows long before they are full, so they are not counted. Answers leave with one blocking send for each recv. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, FILES = 65536, PORTS = 64, FRAME = 16384, ROOM = 4 * FRAME, OUT = 1 << 20, PREFACE = 24 };
enum { DATA = 0, HEADERS = 1, SETTINGS = 4, PING = 6, WINDOW_UPDATE = 8, END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
typedef struct {
    int port, listening, met; /* index into `answers`; met: the preface has come */
    size_t used;              /* bytes of `in` */
    uint32_t taken;           /* of DATA since the last WINDOW_UPDATE */
    unsigned char in[ROOM];
} connection_t;
typedef struct { unsigned char *bytes; size_t size, at[3]; } answer_t; /* HEADERS, DATA, HEADERS; where each begins */

static connection_t *connections[FILES];
static answer_t answers[PORTS];
static unsigned char out[OUT];
static size_t out_used;
static int poll_fd;

static size_t frame(unsigned char *to, size_t length, int type, int flags, uint32_t stream) {
    unsigned char head[9] = {(unsigned char)(length >> 16), (unsigned char)(length >> 8), (unsigned char)length,
                             (unsigned char)type, (unsigned char)flags};
    stream = htonl(stream);
    memcpy(head + 5, &stream, 4);
    memcpy(to, head, sizeof head);
    return sizeof head;
}

/* A literal field without indexing, RFC 7541 6.2.2; both lengths below 127. */
static size_t field(unsigned char *to, const char *name, const char *value) {
    size_t n = strlen(name), v = strlen(value), at = 0;
    to[at++] = 0, to[at++] = (unsigned char)n;
    memcpy(to + at, name, n), at += n;
    to[at++] = (unsigned char)v;
    memcpy(to + at, value, v);
    return at + v;
}

static void prepare(answer_t *a, int port, size_t size) {
    char number[8];
    unsigned char fields[128];
    snprintf(number, sizeof number, "%d", port);
    unsigned char *to = a->bytes = malloc(512 + size);
    fields[0] = 0x88; /* :status 200 */
    size_t n = 1 + field(fields + 1, "content-type", "application/grpc");
    n += field(fields + n, "x-backend", number);
    to += frame(to, n, HEADERS, END_HEADERS, 0);
    memcpy(to, fields, n), to += n;
    a->at[1] = (size_t)(to - a->bytes);
    to += frame(to, size, DATA, 0, 0);
    uint32_t length = htonl((uint32_t)size - 5);
    *to = 0, memcpy(to + 1, &length, 4), memset(to + 5, '.', size - 5), to += size;
    a->at[2] = (size_t)(to - a->bytes);
    n = field(fields, "grpc-status", "0");
    to += frame(to, n, HEADERS, END_HEADERS | END_STREAM, 0);
    memcpy(to, fields, n), to += n;
    a->size = (size_t)(to - a->bytes);
}

static void flush(int fd) {
    for (size_t sent = 0; sent < out_used; ) {
        ssize_t n = send(fd, out + sent, out_used - sent, MSG_NOSIGNAL);
        if (n <= 0) break; /* the next recv tells */
        sent += (size_t)n;
    }
    out_used = 0;
}

static void answer(int fd, const answer_t *a, uint32_t stream) {
    if (OUT - out_used < a->size) flush(fd);
    unsigned char *to = out + out_used;
    memcpy(to, a->bytes, a->size);
    stream = htonl(stream);
    for (int i = 0; i < 3; i++) memcpy(to + a->at[i] + 5, &stream, 4);
    out_used += a->size;
}

static void take(int fd, connection_t *c, const unsigned char *at, size_t length) {
    int type = at[3], flags = at[4];
    uint32_t stream;
    memcpy(&stream, at + 5, 4);
    stream = ntohl(stream);
    if (OUT - out_used < 64) flush(fd);
    if (type == SETTINGS && !(flags & ACK)) out_used += frame(out + out_used, 0, SETTINGS, ACK, 0);
    if (type == PING && !(flags & ACK)) {
        out_used += frame(out + out_used, 8, PING, ACK, 0);
        memcpy(out + out_used, at + 9, 8), out_used += 8;
    }
    if (type == DATA && (c->taken += (uint32_t)length) >= FRAME) {
        out_used += frame(out + out_used, 4, WINDOW_UPDATE, 0, 0);
        uint32_t more = htonl(c->taken);
        memcpy(out + out_used, &more, 4), out_used += 4, c->taken = 0;
    }
    if ((type == DATA || type == HEADERS) && flags & END_STREAM) answer(fd, &answers[c->port], stream);
}

/* Take all whole frames that have come; -1: the connection is over. */
static int eat(int fd, connection_t *c) {
    size_t at = 0;
    if (!c->met) {
        if (c->used < PREFACE) return 0;
        at = PREFACE, c->met = 1;
        out_used += frame(out + out_used, 0, SETTINGS, 0, 0);
    }
    while (c->used - at >= 9) {
        const unsigned char *head = c->in + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (length > FRAME) return -1;
        if (c->used - at < 9 + length) break;
        take(fd, c, head, length);
        at += 9 + length;
    }
    memmove(c->in, c->in + at, c->used -= at);
    return 0;
}

static void serve(int fd) {
    connection_t *c = connections[fd];
    ssize_t n = recv(fd, c->in + c->used, ROOM - c->used, MSG_DONTWAIT);
    if (n > 0) {
        c->used += (size_t)n;
        int over = eat(fd, c);
        flush(fd);
        if (!over) return;
    }
    free(c);
    connections[fd] = NULL;
    close(fd);
}

static void meet(int listener) {
    int one = 1, fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        connection_t *c = fd < FILES ? calloc(1, sizeof *c) : NULL;
        if (!c) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->port = connections[listener]->port;
        connections[fd] = c;
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

static int listen_on(int n, int port, size_t size) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) { perror("bind"); return -1; }
    prepare(&answers[n], port, size);
    connections[fd] = calloc(1, sizeof **connections);
    connections[fd]->port = n, connections[fd]->listening = 1;
    return epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
}

int main(int argc, char **argv) {
    if (argc < 3 || argc - 2 > PORTS || atoll(argv[1]) < 5 || atoll(argv[1]) > FRAME) {
        fprintf(stderr, "usage: calls SIZE PORT...\n");
        return 2;
    }
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
            else serve(fd);
        }
    }
}
