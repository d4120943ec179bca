# The system calls of the hot path, as the kernel's headers declare them.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <assert.h>
    #ifdef NDEBUG
    #define gw_invariant(holds) ((void)sizeof(holds))
    #else
    #define gw_invariant(holds) assert(holds)
    #endif
    """
    void invariant "gw_invariant" (bint holds)   # or there is a bug: ends a debug build, costs a release nothing

cdef extern from "errno.h" nogil:
    int errno
    enum:
        EAGAIN
        EINVAL
        EINTR
        EINPROGRESS
        EMFILE
        ENFILE
        ECONNABORTED
        ECONNREFUSED

cdef extern from "linux/sockios.h" nogil:
    enum:
        SIOCOUTQ           # bytes that the other side has not acknowledged

cdef extern from "sys/ioctl.h" nogil:
    int ioctl(int fd, unsigned long request, int *value)

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP
        EPOLLET
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        void *ptr
        int fd
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "sys/uio.h" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    enum:
        AF_INET
        AF_INET6
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_LINGER
        SO_INCOMING_CPU
        MSG_NOSIGNAL
        MSG_DONTWAIT
        MSG_PEEK
        SHUT_RD
        SHUT_RDWR
        SHUT_WR
    ctypedef uint32_t socklen_t
    cdef struct sockaddr:
        uint16_t sa_family
    cdef struct sockaddr_storage:
        uint16_t ss_family
    cdef struct linger:
        int l_onoff
        int l_linger
    cdef struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    int socket(int domain, int kind, int protocol)
    int connect(int fd, const sockaddr *address, socklen_t n)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *n)
    int shutdown(int fd, int how)
    int getsockname(int fd, sockaddr *address, socklen_t *n)
    int getpeername(int fd, sockaddr *address, socklen_t *n)
    ssize_t recv(int fd, void *at, size_t n, int flags)
    ssize_t send(int fd, const void *at, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/socket.h>
    extern int accept4(int, struct sockaddr *, socklen_t *, int);
    """
    int accept4(int fd, sockaddr *address, socklen_t *n, int flags)

cdef extern from "netinet/in.h" nogil:
    enum:
        IPPROTO_TCP
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_NODELAY

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t n)
    int inet_pton(int family, const char *text, void *address)

cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t write(int fd, const void *at, size_t n)
    ssize_t read_file "read" (int fd, void *at, size_t n)
    ssize_t write_file "write" (int fd, const void *at, size_t n)

cdef extern from "poll.h" nogil:
    enum:
        POLLOUT
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout)

cdef extern from "sys/mman.h" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_SHARED
        MAP_PRIVATE
        MAP_POPULATE
        MAP_ANONYMOUS
        MADV_DONTNEED
    void *MAP_FAILED
    void *mmap(void *at, size_t n, int protection, int flags, int fd, long offset)
    int munmap(void *at, size_t n)
    int madvise(void *at, size_t n, int advice)

cdef extern from "time.h" nogil:
    enum:
        CLOCK_MONOTONIC
        CLOCK_REALTIME
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    cdef struct itimerspec:
        timespec it_interval
        timespec it_value
    cdef struct tm:
        int tm_sec
        int tm_min
        int tm_hour
        int tm_mday
        int tm_mon
        int tm_year
        int tm_wday
    int clock_gettime(int clock, timespec *value)
    tm *gmtime_r(const time_t *seconds, tm *value)

cdef extern from "sys/timerfd.h" nogil:
    enum:
        TFD_CLOEXEC
        TFD_NONBLOCK
        TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *to, itimerspec *was)
