/* The client of the benchmarks: one thread, one epoll set, requests as they are written in files.
 *
 *   client PORT SECONDS CONNECTIONS RATE CLOSE LENGTH WINDOW FILE...    LENGTH of every right answer's body, -1: any
 *
 * RATE 0 is a closed loop: each connection asks again as soon as it is answered. Any other RATE is an open loop: request
 * n is due at n / RATE seconds whatever became of those before it, waits for a connection if all are busy, and its time
 * runs from when it was due. A gateway that stalls is charged for all who would have come meanwhile (no coordinated
 * omission). CLOSE 1: a connection of its own for every request. A GET on a connection that had served and was closed
 * before a byte of an answer is asked again on a new one, once, as clients do (RFC 9112 9.3.1): that is `retried`, its
 * time goes on. SIGTERM ends it early. `typical` is the p99 of requests that were due in one WINDOW of so many milliseconds,
 * of the window that is the last of the calmest quarter: a machine that stops for moments spoils many windows, who is
 * measured spoils all. Prints one JSON object; times are microseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef struct { char *bytes; size_t size; } request_t;
typedef struct {
    int fd, used;          /* fd -1: closed; used: bytes of `head` */
    int asking;            /* a request is under way */
    int served;            /* answers that this connection has had */
    const request_t *what;
    size_t sent;
    int64_t due;
    long long left;        /* of the body; -1: the head is not complete */
    int status, last;      /* last: the other side closes after this answer */
    char head[4096];
} connection_t;

/* Bins of the histogram: 64 to each power of two, so that a figure is off by at most 1.6 %. */
enum { EVENTS = 256, BINS = 64 * 40, DRAIN = 2 };

static struct sockaddr_in address = {.sin_family = AF_INET};
static request_t *requests;
static connection_t *connections;
static connection_t **idle;
static int poll_fd, timer, count, kinds, closing, idle_count;
static volatile sig_atomic_t told_to_end;
static long long rate, length, asked, answered, wrong, broken, refused, retried, bins[BINS], statuses[6];
static int64_t start, stop, now, slowest;
static double total;

/* Times in the order of their end, for the windows. */
typedef struct { uint32_t window, us; } time_of_t;
static time_of_t *times;
static size_t times_room;
static int64_t window;

static void end_early(int number) {
    (void)number;
    told_to_end = 1;
}

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int bin_of(int64_t us) {
    if (us < 64) return us < 0 ? 0 : (int)us;
    int high = 63 - __builtin_clzll((unsigned long long)us);
    int bin = (high - 5) * 64 + (int)((us >> (high - 6)) & 63);
    return bin < BINS ? bin : BINS - 1;
}

static double middle_of(int bin) {
    if (bin < 64) return bin;
    int high = bin / 64 + 5;
    return (double)((1LL << high) + ((long long)(bin % 64) << (high - 6))) + (double)(1LL << (high - 6)) / 2;
}

static void shut(connection_t *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static int open_up(connection_t *c) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) { close(fd); return -1; }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
    c->fd = fd, c->served = 0;
    return 0;
}

static void done(connection_t *c, int keep) {
    c->asking = 0;
    if (!keep || closing) shut(c);
    idle[idle_count++] = c;
}

static void fail(connection_t *c, long long *what) {
    ++*what;
    done(c, 0);
}

static void push(connection_t *c) {
    while (c->sent < c->what->size) {
        ssize_t n = send(c->fd, c->what->bytes + c->sent, c->what->size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == ENOTCONN || errno == EINPROGRESS) return;
            if (errno == ECONNREFUSED) { fail(c, &refused); return; }
            break; /* an answer may already be there: reading tells */
        }
        c->sent += (size_t)n;
    }
}

static void ask(int64_t due) {
    connection_t *c = idle[--idle_count];
    c->what = &requests[asked++ % kinds];
    c->sent = 0, c->used = 0, c->left = -1, c->due = due, c->asking = 1, c->last = 0;
    if (c->fd < 0 && open_up(c)) { fail(c, &refused); return; }
    push(c);
}

static void remember(int64_t due, int64_t us) {
    if ((size_t)answered > times_room) {
        times_room = times_room ? 2 * times_room : 65536;
        if (!(times = realloc(times, times_room * sizeof *times))) exit(1);
    }
    times[answered - 1] = (time_of_t){(uint32_t)((due - start) / window), us < UINT32_MAX ? (uint32_t)us : UINT32_MAX};
}

static int by_window_and_time(const void *a, const void *b) {
    const time_of_t *x = a, *y = b;
    if (x->window != y->window) return x->window < y->window ? -1 : 1;
    return x->us < y->us ? -1 : x->us > y->us;
}

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The p99 of the window that is the last of the calmest quarter; those that the end cut short do not count. */
static double typical(void) {
    size_t n = window ? (size_t)answered : 0, found = 0, whole = window ? (size_t)((stop - start) / window) : 0;
    uint32_t *each = calloc(whole + 1, sizeof *each);
    qsort(times, n, sizeof *times, by_window_and_time);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && times[end].window == times[i].window; ) end++;
        if (times[i].window < whole) each[found++] = times[i + (size_t)((double)(end - i) * 0.99)].us;
    }
    qsort(each, found, sizeof *each, by_number);
    return found ? each[found / 4] : 0;
}

static void finish(connection_t *c, int right) {
    int64_t us = (now - c->due) / 1000;
    c->served++, answered++, bins[bin_of(us)]++, total += (double)us;
    if (us > slowest) slowest = us;
    if (window) remember(c->due, us);
    if (c->status >= 100 && c->status < 600) statuses[c->status / 100]++;
    if (!right || c->status != 200) wrong++;
    done(c, !c->last && c->sent == c->what->size);
}

/* The end of the head, or NULL; sets what the head says. */
static char *parse(connection_t *c) {
    c->head[c->used] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return NULL;
    c->status = c->used > 12 ? atoi(c->head + 9) : 0;
    c->left = 0;
    for (char *line = strstr(c->head, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n")) {
        if (!strncasecmp(line + 2, "content-length:", 15)) c->left = atoll(line + 17);
        if (!strncasecmp(line + 2, "connection: close", 17)) c->last = 1;
    }
    return end + 4;
}

/* The connection ended under a request. */
static void ended(connection_t *c) {
    int again = c->left < 0 && !c->used && c->served && *c->what->bytes == 'G';
    if (!again) { fail(c, &broken); return; }
    shut(c);
    retried++, c->sent = 0;
    if (open_up(c)) { fail(c, &refused); return; }
    push(c);
}

static void take(connection_t *c) {
    static char scrap[262144];
    while (c->fd >= 0 && c->asking) {
        int in_head = c->left < 0;
        char *to = in_head ? c->head + c->used : scrap;
        ssize_t n = recv(c->fd, to, in_head ? sizeof c->head - 1 - (size_t)c->used : sizeof scrap, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0 && errno == ECONNREFUSED) { fail(c, &refused); return; }
        if (n <= 0) { ended(c); return; }
        if (in_head) {
            c->used += (int)n;
            char *body = parse(c);
            if (!body && c->used == sizeof c->head - 1) { fail(c, &broken); return; }
            if (!body) continue;
            int right = length < 0 || c->left == length;
            c->left -= c->head + c->used - body;
            if (!right) c->status = c->status == 200 ? 0 : c->status;
        } else {
            c->left -= n;
        }
        if (c->left == 0) { finish(c, 1); return; }
        if (c->left < 0) { finish(c, 0); return; }
    }
    if (c->fd >= 0 && !c->asking) { /* between requests the other side has only its end to say */
        char byte;
        if (recv(c->fd, &byte, 1, MSG_PEEK) != -1 || errno != EAGAIN) shut(c);
    }
}

static void ask_what_is_due(void) {
    if (!rate) {
        while (idle_count && now < stop) {
            int before = idle_count;
            ask(now);
            if (idle_count >= before) return; /* refused at once: not again in this round */
        }
        return;
    }
    for (; idle_count; ) {
        int64_t due = start + (int64_t)((double)asked * 1e9 / (double)rate);
        if (due > now || due >= stop) return;
        ask(due);
    }
}

static double percentile(double share) {
    long long rank = (long long)((double)answered * share), seen = 0;
    for (int i = 0; i < BINS; i++) if ((seen += bins[i]) > rank) return middle_of(i);
    return (double)slowest;
}

static int load(const char *name, request_t *to) {
    FILE *file = fopen(name, "rb");
    if (!file) { perror(name); return -1; }
    fseek(file, 0, SEEK_END);
    to->size = (size_t)ftell(file);
    rewind(file);
    to->bytes = malloc(to->size + 1);
    size_t got = fread(to->bytes, 1, to->size, file);
    fclose(file);
    return got == to->size ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc < 9) { fprintf(stderr, "usage: client PORT SECONDS CONNECTIONS RATE CLOSE LENGTH WINDOW FILE...\n"); return 2; }
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double seconds = atof(argv[2]);
    count = atoi(argv[3]), rate = atoll(argv[4]), closing = atoi(argv[5]), length = atoll(argv[6]), kinds = argc - 8;
    window = rate ? atoll(argv[7]) * 1000000 : 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    requests = calloc((size_t)kinds, sizeof *requests);
    connections = calloc((size_t)count, sizeof *connections);
    idle = calloc((size_t)count, sizeof *idle);
    for (int i = 0; i < kinds; i++) if (load(argv[8 + i], &requests[i])) return 1;
    for (int i = count - 1; i >= 0; i--) connections[i].fd = -1, idle[idle_count++] = &connections[i];
    poll_fd = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct epoll_event events[EVENTS];
    struct itimerspec every = {.it_interval = {.tv_nsec = 100000}, .it_value = {.tv_nsec = 1}};
    timerfd_settime(timer, 0, &every, NULL);

    /* In an open loop the client is late for nobody: what it measures is the others' time, not its own place in the
     * queue for the core that it shares with the backend. Where it may not be first, its times have that in them. */
    int first = rate && !sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    signal(SIGTERM, end_early);
    start = now = clock_ns(), stop = start + (int64_t)(seconds * 1e9);
    ask_what_is_due();
    while (now < stop || (idle_count < count && now < stop + DRAIN * 1000000000LL)) {
        /* An open loop looks ten times in a millisecond, and not at each answer by itself: the core that it shares with the
         * backend is not to be what a fast gateway wears out. */
        uint64_t ticks;
        int ready;
        if (rate && read(timer, &ticks, sizeof ticks) < 0) continue;
        do {
            ready = epoll_wait(poll_fd, events, EVENTS, rate ? 0 : 20);
            now = clock_ns();
            if (told_to_end && now < stop) stop = now;
            for (int i = 0; i < ready; i++) {
                connection_t *c = events[i].data.ptr;
                if (c->fd >= 0 && c->asking && events[i].events & EPOLLOUT) push(c);
                if (c->fd >= 0 && events[i].events & ~(unsigned)EPOLLOUT) take(c);
            }
        } while (rate && ready == EVENTS);
        ask_what_is_due();
    }
    /* Asked and never answered; and, in an open loop, due and never asked: all stand for a client that gave up. */
    double lasted = (double)(stop - start) / 1e9;
    long long due = rate ? (long long)((double)rate * lasted) : asked;
    long long lost = (count - idle_count) + (due > asked ? due - asked : 0);
    printf("{\"asked\": %lld, \"answered\": %lld, \"wrong\": %lld, \"broken\": %lld, \"refused\": %lld, \"retried\": %lld, \"lost\": %lld, "
           "\"statuses\": [0, %lld, %lld, %lld, %lld, %lld], \"seconds\": %.6f, \"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, "
           "\"p99\": %.1f, \"p999\": %.1f, \"max\": %lld, \"typical\": %.1f, \"first\": %d}\n",
           asked, answered, wrong, broken, refused, retried, lost, statuses[1], statuses[2], statuses[3], statuses[4], statuses[5],
           lasted, answered ? total / (double)answered : 0, percentile(0.5),
           percentile(0.9), percentile(0.99), percentile(0.999), (long long)slowest, typical(), first);
    return 0;
}
