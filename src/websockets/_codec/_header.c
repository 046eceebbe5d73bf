/* The header of a received frame (RFC 6455 section 5.2): read it, check it, hold the limits.

   May know: the state of a decoder.
   Must not know: payloads, where frames go.

   A refused frame is a result and no exception: the decoder remembers a tuple that begins with a close code. */

#include "_codec.h"

/* Each of these sets self->failure. They return -1 for an exception in making it, else 0. */

static int
refuse(Decoder *self, const char *text)
{
    self->failure = Py_BuildValue("(is)", 1002, text);
    return self->failure == NULL ? -1 : 0;
}

static int
refuse_size(Decoder *self, uint64_t size, int64_t limit, uint64_t received)
{
    self->failure = Py_BuildValue("(iKLK)", 1009, (unsigned long long)size, (long long)limit,
                                  (unsigned long long)received);
    return self->failure == NULL ? -1 : 0;
}

int
codec_refuse_text(Decoder *self, const char *reason, uint64_t position)
{
    PyObject *text = PyUnicode_FromFormat("%s at position %llu", reason, (unsigned long long)position);
    if (text == NULL) {
        return -1;
    }
    self->failure = Py_BuildValue("(iN)", 1007, text);
    return self->failure == NULL ? -1 : 0;
}

static int
refuse_length(Decoder *self, uint64_t size, const char *why)
{
    PyObject *text = PyUnicode_FromFormat("payload length %llu %s", (unsigned long long)size, why);
    if (text == NULL) {
        return -1;
    }
    self->failure = Py_BuildValue("(iN)", 1002, text);
    return self->failure == NULL ? -1 : 0;
}

/* Return why a frame may not begin with these two bytes; NULL if it may. */
static const char *
header_error(const Decoder *self, uint8_t head, uint8_t second)
{
    uint8_t opcode = head & OPCODE_MASK;
    int first = opcode == OPCODE_TEXT || opcode == OPCODE_BINARY;
    uint8_t allowed = self->reserved == RSV_MASK || first ? self->reserved : 0;

    if ((opcode > OPCODE_BINARY && opcode < OPCODE_CLOSE) || opcode > OPCODE_PONG) {
        return "invalid opcode";
    }
    if (head & RSV_MASK & ~allowed) {
        return "reserved bits must be 0";
    }
    if (head & CONTROL_BIT && !(head & FIN)) {
        return "fragmented control frame";
    }
    if (((second & MASK_BIT) != 0) != self->masked) {
        return "incorrect masking";
    }
    if (head & CONTROL_BIT) {
        return (second & LENGTH_MASK) > MAX_CONTROL_PAYLOAD ? "control frame too long" : NULL;
    }
    if (opcode == OPCODE_CONT && !self->opcode) {
        return "unexpected continuation frame";
    }
    if (opcode != OPCODE_CONT && self->opcode) {
        return "expected a continuation frame";
    }
    return NULL;
}

/* Return how many bytes a limit allows on the wire. A compressed message may have as many bytes as the limit says
   once it is decompressed, and its compressed form may be larger than that. It is never larger than this: zlib
   promises it for all settings, even for bytes that can't be compressed. */
static uint64_t
allowed(int64_t limit, int compressed)
{
    uint64_t size = (uint64_t)limit;

    return compressed ? size + (size >> 3) + (size >> 6) + 64 : size;
}

/* Refuse a frame that is too large, before a byte of its payload is kept. The numbers are unsigned, and the second
   limit is checked by a subtraction, so nothing can overflow. */
static int
check_size(Decoder *self, uint8_t head, uint64_t size)
{
    int compressed = ((head & OPCODE_MASK) != OPCODE_CONT ? head : self->opcode) & RSV1;

    if (self->max_fragment >= 0 && size > allowed(self->max_fragment, compressed)) {
        return refuse_size(self, size, self->max_fragment, 0);
    }
    if (self->max_message >= 0) {
        uint64_t limit = allowed(self->max_message, compressed);
        if (self->received > limit || size > limit - self->received) {
            return refuse_size(self, size, self->max_message, self->received);
        }
    }
    return 0;
}

/* Read the length of a payload where it takes 2 or 8 bytes, after the first two of the header. */
static int
read_long_size(Decoder *self, const uint8_t *p, int width, uint64_t *size)
{
    *size = 0;
    for (int i = 2; i < 2 + width; i++) {
        *size = *size << 8 | p[i];
    }
    if (*size >= UINT64_C(1) << 63) {
        return refuse_length(self, *size, "exceeds 2**63 - 1");
    }
    if (*size <= (width == 2 ? (uint64_t)MAX_LENGTH_7 : MAX_LENGTH_16)) {
        return refuse_length(self, *size, "isn't in its shortest form");
    }
    return 0;
}

int
codec_read_header(Decoder *self, const uint8_t *p, Py_ssize_t n, Header *header)
{
    Py_ssize_t length = 2;
    const char *error;
    uint64_t size;

    header->length = 0;
    if (n < 2) {
        return 0;
    }
    error = header_error(self, p[0], p[1]);
    if (error != NULL) {
        return refuse(self, error);
    }
    size = p[1] & LENGTH_MASK;
    if (size > MAX_LENGTH_7) {
        int width = size == LENGTH_16 ? 2 : 8;
        length += width;
        if (n < length) {
            return 0;
        }
        if (read_long_size(self, p, width, &size) < 0 || self->failure != NULL) {
            return self->failure == NULL ? -1 : 0;
        }
    }
    if (!(p[0] & CONTROL_BIT)) {
        if (check_size(self, p[0], size) < 0 || self->failure != NULL) {
            return self->failure == NULL ? -1 : 0;
        }
    }
    length += self->masked ? 4 : 0;
    if (n < length) {
        return 0;
    }
    header->mask = self->masked ? p + length - 4 : NULL;
    header->head = p[0];
    header->size = size;
    header->length = length;
    return 0;
}
