"""What a process asks of Linux and of its C library for itself, and Python has no call for.

- What the C library keeps of memory that was freed, bounded: a process that lives long, and is busy only now and then, is to be
  as large as what it holds. With another library than glibc nothing is done.
- What the kernel is to know of a process: its name, its parent, its orphans (prctl(2)).
- Which files change (inotify(7)).

ctypes could do all of it, and would be half a MiB in each process.
"""
import os

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #include <malloc.h>
    #include <sys/mman.h>
    #include <sys/inotify.h>
    #include <sys/prctl.h>
    static void gw_share_heap(void) {
    #ifdef M_ARENA_MAX
        mallopt(M_ARENA_MAX, 1);
    #endif
    }
    static void gw_trim_heap(void) {
    #ifdef __GLIBC__
        malloc_trim(0);
    #endif
    }
    """
    void gw_share_heap() nogil
    void gw_trim_heap() nogil
    int PR_SET_CHILD_SUBREAPER
    int PR_SET_NAME
    int PR_SET_PDEATHSIG
    int MADV_DONTNEED
    int madvise(void *at, size_t n, int advice) nogil
    int prctl(int option, unsigned long value) nogil
    int c_inotify_init1 "inotify_init1" (int flags) nogil
    int c_inotify_add_watch "inotify_add_watch" (int fd, const char *path, uint32_t mask) nogil

cdef extern from "errno.h" nogil:
    int errno


# ---- Memory


def share_heap():
    """Let all threads allocate from one arena; before there are others.

    Threads of Python allocate one at a time, so an arena for each would only keep, in each, what was free when it was last used:
    megabytes after a table was made.
    """
    gw_share_heap()


def trim_heap():
    """Give back what is free."""
    with nogil:
        gw_trim_heap()


def forget_files():
    """Let go of the pages of libraries that were only needed to begin: those that are used are mapped again, from the file.

    Only what cannot be written and of which there is no copy in this process goes, for a copy would be lost.
    """
    cdef uint64_t begin = 0
    cdef uint64_t end = 0
    with open("/proc/self/smaps", "rb") as file:
        for line in file:
            words = line.split()
            if line[:10] == b"Anonymous:" and words[1] == b"0" and begin:
                madvise(<void *>begin, end - begin, MADV_DONTNEED)
            elif b"-" in words[0]:
                begin = end = 0
                if words[1] in (b"r-xp", b"r--p") and len(words) > 5 and words[5][:1] == b"/":
                    first, _, behind = words[0].partition(b"-")
                    begin, end = int(first, 16), int(behind, 16)


# ---- The process


def adopt_orphans():
    """Be the parent of what descendants leave behind, and be told how it ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(int signal):
    """Get a signal when the parent ends."""
    prctl(PR_SET_PDEATHSIG, <unsigned long>signal)


def name_process(bytes name not None):
    """Be called so by ps and top: 15 bytes of it."""
    prctl(PR_SET_NAME, <unsigned long><const char *>name)


# ---- Files


def inotify_init(int flags):
    """Return the descriptor of a new queue of events. OSError where the kernel refuses."""
    return checked(c_inotify_init1(flags))


def inotify_add_watch(int fd, bytes path not None, uint32_t mask):
    """Watch a path, or change what is watched of it; return its watch. OSError where the kernel refuses."""
    return checked(c_inotify_add_watch(fd, path, mask))


cdef int checked(int result) except -1:
    if result < 0:
        raise OSError(errno, os.strerror(errno))
    return result
