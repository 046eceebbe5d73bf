/* Waiters: a task awaits one, and resumes inside the read that brought its message, if that is safe.

   May know: loops, tasks, contexts.
   Must not know: messages, connections. */

#include "fastpath.h"

static Waiter *
new_waiter(PyTypeObject *type, PyObject *loop)
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
    return (PyObject *)new_waiter(type, loop);
}

Waiter *
fastpath_waiter_new(State *state, PyObject *loop)
{
    return new_waiter(state->waiter_type, loop);
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

int
fastpath_call_soon(State *state, PyObject *loop, PyObject *callback, PyObject *argument, PyObject *context)
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
    failed = fastpath_call_soon(state, loop, callback, (PyObject *)self, context) < 0;
    if (failed && self->callback == NULL) {
        self->callback = Py_NewRef(callback);
    }
    Py_DECREF(loop);
    Py_DECREF(context);
    Py_DECREF(callback);
    return failed ? -1 : 0;
}

/* End the wait, as DONE or CANCELLED. If the loop takes no more calls, the wait hasn't ended. */
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

/* Return whether a task of this loop is running, a task in C or one in Python; -1 for an exception. */
static int
task_is_running(State *state, PyObject *loop)
{
    PyObject *task;
    int running;

    if (state->current_task == NULL || state->running_tasks == NULL) {
        return 1; /* it isn't known, so a task may be running */
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

/* Return whether a loop runs one callback after the other, and none of them inside a read: see PLAIN_LOOPS in
   asyncio/_internals.py. */
static int
is_plain_loop(State *state, PyObject *loop)
{
    PyObject *type = Py_NewRef(Py_TYPE(loop)), *run = PyObject_GetAttr(type, state->name_run_until_complete), *loops;
    int plain;

    Py_DECREF(type);
    if (run == NULL) {
        PyErr_Clear(); /* an unknown loop */
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

/* Return whether the task may resume at once, and not in the next turn of the loop; -1 for an exception. */
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

/* Have the loop raise, in its next turn, the exception that the task raised to end the program. Some loops swallow
   exceptions in a read, but no loop swallows those of a callback; and the rest of the read isn't lost. Return
   -1, with the exception still set, if it is another exception or the loop takes no more calls; else 0. */
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
    failed = callback == NULL || fastpath_call_soon(state, loop, callback, exc, NULL) < 0;
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

/* Run the callback in its context. If the context has been entered already, the next turn of the loop runs it. */
static int
waiter_run(Waiter *self)
{
    PyObject *context = Py_NewRef(self->context), *callback = self->callback, *result;

    self->callback = NULL;
    if (PyContext_Enter(context) < 0) {
        Py_DECREF(context);
        Py_XSETREF(self->callback, callback);
        PyErr_Clear();
        return waiter_wake(self);
    }
    self->state = DONE;
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

int
fastpath_waiter_resume(Waiter *self)
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
        return waiter_wake(self); /* may_resume() may have run any code */
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

static GUARDED_ONE(Waiter, Waiter_wake)

static PyObject *
Waiter_resume(Waiter *self, PyObject *Py_UNUSED(unused))
{
    if (fastpath_waiter_resume(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static GUARDED_ONE(Waiter, Waiter_resume)

static PyObject *
Waiter_get_loop(Waiter *self, PyObject *Py_UNUSED(unused))
{
    return Py_NewRef(IS_SET(self->loop) ? self->loop : Py_None);
}

static GUARDED_ONE(Waiter, Waiter_get_loop)

static PyObject *
Waiter_add_done_callback(Waiter *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    PyObject *callback, *context;

    if (count != 1 || named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "context") != 0)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback() takes a callback, and context as a keyword");
        return NULL;
    }
    callback = self->callback;
    context = self->context;
    self->callback = Py_NewRef(args[0]);
    self->context = named ? Py_NewRef(args[1]) : NULL;
    Py_XDECREF(callback);
    Py_XDECREF(context);
    if (self->state != PENDING && waiter_call_soon(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static GUARDED(Waiter_add_done_callback, (Waiter * self, PyObject *const *args, Py_ssize_t count, PyObject *names),
               (self, args, count, names))

static PyObject *
Waiter_remove_done_callback(Waiter *self, PyObject *callback)
{
    PyObject *own = Py_XNewRef(self->callback);
    int same = own == NULL ? 0 : PyObject_RichCompareBool(own, callback, Py_EQ);

    if (same > 0 && self->callback == own) { /* the comparison may have run any code */
        Py_CLEAR(self->callback);
        Py_CLEAR(self->context);
    }
    Py_XDECREF(own);
    return same < 0 ? NULL : PyLong_FromLong(same);
}

static GUARDED_ONE(Waiter, Waiter_remove_done_callback)

static PyObject *
Waiter_cancel(Waiter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"msg", NULL};
    PyObject *message = Py_None, *before;
    int failed;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", names, &message)) {
        return NULL;
    }
    if (self->state != PENDING) {
        Py_RETURN_FALSE;
    }
    before = self->message;
    self->message = Py_NewRef(message);
    failed = waiter_end(self, CANCELLED) < 0;
    Py_XDECREF(before);
    return failed ? NULL : Py_NewRef(Py_True);
}

static GUARDED(Waiter_cancel, (Waiter * self, PyObject *args, PyObject *kwargs), (self, args, kwargs))

static PyObject *
Waiter_done(Waiter *self, PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(self->state != PENDING);
}

static GUARDED_ONE(Waiter, Waiter_done)

static PyObject *
Waiter_cancelled(Waiter *self, PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(self->state == CANCELLED);
}

static GUARDED_ONE(Waiter, Waiter_cancelled)

/* Raise an exception if the wait hasn't ended, or was cancelled. Return -1 if it did, else 0. */
static int
waiter_check(Waiter *self)
{
    const char state = self->state, *name = state == CANCELLED ? "CancelledError" : "InvalidStateError";
    PyObject *asyncio, *type;

    if (state == DONE) {
        return 0;
    }
    asyncio = PyImport_ImportModule("asyncio");
    type = asyncio == NULL ? NULL : PyObject_GetAttrString(asyncio, name);
    Py_XDECREF(asyncio);
    if (type == NULL) {
        return -1;
    }
    if (state == PENDING) {
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

static GUARDED_ONE(Waiter, Waiter_result)

/* A waiter is its own iterator, and yields itself once: this tells the task what to wait for. */
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

static GUARDED(Waiter_next, (Waiter * self), (self))

static PyMethodDef Waiter_methods[] = {
    {"get_loop", (PyCFunction)Waiter_get_loop_guarded, METH_NOARGS, "Return the loop of the task."},
    {"add_done_callback", (PyCFunction)(void (*)(void))Waiter_add_done_callback_guarded, METH_FASTCALL | METH_KEYWORDS,
     "Store the callback that resumes the task."},
    {"remove_done_callback", (PyCFunction)Waiter_remove_done_callback_guarded, METH_O,
     "Remove the callback that resumes the task."},
    {"cancel", (PyCFunction)(void (*)(void))Waiter_cancel_guarded, METH_VARARGS | METH_KEYWORDS,
     "Cancel the wait; the task resumes in the next turn of the loop, as with any future."},
    {"done", (PyCFunction)Waiter_done_guarded, METH_NOARGS, "Return whether the wait is over."},
    {"cancelled", (PyCFunction)Waiter_cancelled_guarded, METH_NOARGS, "Return whether the wait was cancelled."},
    {"result", (PyCFunction)Waiter_result_guarded, METH_NOARGS,
     "Return None if the wait is over; raise if it was cancelled."},
    {"exception", (PyCFunction)Waiter_result_guarded, METH_NOARGS, "Like result(): there is no other exception."},
    {"wake", (PyCFunction)Waiter_wake_guarded, METH_NOARGS,
     "End the wait; the task resumes in the next turn of the loop."},
    {"resume", (PyCFunction)Waiter_resume_guarded, METH_NOARGS,
     "End the wait; the task resumes before this returns, unless another task is running."},
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

PyDoc_STRVAR(know_plain_loops_doc,
"know_plain_loops($module, methods, /)\n--\n\n"
"Let tasks resume inside a read on loops whose run_until_complete() is in this set.");

static PyObject *
know_plain_loops(PyObject *module, PyObject *methods)
{
    if (!PyAnySet_Check(methods)) {
        return PyErr_Format(PyExc_TypeError, "methods must be a set, not %s", Py_TYPE(methods)->tp_name);
    }
    fastpath_know(&native_state(module)->plain_loops, methods);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(know_tasks_doc,
"know_tasks($module, current_task, running, /)\n--\n\n"
"Set how to find the running task: current_task(loop), or the loop in a dict of running tasks in Python.");

static PyObject *
know_tasks(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = native_state(module);

    if (count != 2 || !PyDict_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "know_tasks expected a function and a dict");
        return NULL;
    }
    fastpath_know(&state->current_task, args[0]);
    fastpath_know(&state->running_tasks, args[1]);
    Py_RETURN_NONE;
}

/* The function that raise_soon() has the loop call. */
static PyObject *
raise_it(PyObject *Py_UNUSED(module), PyObject *exc)
{
    if (!PyExceptionInstance_Check(exc)) {
        return PyErr_Format(PyExc_TypeError, "%s isn't an exception", Py_TYPE(exc)->tp_name);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    return NULL;
}

static PyMethodDef functions[] = {
    {"know_plain_loops", know_plain_loops, METH_O, know_plain_loops_doc},
    {"know_tasks", (PyCFunction)(void (*)(void))know_tasks, METH_FASTCALL, know_tasks_doc},
    {"_raise", raise_it, METH_O, "Raise an exception."},
    {NULL},
};

int
fastpath_add_waiter(PyObject *module, State *state)
{
    if (native_add_type(module, &Waiter_spec, &state->waiter_type) < 0 ||
        PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    state->raise_it = PyObject_GetAttrString(module, "_raise");
    return state->raise_it == NULL ? -1 : 0;
}
