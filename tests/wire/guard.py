"""Memory whose end is the end of what may be read: one byte further is a fault, not a wrong answer."""
import ctypes
import mmap

PROT_NONE = 0


class Guard:
    """A block that is followed by an unreadable page.

        | readable pages ......... data | no access |
                                 ^ address of at(data)
    """

    def __init__(self, size: int = 256 * 1024) -> None:
        self._size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._map = mmap.mmap(-1, self._size + mmap.PAGESIZE)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(self._base + self._size, mmap.PAGESIZE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")

    def at(self, data: bytes) -> int:
        """Return the address of a copy of data that ends where the guard begins."""
        address = self._base + self._size - len(data)
        ctypes.memmove(address, data, len(data))
        return address
