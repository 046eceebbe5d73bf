/* The awaitable of recv() and `async for`: the next message.

   May know: the queue by way of fastpath_take(), waiters, coroutines.
   Must not know: frames, transports. */

#include "fastpath.h"

/* The awaitable. It takes a message from the queue, or waits for one, or leaves unusual cases to a coroutine. */
typedef struct {
    PyObject_HEAD
    FastPath *path;      /* NULL when it is over */
    Waiter *waiter;  /* NULL unless it waits */
    PyObject *inner; /* the coroutine; NULL unless there is one */
    char iterating;  /* whether it is for `async for`, which ends when the connection ends normally */
} Receive;

/* Make the awaitable for a message of a connection. Return NULL for an exception. */
static PyObject *
receive_new(FastPath *path, int iterating)
{
    Receive *self;

    Py_INCREF(path);
    self = PyObject_GC_New(Receive, path->state->receive_type);
    if (self == NULL) {
        Py_DECREF(path);
        return NULL;
    }
    self->path = path;
    self->waiter = NULL;
    self->inner = NULL;
    self->iterating = (char)iterating;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int
Receive_traverse(Receive *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->path);
    Py_VISIT(self->waiter);
    Py_VISIT(self->inner);
    return 0;
}

/* End the wait, if it waits. */
static void
end_wait(Receive *self)
{
    FastPath *path = (FastPath *)Py_XNewRef(self->waiter == NULL ? NULL : self->path);

    if (path != NULL) {
        LOCK(path) /* no other call holds it when a task is cancelled */
        if (path->receiver == self->waiter) {
            Py_CLEAR(path->receiver);
        }
        UNLOCK(path)
        Py_DECREF(path);
    }
    Py_CLEAR(self->waiter);
}

static int
Receive_clear(Receive *self)
{
    end_wait(self);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->path);
    return 0;
}

static void
Receive_dealloc(Receive *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Receive_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* Raise the error that this has ended: it was closed, perhaps in a call that it made itself. Return -1. */
static int
is_over(void)
{
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse what was awaited");
    return -1;
}

/* Return whether a task may simply wait for the next read. */
static int
may_wait(const FastPath *path)
{
    return path->quick && !path->reading_paused && path->receiver == NULL && !path->streaming && path->burst < BURST
        && path->queue != NULL && path->loop != NULL
        && (path->queue->count == 0 || codec_is_incomplete(path->state, QUEUE_FIRST(path->queue)));
}

/* Wait for a read. Return 1 if it waits, 0 if a coroutine has to do it, -1 for an exception. *result gets the
   waiter. The caller owns the fast path. */
static int
start_wait(Receive *self, FastPath *path, PyObject **result)
{
    PyObject *loop;
    Waiter *waiter;

    if (!may_wait(path)) {
        return 0;
    }
    if (path->corked && fastpath_flush_cork(path) < 0) {
        return -1;
    }
    loop = Py_XNewRef(path->loop);
    waiter = loop == NULL ? NULL : fastpath_waiter_new(path->state, loop);
    Py_XDECREF(loop);
    if (waiter == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    /* Writing and making the waiter may have run any code. */
    if (self->path == NULL || !may_wait(path)) {
        Py_DECREF(waiter);
        return self->path == NULL ? is_over() : 0;
    }
    path->burst = 0;
    waiter->blocking = 1;
    path->receiver = (Waiter *)Py_NewRef(waiter);
    *result = Py_NewRef(waiter);
    Py_XSETREF(self->waiter, waiter);
    return 1;
}

/* Resume the coroutine. Take over the reference to inner. */
static PySendResult
delegate(Receive *self, PyObject *inner, PyObject *value, PyObject **result)
{
    PySendResult how = PyIter_Send(inner, value, result);

    Py_DECREF(inner);
    if (how != PYGEN_NEXT) {
        Receive_clear(self);
    }
    return how;
}

/* Leave the work to a coroutine. The caller owns the fast path. */
static PySendResult
receive_slowly(Receive *self, FastPath *path, PyObject **result)
{
    PyObject *iterating = self->iterating ? Py_True : Py_False;
    PyObject *inner = PyObject_CallMethodOneArg((PyObject *)path, path->state->name_receive_slowly, iterating);

    if (inner != NULL && self->path == NULL) {
        (void)is_over();
        Py_CLEAR(inner);
    }
    if (inner == NULL) {
        Receive_clear(self);
        return PYGEN_ERROR;
    }
    Py_XSETREF(self->inner, Py_NewRef(inner));
    return delegate(self, inner, Py_None, result);
}

/* Take a message, wait for one, or leave it to a coroutine. The caller owns the fast path. */
static PySendResult
receive_quickly(Receive *self, FastPath *path, PyObject **result)
{
    int waits;

    *result = fastpath_take(path);
    if (*result != NULL) {
        Receive_clear(self);
        return PYGEN_RETURN;
    }
    waits = PyErr_Occurred() ? -1 : start_wait(self, path, result);
    if (waits < 0) {
        Receive_clear(self);
        return PYGEN_ERROR;
    }
    return waits ? PYGEN_NEXT : receive_slowly(self, path, result);
}

/* Continue. The caller owns the fast path, if there is one. */
static PySendResult
receive_step(Receive *self, PyObject *value, PyObject **result)
{
    FastPath *path = self->path;

    *result = NULL;
    if (self->inner != NULL) {
        return delegate(self, Py_NewRef(self->inner), value, result);
    }
    if (path == NULL) {
        (void)is_over();
        return PYGEN_ERROR;
    }
    if (self->waiter != NULL) {
        if (self->waiter->state == PENDING) {
            PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
            return PYGEN_ERROR;
        }
        end_wait(self);
    }
    return receive_quickly(self, path, result);
}

static PySendResult
Receive_am_send(Receive *self, PyObject *value, PyObject **result)
{
    FastPath *path = (FastPath *)Py_XNewRef(self->path);
    PySendResult how;

    if (path == NULL) {
        return receive_step(self, value, result);
    }
    LOCK(path)
    how = receive_step(self, value, result);
    UNLOCK(path)
    Py_DECREF(path);
    return how;
}

static PyObject *
Receive_send(Receive *self, PyObject *value)
{
    PyObject *result, *stop;

    switch (Receive_am_send(self, value, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_DECREF(result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *
Receive_next(Receive *self)
{
    return Receive_send(self, Py_None);
}

/* Raise the arguments of throw(): an exception, or a class and perhaps a value. Return NULL. */
static PyObject *
raise_thrown(PyObject *const *args, Py_ssize_t count)
{
    if (PyExceptionInstance_Check(args[0])) {
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    }
    else if (PyExceptionClass_Check(args[0])) {
        PyErr_SetObject(args[0], count > 1 && args[1] != Py_None ? args[1] : NULL);
    }
    else {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
    }
    return NULL;
}

static PyObject *
Receive_throw(Receive *self, PyObject *const *args, Py_ssize_t count)
{
    State *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *result;

    if (count < 1 || count > 3) {
        return PyErr_Format(PyExc_TypeError, "throw expected 1 to 3 arguments, got %zd", count);
    }
    if (self->inner != NULL) {
        PyObject *inner = Py_NewRef(self->inner);
        PyObject *arguments[] = {inner, args[0], count > 1 ? args[1] : NULL, count > 2 ? args[2] : NULL};
        result = PyObject_VectorcallMethod(state->name_throw, arguments, count + 1, NULL);
        Py_DECREF(inner);
        if (result == NULL) {
            Receive_clear(self);
        }
        return result;
    }
    Receive_clear(self);
    return raise_thrown(args, count);
}

static PyObject *
Receive_close(Receive *self, PyObject *Py_UNUSED(unused))
{
    State *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *inner = Py_XNewRef(self->inner), *result = Py_NewRef(Py_None);

    if (inner != NULL) {
        Py_SETREF(result, PyObject_CallMethodNoArgs(inner, state->name_close));
        Py_DECREF(inner);
    }
    Receive_clear(self);
    return result;
}

static PyMethodDef Receive_methods[] = {
    {"send", (PyCFunction)Receive_send, METH_O, "Continue."},
    {"throw", (PyCFunction)(void (*)(void))Receive_throw, METH_FASTCALL, "Continue with an exception."},
    {"close", (PyCFunction)Receive_close, METH_NOARGS, "Stop."},
    {NULL},
};

static PyType_Slot Receive_slots[] = {
    {Py_tp_doc, "An awaitable for the next message of a connection."},
    {Py_tp_dealloc, Receive_dealloc},
    {Py_tp_traverse, Receive_traverse},
    {Py_tp_clear, Receive_clear},
    {Py_tp_methods, Receive_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Receive_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, Receive_am_send},
    {0, NULL},
};

static PyType_Spec Receive_spec = {
    .name = "websockets._codec._native.Receive",
    .basicsize = sizeof(Receive),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Receive_slots,
};

/* The iterator of `async for`. */
typedef struct {
    PyObject_HEAD
    FastPath *path;
} Messages;

static PyObject *
Messages_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", NULL};
    State *state;
    PyObject *path;
    Messages *self = (Messages *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    state = native_state_of((PyObject *)self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Messages", names, state->fast_path_type, &path)) {
        Py_DECREF(self);
        return NULL;
    }
    self->path = (FastPath *)Py_NewRef(path);
    return (PyObject *)self;
}

static int
Messages_traverse(Messages *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->path);
    return 0;
}

static int
Messages_clear(Messages *self)
{
    Py_CLEAR(self->path);
    return 0;
}

static void
Messages_dealloc(Messages *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Messages_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
Messages_anext(Messages *self)
{
    if (self->path == NULL) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return NULL;
    }
    return receive_new(self->path, 1);
}

static PyType_Slot Messages_slots[] = {
    {Py_tp_doc, "Messages(path)\n--\n\nAn iterator over the messages of a connection."},
    {Py_tp_new, Messages_new},
    {Py_tp_dealloc, Messages_dealloc},
    {Py_tp_traverse, Messages_traverse},
    {Py_tp_clear, Messages_clear},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, Messages_anext},
    {0, NULL},
};

static PyType_Spec Messages_spec = {
    .name = "websockets._codec._native.Messages",
    .basicsize = sizeof(Messages),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Messages_slots,
};

PyObject *
fastpath_next(FastPath *self, PyObject *Py_UNUSED(unused))
{
    return receive_new(self, 0);
}

int
fastpath_add_receive(PyObject *module, State *state)
{
    if (native_add_type(module, &Receive_spec, &state->receive_type) < 0) {
        return -1;
    }
    return native_add_type(module, &Messages_spec, &state->messages_type);
}
