/* The backend of the benchmarks: answers every request without a body with the same 35 bytes, so that it is never
 * what is measured. `backend PORT`: one thread, one epoll set, keep-alive always. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 35\r\n\r\n"
                             "thirty-five bytes, no more no less\n";
enum { ANSWER = sizeof answer - 1, EVENTS = 256, BATCH = 64, FILES = 65536 };

static unsigned char matched[FILES]; /* how much of CRLFCRLF each connection has seen */

static int heads_in(int fd, const char *at, ssize_t n) {
    int heads = 0;
    for (ssize_t i = 0; i < n; i++) {
        unsigned char m = matched[fd];
        if (at[i] == "\r\n\r\n"[m]) {
            if (++m == 4) { heads++; m = 0; }
        } else {
            m = at[i] == '\r';
        }
        matched[fd] = m;
    }
    return heads;
}

static void serve(int fd, char *many) {
    char in[16384];
    ssize_t n = recv(fd, in, sizeof in, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) close(fd);
        return;
    }
    for (int heads = heads_in(fd, in, n); heads > 0; heads -= BATCH) {
        size_t left = (size_t)(heads < BATCH ? heads : BATCH) * ANSWER;
        if (send(fd, many, left, MSG_NOSIGNAL) != (ssize_t)left) { close(fd); return; }
    }
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: backend PORT\n"); return 2; }
    struct rlimit files = {FILES, FILES};
    setrlimit(RLIMIT_NOFILE, &files);
    char *many = malloc(BATCH * ANSWER);
    for (int i = 0; i < BATCH; i++) memcpy(many + i * ANSWER, answer, ANSWER);

    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("bind"); return 1; }
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) { serve(fd, many); continue; }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= FILES) { close(fd); continue; }
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                matched[fd] = 0;
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
