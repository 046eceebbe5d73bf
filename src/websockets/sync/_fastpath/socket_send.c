/* A message to the socket: build the frame, and give it to the socket, if nobody else writes and nothing waits.

   May know: the attributes that decide whether a message may be sent, the role of the writer.
   Must not know: what becomes of the rest of a frame, receiving. */

#include "socket_path.h"

/* A frame that is sent past the outbox. */
typedef struct {
    PyObject *frame; /* in bytes; with TLS, the ciphertext */
    PyObject *send;  /* the call of the socket */
    Py_ssize_t payload;
    unsigned long long thread;
} Sending;

/* Build the frame of a payload. */
static PyObject *
build(SocketPath *self, uint8_t head, const void *payload, Py_ssize_t size)
{
    uint8_t header[MAX_HEADER], mask[4];
    Py_ssize_t length;
    PyObject *frame;
    uint8_t *p;

    if (self->client && codec_draw_mask(self->state, mask) < 0) {
        return NULL;
    }
    length = codec_write_header(header, head, size, self->client ? mask : NULL);
    if (size > PY_SSIZE_T_MAX - length) {
        return PyErr_NoMemory();
    }
    frame = PyBytes_FromStringAndSize(NULL, length + size);
    if (frame != NULL) {
        p = (uint8_t *)PyBytes_AS_STRING(frame);
        memcpy(p, header, length);
        (void)codec_unmask(p + length, payload, size, self->client ? mask : NULL, 0);
    }
    return frame;
}

/* Build the frame of a message, and set the size of its payload. Return NULL without an exception for other objects
   than a str and bytes. */
static PyObject *
frame_of(SocketPath *self, PyObject *message, Py_ssize_t *size)
{
    PyObject *payload, *frame;

    if (PyBytes_CheckExact(message)) {
        *size = PyBytes_GET_SIZE(message);
        return build(self, WHOLE_BINARY, PyBytes_AS_STRING(message), *size);
    }
    if (!PyUnicode_CheckExact(message)) {
        return NULL;
    }
    if (PyUnicode_IS_COMPACT_ASCII(message)) {
        *size = PyUnicode_GET_LENGTH(message);
        return build(self, WHOLE_TEXT, PyUnicode_DATA(message), *size);
    }
    payload = PyUnicode_AsUTF8String(message);
    if (payload == NULL) {
        return NULL;
    }
    *size = PyBytes_GET_SIZE(payload);
    frame = build(self, WHOLE_TEXT, PyBytes_AS_STRING(payload), *size);
    Py_DECREF(payload);
    return frame;
}

/* Return whether a message may be sent at once. */
static int
may_send(SocketPath *self)
{
    SendingHalf *life = (SendingHalf *)self->life;

    return self->plain && !self->owing && self->writer == self->state->role_free && life != NULL
        && PyObject_TypeCheck(life, self->state->sending_half_type) && life->sending == self->may_send
        && !life->continuing;
}

/* Encrypt the frame, if there is TLS; the role of the writer is taken. */
static int
encrypt(SocketPath *self, Sending *sending)
{
    PyObject *ciphertext;

    if (!IS_SET(self->channel)) {
        return 0;
    }
    /* What a signal handler sends in the middle of this is encrypted later. */
    self->sealing = 1;
    ciphertext = PyObject_CallMethodOneArg((PyObject *)self, self->state->name_encrypt, sending->frame);
    if (ciphertext != NULL && !PyBytes_CheckExact(ciphertext)) {
        Py_DECREF(ciphertext);
        PyErr_SetString(PyExc_TypeError, "_ws_encrypt must return bytes");
        ciphertext = NULL;
    }
    self->sealing = 0;
    if (ciphertext == NULL) {
        socketpath_break_off(self, sending->thread);
        return -1;
    }
    Py_SETREF(sending->frame, ciphertext);
    return 0;
}

/* Become the writer, if a message may be sent at once; under the lock. */
static int
claim(SocketPath *self, Sending *sending)
{
    unsigned long long me;
    Py_ssize_t size;

    if (!may_send(self)) {
        return UNUSUAL;
    }
    sending->send = socketpath_kernel_call(self, self->state->name_kernel_send);
    if (sending->send == NULL) {
        return PyErr_Occurred() ? FAILED : UNUSUAL;
    }
    me = socketpath_thread(self);
    size = PyBytes_GET_SIZE(sending->frame);
    if (me == 0) {
        return FAILED;
    }
    if (!may_send(self)) {
        /* The calls ran something else. */
        return UNUSUAL;
    }
    socketpath_set(&self->writer, self->state->role_taken);
    self->writing_thread = sending->thread = me;
    if (encrypt(self, sending) < 0) {
        return FAILED;
    }
    self->messages_sent++;
    self->payload_sent += (size_t)sending->payload;
    self->bytes_sent += (size_t)size;
    self->bypassing = PyBytes_GET_SIZE(sending->frame);
    return CALL_SOCKET;
}

/* Have Python go on with a frame of which the socket has taken as many bytes as `count` says, an int or NULL for none.
   With an exception, which stays, the sender won't wait for the rest. Return NULL for an exception.

   The number is the socket's own object, and 0 takes no memory: otherwise the rest of a frame could be lost here. */
static PyObject *
go_on(SocketPath *self, Sending *sending, PyObject *count, Raised *raised)
{
    PyObject *number = count == NULL ? PyLong_FromLong(0) : Py_NewRef(count);
    PyObject *result, *error = NULL, *traceback = NULL, *type = NULL;
    int interrupted = raised->type != NULL;

    if (interrupted && PyErr_GivenExceptionMatches(raised->type, PyExc_OSError)) {
        PyErr_NormalizeException(&raised->type, &raised->value, &raised->traceback);
        interrupted = 0;
        type = raised->type;
        traceback = raised->traceback;
        if (PyErr_GivenExceptionMatches(type, PyExc_BlockingIOError)) {
            Py_CLEAR(raised->value);
        }
        error = raised->value;
        *raised = (Raised){0};
    }
    PyObject *arguments[] = {(PyObject *)self, sending->frame, number, error == NULL ? Py_None : error,
                             interrupted ? Py_True : Py_False};
    result = PyObject_VectorcallMethod(self->state->name_after_send, arguments, 5, NULL);
    if (result == NULL && self->writer == self->state->role_taken && self->writing_thread == sending->thread) {
        /* There was no room for the call, or no memory: the rest of the frame isn't kept. */
        socketpath_break_off(self, sending->thread);
    }
    Py_DECREF(number);
    Py_XDECREF(error);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (interrupted) {
        Py_CLEAR(result);
        PyErr_Clear();
        return socketpath_raise(raised);
    }
    Py_XDECREF(result);
    return result == NULL ? NULL : Py_NewRef(Py_True);
}

/* Note that the socket has taken the frame, unless something happened meanwhile that needs more. Return whether that
   was done. */
static int
note_sent(SocketPath *self, Raised *raised)
{
    PyObject *exit;
    int noted;

    if (socketpath_enter_surely(self, &exit, raised) < 0) {
        return 0;
    }
    noted = !self->owing;
    if (noted) {
        self->bypassed += (size_t)self->bypassing;
        self->bypassing = 0;
        self->writing_thread = 0;
        socketpath_set(&self->writer, self->state->role_free);
    }
    if (socketpath_leave(exit) < 0) {
        socketpath_keep(raised);
    }
    return noted;
}

/* Call the socket, as the writer. Return whether the message was sent; NULL for an exception. */
static PyObject *
send_frame(SocketPath *self, Sending *sending)
{
    PyObject *arguments[] = {sending->frame, self->state->dont_wait};
    PyObject *taken = PyObject_Vectorcall(sending->send, arguments, 2, NULL), *result;
    Py_ssize_t count = taken == NULL ? 0 : PyLong_AsSsize_t(taken);
    Raised raised = {0};

    if (PyErr_Occurred()) {
        Py_CLEAR(taken);
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            /* Perhaps it was wanting for the number of bytes that the socket took. */
            socketpath_break_off(self, sending->thread);
            return NULL;
        }
        socketpath_keep(&raised);
    }
    if (taken != NULL && count == PyBytes_GET_SIZE(sending->frame) && note_sent(self, &raised)) {
        result = raised.type == NULL ? Py_NewRef(Py_True) : socketpath_raise(&raised);
    }
    else {
        result = go_on(self, sending, taken, &raised);
    }
    Py_XDECREF(taken);
    return result;
}

/* Send the frame, if nothing is in its way. Return whether that was done; NULL for an exception. */
static PyObject *
try_to_send(SocketPath *self, Sending *sending)
{
    Raised raised = {0};
    PyObject *exit;
    int step;

    if (socketpath_enter(self, &exit) < 0) {
        return NULL;
    }
    step = claim(self, sending);
    if (step == FAILED) {
        socketpath_leave_raising(exit);
        return NULL;
    }
    if (socketpath_leave(exit) < 0) {
        if (step != CALL_SOCKET) {
            return NULL;
        }
        socketpath_keep(&raised);
        return go_on(self, sending, NULL, &raised);
    }
    return step == CALL_SOCKET ? send_frame(self, sending) : Py_NewRef(Py_False);
}

PyObject *
socketpath_send_now(SocketPath *self, PyObject *message)
{
    Sending sending = {0};
    PyObject *result;

    if (!self->plain) {
        Py_RETURN_FALSE;
    }
    sending.frame = frame_of(self, message, &sending.payload);
    if (sending.frame == NULL) {
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_False);
    }
    result = try_to_send(self, &sending);
    Py_XDECREF(sending.send);
    Py_DECREF(sending.frame);
    return result;
}
