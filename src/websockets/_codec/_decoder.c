/* The decoder: finds frames in the received bytes, unmasks and checks their payloads, and passes them on.

   May know: headers, masks, UTF-8, the queue.
   Must not know: what frames mean to a connection, tasks, transports.

   A decoder is guarded by its own lock where Python has no GIL. */

#include "_codec.h"

/* The buffer of a large payload grows as the payload arrives; the announced size isn't trusted. It begins with this
   number of bytes, and is doubled when it is full. */
#define FIRST_CAPACITY ((Py_ssize_t)4096)

/* Where rates are limited, this number of bytes is taken in before the next comparison with what was granted. */
#define METERED_SLICE ((Py_ssize_t)1024)

/* Return whether a frame is a part of a text message that isn't compressed. */
static int
is_text(const Decoder *self, uint8_t head)
{
    if (self->reserved == RSV_MASK) {
        return 0;
    }
    return (head & ~FIN) == OPCODE_TEXT || ((head & OPCODE_MASK) == OPCODE_CONT && self->opcode == OPCODE_TEXT);
}

/* Check the next piece of the current text. */
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
    reason = codec_check_utf8(&self->utf8, p, n, final, &position);
    return reason == NULL ? 0 : codec_refuse_text(self, reason, position);
}

/* Return whether the message of which a frame is a part isn't compressed. */
static int
is_plain_fragment(const Decoder *self, uint8_t head)
{
    if (self->reserved == RSV_MASK || head & RSV_MASK) {
        return 0;
    }
    return !(self->opcode & RSV1);
}

static void
end_message(Decoder *self)
{
    self->opcode = 0;
    self->received = 0;
    self->checking = 0;
}

/* Decompress a message and put it into the queue. Take over the reference to payload. */
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
    return codec_queue_push(output->queue, message);
}

/* Put a frame where it belongs. `fragment` tells whether it is part of a message in several frames that isn't
   compressed. Take over the reference to payload. */
static int
put(Output *output, uint8_t head, PyObject *payload, int fragment)
{
    PyObject *number;
    int failed;

    if (output->queue != NULL && output->frames == NULL) {
        if (head == WHOLE_TEXT || head == WHOLE_BINARY) {
            return codec_queue_push(output->queue, payload);
        }
        if (output->inflate != NULL && (head == (RSV1 | WHOLE_TEXT) || head == (RSV1 | WHOLE_BINARY))) {
            return put_inflated(output, head, payload);
        }
        if (fragment && output->queue->assembles) {
            output->frames_left--;
            return codec_queue_add_fragment(output->state, output->queue, head, payload);
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

/* Put out a whole frame, and note what it means for the current message. Take over the reference to payload, which is
   NULL with an exception if it couldn't be made. */
static int
give(Decoder *self, uint8_t head, PyObject *payload, Py_ssize_t size, Output *output)
{
    int fragment = 0;

    if (payload == NULL) {
        return -1;
    }
    if (head & CONTROL_BIT) {
        self->ended = (head & OPCODE_MASK) == OPCODE_CLOSE;
        return put(output, head, payload, 0);
    }
    if (self->opcode || !(head & FIN)) {
        fragment = is_plain_fragment(self, head);
    }
    self->payload_bytes += (unsigned long long)size;
    if (head & FIN) {
        self->messages++;
        end_message(self);
    }
    else {
        /* RSV1 is kept: it applies to the whole message, and compressed text can't be checked here. */
        if (!self->opcode) {
            self->opcode = head & (RSV1 | OPCODE_MASK);
        }
        self->received += (uint64_t)size;
    }
    return put(output, head, payload, fragment);
}

/* Make a str of a text message in one frame that has arrived whole. If it is ASCII, its unmasked bytes are the str.
   Return NULL if it is refused, or for an exception. */
static PyObject *
whole_text(Decoder *self, const uint8_t *p, Py_ssize_t n, const uint8_t *mask)
{
    PyObject *ascii, *text;
    uint64_t position;
    const char *reason;
    uint8_t *data;
    Utf8 utf8 = {0};

    if (n == 0) {
        return PyUnicode_FromStringAndSize(NULL, 0);
    }
    ascii = PyUnicode_New(n, 127);
    if (ascii == NULL) {
        return NULL;
    }
    data = PyUnicode_DATA(ascii);
    if (!codec_unmask(data, p, n, mask, 0)) {
        return ascii;
    }
    reason = codec_check_utf8(&utf8, data, n, 1, &position);
    if (reason != NULL) {
        text = NULL;
        (void)codec_refuse_text(self, reason, position);
    }
    else {
        text = PyUnicode_DecodeUTF8((const char *)data, n, "strict");
    }
    /* Its bytes aren't ASCII, so it isn't a valid str. A debug build of Python checks that when it frees it. */
    memset(data, 0, n);
    Py_DECREF(ascii);
    return text;
}

/* Return whether a frame is a whole text message that becomes a str. */
static int
becomes_str(const Decoder *self, uint8_t head)
{
    return self->text && head == WHOLE_TEXT && is_text(self, head);
}

/* Unmask, check and put out a frame that has arrived whole. */
static int
give_whole(Decoder *self, const Header *header, const uint8_t *p, Output *output)
{
    Py_ssize_t size = (Py_ssize_t)header->size;
    int text = !(header->head & CONTROL_BIT) && is_text(self, header->head);
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
    int beyond_ascii = codec_unmask(data, p, size, header->mask, 0);
    if (text) {
        if (check_piece(self, data, size, beyond_ascii, header->head & FIN) < 0 || self->failure != NULL) {
            Py_DECREF(payload);
            return self->failure == NULL ? -1 : 0;
        }
    }
    return give(self, header->head, payload, size, output);
}

/* The payload of the current frame is kept as bytes; or, if it is to become a str, as a str in ASCII. Most texts are
   ASCII, and then it needn't be copied again when it is whole. */

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

/* Free the payload. If it was to become a str, its bytes may not be ASCII, which a debug build of Python would find
   when it frees it. */
static void
drop_payload(Decoder *self)
{
    if (self->payload != NULL && PyUnicode_Check(self->payload)) {
        memset(payload_data(self), 0, payload_capacity(self));
    }
    Py_CLEAR(self->payload);
}

/* Begin with the payload of a frame of which only the header has arrived whole. */
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

/* Give the payload another capacity. If that fails, the exception ends the connection. */
static int
resize_payload(Decoder *self, Py_ssize_t capacity)
{
    return PyUnicode_Check(self->payload) ? PyUnicode_Resize(&self->payload, capacity)
                                          : _PyBytes_Resize(&self->payload, capacity);
}

/* Make room for more bytes of the payload. */
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

/* Put out the current frame, whose payload has arrived whole. */
static int
finish_payload(Decoder *self, Output *output)
{
    PyObject *payload = self->payload;

    if (PyUnicode_Check(payload) && self->beyond_ascii) {
        /* Its UTF-8 was checked piece by piece. */
        payload = PyUnicode_DecodeUTF8((char *)payload_data(self), self->filled, "strict");
        drop_payload(self);
    }
    self->payload = NULL;
    return give(self, self->head, payload, self->filled, output);
}

/* Add a piece to the payload, which has room for it. */
static int
add_piece(Decoder *self, const uint8_t *p, Py_ssize_t piece, Output *output)
{
    uint8_t *data = payload_data(self) + self->filled;
    int beyond_ascii = codec_unmask(data, p, piece, self->masked ? self->mask : NULL, self->filled & 3);

    self->beyond_ascii |= (uint8_t)beyond_ascii;
    self->filled += piece;
    int whole = (uint64_t)self->filled == self->size;
    if (!(self->head & CONTROL_BIT) && is_text(self, self->head)) {
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

/* Take what belongs to the payload from n bytes. Return how many that was; -1 for an exception. */
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

/* Process the bytes after a header: the payload, or its beginning. Return their number; -1 for an exception. */
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

/* Go on with a header that was incomplete. Return how many of the new bytes were used; -1 for an exception. */
static Py_ssize_t
resume_header(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    Py_ssize_t before = self->tail_size;
    Py_ssize_t more = n < MAX_HEADER - before ? n : MAX_HEADER - before;
    Py_ssize_t used;
    Header header;

    memcpy(self->tail + before, p, more);
    if (codec_read_header(self, self->tail, before + more, &header) < 0) {
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

/* Return whether more input may be taken in. */
static int
may_go_on(const Decoder *self, const Output *output)
{
    return !self->ended && self->failure == NULL && !output->failed && output->frames_left > 0 &&
           output->bytes_left > 0;
}

/* Process bytes, frame by frame. */
static int
parse(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    Py_ssize_t used;
    Header header;

    while (n > 0 && may_go_on(self, output)) {
        if (self->payload != NULL) {
            used = read_payload(self, p, n, output);
        }
        else if (self->tail_size) {
            used = resume_header(self, p, n, output);
        }
        else {
            if (codec_read_header(self, p, n, &header) < 0) {
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
codec_feed(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output)
{
    int failed;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->feeding) {
        /* By the function that decompresses, or by a thread that got the lock while this one waited for another
           lock. */
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

/* Return whether more was taken in than granted. */
static int
is_spent(const Decoder *self)
{
    return self->messages > self->messages_granted || self->bytes_granted < 0;
}

int
codec_feed_metered(Decoder *self, const uint8_t *p, Py_ssize_t n, Output *output, int *looks)
{
    int failed = 0;

    while (!failed && output->used < n && may_go_on(self, output) && !is_spent(self)) {
        Py_ssize_t before = output->used;
        Py_ssize_t slice = n - before < METERED_SLICE ? n - before : METERED_SLICE;

        failed = codec_feed(self, p + before, slice, output) < 0;
        self->bytes_granted -= output->used - before;
    }
    *looks = is_spent(self);
    return failed ? -1 : 0;
}

PyDoc_STRVAR(feed_doc,
"feed($self, data, /)\n--\n\n"
"Process data; return the frames that are now complete as [head, payload, head, payload, ...].");

static PyObject *
Decoder_feed(Decoder *self, PyObject *data)
{
    Output output = {.frames_left = PY_SSIZE_T_MAX, .bytes_left = PY_SSIZE_T_MAX};
    Py_buffer view;
    int failed;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    failed = codec_feed(self, view.buf, view.len, &output) < 0;
    PyBuffer_Release(&view);
    if (failed) {
        Py_XDECREF(output.frames);
        return NULL;
    }
    return output.frames == NULL ? PyList_New(0) : output.frames;
}

/* Read a limit in bytes. A limit larger than any payload is as good as the largest one. */
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
    if (reserved != 0 && reserved != RSV1 && reserved != RSV_MASK) {
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
Decoder_get_missing(Decoder *self, void *Py_UNUSED(closure))
{
    long long missing;

    Py_BEGIN_CRITICAL_SECTION(self);
    missing = self->payload != NULL ? (long long)(self->size - (uint64_t)self->filled) : self->tail_size ? -1 : 0;
    Py_END_CRITICAL_SECTION();
    return PyLong_FromLongLong(missing);
}

static PyObject *
Decoder_spent(Decoder *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(is_spent(self));
}

static PyGetSetDef Decoder_getset[] = {
    {"missing", (getter)Decoder_get_missing, NULL,
     "Bytes missing of the payload under way; 0 between frames, -1 in a header.", NULL},
    {"spent", (getter)Decoder_spent, NULL, "Whether more was taken in than granted.", NULL},
    {"failure", (getter)Decoder_get_failure, NULL, "None, or a tuple that begins with a close code.", NULL},
    {NULL},
};

static PyMemberDef Decoder_members[] = {
    {"ended", T_BOOL, offsetof(Decoder, ended), READONLY, "Whether a Close frame was seen; input after it is ignored."},
    {"heard", T_BOOL, offsetof(Decoder, heard), 0, "Set when data arrives; the session clears it."},
    {"max_fragment", T_LONGLONG, offsetof(Decoder, max_fragment), 0, "Largest payload of a data frame, -1 for any."},
    {"max_message", T_LONGLONG, offsetof(Decoder, max_message), 0, "Largest message in bytes, -1 for any."},
    {"messages", T_ULONGLONG, offsetof(Decoder, messages), READONLY, "Number of complete messages."},
    {"messages_granted", T_ULONGLONG, offsetof(Decoder, messages_granted), 0, "Messages before a look at the clock."},
    {"bytes_granted", T_LONGLONG, offsetof(Decoder, bytes_granted), 0, "Bytes before a look at the clock."},
    {"payload_bytes", T_ULONGLONG, offsetof(Decoder, payload_bytes), READONLY, "Bytes of payload in data frames."},
    {NULL},
};

PyDoc_STRVAR(decoder_doc,
"FrameDecoder(masked, reserved, max_fragment, max_message, text)\n--\n\n"
"Finds frames in the received bytes, and checks the rules of RFC 6455 that don't need the meaning of frames.");

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

int
codec_add_decoder(PyObject *module, State *state)
{
    return native_add_type(module, &Decoder_spec, &state->decoder_type);
}
