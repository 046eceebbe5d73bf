/* Messages to frames: send a message at once, if the state of the connection allows it.

   May know: the attributes of a connection that decide whether a message may be sent.
   Must not know: how frames are written. */

#include "fastpath.h"

/* The results of _ws_send_now() and _ws_put(). */
enum { SLOW, SENT, FULL };

/* Handle a message that couldn't be sent. With compression, the next message may refer to it, so the
   connection ends. */
static void
unsent(FastPath *self)
{
    if (IS_SET(self->pack)) {
        (void)fastpath_tear_off(self);
    }
}

/* Make the result for Python: SENT, or FULL if the sender has to wait for the transport. */
static PyObject *
answer(FastPath *self, int failed)
{
    return failed ? NULL : PyLong_FromLong(IS_SET(self->write_waiters) ? FULL : SENT);
}

/* Return the length of the header of a frame that has at least two bytes. */
static Py_ssize_t
header_length(const uint8_t *frame)
{
    uint8_t size = frame[1] & LENGTH_MASK;

    return (size <= MAX_LENGTH_7 ? 2 : size == LENGTH_16 ? 4 : 10) + (frame[1] & MASK_BIT ? 4 : 0);
}

/* Check the arguments of the two methods below, and count the message as sent. Return the frame, which args[0] owns,
   and set its length; NULL for an exception. */
static const uint8_t *
given_frame(FastPath *self, PyObject *const *args, Py_ssize_t count, Py_ssize_t *length)
{
    Py_ssize_t size, payload;
    const uint8_t *frame;

    if (count != 2 || !PyBytes_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a frame in bytes is needed, and the size of its message");
        return NULL;
    }
    frame = (const uint8_t *)PyBytes_AS_STRING(args[0]);
    *length = PyBytes_GET_SIZE(args[0]);
    size = PyLong_AsSsize_t(args[1]);
    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    payload = *length < 2 ? -1 : *length - header_length(frame);
    if (payload < 0) {
        PyErr_SetString(PyExc_ValueError, "a frame has a header");
        return NULL;
    }
    self->messages_sent++;
    self->payload_sent += (size_t)payload;
    self->saved_sent += size - payload;
    return frame;
}

/* Send a frame that is complete already. */
static int
put_bytes(FastPath *self, PyObject *data)
{
    Frame frame = {.payload = (uint8_t *)PyBytes_AS_STRING(data), .size = PyBytes_GET_SIZE(data), .owner = data};

    return fastpath_put(self, &frame);
}

static PyObject *
fastpath_put_message(FastPath *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t length;

    if (given_frame(self, args, count, &length) == NULL) {
        return NULL;
    }
    if (put_bytes(self, args[0]) < 0) {
        unsent(self);
        return NULL;
    }
    return answer(self, 0);
}

GUARDED_FAST(FastPath, fastpath_put_message)

static PyObject *
fastpath_hold_message(FastPath *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t length;
    const uint8_t *frame = given_frame(self, args, count, &length);
    int lost = 0;

    if (frame == NULL) {
        return NULL;
    }
    if (fastpath_hold_back(self, frame, length, &lost) < 0) {
        if (lost) {
            unsent(self);
        }
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_FAST(FastPath, fastpath_hold_message)

/* Send a payload in a frame. If owner isn't NULL, the payload is a part of it and can't change. The caller keeps the
   payload alive. */
static PyObject *
send_payload(FastPath *self, uint8_t head, const void *payload, Py_ssize_t size, PyObject *owner)
{
    Frame frame = {.payload = payload, .size = size, .owner = owner};
    uint8_t mask[4];

    if (self->client) {
        if (codec_draw_mask(self->state, mask) < 0) {
            return NULL;
        }
        frame.mask = mask;
    }
    frame.length = codec_write_header(frame.header, head, size, frame.mask);
    self->messages_sent++;
    self->payload_sent += (size_t)size;
    if (size < GATHER_FROM || !fastpath_lies_ready(&frame)) {
        return answer(self, fastpath_put(self, &frame) < 0);
    }
    /* It is written in two pieces, without a copy. So it can't be held back, and frames held back are written first. */
    return answer(self, (self->corked && fastpath_flush_cork(self) < 0) || fastpath_write_out(self, &frame) < 0);
}

/* Send a payload in bytes. */
static PyObject *
send_frame(FastPath *self, uint8_t head, PyObject *payload)
{
    return send_payload(self, head, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), payload);
}

/* Return whether the connection allows that a message is sent at once. */
static int
may_send(FastPath *self)
{
    SendingHalf *life = (SendingHalf *)self->life;

    return self->plain && life != NULL && self->protocol != NULL && !IS_SET(self->send_lock)
        && PyObject_TypeCheck(life, self->state->sending_half_type) && life->sending == self->may_send
        && !life->continuing;
}

/* Call pack(head, payload), which compresses a message or leaves it. Return its answer, and set the first byte of
   the frame; NULL for an exception. */
static PyObject *
pack(FastPath *self, uint8_t head, PyObject *payload, uint8_t *packed_head)
{
    PyObject *function = Py_NewRef(self->pack), *number = PyLong_FromLong(head), *packed = NULL;
    PyObject *arguments[] = {number, payload};
    long value;

    if (number != NULL) {
        packed = PyObject_Vectorcall(function, arguments, 2, NULL);
    }
    Py_XDECREF(number);
    Py_DECREF(function);
    if (packed == NULL) {
        return NULL;
    }
    if (!PyTuple_Check(packed) || PyTuple_GET_SIZE(packed) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(packed, 1))) {
        PyErr_SetString(PyExc_TypeError, "_ws_pack must return the first byte of a frame and its payload in bytes");
        Py_DECREF(packed);
        return NULL;
    }
    value = PyLong_AsLong(PyTuple_GET_ITEM(packed, 0));
    if (value == -1 && PyErr_Occurred()) {
        Py_DECREF(packed);
        return NULL;
    }
    *packed_head = (uint8_t)value;
    return packed;
}

/* Compress a message, if it is worth it, and send it. */
static PyObject *
send_packed(FastPath *self, uint8_t head, PyObject *payload)
{
    uint8_t packed_head;
    PyObject *packed = pack(self, head, payload, &packed_head), *result = NULL;

    if (packed != NULL && may_send(self)) {
        self->saved_sent += PyBytes_GET_SIZE(payload) - PyBytes_GET_SIZE(PyTuple_GET_ITEM(packed, 1));
        result = send_frame(self, packed_head, PyTuple_GET_ITEM(packed, 1));
    }
    else if (packed != NULL) {
        result = PyLong_FromLong(SLOW); /* pack() may have run any code, and the message can't be sent now */
    }
    Py_XDECREF(packed);
    if (result == NULL) {
        unsent(self);
    }
    return result;
}

/* Send a message in bytes. */
static PyObject *
send_bytes(FastPath *self, uint8_t head, PyObject *payload)
{
    return IS_SET(self->pack) ? send_packed(self, head, payload) : send_frame(self, head, payload);
}

/* Send a bytearray. As long as we have its buffer, it can't be resized. */
static PyObject *
send_array(FastPath *self, uint8_t head, PyObject *array)
{
    PyObject *result;
    Py_buffer view;

    if (PyObject_GetBuffer(array, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    /* Getting the buffer of a subclass may have run any code. */
    result = may_send(self) ? send_payload(self, head, view.buf, view.len, NULL) : PyLong_FromLong(SLOW);
    PyBuffer_Release(&view);
    return result;
}

/* Send a copy of an object that has a buffer. A memoryview may have any shape; the copy is flat. */
static PyObject *
send_flat(FastPath *self, uint8_t head, PyObject *message)
{
    PyObject *payload = PyBytes_FromObject(message), *result = NULL;

    if (payload != NULL) {
        result = may_send(self) ? send_bytes(self, head, payload) : PyLong_FromLong(SLOW);
        Py_DECREF(payload);
    }
    return result;
}

/* Send a str. */
static PyObject *
send_text(FastPath *self, uint8_t head, PyObject *text)
{
    PyObject *payload, *result;

    if (PyUnicode_IS_COMPACT_ASCII(text) && !IS_SET(self->pack)) {
        return send_payload(self, head, PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text), text);
    }
    payload = PyUnicode_AsUTF8String(text);
    result = payload == NULL ? NULL : send_bytes(self, head, payload);
    Py_XDECREF(payload);
    return result;
}

/* Send a message in the frame that was made for other connections, if this one can use it. */
static PyObject *
send_encoded(FastPath *self, Encoded *message, PyObject *text)
{
    PyObject *frame, *result;

    if (self->client || IS_SET(self->pack) || text != Py_None) {
        return PyLong_FromLong(SLOW);
    }
    /* Other threads may be sending the same message. */
    Py_BEGIN_CRITICAL_SECTION(message);
    frame = Py_XNewRef(message->plain);
    Py_END_CRITICAL_SECTION();
    if (frame != NULL && PyBytes_CheckExact(frame)) {
        self->messages_sent++;
        self->payload_sent += (size_t)message->size;
        result = answer(self, put_bytes(self, frame) < 0);
    }
    else {
        result = PyLong_FromLong(SLOW);
    }
    Py_XDECREF(frame);
    return result;
}

static PyObject *
fastpath_send_now(FastPath *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *message;
    uint8_t head;
    int wanted;

    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "_ws_send_now expected 2 arguments, got %zd", count);
    }
    message = args[0];
    wanted = args[1] == Py_None ? 0 : PyObject_IsTrue(args[1]);
    if (wanted < 0) {
        return NULL;
    }
    head = wanted ? WHOLE_TEXT : WHOLE_BINARY;
    if (!may_send(self)) {
        return PyLong_FromLong(SLOW);
    }
    if (PyUnicode_Check(message)) {
        return send_text(self, args[1] == Py_False ? WHOLE_BINARY : WHOLE_TEXT, message);
    }
    if (PyBytes_Check(message)) {
        return send_bytes(self, head, message);
    }
    if (PyObject_TypeCheck(message, self->state->encoded_type)) {
        return send_encoded(self, (Encoded *)message, args[1]);
    }
    if (PyByteArray_Check(message) && !IS_SET(self->pack)) {
        return send_array(self, head, message);
    }
    if (PyByteArray_Check(message) || PyMemoryView_Check(message)) {
        return send_flat(self, head, message);
    }
    return PyLong_FromLong(SLOW);
}

GUARDED_FAST(FastPath, fastpath_send_now)
