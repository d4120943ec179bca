"""A moment as heads and logs write it (see dates.pxd)."""
from libc.string cimport memcpy

from gwfast.engine.sys cimport gmtime_r, time_t, tm

cdef char *DAYS = b"SunMonTueWedThuFriSat"
cdef char *MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"


cdef void two(char *at, int value) noexcept nogil:
    at[0] = <char>(48 + value // 10)
    at[1] = <char>(48 + value % 10)


cdef void dates(time_t second, char *date, char *stamp, char *clf) noexcept nogil:
    cdef tm t
    cdef int year
    gmtime_r(&second, &t)
    year = t.tm_year + 1900
    memcpy(date, "Sun, 06 Nov 1994 08:49:37 GMT", 30)
    memcpy(date, DAYS + 3 * t.tm_wday, 3)
    two(date + 5, t.tm_mday)
    memcpy(date + 8, MONTHS + 3 * t.tm_mon, 3)
    two(date + 12, year // 100)
    two(date + 14, year % 100)
    two(date + 17, t.tm_hour)
    two(date + 20, t.tm_min)
    two(date + 23, t.tm_sec)
    memcpy(stamp, "1994-11-06T08:49:37", 20)
    memcpy(stamp, date + 12, 4)
    two(stamp + 5, t.tm_mon + 1)
    two(stamp + 8, t.tm_mday)
    memcpy(stamp + 11, date + 17, 8)
    memcpy(clf, "06/Nov/1994:08:49:37 +0000", 27)
    memcpy(clf, date + 5, 2)
    memcpy(clf + 3, date + 8, 3)
    memcpy(clf + 7, date + 12, 4)
    memcpy(clf + 12, date + 17, 8)
