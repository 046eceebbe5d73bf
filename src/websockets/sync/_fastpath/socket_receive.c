/* The next message: out of the queue, or out of one read.

   May know: the decoder, the queue, the role of the reader.
   Must not know: how a thread waits for a message that no single read brings, sending. */

#include "socket_path.h"

/* Frames that aren't whole messages, of one read. With more, the rest of the read goes through the intake. */
enum { FRAMES_AT_ONCE = 500 };

/* What a read is done with. */
typedef struct {
    PyObject *receive;
    Decoder *decoder;
    unsigned long long thread;
} Reading;

/* Return whether the next message is there, in one piece. */
static int
is_whole(Queue *queue)
{
    int whole = 0;

    Py_BEGIN_CRITICAL_SECTION(queue);
    if (queue->count) {
        PyObject *message = QUEUE_FIRST(queue);
        whole = PyUnicode_CheckExact(message) || PyBytes_CheckExact(message);
    }
    Py_END_CRITICAL_SECTION();
    return whole;
}

/* Take the next message from the queue; NULL with an exception if something failed. */
static PyObject *
take(SocketPath *self)
{
    Queue *queue = (Queue *)Py_NewRef(self->queue);
    PyObject *message = codec_queue_shift(queue);

    Py_DECREF(queue);
    return message;
}

/* Return whether somebody else receives, or this path can't. */
static int
is_taken(SocketPath *self)
{
    return self->receiver || IS_SET(self->stream) || self->decoder == NULL || self->queue == NULL;
}

/* Become the reader, if the socket may be called at once. */
static int
claim(SocketPath *self, Reading *reading)
{
    unsigned long long me;

    reading->receive = socketpath_kernel_call(self, self->state->name_kernel_receive);
    if (reading->receive == NULL) {
        return PyErr_Occurred() ? FAILED : UNUSUAL;
    }
    me = socketpath_thread(self);
    /* Both calls may have run something else. */
    if (me == 0 || is_taken(self) || self->reader == self->state->role_taken) {
        Py_CLEAR(reading->receive);
        return me == 0 ? FAILED : UNUSUAL;
    }
    reading->decoder = (Decoder *)Py_NewRef(self->decoder);
    reading->thread = me;
    socketpath_set(&self->reader, self->state->role_taken);
    self->receiver = self->reading_thread = me;
    return CALL_SOCKET;
}

/* Take a message that waits, or prepare a read; under the lock. */
static int
look(SocketPath *self, PyObject *timeout, Reading *reading, PyObject **message)
{
    self->epoch++;
    if (is_taken(self)) {
        return UNUSUAL;
    }
    if (self->queue->count) {
        if (!is_whole(self->queue)) {
            return UNUSUAL;
        }
        if (!self->listed && socketpath_call(self, self->state->name_list) < 0) {
            return FAILED;
        }
        /* A signal handler may have received in the meantime, or begun to. */
        if (is_taken(self) || !is_whole(self->queue)) {
            return UNUSUAL;
        }
        *message = take(self);
        return *message == NULL ? FAILED : DONE;
    }
    if (timeout != Py_None || self->reader == self->state->role_taken) {
        return UNUSUAL;
    }
    return claim(self, reading);
}

/* Call a method with what a read has brought: data that is no message, or with TLS. */
static int
pass_on(SocketPath *self, PyObject *name, PyObject *first, PyObject *second)
{
    PyObject *arguments[] = {(PyObject *)self, first == NULL ? Py_None : first, second == NULL ? Py_None : second};
    PyObject *result = PyObject_VectorcallMethod(name, arguments, 3, NULL);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Feed the decoder; under the lock. *others tells whether there was anything but whole messages. */
static int
decode(SocketPath *self, Decoder *decoder, PyObject *data, int *others)
{
    Queue *queue = (Queue *)Py_XNewRef(self->queue);
    Output output = {.state = self->state, .queue = queue,
                     .frames_left = FRAMES_AT_ONCE, .bytes_left = PY_SSIZE_T_MAX};
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(data);
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    PyObject *rest = NULL;
    int failed;

    if (queue == NULL) {
        /* It was there before the data was decrypted. */
        PyErr_SetString(PyExc_AttributeError, "_ws_queue");
        return -1;
    }
    failed = codec_feed(decoder, bytes, size, &output) < 0;
    if (!failed && output.used < size && output.frames_left <= 0) {
        rest = PyBytes_FromStringAndSize((const char *)bytes + output.used, size - output.used);
        failed = rest == NULL;
    }
    *others = output.frames != NULL || decoder->failure != NULL;
    if (!failed && *others) {
        failed = pass_on(self, self->state->name_receive_others, output.frames, rest) < 0;
    }
    Py_XDECREF(output.frames);
    Py_XDECREF(rest);
    Py_DECREF(queue);
    return failed ? -1 : 0;
}

/* Decrypt what was read, if there is TLS; under the lock. Return NULL without an exception if TLS has more to say, all
   of which is done then. */
static PyObject *
decrypt(SocketPath *self, PyObject *data)
{
    PyObject *channel, *plaintext, *result;

    if (!IS_SET(self->channel)) {
        return Py_NewRef(data);
    }
    channel = Py_NewRef(self->channel);
    plaintext = PyObject_CallMethodOneArg(channel, self->state->name_decrypt, data);
    if (plaintext != NULL && !PyBytes_CheckExact(plaintext)) {
        Py_DECREF(plaintext);
        plaintext = NULL;
        result = PyObject_CallMethodOneArg((PyObject *)self, self->state->name_receive_channel, channel);
        Py_XDECREF(result);
    }
    Py_DECREF(channel);
    return plaintext;
}

/* Process the bytes that a read has brought. *others tells whether there was anything but whole messages. */
static int
process(SocketPath *self, Decoder *decoder, PyObject *data, int *others)
{
    PyObject *plaintext;
    int failed;

    if (self->decoder != decoder || self->queue == NULL) {
        return pass_on(self, self->state->name_received, data, NULL);
    }
    plaintext = decrypt(self, data);
    if (plaintext == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    self->bytes_received += (size_t)PyBytes_GET_SIZE(plaintext);
    failed = decode(self, decoder, plaintext, others) < 0;
    Py_DECREF(plaintext);
    return failed ? -1 : 0;
}

/* Process what a read has brought, and leave the role of the reader; under the lock. If it is wanted, and nothing else
   has arrived, *message gets the next message. */
static int
take_in(SocketPath *self, Reading *reading, PyObject *data, int wanted, PyObject **message)
{
    int failed, others = 1;

    socketpath_set(&self->reader, self->state->role_free);
    self->reading_thread = 0;
    failed = process(self, reading->decoder, data, &others) < 0;
    if (failed) {
        socketpath_break_off(self, reading->thread);
    }
    if (!failed && (!self->listed || self->waiting || self->lost)) {
        failed = socketpath_call(self, self->state->name_left_reading) < 0;
    }
    if (!failed && !others && wanted) {
        /* A signal handler that raises an exception does so while the message is in the queue. */
        failed = PyErr_CheckSignals() < 0;
    }
    if (!failed && !others && wanted && self->queue != NULL && is_whole(self->queue)) {
        self->receiver = 0;
        *message = take(self);
        failed = *message == NULL;
    }
    return failed ? -1 : 0;
}

/* Let others receive, because of an exception, which stays. Return NULL. */
static PyObject *
give_up(SocketPath *self, unsigned long long thread)
{
    Raised raised = {0};

    socketpath_keep(&raised);
    /* Python does the rest, unless there is no room for a call. */
    if (self->receiver == thread) {
        self->receiver = 0;
    }
    if (socketpath_call(self, self->state->name_give_up_turn) < 0) {
        PyErr_Clear();
    }
    return socketpath_raise(&raised);
}

/* Put a message back that can't be returned, because of an exception, which stays. The reference is taken over. */
static void
put_back(SocketPath *self, PyObject *message)
{
    PyObject *result;
    Raised raised = {0};

    if (message == NULL) {
        return;
    }
    socketpath_keep(&raised);
    result = PyObject_CallMethodOneArg((PyObject *)self, self->state->name_keep_message, message);
    Py_DECREF(message);
    if (result == NULL) {
        PyErr_Clear();
    }
    (void)socketpath_raise(&raised);
    if (result == NULL) {
        socketpath_break_off(self, 0);
    }
    Py_XDECREF(result);
}

/* Go on when a read has brought no data: the end of the stream, an error; with data that isn't bytes, too. */
static PyObject *
read_nothing(SocketPath *self, Reading *reading, PyObject *data, PyObject *timeout)
{
    PyObject *arguments[] = {(PyObject *)self, data == NULL ? Py_None : data, Py_None, timeout}, *result;
    Raised raised = {0};

    if (data == NULL) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            /* Perhaps it was wanting for what was read. */
            socketpath_break_off(self, reading->thread);
        }
        if (!PyErr_ExceptionMatches(PyExc_OSError)) {
            return give_up(self, reading->thread);
        }
        socketpath_keep(&raised);
        PyErr_NormalizeException(&raised.type, &raised.value, &raised.traceback);
        arguments[2] = raised.value;
    }
    result = PyObject_VectorcallMethod(self->state->name_read_nothing, arguments, 4, NULL);
    Py_XDECREF(raised.type);
    Py_XDECREF(raised.value);
    Py_XDECREF(raised.traceback);
    return result;
}

/* Call the socket. Return NULL for an exception. */
static PyObject *
read_once(SocketPath *self, PyObject *receive)
{
    PyObject *size = PyObject_GetAttr((PyObject *)self, self->state->name_recv_bufsize), *data;

    if (size == NULL) {
        return NULL;
    }
    data = PyObject_CallOneArg(receive, size);
    Py_DECREF(size);
    return data;
}

/* Take in the data of a read. Return the next message; NULL without an exception if there is none yet. */
static PyObject *
take_in_locked(SocketPath *self, Reading *reading, PyObject *data)
{
    PyObject *exit, *message = NULL;
    Raised raised = {0};

    if (socketpath_enter_surely(self, &exit, &raised) < 0) {
        (void)socketpath_raise(&raised);
        socketpath_break_off(self, reading->thread);
        return give_up(self, reading->thread);
    }
    if (take_in(self, reading, data, raised.type == NULL, &message) < 0) {
        socketpath_leave_raising(exit);
        socketpath_keep(&raised);
    }
    else if (socketpath_leave(exit) < 0) {
        socketpath_keep(&raised);
    }
    if (raised.type != NULL) {
        (void)socketpath_raise(&raised);
        put_back(self, message);
        return give_up(self, reading->thread);
    }
    return message;
}

/* Read once, as the reader; if that brings no message, go on in Python. */
static PyObject *
receive_one(SocketPath *self, Reading *reading, PyObject *timeout)
{
    PyObject *data = read_once(self, reading->receive), *message;

    if (data == NULL || !PyBytes_CheckExact(data) || PyBytes_GET_SIZE(data) == 0) {
        message = read_nothing(self, reading, data, timeout);
    }
    else {
        message = take_in_locked(self, reading, data);
        if (message == NULL && !PyErr_Occurred()) {
            message = PyObject_CallMethodOneArg((PyObject *)self, self->state->name_go_on, timeout);
        }
    }
    Py_XDECREF(data);
    return message;
}

PyObject *
socketpath_next(SocketPath *self, PyObject *timeout)
{
    PyObject *exit, *message = NULL;
    Reading reading = {0};
    int step;

    if (socketpath_enter(self, &exit) < 0) {
        return NULL;
    }
    step = look(self, timeout, &reading, &message);
    if (step == FAILED) {
        socketpath_leave_raising(exit);
    }
    else if (socketpath_leave(exit) < 0) {
        put_back(self, message);
        message = NULL;
        if (step == CALL_SOCKET) {
            (void)give_up(self, reading.thread);
        }
    }
    else if (step == CALL_SOCKET) {
        message = receive_one(self, &reading, timeout);
    }
    else if (step == UNUSUAL) {
        message = PyObject_CallMethodOneArg((PyObject *)self, self->state->name_receive, timeout);
    }
    Py_XDECREF(reading.receive);
    Py_XDECREF(reading.decoder);
    return message;
}
