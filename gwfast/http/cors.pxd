# What a CORS filter says to one request (spec 5.5, and the Fetch standard's "CORS protocol"): lines for its response.
# Pure: reads a head and the image, writes into a bounded buffer.
from libc.stdint cimport uint32_t
from gwfast.http.header_writer cimport Out
from gwfast.http.head cimport RequestHead
from gwfast.table.layout cimport Cors, Image

cdef struct CorsRequest:        # what a request says of where it comes from, as indexes of its fields; -1: nothing
    int origin
    int method             # Access-Control-Request-Method
    int headers            # Access-Control-Request-Headers

cdef void read_asking(CorsRequest *asking, const RequestHead *head) noexcept nogil
cdef bint is_preflight(const CorsRequest *asking, const RequestHead *head) noexcept nogil
cdef bint allowed(const Image *image, const Cors *cors, const char *origin, uint32_t n) noexcept nogil
cdef uint32_t cors_room(const Cors *cors, const CorsRequest *asking, const RequestHead *head) noexcept nogil
# The lines for a response to this request, those of a preflight if it is one.
cdef void write_cors(Out *out, const Image *image, const Cors *cors, const CorsRequest *asking,
                     const RequestHead *head) noexcept nogil
