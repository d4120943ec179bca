"""What must hold for every sequence of HTTP/2 frames. libFuzzer calls fuzz_one(); see ci/fuzz.

Rules: the first byte says whose frames they are and how they are cut, the rest is what arrives. Every frame is read from
copies of the exact size of what is there: all of it, and in pieces.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc
from libc.string cimport memcpy, memset
from gwfast.http2.frames cimport *


cdef void must(bint holds, const char *what) noexcept nogil:
    if not holds:
        fprintf(stderr, b"broken: %s\n", what)
        abort()


cdef void check(const FrameState *state, const Frame *frame, const uint8_t *at, int used) noexcept nogil:
    must(used == <int>(FRAME_HEAD + frame.length) and frame.length <= MAX_FRAME, b"length")
    must(frame.at >= at + FRAME_HEAD and frame.at + frame.n <= at + used, b"payload within the frame")
    must(frame.type != FRAME_PUSH_PROMISE and frame.stream <= WINDOW_MOST, b"type and stream")
    must(state.continuations <= CONTINUATIONS and state.begun, b"state")
    must(frame.type >= FRAME_OTHER or frame.type != FRAME_SETTINGS or frame.n % 6 == 0, b"settings")
    must(frame.type != FRAME_WINDOW_UPDATE or frame.code > 0 or frame.error == PROTOCOL_ERROR, b"increment")
    must(not frame.error or frame.stream, b"an error of a stream has one")


# A hash of all that was read of bytes that arrive in pieces of this size.
cdef uint64_t read_all(const uint8_t *at, uint32_t n, uint32_t size, bint client) noexcept nogil:
    cdef FrameState state
    cdef Settings settings
    cdef Frame frame
    cdef uint64_t h = 14695981039346656037u
    cdef uint32_t begun = 0
    cdef uint32_t till = 0
    cdef uint32_t i
    cdef int used = FRAME_PARTIAL
    cdef uint8_t *exact
    memset(&state, 0, sizeof(state))
    state.client = client
    settings_start(&settings)
    while used != FRAME_BAD and (used > 0 or till < n):
        if used == FRAME_PARTIAL:
            till = min(till + size, n)
        exact = <uint8_t *>malloc(till - begun)
        memcpy(exact, at + begun, till - begun)
        used = frame_next(&state, exact, till - begun, &frame)
        must(used >= FRAME_BAD and used <= <int>(till - begun), b"used")
        if used > 0:
            check(&state, &frame, exact, used)
            if frame.type == FRAME_SETTINGS:
                settings_apply(&settings, &frame)
            for i in range(frame.n):
                h = (h ^ frame.at[i]) * 1099511628211u
            begun += used
        if used:
            h = ((h ^ frame.error ^ <uint64_t>frame.code << 8) * 1099511628211u ^ frame.type ^ frame.flags << 8) * 1099511628211u
        free(exact)
    must(settings.window <= WINDOW_MOST and 16384 <= settings.frame < 1 << 24, b"settings of the peer")
    return (h ^ begun) * 1099511628211u ^ state.block ^ <uint64_t>(used == FRAME_BAD)


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    cdef uint32_t n
    if size > 1:
        n = <uint32_t>(size - 1)
        must(read_all(data + 1, n, n, data[0] & 1) == read_all(data + 1, n, 1 + (data[0] >> 1), data[0] & 1), b"pieces")
        must(read_preface(data + 1, n) <= PREFACE, b"preface")
    return 0


target = <size_t>&fuzz_one
