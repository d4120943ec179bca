/* A client that does nothing but TLS handshakes: on each of a few places one connection after the other.
 *
 *   handshakes PORT SECONDS PLACES VERSION RESUME NAME      VERSION 1.2 or 1.3; RESUME 1: with the newest ticket of its place
 *
 * A connection: TCP, handshake, close_notify, and reading until the other side closes (in TLS 1.3 its tickets come then):
 * the other side has ended the handshake when this one counts it. Who does not close within two seconds is `lost`. Prints
 * one JSON object. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, PLACES = 64, DRAIN = 2 };
typedef struct { int fd, shaken, reused; SSL *ssl; SSL_SESSION *session; int64_t begun; } place_t;

static struct sockaddr_in address = {.sin_family = AF_INET};
static place_t places[PLACES];
static SSL_CTX *context;
static const char *name;
static int poll_fd, resume, open_places;
static long long asked, answered, resumed, broken, lost;

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int keep(SSL *ssl, SSL_SESSION *session) {
    place_t *p = SSL_get_app_data(ssl);
    SSL_SESSION_free(p->session);
    p->session = session;
    return 1; /* it is ours now */
}

static int begin(place_t *p) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) { close(fd); return -1; }
    *p = (place_t){.fd = fd, .ssl = SSL_new(context), .session = p->session, .begun = clock_ns()};
    SSL_set_app_data(p->ssl, p);
    SSL_set_fd(p->ssl, fd);
    SSL_set_tlsext_host_name(p->ssl, name);
    SSL_set_connect_state(p->ssl);
    if (resume && p->session) SSL_set_session(p->ssl, p->session);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd,
              &(struct epoll_event){.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = p});
    asked++, open_places++;
    return 0;
}

static void end(place_t *p, long long *as) {
    ++*as, open_places--;
    SSL_free(p->ssl);
    close(p->fd);
    p->fd = -1;
}

static void go_on(place_t *p) {
    char scrap[4096];
    ERR_clear_error();
    if (!p->shaken) {
        int r = SSL_do_handshake(p->ssl), why = SSL_get_error(p->ssl, r);
        if (r != 1) {
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) end(p, &broken);
            return;
        }
        p->shaken = 1, p->reused = SSL_session_reused(p->ssl);
        SSL_shutdown(p->ssl);
    }
    for (;;) {
        int r = SSL_read(p->ssl, scrap, sizeof scrap);
        if (r > 0) continue;
        if (SSL_get_error(p->ssl, r) == SSL_ERROR_WANT_READ) return;
        resumed += p->reused;
        end(p, &answered);
        return;
    }
}

int main(int argc, char **argv) {
    if (argc != 7 || atoi(argv[3]) > PLACES) { fprintf(stderr, "usage: handshakes PORT SECONDS PLACES VERSION RESUME NAME\n"); return 2; }
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int count = atoi(argv[3]), version = strcmp(argv[4], "1.2") ? TLS1_3_VERSION : TLS1_2_VERSION;
    resume = atoi(argv[5]), name = argv[6];
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256"); /* one for all, as h2load.py has it */
    SSL_CTX_set_cipher_list(context, "ECDHE-ECDSA-AES128-GCM-SHA256");
    SSL_CTX_set1_groups_list(context, "X25519:P-256");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep);
    poll_fd = epoll_create1(0);
    int64_t start = clock_ns(), now = start, stop = start + (int64_t)(atof(argv[2]) * 1e9);
    for (int i = 0; i < count; i++) if (begin(&places[i])) { perror("connect"); return 1; }
    struct epoll_event events[EVENTS];
    while (open_places) {
        int ready = epoll_wait(poll_fd, events, EVENTS, 100);
        now = clock_ns();
        for (int i = 0; i < ready; i++) {
            place_t *p = events[i].data.ptr;
            if (p->fd >= 0) go_on(p);
        }
        for (int i = 0; i < count; i++) {
            place_t *p = &places[i];
            if (p->fd >= 0 && now - p->begun > DRAIN * 1000000000LL) end(p, &lost);
            if (p->fd < 0 && now < stop && begin(p)) return 1;
        }
    }
    printf("{\"asked\": %lld, \"answered\": %lld, \"resumed\": %lld, \"broken\": %lld, \"lost\": %lld, \"seconds\": %.6f}\n",
           asked, answered, resumed, broken, lost, (double)(now - start) / 1e9);
    return 0;
}
