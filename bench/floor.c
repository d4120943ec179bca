/* The floor: what forwarding costs when nothing is parsed. `floor PORT BACKEND_PORT`: one thread, one edge-triggered
 * epoll set; each client connection has its own backend connection, and what one side sends goes to the other as it
 * is. Whatever a proxy needs beyond this is its own work. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, FILES = 65536 };
static int other[FILES]; /* the descriptor at the other end, 0 where there is none */

static void end(int fd) {
    int peer = other[fd];
    other[fd] = 0;
    close(fd);
    if (peer) { other[peer] = 0; close(peer); }
}

/* Everybody waits while one socket is full: nothing has to be remembered. */
static int pass(int fd, const char *at, size_t left) {
    while (left) {
        ssize_t n = send(fd, at, left, MSG_NOSIGNAL);
        struct pollfd full = {.fd = fd, .events = POLLOUT};
        if (n < 0 && (errno != EAGAIN || poll(&full, 1, 5000) < 1)) return -1;
        if (n > 0) at += n, left -= (size_t)n;
    }
    return 0;
}

static void forward(int fd, int ended) {
    static char buffer[65536];
    if (!other[fd]) return;
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0 || pass(other[fd], buffer, (size_t)n)) { end(fd); return; }
        if (n < (ssize_t)sizeof buffer && !ended) return; /* all of it: the next byte is a new edge */
    }
}

static void watch(int set, int fd) {
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static void meet(int set, int client, const struct sockaddr_in *backend) {
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* on loopback connect returns at once, so it may block */
    if (fd < 0 || client >= FILES || fd >= FILES || connect(fd, (const struct sockaddr *)backend, sizeof *backend)) {
        close(client);
        if (fd >= 0) close(fd);
        return;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    other[client] = fd;
    other[fd] = client;
    watch(set, client);
    watch(set, fd);
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: floor PORT BACKEND_PORT\n"); return 2; }
    struct rlimit files = {FILES, FILES};
    setrlimit(RLIMIT_NOFILE, &files);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, backend = address;
    backend.sin_port = htons((unsigned short)atoi(argv[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("bind"); return 1; }
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(set, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) { forward(fd, events[i].events & EPOLLRDHUP); continue; }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) meet(set, fd, &backend);
        }
    }
}
