/* Frames to a transport: written by the kernel directly if possible, by the transport otherwise.

   May know: methods of transports.
   Must not know: messages, sockets. */

#include "fastpath.h"

/* Abort the transport: something that should have been written was not, or not completely, so nothing may follow it.
   The exception that is set stays. Return -1. */
static int
tear(FastPath *self, PyObject *transport)
{
    PyObject *type, *exc, *traceback;

    self->torn = 1;
    PyErr_Fetch(&type, &exc, &traceback);
    if (fastpath_call(transport, self->state->name_abort) < 0) {
        PyErr_Clear(); /* the next write tries again */
    }
    PyErr_Restore(type, exc, traceback);
    return -1;
}

int
fastpath_tear_off(FastPath *self)
{
    PyObject *transport = self->lost || self->torn ? NULL : Py_XNewRef(self->transport);

    self->torn = 1;
    if (transport != NULL) {
        (void)tear(self, transport);
        Py_DECREF(transport);
    }
    return -1;
}

/* Return whether the transport takes no more; -1 for an exception. */
static int
is_closing(FastPath *self, PyObject *transport)
{
    PyObject *answer = PyObject_CallMethodNoArgs(transport, self->state->name_is_closing);
    int closing = answer == NULL ? -1 : PyObject_IsTrue(answer);

    Py_XDECREF(answer);
    return closing;
}

/* Return a frame without the bytes that were sent: a new reference; NULL for an exception. */
static PyObject *
rest_of(FastPath *self, const Frame *frame, Py_ssize_t sent)
{
    Py_ssize_t left = frame->length + frame->size - sent;
    PyObject *rest;

    if (sent >= frame->length && fastpath_lies_ready(frame)) {
        sent -= frame->length;
        if (sent == 0 && PyBytes_CheckExact(frame->owner)) {
            return Py_NewRef(frame->owner);
        }
        return fastpath_view_of(self->state, frame->owner, frame->payload + sent, left);
    }
    rest = PyBytes_FromStringAndSize(NULL, left);
    if (rest != NULL) {
        fastpath_lay_out((uint8_t *)PyBytes_AS_STRING(rest), frame, sent, left);
    }
    return rest;
}

/* Handle the exception of a transport that failed to write, after `sent` bytes of the frame were sent.
   Transports raise RuntimeError when they took nothing, and then the connection can continue. But a compressed message
   may refer to earlier ones, so none of these may be missing. Return -1. */
static int
after_failed_write(FastPath *self, PyObject *transport, Py_ssize_t sent)
{
    int refused = sent == 0 && !IS_SET(self->pack) && PyErr_ExceptionMatches(PyExc_RuntimeError);

    return refused ? -1 : tear(self, transport);
}

/* Return the payload of a frame without copying it: a new reference; NULL for an exception. */
static PyObject *
payload_of(FastPath *self, const Frame *frame)
{
    PyObject *owner = frame->owner;

    if (PyBytes_CheckExact(owner) && PyBytes_GET_SIZE(owner) == frame->size) {
        return Py_NewRef(owner);
    }
    return fastpath_view_of(self->state, owner, frame->payload, frame->size);
}

/* Have the transport write a frame of `size` bytes in two pieces. Return NULL for an exception. */
static PyObject *
write_lines(FastPath *self, PyObject *transport, PyObject *header, PyObject *payload, Py_ssize_t size)
{
    PyObject *pieces = PyTuple_Pack(2, header, payload), *result;

    if (pieces == NULL) {
        return NULL;
    }
    self->bytes_sent += (size_t)size;
    result = PyObject_CallMethodOneArg(transport, self->state->name_writelines, pieces);
    Py_DECREF(pieces);
    if (result == NULL) {
        (void)after_failed_write(self, transport, 0);
    }
    return result;
}

/* Write a large frame in two pieces, without copying the payload. If the transport can't do that, call the method in
   Python. */
static int
write_pieces(FastPath *self, PyObject *transport, const Frame *frame)
{
    PyObject *header = PyBytes_FromStringAndSize((const char *)frame->header, frame->length);
    PyObject *payload = header == NULL ? NULL : payload_of(self, frame), *result = NULL;

    if (payload != NULL && self->gathers) {
        result = write_lines(self, transport, header, payload, frame->length + frame->size);
    }
    else if (payload != NULL) {
        PyObject *arguments[] = {(PyObject *)self, header, payload};
        result = PyObject_VectorcallMethod(self->state->name_write_pieces, arguments, 3, NULL);
    }
    Py_XDECREF(header);
    Py_XDECREF(payload);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Pass the part of a frame that the kernel didn't take to the transport. */
static int
write_rest(FastPath *self, PyObject *transport, const Frame *frame, Py_ssize_t sent)
{
    PyObject *rest = rest_of(self, frame, sent);
    int failed;

    if (rest == NULL) {
        return sent > 0 || IS_SET(self->pack) ? tear(self, transport) : -1;
    }
    failed = fastpath_call_with(transport, self->state->name_write, rest) < 0;
    Py_DECREF(rest);
    return failed ? after_failed_write(self, transport, sent) : 0;
}

/* Write a frame to a transport, which the caller owns. */
static int
write_to(FastPath *self, PyObject *transport, const Frame *frame)
{
    Py_ssize_t size = frame->length + frame->size, sent = 0;
    int in_pieces = frame->length > 0 && frame->size >= GATHER_FROM && fastpath_lies_ready(frame);
    int closing = 0;

    if (!self->torn) {
        sent = fastpath_send_straight(self, transport, frame, in_pieces);
    }
    if (sent == 0) {
        closing = is_closing(self, transport);
    }
    if (closing != 0) {
        return closing < 0 ? -1 : fastpath_call((PyObject *)self, self->state->name_refuse_writing);
    }
    if (self->torn && sent == 0) {
        return fastpath_call(transport, self->state->name_abort);
    }
    if (sent == 0 && in_pieces) {
        return write_pieces(self, transport, frame); /* it counts the bytes itself */
    }
    self->bytes_sent += (size_t)size;
    if (sent < 0) {
        return tear(self, transport);
    }
    return sent == size ? 0 : write_rest(self, transport, frame, sent);
}

int
fastpath_write_out(FastPath *self, const Frame *frame)
{
    PyObject *transport;
    int failed;

    if (self->lost || self->transport == NULL || frame->length + frame->size == 0) {
        return 0;
    }
    transport = Py_NewRef(self->transport);
    failed = write_to(self, transport, frame) < 0;
    Py_DECREF(transport);
    return failed ? -1 : 0;
}

int
fastpath_write_bytes(FastPath *self, PyObject *data, char last)
{
    Frame frame = {.payload = (uint8_t *)PyBytes_AS_STRING(data), .size = PyBytes_GET_SIZE(data), .owner = data};

    frame.last = last;
    return fastpath_write_out(self, &frame);
}

static PyObject *
write_checked(FastPath *self, PyObject *data, char last)
{
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "what is written must be bytes, not %s", Py_TYPE(data)->tp_name);
        return NULL;
    }
    return fastpath_write_bytes(self, data, last) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
fastpath_write(FastPath *self, PyObject *data)
{
    return write_checked(self, data, 0);
}

static PyObject *
fastpath_write_last(FastPath *self, PyObject *data)
{
    return write_checked(self, data, 1);
}

GUARDED_ONE(FastPath, fastpath_write)
GUARDED_ONE(FastPath, fastpath_write_last)
