/* From a read to the receive queue: provide the buffer, feed the decoder, resume the task that waits.

   May know: the decoder, the queue, the waiter of the task that receives.
   Must not know: how a task waits, sending. */

#include "fastpath.h"

/* The limits for one read: frames in the list, and decompressed bytes. With more, other connections
   would wait too long, or too much memory would be needed. The rest of the read has to wait. */
enum { FRAMES_A_TURN = 500, INFLATED = 1 << 20 };

/* Raise the error that an attribute isn't set. Return -1. */
static int
unprepared(const char *what)
{
    PyErr_Format(PyExc_RuntimeError, "%s isn't set", what);
    return -1;
}

static PyObject *
fastpath_get_buffer(FastPath *self, PyObject *Py_UNUSED(sizehint))
{
    if (self->buffer == NULL) {
        unprepared("_ws_buffer");
        return NULL;
    }
    return Py_NewRef(self->buffer);
}

GUARDED_ONE(FastPath, fastpath_get_buffer)

/* Return whether there is something for a task that waits: a message, or, if it reads fragments, a part of one. */
static int
has_news(const FastPath *self)
{
    return self->streaming || !codec_is_incomplete(self->state, QUEUE_FIRST(self->queue));
}

/* If there are messages, resume the task that waits for one. If there are still more frames than allowed, stop
   reading. */
static int
deliver(FastPath *self, Py_ssize_t allowed)
{
    if (self->queue == NULL || self->queue->count == 0) {
        return 0;
    }
    if (self->receiver != NULL && has_news(self)) {
        Waiter *receiver = (Waiter *)Py_NewRef(self->receiver);
        int failed;

        LOCK(receiver)
        failed = fastpath_waiter_resume(receiver) < 0;
        UNLOCK(receiver)
        Py_DECREF(receiver);
        if (failed) {
            return -1;
        }
    }
    if (self->queue == NULL || self->queue->count + self->queue->extra <= allowed) {
        return 0;
    }
    return fastpath_call((PyObject *)self, self->state->name_pause_if_full);
}

static PyObject *
fastpath_deliver(FastPath *self, PyObject *Py_UNUSED(unused))
{
    if (deliver(self, 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(FastPath, fastpath_deliver)

/* The output of the decoder for a read, apart from the messages in the queue. */
typedef struct {
    PyObject *frames; /* for Python; NULL if there are none */
    PyObject *rest;   /* bytes that have to wait; NULL if there are none */
    int refused;      /* whether a frame was refused */
} Taken;

/* Feed a decoder of the connection. The caller keeps the bytes alive. `looks` is NULL, unless rates are limited: then
   *looks tells whether it is time to look at the clock. */
static inline int
decode(FastPath *self, Decoder *chosen, const uint8_t *data, Py_ssize_t size, Taken *taken, int *looks)
{
    Decoder *decoder = (Decoder *)Py_NewRef(chosen);
    Queue *queue = (Queue *)Py_NewRef(self->queue);
    PyObject *inflate = IS_SET(self->inflate) ? Py_NewRef(self->inflate) : NULL;
    Output output = {.state = self->state, .queue = queue, .inflate = inflate,
                     .frames_left = FRAMES_A_TURN, .bytes_left = INFLATED};
    int failed, refused = decoder->failure != NULL;

    failed = (looks == NULL ? codec_feed(decoder, data, size, &output)
                            : codec_feed_metered(decoder, data, size, &output, looks)) < 0;
    if (!failed && output.used < size &&
        (output.frames_left <= 0 || output.bytes_left <= 0 || (looks != NULL && *looks))) {
        /* Copy the rest before other code runs: the next read of any connection overwrites the buffer. */
        taken->rest = PyBytes_FromStringAndSize((const char *)data + output.used, size - output.used);
        failed = taken->rest == NULL;
    }
    taken->frames = output.frames;
    taken->refused = output.failed || (!refused && decoder->failure != NULL);
    Py_DECREF(decoder);
    Py_DECREF(queue);
    Py_XDECREF(inflate);
    return failed ? -1 : 0;
}

/* Pass on the output of the decoder. */
static inline int
pass_on(FastPath *self, Taken *taken)
{
    PyObject *object = (PyObject *)self;

    if (taken->frames == NULL && taken->refused) {
        taken->frames = PyList_New(0);
        if (taken->frames == NULL) {
            return -1;
        }
    }
    if (taken->frames == NULL ? deliver(self, self->high) < 0
                              : fastpath_call_with(object, self->state->name_receive_rest, taken->frames) < 0) {
        return -1;
    }
    return taken->rest == NULL ? 0 : fastpath_call_with(object, self->state->name_hold_rest, taken->rest);
}

/* Return whether the attributes that receive() needs are set. */
static int
is_prepared(const FastPath *self)
{
    return self->decoder != NULL && self->queue != NULL;
}

/* Process the bytes of a read, if all attributes are set. The caller keeps the bytes alive. */
static int
receive(FastPath *self, const uint8_t *data, Py_ssize_t size)
{
    Taken taken = {0};
    int failed;

    self->bytes_received += (size_t)size;
    failed = decode(self, self->decoder, data, size, &taken, NULL) < 0 || pass_on(self, &taken) < 0;
    Py_XDECREF(taken.rest);
    Py_XDECREF(taken.frames);
    return failed ? -1 : 0;
}

/* Return whether the attributes that receive_metered() needs are set. */
static int
is_metered(const FastPath *self)
{
    return self->metered != NULL && self->queue != NULL;
}

/* The same where rates are limited. Python looks at the clock when more was taken in than granted, and processes the
   rest of the read. */
static int
receive_metered(FastPath *self, const uint8_t *data, Py_ssize_t size)
{
    Taken taken = {0};
    PyObject *rest = NULL;
    int failed, looks = 0;

    self->bytes_received += (size_t)size;
    failed = decode(self, self->metered, data, size, &taken, &looks) < 0;
    if (looks) {
        rest = taken.rest;
        taken.rest = NULL;
    }
    failed = failed || pass_on(self, &taken) < 0;
    if (!failed && looks) {
        failed = fastpath_call_with((PyObject *)self, self->state->name_look, rest == NULL ? Py_None : rest) < 0;
    }
    Py_XDECREF(rest);
    Py_XDECREF(taken.rest);
    Py_XDECREF(taken.frames);
    return failed ? -1 : 0;
}

static PyObject *
fastpath_buffer_updated(FastPath *self, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    PyObject *data;
    Span *buffer;
    int failed;

    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (self->buffer == NULL || size < 0 || size > self->buffer->size) {
        return PyErr_Format(PyExc_ValueError, "%zd bytes can't have been read", size);
    }
    buffer = (Span *)Py_NewRef(self->buffer);
    if (is_prepared(self)) {
        failed = receive(self, buffer->data, size) < 0;
    }
    else if (is_metered(self)) {
        failed = receive_metered(self, buffer->data, size) < 0;
    }
    else {
        /* Make a copy: the method in Python may keep it, and the next read of any connection overwrites the buffer. */
        data = PyBytes_FromStringAndSize(buffer->data, size);
        failed = data == NULL || fastpath_call_with((PyObject *)self, self->state->name_data_received, data) < 0;
        Py_XDECREF(data);
    }
    Py_DECREF(buffer);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(FastPath, fastpath_buffer_updated)

/* Event loops that have buffers of their own call this. */
static PyObject *
fastpath_data_received(FastPath *self, PyObject *data)
{
    Py_buffer view;
    int failed;

    if (is_prepared(self) || is_metered(self)) {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        /* Getting the buffer may have run any code. */
        failed = (is_prepared(self)  ? receive(self, view.buf, view.len)
                  : is_metered(self) ? receive_metered(self, view.buf, view.len)
                                     : unprepared("_ws_decoder or _ws_queue")) < 0;
        PyBuffer_Release(&view);
    }
    else {
        failed = fastpath_call_with((PyObject *)self, self->state->name_receive_data, data) < 0;
    }
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(FastPath, fastpath_data_received)

PyObject *
fastpath_take(FastPath *self)
{
    Queue *queue = self->queue;
    PyObject *message;
    int in_fragments;

    if (self->receiver != NULL || self->streaming || self->burst >= BURST || queue == NULL || queue->count == 0) {
        return NULL;
    }
    Py_INCREF(queue);
    Py_BEGIN_CRITICAL_SECTION(queue);
    in_fragments = queue->count && Py_IS_TYPE(QUEUE_FIRST(queue), self->state->assembly_type);
    Py_END_CRITICAL_SECTION();
    message = in_fragments ? codec_queue_take(self->state, queue) : codec_queue_shift(queue);
    Py_DECREF(queue);
    if (message == NULL) {
        return NULL;
    }
    self->burst++;
    if (self->reading_paused && fastpath_call((PyObject *)self, self->state->name_drained) < 0) {
        Py_CLEAR(message);
    }
    return message;
}
