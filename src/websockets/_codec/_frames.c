/* Frames to bytes and back (RFC 6455 section 5), masking, UTF-8, and the queue of what was received.

   _python.py beside this file describes what it does; where the two differ, that one is right. Like it, this file knows
   bytes, integers and plain lists, and nothing of our classes. A decoder is guarded by its own lock where there is no
   GIL. */

#include "_native.h"

enum { RSV_ANY = 0x70 };

/* A large payload gets its buffer as it arrives, not as it is announced: this much first, then doubling. */
#define FIRST_CAPACITY ((Py_ssize_t)4096)

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* ------------------------------------------------------------------------------------------------------- masking */

int
copy_unmasked(uint8_t *dst, const uint8_t *src, Py_ssize_t n, const uint8_t *mask, Py_ssize_t shift)
{
    uint8_t key[8] = {0};
    uint64_t wide, word, seen = 0;
    Py_ssize_t i = 0;

    if (mask != NULL) {
        for (int k = 0; k < 8; k++) {
            key[k] = mask[(k + shift) & 3];
        }
    }
    memcpy(&wide, key, 8);
#if defined(__GNUC__)
    /* GCC and Clang need no flags to make this fast; others do what they can with the loop below. */
    typedef uint64_t Vector __attribute__((vector_size(16)));
    Vector twice = {wide, wide}, high = {0, 0}, one, two;
    for (; i + 32 <= n; i += 32) {
        memcpy(&one, src + i, 16);
        memcpy(&two, src + i + 16, 16);
        one ^= twice;
        two ^= twice;
        memcpy(dst + i, &one, 16);
        memcpy(dst + i + 16, &two, 16);
        high |= one | two;
    }
    seen = high[0] | high[1];
#endif
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, src + i, 8);
        word ^= wide;
        memcpy(dst + i, &word, 8);
        seen |= word;
    }
    for (; i < n; i++) {
        dst[i] = src[i] ^ key[i & 7];
        seen |= dst[i];
    }
    return (seen & HIGH_BITS) != 0;
}

/* ---------------------------------------------------------------------------------------------------------- UTF-8 */

/* How many bytes a character has that begins with this one; 0 if none does. */
static int
utf8_length(uint8_t first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xC2) {
        return 0; /* a continuation, or an overlong form of ASCII */
    }
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

/* Whether a byte may stand at this index of a character. After some first bytes the second is restricted: overlong
   forms, surrogates and what is beyond U+10FFFF show there. */
static int
utf8_continues(uint8_t first, int index, uint8_t byte)
{
    uint8_t low = 0x80, high = 0xBF;

    if (index == 1) {
        switch (first) {
        case 0xE0: low = 0xA0; break;
        case 0xED: high = 0x9F; break;
        case 0xF0: low = 0x90; break;
        case 0xF4: high = 0x8F; break;
        }
    }
    return low <= byte && byte <= high;
}

static Py_ssize_t
skip_ascii(const uint8_t *p, Py_ssize_t i, Py_ssize_t n)
{
    uint64_t word;

    for (; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, 8);
        if (word & HIGH_BITS) {
            break;
        }
    }
    while (i < n && p[i] < 0x80) {
        i++;
    }
    return i;
}

/* Check the next n bytes of a text. Return NULL, or what is wrong in the words of Python's codec, and where. */
static const char *
utf8_check(Utf8 *text, const uint8_t *p, Py_ssize_t n, int final, uint64_t *position)
{
    uint64_t base = text->seen;
    Py_ssize_t i = 0;

    for (;;) {
        if (text->count == 0) {
            i = skip_ascii(p, i, n);
            if (i == n) {
                break;
            }
            if (utf8_length(p[i]) == 0) {
                *position = base + i;
                return "invalid start byte";
            }
            text->pending[text->count++] = p[i++];
        }
        int length = utf8_length(text->pending[0]);
        while (text->count < length && i < n) {
            if (!utf8_continues(text->pending[0], text->count, p[i])) {
                *position = base + i - text->count;
                return "invalid continuation byte";
            }
            text->pending[text->count++] = p[i++];
        }
        if (text->count < length) {
            break;
        }
        text->count = 0;
    }
    text->seen = base + n;
    if (final && text->count) {
        *position = text->seen - text->count;
        return "unexpected end of data";
    }
    return NULL;
}

/* -------------------------------------------------------------------------------------------------------- decoder */

typedef struct {
    uint8_t head;
    uint64_t size;
    const uint8_t *mask;
    Py_ssize_t length;
} Header;

/* Failures are results, not exceptions: these return -1 for an exception in making one, else 0. */

static int
refuse(Decoder *self, const char *text)
{
    self->failure = Py_BuildValue("(is)", 1002, text);
    return self->failure == NULL ? -1 : 0;
}

static int
refuse_size(Decoder *self, uint64_t size, int64_t limit, uint64_t received)
{
    self->failure = Py_BuildValue("(iKLK)", 1009, (unsigned long long)size, (long long)limit, (unsigned long long)received);
    return self->failure == NULL ? -1 : 0;
}

static int
refuse_text(Decoder *self, const char *reason, uint64_t position)
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

/* Why a frame may not begin like this, as far as its first two bytes tell. */
static const char *
header_error(const Decoder *self, uint8_t head, uint8_t second)
{
    uint8_t opcode = head & OPCODE;
    uint8_t allowed = self->reserved == RSV_ANY || opcode == TEXT || opcode == BINARY ? self->reserved : 0;

    if ((opcode > BINARY && opcode < CLOSE) || opcode > PONG) {
        return "invalid opcode";
    }
    if (head & RSV & ~allowed) {
        return "reserved bits must be 0";
    }
    if (head & CONTROL && !(head & FIN)) {
        return "fragmented control frame";
    }
    if ((second >= 0x80) != self->masked) {
        return "incorrect masking";
    }
    if (head & CONTROL) {
        return (second & 0x7F) > 125 ? "control frame too long" : NULL;
    }
    if (opcode == CONT && !self->opcode) {
        return "unexpected continuation frame";
    }
    if (opcode != CONT && self->opcode) {
        return "expected a continuation frame";
    }
    return NULL;
}

/* Whether a frame carries plain text: it begins such a message, or goes on with it. */
static int
is_text(const Decoder *self, uint8_t head)
{
    if (self->reserved == RSV_ANY) {
        return 0;
    }
    return (head & 0x7F) == TEXT || ((head & OPCODE) == CONT && self->opcode == TEXT);
}

/* What a limit allows on the wire. What is compressed must fit when it is inflated, which isn't known yet: zlib promises
   never to exceed this size, whatever the settings, when it deflates what can't be compressed. */
static uint64_t
allowed(int64_t limit, int compressed)
{
    uint64_t size = (uint64_t)limit;

    return compressed ? size + (size >> 3) + (size >> 6) + 64 : size;
}

/* Hold the limits before a byte of the payload is kept. Unsigned, and by subtraction: no sum can overflow. */
static int
check_size(Decoder *self, uint8_t head, uint64_t size)
{
    int compressed = (head & OPCODE ? head : self->opcode) & RSV1;

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

/* Read a header. Its length stays 0 while it is incomplete, or when it is refused. */
static int
read_header(Decoder *self, const uint8_t *p, Py_ssize_t n, Header *header)
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
    size = p[1] & 0x7F;
    if (size > 125) {
        int width = size == 126 ? 2 : 8;
        length += width;
        if (n < length) {
            return 0;
        }
        size = 0;
        for (int i = 2; i < length; i++) {
            size = size << 8 | p[i];
        }
        if (size >= UINT64_C(1) << 63) {
            return refuse_length(self, size, "exceeds 2**63 - 1");
        }
        if (size < (width == 2 ? 126u : 65536u)) {
            return refuse_length(self, size, "isn't in its shortest form");
        }
    }
    if (!(p[0] & CONTROL)) {
        if (check_size(self, p[0], size) < 0 || self->failure != NULL) {
            return self->failure == NULL ? -1 : 0;
        }
    }
    if (self->masked) {
        length += 4;
        if (n < length) {
            return 0;
        }
        header->mask = p + length - 4;
    }
    else {
        header->mask = NULL;
    }
    header->head = p[0];
    header->size = size;
    header->length = length;
    return 0;
}

/* Check another piece of the text under way. */
static int
check_piece(Decoder *self, const uint8_t *p, Py_ssize_t n, int beyond_ascii, int final)
{
    uint64_t position;
    const char *reason;

    if (!self->checking) {
        memset(&self->utf8, 0, sizeof(Utf8));
        self->checking = 1;
    }
    if (!beyond_ascii && self->utf8.count == 0) {
        self->utf8.seen += (uint64_t)n;
        return 0;
    }
    reason = utf8_check(&self->utf8, p, n, final, &position);
    return reason == NULL ? 0 : refuse_text(self, reason, position);
}

static void
end_message(Decoder *self)
{
    self->opcode = 0;
    self->received = 0;
    self->checking = 0;
}

/* Inflate a message and put it where it belongs. Takes over the reference to payload. */
static int
put_inflated(Output *output, uint8_t head, PyObject *payload)
{
    PyObject *number = PyLong_FromLong(head), *message = NULL;

    if (number != NULL) {
        PyObject *arguments[] = {number, payload};
        message = PyObject_Vectorcall(output->inflate, arguments, 2, NULL);
        Py_DECREF(number);
    }
    Py_DECREF(payload);
    if (message == NULL) {
        return -1;
    }
    if (message == Py_None) {
        Py_DECREF(message);
        output->failed = 1;
        return 0;
    }
    output->bytes_left -= PyUnicode_Check(message) ? PyUnicode_GET_LENGTH(message)
                          : PyBytes_Check(message) ? PyBytes_GET_SIZE(message)
                                                   : 0;
    return queue_push(output->queue, message);
}

/* Put a frame where it belongs. Takes over the reference to payload. */
static int
put(Output *output, uint8_t head, PyObject *payload)
{
    PyObject *number;
    int failed;

    if (output->queue != NULL && output->frames == NULL) {
        if (head == (FIN | TEXT) || head == (FIN | BINARY)) {
            return queue_push(output->queue, payload);
        }
        if (output->inflate != NULL && (head == (FIN | RSV1 | TEXT) || head == (FIN | RSV1 | BINARY))) {
            return put_inflated(output, head, payload);
        }
    }
    if (output->frames == NULL) {
        output->frames = PyList_New(0);
    }
    number = PyLong_FromLong(head);
    failed = number == NULL || output->frames == NULL || PyList_Append(output->frames, number) < 0 ||
             PyList_Append(output->frames, payload) < 0;
    Py_XDECREF(number);
    Py_DECREF(payload);
    output->frames_left--;
    return failed ? -1 : 0;
}

/* Give out a whole frame, and keep account of its message. Takes over the reference to payload. */
static int
give(Decoder *self, uint8_t head, PyObject *payload, Py_ssize_t size, Output *output)
{
    if (payload == NULL) {
        return -1;
    }
    if (head & CONTROL) {
        self->ended = (head & OPCODE) == CLOSE;
        return put(output, head, payload);
    }
    self->payload_bytes += (unsigned long long)size;
    if (head & FIN) {
        self->messages++;
        end_message(self);
    }
    else {
        /* RSV1 belongs to the whole message: what is compressed can't be checked as text here. */
        if (!self->opcode) {
            self->opcode = head & 0x4F;
        }
        self->received += (uint64_t)size;
    }
    return put(output, head, payload);
}

/* A text message in one frame, all of it here. In ASCII, what was unmasked is the str already. */
static PyObject *
whole_text(Decoder *self, const uint8_t *p, Py_ssize_t n, const uint8_t *mask)
{
    PyObject *ascii, *text;
    uint64_t position;
    const char *reason;
    Utf8 utf8 = {0};

    if (n == 0) {
        return PyUnicode_FromStringAndSize(NULL, 0);
    }
    ascii = PyUnicode_New(n, 127);
    if (ascii == NULL) {
        return NULL;
    }
    uint8_t *data = PyUnicode_DATA(ascii);
    if (!copy_unmasked(data, p, n, mask, 0)) {
        return ascii;
    }
    reason = utf8_check(&utf8, data, n, 1, &position);
    if (reason != NULL) {
        text = NULL;
        refuse_text(self, reason, position);
    }
    else {
        text = PyUnicode_DecodeUTF8((const char *)data, n, "strict");
    }
    /* It never was a str: its bytes aren't ASCII. Overwritten, it may be freed as one in a debug build too. */
    memset(data, 0, n);
    Py_DECREF(ascii);
    return text;
}

/* Whether a frame is a whole text message that is given as a str. */
static int
becomes_str(const Decoder *self, uint8_t head)
{
    return self->text && (head & 0x8F) == (FIN | TEXT) && is_text(self, head);
}

/* A frame whose payload is all here. */
static int
give_whole(Decoder *self, const Header *header, const uint8_t *p, Output *output)
{
    Py_ssize_t size = (Py_ssize_t)header->size;
    int text = !(header->head & CONTROL) && is_text(self, header->head);
    PyObject *payload;

    if (becomes_str(self, header->head)) {
        payload = whole_text(self, p, size, header->mask);
        if (payload == NULL) {
            return self->failure == NULL ? -1 : 0;
        }
        return give(self, header->head, payload, size, output);
    }
    payload = PyBytes_FromStringAndSize(NULL, size);
    if (payload == NULL) {
        return -1;
    }
    uint8_t *data = (uint8_t *)PyBytes_AS_STRING(payload);
    int beyond_ascii = copy_unmasked(data, p, size, header->mask, 0);
    if (text) {
        if (check_piece(self, data, size, beyond_ascii, header->head & FIN) < 0 || self->failure != NULL) {
            Py_DECREF(payload);
            return self->failure == NULL ? -1 : 0;
        }
    }
    return give(self, header->head, payload, size, output);
}

/* The payload under way is bytes; or, if it is to become a str, a str in ASCII, which is what most of them are: then it
   needn't be copied again when it is whole. */

static uint8_t *
payload_data(const Decoder *self)
{
    return PyUnicode_Check(self->payload) ? (uint8_t *)PyUnicode_DATA(self->payload)
                                          : (uint8_t *)PyBytes_AS_STRING(self->payload);
}

static Py_ssize_t
payload_capacity(const Decoder *self)
{
    return PyUnicode_Check(self->payload) ? PyUnicode_GET_LENGTH(self->payload) : PyBytes_GET_SIZE(self->payload);
}

/* Let go of a payload that may look like a str and isn't one. Overwritten, it may be freed as one in a debug build too. */
static void
drop_payload(Decoder *self)
{
    if (self->payload != NULL && PyUnicode_Check(self->payload)) {
        memset(payload_data(self), 0, payload_capacity(self));
    }
    Py_CLEAR(self->payload);
}

/* Remember a frame of which only the header is sure to be here. */
static int
start_payload(Decoder *self, const Header *header, Py_ssize_t available)
{
    Py_ssize_t capacity = available > FIRST_CAPACITY ? available : FIRST_CAPACITY;

    if ((uint64_t)capacity > header->size) {
        capacity = (Py_ssize_t)header->size;
    }
    if (becomes_str(self, header->head) && capacity > 0) {
        self->payload = PyUnicode_New(capacity, 127);
    }
    else {
        self->payload = PyBytes_FromStringAndSize(NULL, capacity);
    }
    if (self->payload == NULL) {
        return -1;
    }
    self->head = header->head;
    self->size = header->size;
    self->filled = 0;
    self->beyond_ascii = 0;
    if (header->mask != NULL) {
        memcpy(self->mask, header->mask, 4);
    }
    return 0;
}

/* Give the payload under way another capacity. If that fails, the exception ends the connection. */
static int
resize_payload(Decoder *self, Py_ssize_t capacity)
{
    return PyUnicode_Check(self->payload) ? PyUnicode_Resize(&self->payload, capacity)
                                          : _PyBytes_Resize(&self->payload, capacity);
}

/* Make room for more of the payload under way. */
static int
make_room(Decoder *self, Py_ssize_t more)
{
    Py_ssize_t capacity = payload_capacity(self);
    Py_ssize_t needed = self->filled + more;

    if (needed <= capacity) {
        return 0;
    }
    capacity = capacity > PY_SSIZE_T_MAX / 2 || capacity * 2 < needed ? needed : capacity * 2;
    if ((uint64_t)capacity > self->size) {
        capacity = (Py_ssize_t)self->size;
    }
    return resize_payload(self, capacity);
}

/* The payload under way is all here. */
static int
finish_payload(Decoder *self, Output *output)
{
    PyObject *payload = self->payload;

    if (PyUnicode_Check(payload) && self->beyond_ascii) {
        /* It was checked as it came. */
        payload = PyUnicode_DecodeUTF8((char *)payload_data(self), self->filled, "strict");
        drop_payload(self);
    }
    self->payload = NULL;
    return give(self, self->head, payload, self->filled, output);
}

/* Another piece of the payload under way, for which there is room. */
static int
add_piece(Decoder *self, const uint8_t *p, Py_ssize_t piece, Output *output)
{
    uint8_t *data = payload_data(self) + self->filled;
    int beyond_ascii = copy_unmasked(data, p, piece, self->masked ? self->mask : NULL, self->filled & 3);

    self->beyond_ascii |= (uint8_t)beyond_ascii;
    self->filled += piece;
    int whole = (uint64_t)self->filled == self->size;
    if (!(self->head & CONTROL) && is_text(self, self->head)) {
        if (check_piece(self, data, piece, beyond_ascii, whole && self->head & FIN) < 0) {
            return -1;
        }
        if (self->failure != NULL) {
            drop_payload(self);
            return 0;
        }
    }
    return whole ? finish_payload(self, output) : 0;
}

/* Another piece of the payload under way. Return how many bytes were used. */
static Py_ssize_t
read_payload(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    uint64_t left = self->size - (uint64_t)self->filled;
    Py_ssize_t piece = (uint64_t)n < left ? n : (Py_ssize_t)left;

    if (make_room(self, piece) < 0) {
        return -1;
    }
    return add_piece(self, p, piece, output) < 0 ? -1 : piece;
}

/* What follows a header: the whole payload, or its beginning. Return how many bytes were used. */
static Py_ssize_t
after_header(Decoder *self, const Header *header, const uint8_t *p, Py_ssize_t n, Output *output)
{
    if (header->size <= (uint64_t)n) {
        return give_whole(self, header, p, output) < 0 ? -1 : (Py_ssize_t)header->size;
    }
    if (start_payload(self, header, n) < 0) {
        return -1;
    }
    return n == 0 ? 0 : read_payload(self, p, n, output);
}

/* A header of which some bytes came before. Return how many of the new bytes were used. */
static Py_ssize_t
resume_header(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    Py_ssize_t before = self->tail_size;
    Py_ssize_t more = n < MAX_HEADER - before ? n : MAX_HEADER - before;
    Py_ssize_t used;
    Header header;

    memcpy(self->tail + before, p, more);
    if (read_header(self, self->tail, before + more, &header) < 0) {
        return -1;
    }
    if (header.length == 0) {
        self->tail_size = (uint8_t)(before + more);
        return more;
    }
    self->tail_size = 0;
    p += header.length - before;
    used = after_header(self, &header, p, n - (header.length - before), output);
    return used < 0 ? -1 : used + header.length - before;
}

static int
parse(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    Py_ssize_t used;
    Header header;

    while (n > 0 && !self->ended && self->failure == NULL && !output->failed && output->frames_left > 0 &&
           output->bytes_left > 0) {
        if (self->payload != NULL) {
            used = read_payload(self, p, n, output);
        }
        else if (self->tail_size) {
            used = resume_header(self, p, n, output);
        }
        else {
            if (read_header(self, p, n, &header) < 0) {
                return -1;
            }
            if (header.length == 0) {
                if (self->failure == NULL) {
                    memcpy(self->tail, p, n);
                    self->tail_size = (uint8_t)n;
                }
                output->used += n;
                return 0;
            }
            used = after_header(self, &header, p + header.length, n - header.length, output);
            used += used < 0 ? 0 : header.length;
        }
        if (used < 0) {
            return -1;
        }
        p += used;
        n -= used;
        output->used += used;
    }
    return 0;
}

int
decoder_feed(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    int failed;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->feeding) {
        /* By what inflates a message, or by a thread that got the lock while this one waited for another. */
        PyErr_SetString(PyExc_RuntimeError, "the decoder is being fed already");
        failed = 1;
    }
    else {
        self->feeding = self->heard = 1;
        failed = parse(self, p, n, output) < 0;
        self->feeding = 0;
    }
    Py_END_CRITICAL_SECTION();
    return failed ? -1 : 0;
}

PyDoc_STRVAR(feed_doc,
"feed($self, data, /)\n--\n\n"
"Take in data; return the frames that are now whole as [head, payload, head, payload, ...].");

static PyObject *
Decoder_feed(Decoder *self, PyObject *data)
{
    Output output = {.frames_left = PY_SSIZE_T_MAX, .bytes_left = PY_SSIZE_T_MAX};
    Py_buffer view;
    int failed;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    failed = decoder_feed(self, view.buf, view.len, &output) < 0;
    PyBuffer_Release(&view);
    if (failed) {
        Py_XDECREF(output.frames);
        return NULL;
    }
    return output.frames == NULL ? PyList_New(0) : output.frames;
}

/* A limit in bytes; what is beyond any payload limits nothing. */
static int
as_limit(PyObject *number, int64_t *limit)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);

    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    *limit = overflow > 0 ? INT64_MAX : value;
    return 0;
}

static PyObject *
Decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"masked", "reserved", "max_fragment", "max_message", "text", NULL};
    PyObject *max_fragment, *max_message;
    int masked, reserved, text;
    Decoder *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "piOOp:FrameDecoder", names, &masked, &reserved, &max_fragment,
                                     &max_message, &text)) {
        return NULL;
    }
    if (reserved != 0 && reserved != 0x40 && reserved != RSV_ANY) {
        return PyErr_Format(PyExc_ValueError, "reserved must be 0, 0x40 or 0x70, not %d", reserved);
    }
    self = (Decoder *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->masked = (uint8_t)masked;
    self->reserved = (uint8_t)reserved;
    self->text = (uint8_t)text;
    if (as_limit(max_fragment, &self->max_fragment) < 0 || as_limit(max_message, &self->max_message) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
Decoder_dealloc(Decoder *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->failure);
    drop_payload(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
Decoder_get_failure(Decoder *self, void *Py_UNUSED(closure))
{
    PyObject *failure;

    Py_BEGIN_CRITICAL_SECTION(self);
    failure = Py_NewRef(self->failure == NULL ? Py_None : self->failure);
    Py_END_CRITICAL_SECTION();
    return failure;
}

static PyMethodDef Decoder_methods[] = {
    {"feed", (PyCFunction)Decoder_feed, METH_O, feed_doc},
    {NULL},
};

static PyObject *
Decoder_under_way(Decoder *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->payload != NULL);
}

static PyGetSetDef Decoder_getset[] = {
    {"under_way", (getter)Decoder_under_way, NULL, "Whether a frame has begun whose payload hasn't arrived whole.", NULL},
    {"failure", (getter)Decoder_get_failure, NULL, "None, or a tuple that begins with a close code.", NULL},
    {NULL},
};

static PyMemberDef Decoder_members[] = {
    {"ended", T_BOOL, offsetof(Decoder, ended), READONLY, "Whether a Close frame was seen; input after it is ignored."},
    {"heard", T_BOOL, offsetof(Decoder, heard), 0, "Set whenever anything arrives; to be cleared by who wants to know."},
    {"max_fragment", T_LONGLONG, offsetof(Decoder, max_fragment), 0, "Largest payload of a data frame, -1 for any."},
    {"max_message", T_LONGLONG, offsetof(Decoder, max_message), 0, "Largest message in bytes, -1 for any."},
    {"messages", T_ULONGLONG, offsetof(Decoder, messages), READONLY, "How many messages arrived whole."},
    {"payload_bytes", T_ULONGLONG, offsetof(Decoder, payload_bytes), READONLY, "Bytes of payload in data frames."},
    {NULL},
};

PyDoc_STRVAR(decoder_doc,
"FrameDecoder(masked, reserved, max_fragment, max_message, text)\n--\n\n"
"Finds whole frames in what arrives, and holds the rules of RFC 6455 that need no knowledge of their meaning.");

static PyType_Slot Decoder_slots[] = {
    {Py_tp_doc, (void *)decoder_doc},
    {Py_tp_new, Decoder_new},
    {Py_tp_dealloc, Decoder_dealloc},
    {Py_tp_methods, Decoder_methods},
    {Py_tp_getset, Decoder_getset},
    {Py_tp_members, Decoder_members},
    {0, NULL},
};

static PyType_Spec Decoder_spec = {
    .name = "websockets._codec._native.FrameDecoder",
    .basicsize = sizeof(Decoder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Decoder_slots,
};

/* ------------------------------------------------------------------------------------------------------ functions */

static int
check_mask(const Py_buffer *mask)
{
    if (mask->len == 4) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "a mask has 4 bytes, not %zd", mask->len);
    return -1;
}

PyDoc_STRVAR(apply_mask_doc,
"apply_mask($module, data, mask, /)\n--\n\n"
"Mask or unmask data with the four bytes of mask (RFC 6455 section 5.3).");

static PyObject *
apply_mask(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *result = NULL;
    Py_buffer data, mask;

    if (!PyArg_ParseTuple(args, "y*y*:apply_mask", &data, &mask)) {
        return NULL;
    }
    if (check_mask(&mask) == 0) {
        result = PyBytes_FromStringAndSize(NULL, data.len);
        if (result != NULL) {
            copy_unmasked((uint8_t *)PyBytes_AS_STRING(result), data.buf, data.len, mask.buf, 0);
        }
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&mask);
    return result;
}

Py_ssize_t
write_header(uint8_t *p, uint8_t head, Py_ssize_t size, const uint8_t *mask)
{
    uint8_t masked = mask == NULL ? 0 : 0x80;
    Py_ssize_t length = size < 126 ? 2 : size < 65536 ? 4 : 10;

    p[0] = head;
    p[1] = masked | (uint8_t)(length == 2 ? size : length == 4 ? 126 : 127);
    for (Py_ssize_t i = length - 1; i >= 2; i--) {
        p[i] = (uint8_t)size;
        size >>= 8;
    }
    if (mask != NULL) {
        memcpy(p + length, mask, 4);
        length += 4;
    }
    return length;
}

static int
check_head(long head)
{
    if (0 <= head && head <= 255) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "the first byte of a frame must be in 0..255, not %ld", head);
    return -1;
}

static PyObject *
make_frame(long head, const Py_buffer *payload, const uint8_t *mask)
{
    uint8_t header[MAX_HEADER];
    Py_ssize_t length;
    PyObject *frame;

    if (check_head(head) < 0) {
        return NULL;
    }
    length = write_header(header, (uint8_t)head, payload->len, mask);
    if (payload->len > PY_SSIZE_T_MAX - length) {
        return PyErr_NoMemory();
    }
    frame = PyBytes_FromStringAndSize(NULL, length + payload->len);
    if (frame != NULL) {
        uint8_t *p = (uint8_t *)PyBytes_AS_STRING(frame);
        memcpy(p, header, length);
        copy_unmasked(p + length, payload->buf, payload->len, mask, 0);
    }
    return frame;
}

PyDoc_STRVAR(build_frame_doc,
"build_frame($module, head, payload, mask, /)\n--\n\n"
"One frame: head is its first byte; mask is four bytes, or None for a frame that isn't masked.");

static PyObject *
build_frame(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *frame = NULL;
    Py_buffer payload, mask;
    long head;

    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "build_frame expected 3 arguments, got %zd", count);
    }
    head = PyLong_AsLong(args[0]);
    if ((head == -1 && PyErr_Occurred()) || PyObject_GetBuffer(args[1], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (args[2] == Py_None) {
        frame = make_frame(head, &payload, NULL);
    }
    else if (PyObject_GetBuffer(args[2], &mask, PyBUF_SIMPLE) == 0) {
        frame = check_mask(&mask) < 0 ? NULL : make_frame(head, &payload, mask.buf);
        PyBuffer_Release(&mask);
    }
    PyBuffer_Release(&payload);
    return frame;
}

PyDoc_STRVAR(build_header_doc,
"build_header($module, head, size, /)\n--\n\n"
"The header of a frame that isn't masked: head is its first byte, size that of its payload in bytes.");

static PyObject *
build_header(PyObject *Py_UNUSED(module), PyObject *args)
{
    uint8_t header[MAX_HEADER];
    Py_ssize_t size;
    long head;

    if (!PyArg_ParseTuple(args, "ln:build_header", &head, &size) || check_head(head) < 0) {
        return NULL;
    }
    if (size < 0) {
        return PyErr_Format(PyExc_ValueError, "a payload can't have %zd bytes", size);
    }
    return PyBytes_FromStringAndSize((char *)header, write_header(header, (uint8_t)head, size, NULL));
}

/* ----------------------------------------------------------------------------------------------------------- masks */

#if defined(_MSC_VER)
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL _Thread_local
#endif

/* Masks (RFC 6455 section 5.3) are drawn from a buffer of random bytes, one buffer a thread: a call to the operating
   system for every frame costs more than the frame. */
enum { MASK_BYTES = 4096 };

static THREAD_LOCAL uint8_t mask_bytes[MASK_BYTES];
static THREAD_LOCAL int masks_left;

int
draw_mask(State *state, uint8_t *mask)
{
    if (masks_left == 0) {
        PyObject *random = PyObject_CallMethod(state->os, "urandom", "i", MASK_BYTES);
        if (random == NULL) {
            return -1;
        }
        if (!PyBytes_Check(random) || PyBytes_GET_SIZE(random) != MASK_BYTES) {
            Py_DECREF(random);
            PyErr_SetString(PyExc_RuntimeError, "os.urandom() didn't return what it was asked for");
            return -1;
        }
        memcpy(mask_bytes, PyBytes_AS_STRING(random), MASK_BYTES);
        masks_left = MASK_BYTES / 4;
        Py_DECREF(random);
    }
    masks_left--;
    memcpy(mask, mask_bytes + MASK_BYTES - 4 * (masks_left + 1), 4);
    return 0;
}

PyDoc_STRVAR(new_mask_doc,
"new_mask($module, /)\n--\n\n"
"Four unpredictable bytes to mask a frame with, never given before.");

static PyObject *
new_mask(PyObject *module, PyObject *Py_UNUSED(unused))
{
    uint8_t mask[4];

    if (draw_mask(state_of_module(module), mask) < 0) {
        return NULL;
    }
    return PyBytes_FromStringAndSize((char *)mask, 4);
}

PyDoc_STRVAR(forget_masks_doc,
"forget_masks($module, /)\n--\n\n"
"Draw new masks from now on: a forked child must not repeat those of its parent.");

static PyObject *
forget_masks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    masks_left = 0;
    Py_RETURN_NONE;
}

/* ----------------------------------------------------------------------------------------------------------- queue */

/* What a queue that has been emptied may keep for later: most connections never need more. */
enum { QUEUE_KEEPS = 64 };

static int
queue_grow(Queue *self)
{
    Py_ssize_t capacity = self->capacity ? self->capacity * 2 : 4;
    PyObject **items = PyMem_New(PyObject *, capacity);

    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->count; i++) {
        items[i] = self->items[(self->first + i) & (self->capacity - 1)];
    }
    PyMem_Free(self->items);
    self->items = items;
    self->first = 0;
    self->capacity = capacity;
    return 0;
}

int
queue_push(Queue *self, PyObject *item)
{
    int failed = 0;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count == self->capacity) {
        failed = queue_grow(self) < 0;
    }
    if (!failed) {
        self->items[(self->first + self->count++) & (self->capacity - 1)] = item;
    }
    Py_END_CRITICAL_SECTION();
    if (failed) {
        Py_DECREF(item);
        return -1;
    }
    return 0;
}

PyObject *
queue_shift(Queue *self)
{
    PyObject *item = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count) {
        item = QUEUE_FIRST(self);
        self->first = (self->first + 1) & (self->capacity - 1);
        self->count--;
        if (self->count == 0 && self->capacity > QUEUE_KEEPS) {
            PyMem_Free(self->items);
            self->items = NULL;
            self->first = self->capacity = 0;
        }
    }
    Py_END_CRITICAL_SECTION();
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    }
    return item;
}

static PyObject *
Queue_append(Queue *self, PyObject *item)
{
    if (queue_push(self, Py_NewRef(item)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Queue_popleft(Queue *self, PyObject *Py_UNUSED(unused))
{
    return queue_shift(self);
}

static PyObject *
Queue_pop(Queue *self, PyObject *Py_UNUSED(unused))
{
    PyObject *item = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count) {
        item = self->items[(self->first + --self->count) & (self->capacity - 1)];
    }
    Py_END_CRITICAL_SECTION();
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    }
    return item;
}

static Py_ssize_t
Queue_length(Queue *self)
{
    return self->count;
}

static PyObject *
Queue_item(Queue *self, Py_ssize_t index)
{
    PyObject *item = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (0 <= index && index < self->count) {
        item = Py_NewRef(self->items[(self->first + index) & (self->capacity - 1)]);
    }
    Py_END_CRITICAL_SECTION();
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "queue index out of range");
    }
    return item;
}

static int
Queue_traverse(Queue *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_VISIT(self->items[(self->first + i) & (self->capacity - 1)]);
    }
    return 0;
}

static int
Queue_clear(Queue *self)
{
    while (self->count) {
        Py_DECREF(queue_shift(self));
    }
    PyMem_Free(self->items);
    self->items = NULL;
    self->first = self->capacity = 0;
    return 0;
}

static void
Queue_dealloc(Queue *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Queue_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef Queue_methods[] = {
    {"append", (PyCFunction)Queue_append, METH_O, "Add an item at the end."},
    {"popleft", (PyCFunction)Queue_popleft, METH_NOARGS, "Remove and return the first item."},
    {"pop", (PyCFunction)Queue_pop, METH_NOARGS, "Remove and return the last item."},
    {NULL},
};

PyDoc_STRVAR(queue_doc,
"Queue()\n--\n\n"
"Items in the order of their arrival. While it is empty, it takes hardly any memory.");

static PyType_Slot Queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, Queue_dealloc},
    {Py_tp_traverse, Queue_traverse},
    {Py_tp_clear, Queue_clear},
    {Py_tp_methods, Queue_methods},
    {Py_sq_length, Queue_length},
    {Py_sq_item, Queue_item},
    {0, NULL},
};

static PyType_Spec Queue_spec = {
    .name = "websockets._codec._native.Queue",
    .basicsize = sizeof(Queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Queue_slots,
};

/* --------------------------------------------------------------------------------------------- what the module gets */

PyMethodDef frame_functions[] = {
    {"apply_mask", apply_mask, METH_VARARGS, apply_mask_doc},
    {"build_frame", (PyCFunction)(void (*)(void))build_frame, METH_FASTCALL, build_frame_doc},
    {"build_header", build_header, METH_VARARGS, build_header_doc},
    {"new_mask", new_mask, METH_NOARGS, new_mask_doc},
    {"forget_masks", forget_masks, METH_NOARGS, forget_masks_doc},
    {NULL},
};

int
add_frames(PyObject *module, State *state)
{
    state->decoder_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &Decoder_spec, NULL);
    state->queue_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &Queue_spec, NULL);
    if (state->decoder_type == NULL || state->queue_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->decoder_type) < 0 || PyModule_AddType(module, state->queue_type) < 0 ? -1 : 0;
}
