/* The path of a message between a transport and a task: read, queue, wait, send, write.

   Any call into Python may run anything: a signal handler, a finaliser, a transport written by somebody else. So whatever
   crosses such a call is owned here, and what was read from an object before the call is read again after it.

   asyncio/_fastpath/_readable.py describes what it does; where the two differ, that one is right. All of it is about small
   messages: what the loop and the kernel need for one takes some thirty microseconds, and each step of ours in Python
   would add a third of one to it. So this file holds the straight way, and whatever isn't on it is a call of a method
   that the class in Python has: `_receive_data`, `_hold_rest`, `_receive_rest`, `_receive_slowly`, `_pause_if_full`, `_drained`,
   `_write_pieces`, `_uncork`. */

#include "_native.h"

#if defined(__unix__) || (defined(__APPLE__) && defined(__MACH__))
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#define HAS_DESCRIPTORS
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#endif

/* From so many bytes on, copying a payload behind its header costs more than writing two pieces at once. */
#define GATHER_FROM ((Py_ssize_t)1 << 15)
/* Up to so many bytes, a copy costs less than telling the kernel of two pieces. */
enum { SMALL = 1 << 11 };
/* Up to so many bytes, the kernel is quicker than another thread would be in taking its turn. */
enum { QUICK = 1 << 14 };
/* So much of a large payload is masked at once: the second level of a processor's cache has room for it. */
#define PIECE ((Py_ssize_t)1 << 18)
/* So many bytes are written at once, however many messages wait. */
#define CORK_LIMIT ((Py_ssize_t)1 << 16)
/* After so many messages without a wait, the other tasks of the loop get their turn. */
enum { BURST = 256 };

/* More frames than this in one read that aren't messages to be kept as they are, or more bytes that messages were inflated
   to, and others would wait too long for it, or too much would be kept: the rest has to wait. */
enum { CROWD = 500, INFLATED = 1 << 20 };

/* What _send_now() and _put() answer. */
enum { SLOW, SENT, FULL };

#define IS_SET(object) ((object) != NULL && (object) != Py_None)

/* A method as Python sees it. A connection is for one thread; whoever uses it from another may get confused answers, and
   shall get no crash. */
#define GUARDED(name, parameters, arguments)                                                                             \
    static PyObject *name##_guarded parameters                                                                           \
    {                                                                                                                    \
        PyObject *result;                                                                                                \
                                                                                                                         \
        LOCK(self)                                                                                                       \
        result = name arguments;                                                                                         \
        UNLOCK(self)                                                                                                     \
        return result;                                                                                                   \
    }
#define GUARDED_ONE(Type, name) GUARDED(name, (Type * self, PyObject *argument), (self, argument))
#define GUARDED_FAST(Type, name)                                                                                         \
    GUARDED(name, (Type * self, PyObject *const *args, Py_ssize_t count), (self, args, count))

/* ---------------------------------------------------------------------------------------------------------- waiter */

enum { PENDING, DONE, CANCELLED };

typedef struct {
    PyObject_HEAD
    HOLDER
    PyObject *loop, *callback, *context, *message;
    char blocking, state;
} Waiter;

static Waiter *
waiter_new(PyTypeObject *type, PyObject *loop)
{
    Waiter *self = (Waiter *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->loop = Py_NewRef(loop);
    }
    return self;
}

static PyObject *
Waiter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", NULL};
    PyObject *loop;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Waiter", names, &loop)) {
        return NULL;
    }
    return (PyObject *)waiter_new(type, loop);
}

static int
Waiter_traverse(Waiter *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    Py_VISIT(self->message);
    return 0;
}

static int
Waiter_clear(Waiter *self)
{
    Py_CLEAR(self->loop);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->context);
    Py_CLEAR(self->message);
    return 0;
}

static void
Waiter_dealloc(Waiter *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Waiter_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Call loop.call_soon(callback, argument), or call_soon(callback) if that is NULL, with a context if there is one. */
static int
call_soon(State *state, PyObject *loop, PyObject *callback, PyObject *argument, PyObject *context)
{
    PyObject *arguments[] = {loop, callback, argument, NULL}, *names = NULL, *result = NULL;
    size_t count = argument == NULL ? 2 : 3;

    if (context != NULL) {
        names = PyTuple_Pack(1, state->name_context);
        if (names == NULL) {
            return -1;
        }
        arguments[count] = context;
    }
    result = PyObject_VectorcallMethod(state->name_call_soon, arguments, count, names);
    Py_XDECREF(names);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Have the loop resume the task in its next turn. If that fails, the task can still be resumed. */
static int
waiter_call_soon(Waiter *self)
{
    State *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *callback = self->callback, *context, *loop;
    int failed;

    if (callback == NULL) {
        return 0;
    }
    self->callback = NULL;
    context = Py_NewRef(IS_SET(self->context) ? self->context : Py_None);
    loop = Py_NewRef(self->loop);
    failed = call_soon(state, loop, callback, (PyObject *)self, context) < 0;
    if (failed && self->callback == NULL) {
        self->callback = Py_NewRef(callback);
    }
    Py_DECREF(loop);
    Py_DECREF(context);
    Py_DECREF(callback);
    return failed ? -1 : 0;
}

/* End the wait in one of two ways. If the loop takes no more calls, it hasn't ended. */
static int
waiter_end(Waiter *self, char how)
{
    self->state = how;
    if (waiter_call_soon(self) < 0) {
        self->state = PENDING;
        return -1;
    }
    return 0;
}

static int
waiter_wake(Waiter *self)
{
    return self->state == PENDING ? waiter_end(self, DONE) : 0;
}

/* Whether a task of this loop is running, be it in C or in Python; -1 for an exception. */
static int
task_is_running(State *state, PyObject *loop)
{
    PyObject *task;
    int running;

    if (state->current_task == NULL || state->running_tasks == NULL) {
        return 1; /* for all we know */
    }
    running = PyDict_Contains(state->running_tasks, loop);
    if (running != 0) {
        return running;
    }
    task = PyObject_CallOneArg(state->current_task, loop);
    if (task == NULL) {
        return -1;
    }
    Py_DECREF(task);
    return task != Py_None;
}

/* Whether a loop runs one thing after the other, and never from within a read: see PLAIN_LOOPS in asyncio/_internals.py. */
static int
is_plain_loop(State *state, PyObject *loop)
{
    PyObject *run = PyObject_GetAttr((PyObject *)Py_TYPE(loop), state->name_run_until_complete), *loops;
    int plain;

    if (run == NULL) {
        PyErr_Clear(); /* whatever it is, it is none that we know */
        return 0;
    }
    loops = Py_XNewRef(state->plain_loops);
    plain = loops == NULL ? 0 : PySet_Contains(loops, run);
    Py_XDECREF(loops);
    Py_DECREF(run);
    if (plain < 0) {
        PyErr_Clear();
    }
    return plain > 0;
}

/* Whether the task may go on at once, and not in the next turn of the loop; -1 for an exception. */
static int
may_resume(Waiter *self)
{
    State *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *loop;
    int running;

    if (self->callback == NULL || self->context == NULL || !PyContext_CheckExact(self->context)) {
        return 0;
    }
    loop = Py_NewRef(self->loop);
    running = is_plain_loop(state, loop) ? task_is_running(state, loop) : 1;
    Py_DECREF(loop);
    return running < 0 ? -1 : !running;
}

/* The task raised what is to end the program. Some loops keep what is raised in a read; none keeps what a call raises. And
   the rest of the read isn't lost. Return -1 if it can't be done, or needn't, with the exception. */
static int
raise_soon(Waiter *self)
{
    State *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *type, *exc, *traceback, *loop, *callback;
    int failed;

    if (!PyErr_ExceptionMatches(PyExc_SystemExit) && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return -1;
    }
    PyErr_Fetch(&type, &exc, &traceback);
    PyErr_NormalizeException(&type, &exc, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(exc, traceback);
    }
    loop = Py_NewRef(self->loop);
    callback = Py_XNewRef(state->raise_it);
    failed = callback == NULL || call_soon(state, loop, callback, exc, NULL) < 0;
    Py_XDECREF(callback);
    Py_DECREF(loop);
    if (failed) {
        PyErr_Restore(type, exc, traceback);
        return -1;
    }
    Py_XDECREF(type);
    Py_XDECREF(exc);
    Py_XDECREF(traceback);
    return 0;
}

/* Run the callback in its context. Where that is entered already, the next turn of the loop has to do. */
static int
waiter_run(Waiter *self)
{
    PyObject *context = Py_NewRef(self->context), *callback, *result;

    if (PyContext_Enter(context) < 0) {
        PyErr_Clear();
        Py_DECREF(context);
        return waiter_end(self, DONE);
    }
    self->state = DONE;
    callback = self->callback;
    self->callback = NULL;
    Py_INCREF(self);
    result = PyObject_CallOneArg(callback, (PyObject *)self);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    Py_DECREF(callback);
    Py_DECREF(context);
    if (result == NULL && raise_soon(self) < 0) {
        Py_DECREF(self);
        return -1;
    }
    Py_XDECREF(result);
    Py_DECREF(self);
    return 0;
}

/* End the wait; the task goes on before this returns, unless another task is running. The caller must be done with
   whatever it does: the task may call anything again. */
static int
waiter_resume(Waiter *self)
{
    int at_once;

    if (self->state != PENDING) {
        return 0;
    }
    at_once = may_resume(self);
    if (at_once < 0) {
        return -1;
    }
    if (!at_once || self->state != PENDING || self->callback == NULL) {
        return waiter_wake(self); /* asking may have run anything */
    }
    return waiter_run(self);
}

static PyObject *
Waiter_wake(Waiter *self, PyObject *Py_UNUSED(unused))
{
    if (waiter_wake(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(Waiter, Waiter_wake)

static PyObject *
Waiter_resume(Waiter *self, PyObject *Py_UNUSED(unused))
{
    if (waiter_resume(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(Waiter, Waiter_resume)

static PyObject *
Waiter_get_loop(Waiter *self, PyObject *Py_UNUSED(unused))
{
    return Py_NewRef(IS_SET(self->loop) ? self->loop : Py_None);
}

GUARDED_ONE(Waiter, Waiter_get_loop)

static PyObject *
Waiter_add_done_callback(Waiter *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);

    if (count != 1 || named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") != 0)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback() takes a callback, and context as a keyword");
        return NULL;
    }
    Py_XSETREF(self->callback, Py_NewRef(args[0]));
    Py_XSETREF(self->context, named ? Py_NewRef(args[1]) : NULL);
    if (self->state != PENDING && waiter_call_soon(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED(Waiter_add_done_callback, (Waiter * self, PyObject *const *args, Py_ssize_t count, PyObject *names),
        (self, args, count, names))

static PyObject *
Waiter_remove_done_callback(Waiter *self, PyObject *callback)
{
    PyObject *own = Py_XNewRef(self->callback);
    int same = own == NULL ? 0 : PyObject_RichCompareBool(own, callback, Py_EQ);

    Py_XDECREF(own);
    if (same < 0) {
        return NULL;
    }
    if (same) {
        Py_CLEAR(self->callback);
        Py_CLEAR(self->context);
    }
    return PyLong_FromLong(same);
}

GUARDED_ONE(Waiter, Waiter_remove_done_callback)

static PyObject *
Waiter_cancel(Waiter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names, &message)) {
        return NULL;
    }
    if (self->state != PENDING) {
        Py_RETURN_FALSE;
    }
    Py_XSETREF(self->message, Py_NewRef(message));
    if (waiter_end(self, CANCELLED) < 0) {
        return NULL;
    }
    Py_RETURN_TRUE;
}

GUARDED(Waiter_cancel, (Waiter * self, PyObject *args, PyObject *kwargs), (self, args, kwargs))

static PyObject *
Waiter_done(Waiter *self, PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(self->state != PENDING);
}

GUARDED_ONE(Waiter, Waiter_done)

static PyObject *
Waiter_cancelled(Waiter *self, PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(self->state == CANCELLED);
}

GUARDED_ONE(Waiter, Waiter_cancelled)

/* Raise what the wait ended with, if it is an exception. */
static int
waiter_check(Waiter *self)
{
    const char *name = self->state == CANCELLED ? "CancelledError" : "InvalidStateError";
    PyObject *asyncio, *type;

    if (self->state == DONE) {
        return 0;
    }
    asyncio = PyImport_ImportModule("asyncio");
    type = asyncio == NULL ? NULL : PyObject_GetAttrString(asyncio, name);
    Py_XDECREF(asyncio);
    if (type == NULL) {
        return -1;
    }
    if (self->state == PENDING) {
        PyErr_SetString(type, "result is not ready");
    }
    else if (IS_SET(self->message)) {
        PyObject *message = Py_NewRef(self->message), *exc = PyObject_CallOneArg(type, message);
        Py_DECREF(message);
        if (exc != NULL) {
            PyErr_SetObject(type, exc);
            Py_DECREF(exc);
        }
    }
    else {
        PyErr_SetNone(type);
    }
    Py_DECREF(type);
    return -1;
}

static PyObject *
Waiter_result(Waiter *self, PyObject *Py_UNUSED(unused))
{
    if (waiter_check(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(Waiter, Waiter_result)

/* It is its own iterator: what it gives, once, is itself. */
static PyObject *
Waiter_next(Waiter *self)
{
    if (self->state == PENDING && !self->blocking) {
        self->blocking = 1;
        return Py_NewRef(self);
    }
    (void)waiter_check(self);
    return NULL;
}

GUARDED(Waiter_next, (Waiter * self), (self))

static PyMethodDef Waiter_methods[] = {
    {"get_loop", (PyCFunction)Waiter_get_loop_guarded, METH_NOARGS, "The loop of the task."},
    {"add_done_callback", (PyCFunction)(void (*)(void))Waiter_add_done_callback_guarded, METH_FASTCALL | METH_KEYWORDS,
     "Remember how to resume the task."},
    {"remove_done_callback", (PyCFunction)Waiter_remove_done_callback_guarded, METH_O, "Forget how to resume the task."},
    {"cancel", (PyCFunction)(void (*)(void))Waiter_cancel_guarded, METH_VARARGS | METH_KEYWORDS,
     "Called when the task is cancelled; it is resumed in the next turn of the loop, as with any future."},
    {"done", (PyCFunction)Waiter_done_guarded, METH_NOARGS, "Whether the wait is over."},
    {"cancelled", (PyCFunction)Waiter_cancelled_guarded, METH_NOARGS, "Whether the wait was cancelled."},
    {"result", (PyCFunction)Waiter_result_guarded, METH_NOARGS, "Nothing, once the wait is over; raises if it was cancelled."},
    {"exception", (PyCFunction)Waiter_result_guarded, METH_NOARGS, "As result(): there is never another exception."},
    {"wake", (PyCFunction)Waiter_wake_guarded, METH_NOARGS, "End the wait; the task goes on in the next turn of the loop."},
    {"resume", (PyCFunction)Waiter_resume_guarded, METH_NOARGS,
     "End the wait; the task goes on before this returns, unless another task is running."},
    {NULL},
};

static PyMemberDef Waiter_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(Waiter, blocking), 0, NULL},
    {NULL},
};

PyDoc_STRVAR(waiter_doc,
"Waiter(loop)\n--\n\n"
"A future without a result, for one task, which can be resumed inside a read.");

static PyType_Slot Waiter_slots[] = {
    {Py_tp_doc, (void *)waiter_doc},
    {Py_tp_new, Waiter_new},
    {Py_tp_dealloc, Waiter_dealloc},
    {Py_tp_traverse, Waiter_traverse},
    {Py_tp_clear, Waiter_clear},
    {Py_tp_methods, Waiter_methods},
    {Py_tp_members, Waiter_members},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Waiter_next_guarded},
    {Py_am_await, PyObject_SelfIter},
    {0, NULL},
};

static PyType_Spec Waiter_spec = {
    .name = "websockets._codec._native.Waiter",
    .basicsize = sizeof(Waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Waiter_slots,
};

/* ------------------------------------------------------------------------------------------------------------ span */

/* Bytes inside another object: those of a str in ASCII, to be written without a copy; or where all connections of a loop are
   read to, which looks like a memoryview that nobody can release. */
typedef struct {
    PyObject_HEAD
    PyObject *owner;
    void *data;
    Py_ssize_t size;
    char readonly;
} Span;

static int
Span_getbuffer(Span *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->data, self->size, self->readonly, flags);
}

static Py_ssize_t
Span_length(Span *self)
{
    return self->size;
}

static PyObject *
Span_subscript(Span *self, PyObject *key)
{
    PyObject *view = PyMemoryView_FromObject((PyObject *)self);
    PyObject *part = view == NULL ? NULL : PyObject_GetItem(view, key);

    Py_XDECREF(view);
    return part;
}

static int
Span_ass_subscript(Span *self, PyObject *key, PyObject *value)
{
    PyObject *view = PyMemoryView_FromObject((PyObject *)self);
    int failed;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "cannot delete memory");
    }
    failed = view == NULL || value == NULL || PyObject_SetItem(view, key, value) < 0;
    Py_XDECREF(view);
    return failed ? -1 : 0;
}

static void
Span_dealloc(Span *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot Span_slots[] = {
    {Py_tp_doc, "Bytes inside another object."},
    {Py_tp_dealloc, Span_dealloc},
    {Py_bf_getbuffer, Span_getbuffer},
    {Py_mp_length, Span_length},
    {Py_mp_subscript, Span_subscript},
    {Py_mp_ass_subscript, Span_ass_subscript},
    {0, NULL},
};

static PyType_Spec Span_spec = {
    .name = "websockets._codec._native.Span",
    .basicsize = sizeof(Span),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = Span_slots,
};

static Span *
span_of(State *state, PyObject *owner, void *data, Py_ssize_t size, int readonly)
{
    Span *span = (Span *)state->span_type->tp_alloc(state->span_type, 0);

    if (span != NULL) {
        span->owner = Py_NewRef(owner);
        span->data = data;
        span->size = size;
        span->readonly = (char)readonly;
    }
    return span;
}

/* A memoryview of bytes that live as long as their owner and never change. */
static PyObject *
view_of(State *state, PyObject *owner, const void *data, Py_ssize_t size)
{
    Span *span = span_of(state, owner, (void *)data, size, 1);
    PyObject *view = span == NULL ? NULL : PyMemoryView_FromObject((PyObject *)span);

    Py_XDECREF(span);
    return view;
}

/* --------------------------------------------------------------------------------------------------------- encoded */

/* A message, and the frame that it is in where nothing masks or compresses it. */
typedef struct {
    PyObject_HEAD
    PyObject *plain; /* NULL until somebody needed it */
    Py_ssize_t size; /* of the message */
} Encoded;

static void
Encoded_dealloc(Encoded *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->plain);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef Encoded_members[] = {
    {"_plain", T_OBJECT, offsetof(Encoded, plain), 0, NULL},
    {"_size", T_PYSSIZET, offsetof(Encoded, size), 0, NULL},
    {NULL},
};

static PyType_Slot Encoded_slots[] = {
    {Py_tp_doc, "A message, and the frame that it is in where nothing masks or compresses it."},
    {Py_tp_dealloc, Encoded_dealloc},
    {Py_tp_members, Encoded_members},
    {0, NULL},
};

static PyType_Spec Encoded_spec = {
    .name = "websockets._codec._native.Encoded",
    .basicsize = sizeof(Encoded),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE,
    .slots = Encoded_slots,
};

/* ---------------------------------------------------------------------------------------------------- sending half */

/* Whether messages may be sent: looked at before each of them. */
typedef struct {
    PyObject_HEAD
    PyObject *sending; /* the state of this half of a connection */
    char continuing;   /* whether a fragmented message is under way */
} SendingHalf;

static void
SendingHalf_dealloc(SendingHalf *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->sending);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef SendingHalf_members[] = {
    {"sending", T_OBJECT_EX, offsetof(SendingHalf, sending), 0, NULL},
    {"continuing", T_BOOL, offsetof(SendingHalf, continuing), 0, NULL},
    {NULL},
};

static PyType_Slot SendingHalf_slots[] = {
    {Py_tp_doc, "Whether messages may be sent."},
    {Py_tp_dealloc, SendingHalf_dealloc},
    {Py_tp_members, SendingHalf_members},
    {0, NULL},
};

static PyType_Spec SendingHalf_spec = {
    .name = "websockets._codec._native.SendingHalf",
    .basicsize = sizeof(SendingHalf),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE,
    .slots = SendingHalf_slots,
};

/* ---------------------------------------------------------------------------------------------------------- buffer */

/* Kernels copy to such addresses up to twice as fast as to others. */
enum { ALIGNMENT = 64 };
#define BEFORE_ALIGNED(address) (-(uintptr_t)(address) & (ALIGNMENT - 1))

PyDoc_STRVAR(read_buffer_doc,
"read_buffer($module, size, /)\n--\n\n"
"So many bytes, for a loop to read into.");

static PyObject *
read_buffer(PyObject *module, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    PyObject *owner;
    Span *span;
    char *data;

    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (size < 0 || size > PY_SSIZE_T_MAX - ALIGNMENT) {
        return PyErr_Format(PyExc_ValueError, "a buffer can't have %zd bytes", size);
    }
    /* In two steps: where memory runs out in one, Python lets go of an object with members that were never set. */
    owner = PyByteArray_FromStringAndSize(NULL, 0);
    if (owner == NULL || PyByteArray_Resize(owner, size + ALIGNMENT) < 0) {
        Py_XDECREF(owner);
        return NULL;
    }
    data = PyByteArray_AS_STRING(owner);
    span = span_of(state_of_module(module), owner, data + BEFORE_ALIGNED(data), size, 0);
    Py_DECREF(owner);
    return (PyObject *)span;
}

/* What the front-end tells. What it told before is never let go of: another thread may be looking at it. */
static void
know(PyObject **place, PyObject *value)
{
    if (*place != value) {
        *place = Py_NewRef(value);
    }
}

PyDoc_STRVAR(know_plain_loops_doc,
"know_plain_loops($module, methods, /)\n--\n\n"
"From now on, tasks go on inside a read where the loop's run_until_complete() is in this set.");

static PyObject *
know_plain_loops(PyObject *module, PyObject *methods)
{
    if (!PyAnySet_Check(methods)) {
        return PyErr_Format(PyExc_TypeError, "methods must be a set, not %s", Py_TYPE(methods)->tp_name);
    }
    know(&state_of_module(module)->plain_loops, methods);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(know_tasks_doc,
"know_tasks($module, current_task, running, /)\n--\n\n"
"From now on, a task runs where current_task(loop) gives one, or the loop is in the dict of those in Python that run.");

static PyObject *
know_tasks(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = state_of_module(module);

    if (count != 2 || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "know_tasks expected a function and a dict");
        return NULL;
    }
    know(&state->current_task, args[0]);
    know(&state->running_tasks, args[1]);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(know_transport_doc,
"know_transport($module, write, writelines, fileno, /)\n--\n\n"
"From now on, a frame may go to a socket where two functions are the methods of its transport; fileno() is the socket's.");

static PyObject *
know_transport(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = state_of_module(module);

    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "know_transport expected 3 arguments, got %zd", count);
    }
    know(&state->write, args[0]);
    know(&state->writelines, args[1]);
    know(&state->fileno, args[2]);
    Py_RETURN_NONE;
}

/* What a loop calls for raise_soon(). */
static PyObject *
raise_it(PyObject *Py_UNUSED(module), PyObject *exc)
{
    if (!PyExceptionInstance_Check(exc)) {
        return PyErr_Format(PyExc_TypeError, "%s isn't an exception", Py_TYPE(exc)->tp_name);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    return NULL;
}

static PyMethodDef pump_functions[] = {
    {"read_buffer", read_buffer, METH_O, read_buffer_doc},
    {"know_plain_loops", know_plain_loops, METH_O, know_plain_loops_doc},
    {"know_tasks", (PyCFunction)(void (*)(void))know_tasks, METH_FASTCALL, know_tasks_doc},
    {"know_transport", (PyCFunction)(void (*)(void))know_transport, METH_FASTCALL, know_transport_doc},
    {"_raise", raise_it, METH_O, "Raise an exception."},
    {NULL},
};

/* ------------------------------------------------------------------------------------------------------------ pump */

typedef struct {
    PyObject_HEAD
    HOLDER
    State *state;
    PyObject *protocol, *loop, *transport, *life, *may_send, *drainers, *send_lock, *pack, *inflate;
    PyObject *socket; /* where frames may go without the transport; NULL if nowhere */
    Queue *queue;
    Decoder *decoder;
    Waiter *receiver;
    Span *buffer;
    PyObject *cork;    /* bytes with room to grow: frames that wait for the answers to other messages of the same read */
    Py_ssize_t corked; /* how much of it is filled */
    Py_ssize_t high;
    /* For statistics: bytes read and given to the transport; messages sent, the bytes of their frames' payloads, and how
       many of them compression saved. */
    unsigned long long bytes_received, bytes_sent, messages_sent, payload_sent;
    long long saved_sent;
    int burst;
    char streaming, muted, quick, plain, client, lost, backstop;
    char gathers; /* whether the transport may be given a frame in pieces */
    char torn; /* whether a part of a frame may be out that can't be completed: nothing may follow it */
} Pump;

static PyObject *
Pump_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Pump *self = (Pump *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->state = state_of((PyObject *)self);
    self->drainers = Py_NewRef(Py_None);
    self->send_lock = Py_NewRef(Py_None);
    self->pack = Py_NewRef(Py_None);
    self->inflate = Py_NewRef(Py_None);
    self->high = PY_SSIZE_T_MAX;
    return (PyObject *)self;
}

static int
Pump_traverse(Pump *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->protocol);
    Py_VISIT(self->loop);
    Py_VISIT(self->transport);
    Py_VISIT(self->life);
    Py_VISIT(self->may_send);
    Py_VISIT(self->drainers);
    Py_VISIT(self->send_lock);
    Py_VISIT(self->buffer);
    Py_VISIT(self->pack);
    Py_VISIT(self->inflate);
    Py_VISIT(self->queue);
    Py_VISIT(self->decoder);
    Py_VISIT(self->receiver);
    Py_VISIT(self->socket);
    return 0;
}

static int
Pump_clear(Pump *self)
{
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->life);
    Py_CLEAR(self->may_send);
    Py_CLEAR(self->drainers);
    Py_CLEAR(self->send_lock);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->pack);
    Py_CLEAR(self->inflate);
    Py_CLEAR(self->queue);
    Py_CLEAR(self->decoder);
    Py_CLEAR(self->receiver);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->cork);
    self->corked = 0;
    return 0;
}

static void
Pump_dealloc(Pump *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Pump_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Calls of methods of the class in Python; they return -1 for an exception, else 0. */

static int
call(PyObject *object, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs(object, name);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
call_with(PyObject *object, PyObject *name, PyObject *argument)
{
    PyObject *result = PyObject_CallMethodOneArg(object, name, argument);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
unprepared(const char *what)
{
    PyErr_Format(PyExc_RuntimeError, "%s isn't set", what);
    return -1;
}

/* What was received. */

static PyObject *
Pump_get_buffer(Pump *self, PyObject *Py_UNUSED(sizehint))
{
    if (self->buffer == NULL) {
        unprepared("_buffer");
        return NULL;
    }
    return Py_NewRef(self->buffer);
}

GUARDED_ONE(Pump, Pump_get_buffer)

/* Messages may have arrived: somebody waits for them, or too many wait. */
static int
deliver(Pump *self, Py_ssize_t allowed)
{
    if (self->queue == NULL || self->queue->count == 0) {
        return 0;
    }
    if (self->receiver != NULL) {
        Waiter *receiver = (Waiter *)Py_NewRef(self->receiver);
        int failed;

        LOCK(receiver)
        failed = waiter_resume(receiver) < 0;
        UNLOCK(receiver)
        Py_DECREF(receiver);
        if (failed) {
            return -1;
        }
    }
    if (self->queue == NULL || self->queue->count <= allowed) {
        return 0;
    }
    return call((PyObject *)self, self->state->name_pause_if_full);
}

static PyObject *
Pump_deliver(Pump *self, PyObject *Py_UNUSED(unused))
{
    if (deliver(self, 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(Pump, Pump_deliver)

/* Take in what was read, for which the caller has to see to it that it stays. */
static int
receive(Pump *self, const uint8_t *data, Py_ssize_t size)
{
    Decoder *decoder = (Decoder *)Py_NewRef(self->decoder);
    Queue *queue = (Queue *)Py_NewRef(self->queue);
    PyObject *inflate = IS_SET(self->inflate) ? Py_NewRef(self->inflate) : NULL;
    Output output = {.queue = queue, .inflate = inflate, .frames_left = CROWD, .bytes_left = INFLATED};
    int failed, refused = decoder->failure != NULL;
    PyObject *rest = NULL;

    self->bytes_received += (size_t)size;
    failed = decoder_feed(decoder, data, size, &output) < 0;
    if (!failed && output.used < size && (output.frames_left <= 0 || output.bytes_left <= 0)) {
        /* Taken out of the shared buffer before anything else runs. */
        rest = PyBytes_FromStringAndSize((const char *)data + output.used, size - output.used);
        failed = rest == NULL;
    }
    refused = output.failed || (!refused && decoder->failure != NULL);
    Py_DECREF(decoder);
    Py_DECREF(queue);
    Py_XDECREF(inflate);
    if (!failed && (output.frames != NULL || refused)) {
        if (output.frames == NULL) {
            output.frames = PyList_New(0);
        }
        failed = output.frames == NULL || call_with((PyObject *)self, self->state->name_receive_rest, output.frames) < 0;
    }
    else if (!failed) {
        failed = deliver(self, self->high) < 0;
    }
    if (!failed && rest != NULL) {
        failed = call_with((PyObject *)self, self->state->name_hold_rest, rest) < 0;
    }
    Py_XDECREF(rest);
    Py_XDECREF(output.frames);
    return failed ? -1 : 0;
}

static PyObject *
Pump_buffer_updated(Pump *self, PyObject *argument)
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
    if (self->decoder != NULL && self->queue != NULL) {
        failed = receive(self, buffer->data, size) < 0;
    }
    else {
        /* A class may keep what it sees, and the buffer is for the next read of any connection. */
        data = PyBytes_FromStringAndSize(buffer->data, size);
        failed = data == NULL || call_with((PyObject *)self, self->state->name_data_received, data) < 0;
        Py_XDECREF(data);
    }
    Py_DECREF(buffer);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(Pump, Pump_buffer_updated)

/* Some loops bring what they read along. */
static PyObject *
Pump_data_received(Pump *self, PyObject *data)
{
    Py_buffer view;
    int failed;

    if (self->decoder != NULL && self->queue != NULL) {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        failed = receive(self, view.buf, view.len) < 0;
        PyBuffer_Release(&view);
    }
    else {
        failed = call_with((PyObject *)self, self->state->name_receive_data, data) < 0;
    }
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_ONE(Pump, Pump_data_received)

/* The next message, if it is there, in one piece, and may be taken without a wait; NULL without an exception if not. */
static PyObject *
take(Pump *self)
{
    Queue *queue = self->queue;
    PyObject *message;
    int whole;

    if (self->receiver != NULL || self->streaming || self->burst >= BURST || queue == NULL || queue->count == 0) {
        return NULL;
    }
    Py_BEGIN_CRITICAL_SECTION(queue);
    message = queue->count ? QUEUE_FIRST(queue) : NULL;
    whole = message != NULL && (PyUnicode_CheckExact(message) || PyBytes_CheckExact(message));
    Py_END_CRITICAL_SECTION();
    if (!whole) {
        return NULL;
    }
    message = queue_shift(queue);
    self->burst++;
    if (message != NULL && self->muted && call((PyObject *)self, self->state->name_drained) < 0) {
        Py_CLEAR(message);
    }
    return message;
}

/* What is sent. */

/* What should be on the wire isn't, or not whole, and the exception is set: nothing may follow, so the connection ends.
   Return -1. */
static int
tear(Pump *self, PyObject *transport)
{
    PyObject *type, *exc, *traceback;

    self->torn = 1;
    PyErr_Fetch(&type, &exc, &traceback);
    if (call(transport, self->state->name_abort) < 0) {
        PyErr_Clear(); /* the next write tries again */
    }
    PyErr_Restore(type, exc, traceback);
    return -1;
}

/* The same, for the transport that there is now, unless it was done already. */
static int
tear_off(Pump *self)
{
    PyObject *transport = self->lost || self->torn ? NULL : Py_XNewRef(self->transport);

    self->torn = 1;
    if (transport != NULL) {
        (void)tear(self, transport);
        Py_DECREF(transport);
    }
    return -1;
}

/* Make room behind the frames that wait, and return where; NULL for an exception. Frames that were promised to be sent and
   are lost for want of memory end the connection. */
static uint8_t *
cork_room(Pump *self, Py_ssize_t size)
{
    Py_ssize_t needed = self->corked + size, capacity;

    if (size > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return NULL;
    }
    if (self->cork == NULL) {
        /* Answers to a burst are often alike: with some luck all of them fit. */
        Py_ssize_t others = self->queue == NULL ? 0 : self->queue->count;
        capacity = size > 0 && others < CORK_LIMIT / size ? (others + 1) * size : size;
        self->cork = PyBytes_FromStringAndSize(NULL, capacity);
    }
    else if (needed > PyBytes_GET_SIZE(self->cork)) {
        capacity = PyBytes_GET_SIZE(self->cork) * 2;
        if (_PyBytes_Resize(&self->cork, needed > capacity ? needed : capacity) < 0) {
            self->corked = 0;
            (void)tear_off(self);
            return NULL; /* whatever a transport did when it was aborted */
        }
    }
    return self->cork == NULL ? NULL : (uint8_t *)PyBytes_AS_STRING(self->cork) + self->corked;
}

/* Take out the frames that wait; NULL for an exception, or if there are none. */
static PyObject *
take_cork(Pump *self)
{
    PyObject *frames = self->cork;
    Py_ssize_t size = self->corked;

    self->cork = NULL;
    self->corked = 0;
    if (frames != NULL && _PyBytes_Resize(&frames, size) < 0) {
        (void)tear_off(self);
        return NULL;
    }
    return frames;
}

/* A frame, or several that are laid out already: then the header is empty. */
typedef struct {
    uint8_t header[MAX_HEADER];
    Py_ssize_t length; /* of the header */
    const uint8_t *payload;
    Py_ssize_t size; /* of the payload */
    const uint8_t *mask;
    PyObject *owner; /* what the payload is a part of, if that can't change; else NULL */
} Frame;

/* Lay out so many bytes of a frame, from one of them on. */
static void
lay_out(uint8_t *p, const Frame *frame, Py_ssize_t from, Py_ssize_t size)
{
    if (from < frame->length) {
        Py_ssize_t part = frame->length - from < size ? frame->length - from : size;
        memcpy(p, frame->header + from, part);
        p += part;
        size -= part;
        from = frame->length;
    }
    from -= frame->length;
    copy_unmasked(p, frame->payload + from, size, frame->mask, from);
}

/* Whether the bytes of a frame lie somewhere, in one piece or two, and stay there. */
static int
lies_ready(const Frame *frame)
{
    return frame->mask == NULL && frame->owner != NULL;
}

/* Whether the transport takes no more; -1 for an exception. */
static int
is_closing(Pump *self, PyObject *transport)
{
    PyObject *answer = PyObject_CallMethodNoArgs(transport, self->state->name_is_closing);
    int closing = answer == NULL ? -1 : PyObject_IsTrue(answer);

    Py_XDECREF(answer);
    return closing;
}

#ifdef HAS_DESCRIPTORS

/* Whether an attribute is this object; -1 for an exception. What we write to ourselves is of a class that we know, and has
   its attributes where objects usually have them. */
static int
attribute_is(PyObject *object, PyObject *name, PyObject *expected)
{
    PyObject *value = PyObject_GenericGetAttr(object, name);

    Py_XDECREF(value);
    return value == NULL ? -1 : value == expected;
}

/* Whether a method of the transport is the one that it was made with; -1 for an exception. */
static int
is_own_method(PyObject *transport, PyObject *name, PyObject *function)
{
    PyObject *method = PyObject_GenericGetAttr(transport, name);
    int own;

    if (method == NULL) {
        return -1;
    }
    own = PyMethod_Check(method) && PyMethod_GET_FUNCTION(method) == function && PyMethod_GET_SELF(method) == transport;
    Py_DECREF(method);
    return own;
}

/* Whether nobody has put something else in the place of the methods of the transport; -1 for an exception. */
static int
is_unmodified(Pump *self, PyObject *transport, int in_pieces)
{
    State *state = self->state;
    int own = is_own_method(transport, state->name_write, state->write);

    return own == 1 && in_pieces ? is_own_method(transport, state->name_writelines, state->writelines) : own;
}

/* Whether the transport would do nothing but give a frame to the kernel: it isn't closing, nothing waits there, no file is
   being sent. Return -1 for an exception. Nothing here makes an object that the collector knows of, so no finaliser runs
   between these looks and the write. */
static int
would_just_send(Pump *self, PyObject *transport)
{
    State *state = self->state;
    PyObject *waiting = PyObject_GenericGetAttr(transport, state->name_buffer);
    Py_ssize_t size = waiting == NULL ? -1 : PyObject_Size(waiting);
    int answer;

    Py_XDECREF(waiting);
    if (size != 0) {
        return size < 0 ? -1 : 0;
    }
    answer = attribute_is(transport, state->name_closing, Py_False);
    return answer == 1 ? attribute_is(transport, state->name_empty_waiter, Py_None) : answer;
}

/* The descriptor that the socket has now: somebody may have closed it, and its number be that of a stranger's. Return -1
   if it has none, or for an exception. */
static int
descriptor_of(Pump *self, PyObject *sock)
{
    PyObject *fileno = Py_NewRef(self->state->fileno), *number = PyObject_CallOneArg(fileno, sock);
    long descriptor = number == NULL ? -1 : PyLong_AsLong(number);

    Py_XDECREF(number);
    Py_DECREF(fileno);
    return 0 <= descriptor && descriptor <= INT_MAX ? (int)descriptor : -1;
}

/* The kernel refused to take more of a frame than what it took. If it may take the rest later, return that. Else the
   connection is over, as after a write of the transport that failed; the transport must not try again: it would not hear
   why, and a signal might end the program. Return all of the frame, as there is nothing left to do with it; -1 for an
   exception. */
static Py_ssize_t
failed_to_send(Pump *self, PyObject *transport, const Frame *frame, Py_ssize_t sent, int number)
{
    PyObject *type, *exc, *traceback;
    int failed;

    if (number == EAGAIN || number == EWOULDBLOCK || number == EINTR) {
        return sent;
    }
    if (number == EPIPE && attribute_is(transport, self->state->name_eof, Py_True) == 1) {
        return sent; /* the program ended the stream: that nothing may follow, the transport says without trying */
    }
    self->torn = 1;
    errno = number;
    PyErr_SetFromErrno(PyExc_OSError);
    PyErr_Fetch(&type, &exc, &traceback);
    PyErr_NormalizeException(&type, &exc, &traceback);
    failed = PyObject_SetAttr((PyObject *)self, self->state->name_write_error, exc) < 0;
    Py_XDECREF(type);
    Py_XDECREF(exc);
    Py_XDECREF(traceback);
    return failed || call(transport, self->state->name_abort) < 0 ? -1 : frame->length + frame->size;
}

/* Lay out a frame and send it; a large one piece by piece, each of which stays in the cache of the processor until it is
   sent, as long as the kernel takes them whole. Return how many bytes it took, and what it said if it refused the last
   of them. */
static Py_ssize_t
send_copy(int descriptor, const Frame *frame, uint8_t *copy, int *number)
{
    Py_ssize_t size = frame->length + frame->size, done = 0, piece, sent;

    do {
        piece = size - done < PIECE ? size - done : PIECE;
        lay_out(copy, frame, done, piece);
        sent = send(descriptor, copy, (size_t)piece, MSG_DONTWAIT | MSG_NOSIGNAL);
        *number = sent < 0 ? errno : 0;
        done += sent < 0 ? 0 : sent;
    } while (sent == piece && done < size);
    return done;
}

/* Give a frame to the kernel. Return how many bytes it took; -1 for an exception, after which the connection must end. */
static Py_ssize_t
send_to(Pump *self, PyObject *transport, int descriptor, const Frame *frame)
{
    uint8_t small[SMALL], *copy = small;
    const int ready = frame->length == 0 && frame->mask == NULL;
    struct iovec pieces[2] = {{(void *)frame->header, (size_t)frame->length},
                              {(void *)frame->payload, (size_t)frame->size}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    Py_ssize_t size = frame->length + frame->size, sent;
    int number = 0;

    if (size > SMALL && frame->mask != NULL) {
        copy = PyMem_Malloc(size < PIECE ? size : PIECE);
        if (copy == NULL) {
            return 0; /* with less memory it may do */
        }
    }
    /* As long as this thread has the interpreter to itself, nobody can close the socket. While the kernel takes what is
       larger, others have their turn; that is as safe as sock.send(). */
    PyThreadState *thread = size > QUICK ? PyEval_SaveThread() : NULL;
    if (ready) {
        sent = send(descriptor, frame->payload, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        number = sent < 0 ? errno : 0;
    }
    else if (size > SMALL && frame->mask == NULL) {
        sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        number = sent < 0 ? errno : 0;
    }
    else {
        sent = send_copy(descriptor, frame, copy, &number);
    }
    sent = sent < 0 ? 0 : sent;
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
    if (copy != small) {
        PyMem_Free(copy);
    }
    return number == 0 ? sent : failed_to_send(self, transport, frame, sent, number);
}

/* Give a frame to the kernel, where the transport would do no more than that. Return how many bytes were taken; -1 for an
   exception, after which the connection must end. */
static Py_ssize_t
send_straight(Pump *self, PyObject *transport, const Frame *frame, int in_pieces)
{
    PyObject *sock = self->state->fileno == NULL ? NULL : Py_XNewRef(self->socket);
    Py_ssize_t sent = 0;
    int descriptor = -1;

    if (sock == NULL) {
        return 0;
    }
    if (is_unmodified(self, transport, in_pieces) == 1 && would_just_send(self, transport) == 1) {
        descriptor = descriptor_of(self, sock);
    }
    if (descriptor >= 0) {
        sent = send_to(self, transport, descriptor, frame);
    }
    else if (PyErr_Occurred()) {
        PyErr_Clear(); /* what can't be seen to be right is left to the transport */
    }
    Py_DECREF(sock);
    return sent;
}

#else

static Py_ssize_t
send_straight(Pump *Py_UNUSED(self), PyObject *Py_UNUSED(transport), const Frame *Py_UNUSED(frame),
              int Py_UNUSED(in_pieces))
{
    return 0;
}

#endif

/* A frame without so many bytes at its start. */
static PyObject *
rest_of(Pump *self, const Frame *frame, Py_ssize_t sent)
{
    Py_ssize_t left = frame->length + frame->size - sent;
    PyObject *rest;

    if (sent >= frame->length && lies_ready(frame)) {
        sent -= frame->length;
        if (sent == 0 && PyBytes_CheckExact(frame->owner)) {
            return Py_NewRef(frame->owner);
        }
        return view_of(self->state, frame->owner, frame->payload + sent, left);
    }
    rest = PyBytes_FromStringAndSize(NULL, left);
    if (rest != NULL) {
        lay_out((uint8_t *)PyBytes_AS_STRING(rest), frame, sent, left);
    }
    return rest;
}

/* The transport raised when it was to write, after so much of the frame was out. With RuntimeError transports say that they
   took nothing; but messages that are compressed refer to each other, so none may be missing. Return -1. */
static int
after_failed_write(Pump *self, PyObject *transport, Py_ssize_t sent)
{
    int refused = sent == 0 && !IS_SET(self->pack) && PyErr_ExceptionMatches(PyExc_RuntimeError);

    return refused ? -1 : tear(self, transport);
}

/* The payload of a frame, without a copy. */
static PyObject *
payload_of(Pump *self, const Frame *frame)
{
    PyObject *owner = frame->owner;

    if (PyBytes_CheckExact(owner) && PyBytes_GET_SIZE(owner) == frame->size) {
        return Py_NewRef(owner);
    }
    return view_of(self->state, owner, frame->payload, frame->size);
}

/* Write a large frame in two pieces, without a copy: have the transport do it, or else the class in Python, which knows what
   other transports need. */
static int
write_pieces(Pump *self, PyObject *transport, const Frame *frame)
{
    PyObject *header = PyBytes_FromStringAndSize((const char *)frame->header, frame->length), *pieces = NULL;
    PyObject *payload = payload_of(self, frame), *result = NULL;

    if (header != NULL && payload != NULL && self->gathers) {
        pieces = PyTuple_Pack(2, header, payload);
    }
    if (pieces != NULL) {
        self->bytes_sent += (size_t)(frame->length + frame->size);
        result = PyObject_CallMethodOneArg(transport, self->state->name_writelines, pieces);
        if (result == NULL) {
            (void)after_failed_write(self, transport, 0);
        }
    }
    else if (header != NULL && payload != NULL && !PyErr_Occurred()) {
        PyObject *arguments[] = {(PyObject *)self, header, payload};
        result = PyObject_VectorcallMethod(self->state->name_write_pieces, arguments, 3, NULL);
    }
    Py_XDECREF(header);
    Py_XDECREF(payload);
    Py_XDECREF(pieces);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Give the transport what the kernel didn't take of a frame. */
static int
write_rest(Pump *self, PyObject *transport, const Frame *frame, Py_ssize_t sent)
{
    PyObject *rest = rest_of(self, frame, sent);
    int failed;

    if (rest == NULL) {
        return sent > 0 || IS_SET(self->pack) ? tear(self, transport) : -1;
    }
    failed = call_with(transport, self->state->name_write, rest) < 0;
    Py_DECREF(rest);
    return failed ? after_failed_write(self, transport, sent) : 0;
}

static int
write_to(Pump *self, PyObject *transport, const Frame *frame)
{
    Py_ssize_t size = frame->length + frame->size, sent = 0;
    int in_pieces = frame->length > 0 && frame->size >= GATHER_FROM && lies_ready(frame);
    int closing = 0;

    if (!self->torn) {
        sent = send_straight(self, transport, frame, in_pieces);
    }
    if (sent == 0) {
        closing = is_closing(self, transport);
    }
    if (closing != 0) {
        return closing < 0 ? -1 : 0;
    }
    if (self->torn && sent == 0) {
        return call(transport, self->state->name_abort);
    }
    if (sent == 0 && in_pieces) {
        return write_pieces(self, transport, frame); /* which counts them */
    }
    self->bytes_sent += (size_t)size;
    if (sent < 0) {
        return tear(self, transport);
    }
    return sent == size ? 0 : write_rest(self, transport, frame, sent);
}

/* Write a frame, unless the transport takes no more. */
static int
write_out(Pump *self, const Frame *frame)
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

/* Write what is laid out already. */
static int
write_bytes(Pump *self, PyObject *data)
{
    Frame frame = {.payload = (uint8_t *)PyBytes_AS_STRING(data), .size = PyBytes_GET_SIZE(data), .owner = data};

    return write_out(self, &frame);
}

static int
flush_cork(Pump *self)
{
    PyObject *frames = take_cork(self);
    int failed;

    if (frames == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    failed = write_bytes(self, frames) < 0;
    Py_DECREF(frames);
    return failed ? tear_off(self) : 0; /* they count as sent already */
}

/* See to it that what waits is written in the next turn of the loop, whatever happens. Return whether it will be. */
static int
set_backstop(Pump *self)
{
    PyObject *loop, *callback;

    if (!self->backstop) {
        loop = Py_XNewRef(self->loop);
        callback = loop == NULL ? NULL : PyObject_GetAttr((PyObject *)self, self->state->name_uncork);
        self->backstop = callback != NULL && call_soon(self->state, loop, callback, NULL, NULL) == 0;
        Py_XDECREF(callback);
        Py_XDECREF(loop);
        if (PyErr_Occurred()) {
            PyErr_Clear(); /* then it is written at once */
        }
    }
    return self->backstop;
}

/* Send a frame: hold it back while more received messages wait, as their answers can share a write, and write it
   otherwise. Whoever reads the last of those messages writes; otherwise the next turn of the loop does. */
static int
put(Pump *self, const Frame *frame)
{
    int hold = self->queue != NULL && self->queue->count > 0 && !IS_SET(self->drainers);
    Py_ssize_t size = frame->length + frame->size;
    uint8_t *p;

    if ((!hold && self->corked == 0) || self->torn) {
        return write_out(self, frame);
    }
    p = cork_room(self, size);
    if (p == NULL) {
        return -1;
    }
    lay_out(p, frame, 0, size);
    self->corked += size;
    return hold && self->corked <= CORK_LIMIT && set_backstop(self) ? 0 : flush_cork(self);
}

/* A message isn't sent. If it may be a compressed one, others may refer to it, and so the connection ends. */
static void
unsent(Pump *self)
{
    if (IS_SET(self->pack)) {
        (void)tear_off(self);
    }
}

static PyObject *
answer(Pump *self, int failed)
{
    return failed ? NULL : PyLong_FromLong(IS_SET(self->drainers) ? FULL : SENT);
}

/* How long the header of a frame is. */
static Py_ssize_t
header_length(const uint8_t *frame)
{
    uint8_t size = frame[1] & 0x7F;

    return (size < 126 ? 2 : size == 126 ? 4 : 10) + (frame[1] & 0x80 ? 4 : 0);
}

/* The frame that one of the two methods below was given, of a message of so many bytes, which counts from now on; NULL
   for an exception. */
static const uint8_t *
given_frame(Pump *self, PyObject *const *args, Py_ssize_t count, Py_ssize_t *length)
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

/* Send a frame that is laid out already. */
static int
put_bytes(Pump *self, PyObject *data)
{
    Frame frame = {.payload = (uint8_t *)PyBytes_AS_STRING(data), .size = PyBytes_GET_SIZE(data), .owner = data};

    return put(self, &frame);
}

PyDoc_STRVAR(put_doc,
"_put($self, frame, size, /)\n--\n\n"
"Send a message of so many bytes, in its frame: hold it back while more received messages wait, write it otherwise.");

static PyObject *
Pump_put(Pump *self, PyObject *const *args, Py_ssize_t count)
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

GUARDED_FAST(Pump, Pump_put)

PyDoc_STRVAR(hold_doc,
"_hold($self, frame, size, /)\n--\n\n"
"Send a message of so many bytes, in its frame, which is held back until somebody flushes, or too many bytes wait.");

static PyObject *
Pump_hold(Pump *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t length;
    const uint8_t *frame = given_frame(self, args, count, &length);
    uint8_t *p;

    if (frame == NULL) {
        return NULL;
    }
    p = cork_room(self, length);
    if (p == NULL) {
        unsent(self);
        return NULL;
    }
    memcpy(p, frame, length);
    self->corked += length;
    if (self->corked > CORK_LIMIT && flush_cork(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

GUARDED_FAST(Pump, Pump_hold)

static PyObject *
Pump_write_out(Pump *self, PyObject *data)
{
    if (!PyBytes_Check(data)) {
        PyErr_Format(PyExc_TypeError, "what is written must be bytes, not %s", Py_TYPE(data)->tp_name);
        return NULL;
    }
    return write_bytes(self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

GUARDED_ONE(Pump, Pump_write_out)

/* Send a frame; its payload is a part of owner, which can't change, if that isn't NULL. */
static PyObject *
send_payload(Pump *self, uint8_t head, const void *payload, Py_ssize_t size, PyObject *owner)
{
    Frame frame = {.payload = payload, .size = size, .owner = owner};
    uint8_t mask[4];

    if (self->client) {
        if (draw_mask(self->state, mask) < 0) {
            return NULL;
        }
        frame.mask = mask;
    }
    frame.length = write_header(frame.header, head, size, frame.mask);
    self->messages_sent++;
    self->payload_sent += (size_t)size;
    if (size < GATHER_FROM || !lies_ready(&frame)) {
        return answer(self, put(self, &frame) < 0);
    }
    /* In two pieces, without a copy; so it can't be held back. */
    return answer(self, (self->corked && flush_cork(self) < 0) || write_out(self, &frame) < 0);
}

/* Send a frame with a payload in bytes. */
static PyObject *
send_frame(Pump *self, uint8_t head, PyObject *payload)
{
    return send_payload(self, head, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), payload);
}

/* Whether a message may be sent at once, as far as the connection is concerned. */
static int
may_send(Pump *self)
{
    SendingHalf *life = (SendingHalf *)self->life;

    return self->plain && life != NULL && self->protocol != NULL && !IS_SET(self->send_lock)
        && PyObject_TypeCheck(life, self->state->sending_half_type) && life->sending == self->may_send
        && !life->continuing;
}

/* Send a message after it was compressed, or found not to be worth it. */
static PyObject *
send_packed(Pump *self, uint8_t head, PyObject *payload)
{
    PyObject *number = PyLong_FromLong(head), *packed = NULL, *result;

    if (number != NULL) {
        PyObject *arguments[] = {number, payload}, *pack = Py_NewRef(self->pack);
        packed = PyObject_Vectorcall(pack, arguments, 2, NULL);
        Py_DECREF(pack);
        Py_DECREF(number);
    }
    if (packed == NULL) {
        unsent(self);
        return NULL;
    }
    if (!PyTuple_Check(packed) || PyTuple_GET_SIZE(packed) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(packed, 1))) {
        PyErr_SetString(PyExc_TypeError, "_pack must return the first byte of a frame and its payload in bytes");
        result = NULL;
    }
    else if (!may_send(self)) {
        result = PyLong_FromLong(SLOW); /* compressing may have run anything */
    }
    else {
        long packed_head = PyLong_AsLong(PyTuple_GET_ITEM(packed, 0));
        if (packed_head == -1 && PyErr_Occurred()) {
            result = NULL;
        }
        else {
            self->saved_sent += PyBytes_GET_SIZE(payload) - PyBytes_GET_SIZE(PyTuple_GET_ITEM(packed, 1));
            result = send_frame(self, (uint8_t)packed_head, PyTuple_GET_ITEM(packed, 1));
        }
    }
    Py_DECREF(packed);
    if (result == NULL) {
        unsent(self);
    }
    return result;
}

static PyObject *
send_bytes(Pump *self, uint8_t head, PyObject *payload)
{
    return IS_SET(self->pack) ? send_packed(self, head, payload) : send_frame(self, head, payload);
}

/* Send an array of bytes, which other threads must not resize as long as it is looked at. */
static PyObject *
send_array(Pump *self, uint8_t head, PyObject *array)
{
    PyObject *result;
    Py_buffer view;

    if (PyObject_GetBuffer(array, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    result = send_payload(self, head, view.buf, view.len, NULL);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *
send_text(Pump *self, uint8_t head, PyObject *text)
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

/* Send a message in the frame that it was laid out in for others, if that will do here. */
static PyObject *
send_encoded(Pump *self, Encoded *message, PyObject *text)
{
    PyObject *frame, *result;

    if (self->client || IS_SET(self->pack) || text != Py_None) {
        return PyLong_FromLong(SLOW);
    }
    /* Other threads may send it, too. */
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

PyDoc_STRVAR(send_now_doc,
"_send_now($self, message, text, /)\n--\n\n"
"Send a message if nothing stands in the way of sending it at once, in one frame.");

static PyObject *
Pump_send_now(Pump *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *message;
    int wanted;

    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "_send_now expected 2 arguments, got %zd", count);
    }
    message = args[0];
    wanted = args[1] == Py_None ? 0 : PyObject_IsTrue(args[1]);
    if (wanted < 0) {
        return NULL;
    }
    if (may_send(self)) {
        if (PyUnicode_Check(message)) {
            return send_text(self, FIN | (args[1] == Py_False ? BINARY : TEXT), message);
        }
        uint8_t head = FIN | (wanted ? TEXT : BINARY);
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
            /* A view may have any shape; the wire has one. */
            PyObject *payload = PyBytes_FromObject(message);
            PyObject *result = payload == NULL ? NULL : send_bytes(self, head, payload);
            Py_XDECREF(payload);
            return result;
        }
    }
    return PyLong_FromLong(SLOW);
}

GUARDED_FAST(Pump, Pump_send_now)

static PyObject *
Pump_take_corked(Pump *self, PyObject *Py_UNUSED(unused))
{
    PyObject *frames = take_cork(self);

    if (frames == NULL && !PyErr_Occurred()) {
        return PyBytes_FromStringAndSize(NULL, 0);
    }
    return frames;
}

GUARDED_ONE(Pump, Pump_take_corked)

/* ---------------------------------------------------------------------------------------------------------- receive */

/* What recv() awaits: a message. It takes one that is there; or waits for one; or, if anything is unusual, leaves it to
   a coroutine. */
typedef struct {
    PyObject_HEAD
    Pump *pump;      /* NULL when it is over */
    Waiter *waiter;  /* while it waits */
    PyObject *inner; /* the coroutine, if there is one */
    char iterating;  /* whether it is for a loop over messages, which a normal end of the connection ends */
} Receive;

static PyObject *
receive_new(Pump *pump, int iterating)
{
    Receive *self = PyObject_GC_New(Receive, pump->state->receive_type);

    if (self == NULL) {
        return NULL;
    }
    self->pump = (Pump *)Py_NewRef(pump);
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
    Py_VISIT(self->pump);
    Py_VISIT(self->waiter);
    Py_VISIT(self->inner);
    return 0;
}

/* Nobody waits any more. */
static void
end_wait(Receive *self)
{
    Pump *pump = (Pump *)Py_XNewRef(self->waiter == NULL ? NULL : self->pump);

    if (pump != NULL) {
        LOCK(pump) /* a task that is cancelled comes here without it */
        if (pump->receiver == self->waiter) {
            Py_CLEAR(pump->receiver);
        }
        UNLOCK(pump)
        Py_DECREF(pump);
    }
    Py_CLEAR(self->waiter);
}

static int
Receive_clear(Receive *self)
{
    end_wait(self);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->pump);
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

/* Raise that this is over: somebody closed it, maybe in the very call that it made. Return -1. */
static int
is_over(void)
{
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse what was awaited");
    return -1;
}

/* Whether nothing stands in the way of waiting for a read. */
static int
may_wait(const Pump *pump)
{
    return pump->quick && !pump->muted && pump->receiver == NULL && !pump->streaming && pump->burst < BURST
        && pump->queue != NULL && pump->queue->count == 0 && pump->loop != NULL;
}

/* Wait for a read. Return 1 if it waits, 0 if that takes more than there is here, -1 for an exception. */
static int
start_wait(Receive *self, Pump *pump)
{
    PyObject *loop;
    Waiter *waiter;

    if (!may_wait(pump)) {
        return 0;
    }
    if (pump->corked && flush_cork(pump) < 0) {
        return -1;
    }
    loop = Py_XNewRef(pump->loop);
    waiter = loop == NULL ? NULL : waiter_new(pump->state->waiter_type, loop);
    Py_XDECREF(loop);
    if (waiter == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    /* A transport may do anything in write(), and so may a finaliser. */
    if (self->pump == NULL || !may_wait(pump)) {
        Py_DECREF(waiter);
        return self->pump == NULL ? is_over() : 0;
    }
    pump->burst = 0;
    waiter->blocking = 1;
    pump->receiver = (Waiter *)Py_NewRef(waiter);
    Py_XSETREF(self->waiter, waiter);
    return 1;
}

static PySendResult
delegate(Receive *self, PyObject *value, PyObject **result)
{
    PyObject *inner = Py_NewRef(self->inner);
    PySendResult how = PyIter_Send(inner, value, result);

    Py_DECREF(inner);
    if (how != PYGEN_NEXT) {
        Receive_clear(self);
    }
    return how;
}

/* The caller owns the pump. */
static PySendResult
receive_step(Receive *self, PyObject *value, PyObject **result)
{
    Pump *pump = self->pump;
    PyObject *message;
    int waits;

    *result = NULL;
    if (self->inner != NULL) {
        return delegate(self, value, result);
    }
    if (pump == NULL) {
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
    message = take(pump);
    if (message != NULL) {
        *result = message;
        Receive_clear(self);
        return PYGEN_RETURN;
    }
    waits = PyErr_Occurred() ? -1 : start_wait(self, pump);
    if (waits == 1) {
        *result = Py_NewRef(self->waiter);
        return PYGEN_NEXT;
    }
    if (waits == 0) {
        PyObject *inner = PyObject_CallMethodOneArg((PyObject *)pump, pump->state->name_receive_slowly,
                                                    self->iterating ? Py_True : Py_False);
        if (inner != NULL && self->pump == NULL) {
            (void)is_over();
            Py_CLEAR(inner);
        }
        if (inner != NULL) {
            Py_XSETREF(self->inner, inner);
            return delegate(self, Py_None, result);
        }
    }
    Receive_clear(self);
    return PYGEN_ERROR;
}

static PySendResult
Receive_am_send(Receive *self, PyObject *value, PyObject **result)
{
    Pump *pump = (Pump *)Py_XNewRef(self->pump);
    PySendResult how;

    if (pump == NULL) {
        return receive_step(self, value, result);
    }
    LOCK(pump)
    how = receive_step(self, value, result);
    UNLOCK(pump)
    Py_DECREF(pump);
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
    {"send", (PyCFunction)Receive_send, METH_O, "Go on."},
    {"throw", (PyCFunction)(void (*)(void))Receive_throw, METH_FASTCALL, "Go on with an exception."},
    {"close", (PyCFunction)Receive_close, METH_NOARGS, "Give up."},
    {NULL},
};

static PyType_Slot Receive_slots[] = {
    {Py_tp_doc, "What gives the next message of a connection when it is awaited."},
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

/* --------------------------------------------------------------------------------------------------------- messages */

/* What `async for` goes through. */
typedef struct {
    PyObject_HEAD
    Pump *pump;
} Messages;

static PyObject *
Messages_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pump", NULL};
    State *state;
    PyObject *pump;
    Messages *self = (Messages *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    state = state_of((PyObject *)self);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!:Messages", names, state->pump_type, &pump)) {
        Py_DECREF(self);
        return NULL;
    }
    self->pump = (Pump *)Py_NewRef(pump);
    return (PyObject *)self;
}

static int
Messages_traverse(Messages *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->pump);
    return 0;
}

static int
Messages_clear(Messages *self)
{
    Py_CLEAR(self->pump);
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
    if (self->pump == NULL) {
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return NULL;
    }
    return receive_new(self->pump, 1);
}

static PyType_Slot Messages_slots[] = {
    {Py_tp_doc, "Messages(pump)\n--\n\nAn iterator over the messages of a connection."},
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

/* --------------------------------------------------------------------------------------- what the class in Python sees */

static PyObject *
Pump_next(Pump *self, PyObject *Py_UNUSED(unused))
{
    return receive_new(self, 0);
}

static PyMethodDef Pump_methods[] = {
    {"get_buffer", (PyCFunction)Pump_get_buffer_guarded, METH_O, "Called by the loop: where to read into."},
    {"buffer_updated", (PyCFunction)Pump_buffer_updated_guarded, METH_O, "Called by the loop: so much was read."},
    {"data_received", (PyCFunction)Pump_data_received_guarded, METH_O, "Called by the loop, or by a class that wants to see what is read."},
    {"_deliver", (PyCFunction)Pump_deliver_guarded, METH_NOARGS, "Resume whoever waits for what arrived, or stop reading."},
    {"_next", (PyCFunction)Pump_next, METH_NOARGS, "What gives the next message when it is awaited."},
    {"_send_now", (PyCFunction)(void (*)(void))Pump_send_now_guarded, METH_FASTCALL, send_now_doc},
    {"_put", (PyCFunction)(void (*)(void))Pump_put_guarded, METH_FASTCALL, put_doc},
    {"_hold", (PyCFunction)(void (*)(void))Pump_hold_guarded, METH_FASTCALL, hold_doc},
    {"_write_out", (PyCFunction)Pump_write_out_guarded, METH_O, "Write frames."},
    {"_take_corked", (PyCFunction)Pump_take_corked_guarded, METH_NOARGS, "Take out the frames that were held back."},
    {NULL},
};

/* Attributes whose type matters here; None stands for NULL. */

static PyObject *
get_typed(Pump *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (Py_ssize_t)offset);

    return Py_NewRef(value == NULL ? Py_None : value);
}

GUARDED(get_typed, (Pump * self, void *offset), (self, offset))

static int
set_typed(Pump *self, PyObject *value, void *offset, PyTypeObject *type)
{
    PyObject **place = (PyObject **)((char *)self + (Py_ssize_t)offset);

    if (IS_SET(value) && !PyObject_TypeCheck(value, type)) {
        PyErr_Format(PyExc_TypeError, "expected %s or None, not %s", type->tp_name, Py_TYPE(value)->tp_name);
        return -1;
    }
    LOCK(self)
    Py_XSETREF(*place, IS_SET(value) ? Py_NewRef(value) : NULL);
    UNLOCK(self)
    return 0;
}

static int
set_buffer(Pump *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->span_type);
}

static int
set_queue(Pump *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->queue_type);
}

/* Only a decoder of ours can be fed without a detour. */
static int
set_decoder(Pump *self, PyObject *value, void *offset)
{
    if (value != NULL && !PyObject_TypeCheck(value, self->state->decoder_type)) {
        value = NULL;
    }
    return set_typed(self, value, offset, self->state->decoder_type);
}

static int
set_receiver(Pump *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->waiter_type);
}

static int
set_socket(Pump *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, &PyBaseObject_Type);
}

/* What is known of a transport isn't true of another. */
static int
set_transport(Pump *self, PyObject *value, void *Py_UNUSED(offset))
{
    LOCK(self)
    Py_CLEAR(self->socket);
    self->gathers = 0;
    Py_XSETREF(self->transport, Py_XNewRef(value));
    UNLOCK(self)
    return 0;
}

static PyObject *
get_transport(Pump *self, void *Py_UNUSED(offset))
{
    if (self->transport == NULL) {
        PyErr_SetString(PyExc_AttributeError, "transport");
        return NULL;
    }
    return Py_NewRef(self->transport);
}

GUARDED(get_transport, (Pump * self, void *offset), (self, offset))

static PyGetSetDef Pump_getset[] = {
    {"transport", (getter)get_transport_guarded, (setter)set_transport, NULL, NULL},
    {"_buffer", (getter)get_typed_guarded, (setter)set_buffer, NULL, (void *)offsetof(Pump, buffer)},
    {"_queue", (getter)get_typed_guarded, (setter)set_queue, NULL, (void *)offsetof(Pump, queue)},
    {"_decoder", (getter)get_typed_guarded, (setter)set_decoder, NULL, (void *)offsetof(Pump, decoder)},
    {"_receiver", (getter)get_typed_guarded, (setter)set_receiver, NULL, (void *)offsetof(Pump, receiver)},
    {"_socket", (getter)get_typed_guarded, (setter)set_socket, NULL, (void *)offsetof(Pump, socket)},
    {NULL},
};

static PyMemberDef Pump_members[] = {
    {"protocol", T_OBJECT_EX, offsetof(Pump, protocol), 0, NULL},
    {"loop", T_OBJECT_EX, offsetof(Pump, loop), 0, NULL},
    {"_life", T_OBJECT_EX, offsetof(Pump, life), 0, NULL},
    {"_may_send", T_OBJECT_EX, offsetof(Pump, may_send), 0, NULL},
    {"_drainers", T_OBJECT_EX, offsetof(Pump, drainers), 0, NULL},
    {"_pack", T_OBJECT_EX, offsetof(Pump, pack), 0, NULL},
    {"_inflate", T_OBJECT_EX, offsetof(Pump, inflate), 0, NULL},
    {"_send_lock", T_OBJECT_EX, offsetof(Pump, send_lock), 0, NULL},
    {"_corked", T_PYSSIZET, offsetof(Pump, corked), READONLY, NULL},
    {"_high", T_PYSSIZET, offsetof(Pump, high), 0, NULL},
    {"_gathers", T_BOOL, offsetof(Pump, gathers), 0, NULL},
    {"_torn", T_BOOL, offsetof(Pump, torn), 0, NULL},
    {"_bytes_received", T_ULONGLONG, offsetof(Pump, bytes_received), 0, NULL},
    {"_bytes_sent", T_ULONGLONG, offsetof(Pump, bytes_sent), 0, NULL},
    {"_messages_sent", T_ULONGLONG, offsetof(Pump, messages_sent), 0, NULL},
    {"_payload_sent", T_ULONGLONG, offsetof(Pump, payload_sent), 0, NULL},
    {"_saved_sent", T_LONGLONG, offsetof(Pump, saved_sent), 0, NULL},
    {"_burst", T_INT, offsetof(Pump, burst), 0, NULL},
    {"_streaming", T_BOOL, offsetof(Pump, streaming), 0, NULL},
    {"_muted", T_BOOL, offsetof(Pump, muted), 0, NULL},
    {"_quick", T_BOOL, offsetof(Pump, quick), 0, NULL},
    {"_plain", T_BOOL, offsetof(Pump, plain), 0, NULL},
    {"_client", T_BOOL, offsetof(Pump, client), 0, NULL},
    {"_lost", T_BOOL, offsetof(Pump, lost), 0, NULL},
    {"_backstop", T_BOOL, offsetof(Pump, backstop), 0, NULL},
    {NULL},
};

PyDoc_STRVAR(pump_doc,
"Pump()\n--\n\n"
"The path of a message between a transport and a task.");

static PyType_Slot Pump_slots[] = {
    {Py_tp_doc, (void *)pump_doc},
    {Py_tp_new, Pump_new},
    {Py_tp_dealloc, Pump_dealloc},
    {Py_tp_traverse, Pump_traverse},
    {Py_tp_clear, Pump_clear},
    {Py_tp_methods, Pump_methods},
    {Py_tp_members, Pump_members},
    {Py_tp_getset, Pump_getset},
    {0, NULL},
};

static PyType_Spec Pump_spec = {
    .name = "websockets._codec._native.Pump",
    .basicsize = sizeof(Pump),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = Pump_slots,
};

int
add_pump(PyObject *module, State *state)
{
    struct {
        PyTypeObject **place;
        PyType_Spec *spec;
    } types[] = {
        {&state->waiter_type, &Waiter_spec},     {&state->span_type, &Span_spec},
        {&state->pump_type, &Pump_spec},         {&state->receive_type, &Receive_spec},
        {&state->messages_type, &Messages_spec}, {&state->encoded_type, &Encoded_spec},
        {&state->sending_half_type, &SendingHalf_spec},
    };

    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        *types[i].place = (PyTypeObject *)PyType_FromModuleAndSpec(module, types[i].spec, NULL);
        if (*types[i].place == NULL || PyModule_AddType(module, *types[i].place) < 0) {
            return -1;
        }
    }
    if (PyModule_AddFunctions(module, pump_functions) < 0) {
        return -1;
    }
    state->raise_it = PyObject_GetAttrString(module, "_raise");
    return state->raise_it == NULL ? -1 : 0;
}
