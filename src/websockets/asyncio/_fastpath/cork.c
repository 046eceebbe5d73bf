/* The cork: frames that are held back, because the answers to several messages of one read can share a write.

   May know: how many messages wait in the queue, the loop.
   Must not know: how anything is written, what frames mean. */

#include "fastpath.h"

/* With more bytes than this, the cork is written, even if more messages wait. */
#define CORK_LIMIT ((Py_ssize_t)1 << 16)

/* Make room behind the frames that are held back, and return where it begins; NULL for an exception. They count as sent
   already: if they are lost because memory runs out, the connection ends. */
static uint8_t *
make_room(FastPath *self, Py_ssize_t size)
{
    Py_ssize_t needed, capacity;

    if (size > PY_SSIZE_T_MAX / 4 || self->corked > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return NULL;
    }
    needed = self->corked + size;
    if (self->cork == NULL) {
        /* The answers to a burst are often equally long: with some luck, all of them fit. */
        Py_ssize_t others = self->queue == NULL ? 0 : self->queue->count;
        capacity = size > 0 && others < CORK_LIMIT / size ? (others + 1) * size : size;
        self->cork = PyBytes_FromStringAndSize(NULL, capacity);
    }
    else if (needed > PyBytes_GET_SIZE(self->cork)) {
        capacity = PyBytes_GET_SIZE(self->cork) * 2;
        if (_PyBytes_Resize(&self->cork, needed > capacity ? needed : capacity) < 0) {
            self->corked = 0;
            (void)fastpath_tear_off(self);
            return NULL; /* even if there is a new cork: aborting the transport may have run any code */
        }
    }
    return self->cork == NULL ? NULL : (uint8_t *)PyBytes_AS_STRING(self->cork) + self->corked;
}

/* Take out the frames that are held back. Return NULL if there are none, and NULL with an exception if that failed. */
static PyObject *
take_frames(FastPath *self)
{
    PyObject *frames = self->cork;
    Py_ssize_t size = self->corked;

    self->cork = NULL;
    self->corked = 0;
    if (frames != NULL && _PyBytes_Resize(&frames, size) < 0) {
        (void)fastpath_tear_off(self);
        return NULL;
    }
    return frames;
}

int
fastpath_flush_cork(FastPath *self)
{
    PyObject *frames = take_frames(self);
    int failed;

    if (frames == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    failed = fastpath_write_bytes(self, frames, 0) < 0;
    Py_DECREF(frames);
    return failed ? fastpath_tear_off(self) : 0; /* they count as sent already */
}

/* Have the next turn of the loop write the frames that are still held back then. Return whether it will. */
static int
set_backstop(FastPath *self)
{
    PyObject *loop, *callback;

    if (!self->backstop) {
        loop = Py_XNewRef(self->loop);
        callback = loop == NULL ? NULL : PyObject_GetAttr((PyObject *)self, self->state->name_uncork);
        self->backstop = callback != NULL && fastpath_call_soon(self->state, loop, callback, NULL, NULL) == 0;
        Py_XDECREF(callback);
        Py_XDECREF(loop);
        if (PyErr_Occurred()) {
            PyErr_Clear(); /* the caller writes at once instead */
        }
    }
    return self->backstop;
}

int
fastpath_put(FastPath *self, const Frame *frame)
{
    int hold = self->queue != NULL && self->queue->count > 0 && !IS_SET(self->write_waiters);
    Py_ssize_t size = frame->length + frame->size;
    uint8_t *p;

    if ((!hold && self->corked == 0) || self->torn) {
        return fastpath_write_out(self, frame);
    }
    p = make_room(self, size);
    if (p == NULL) {
        return -1;
    }
    fastpath_lay_out(p, frame, 0, size);
    self->corked += size;
    return hold && self->corked <= CORK_LIMIT && set_backstop(self) ? 0 : fastpath_flush_cork(self);
}

int
fastpath_hold_back(FastPath *self, const uint8_t *data, Py_ssize_t size, int *lost)
{
    uint8_t *p = make_room(self, size);

    *lost = p == NULL;
    if (p == NULL) {
        return -1;
    }
    memcpy(p, data, size);
    self->corked += size;
    return self->corked > CORK_LIMIT ? fastpath_flush_cork(self) : 0;
}

static PyObject *
fastpath_take_corked(FastPath *self, PyObject *Py_UNUSED(unused))
{
    PyObject *frames = take_frames(self);

    if (frames == NULL && !PyErr_Occurred()) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    return frames;
}

GUARDED_ONE(FastPath, fastpath_take_corked)
