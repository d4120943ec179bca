# A moment as heads and logs write it. Pure.
from gwfast.engine.sys cimport time_t

# 'Sun, 06 Nov 1994 08:49:37 GMT' (IMF-fixdate, 29 bytes and NUL), '1994-11-06T08:49:37' (RFC 3339, 19 and NUL),
# '06/Nov/1994:08:49:37 +0000' (common log format, 26 and NUL).
cdef void dates(time_t second, char *date, char *stamp, char *clf) noexcept nogil
