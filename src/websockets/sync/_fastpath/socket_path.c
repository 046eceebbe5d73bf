/* The base class of connections for threads: its attributes, its methods, its lock.

   May know: the attributes and their types.
   Must not know: how the other files use them. */

#include "socket_path.h"

/* How often the lock is tried again after a signal handler raised an exception. */
enum { ATTEMPTS = 10 };

int
socketpath_enter(SocketPath *self, PyObject **exit)
{
    PyObject *enter = Py_XNewRef(self->enter), *result;

    *exit = Py_XNewRef(self->exit);
    if (enter == NULL || *exit == NULL) {
        Py_XDECREF(enter);
        Py_CLEAR(*exit);
        PyErr_SetString(PyExc_AttributeError, "_ws_lock");
        return -1;
    }
    result = PyObject_CallNoArgs(enter);
    Py_DECREF(enter);
    if (result == NULL) {
        Py_CLEAR(*exit);
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

int
socketpath_enter_surely(SocketPath *self, PyObject **exit, Raised *raised)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        if (socketpath_enter(self, exit) == 0) {
            return 0;
        }
        socketpath_keep(raised);
    }
    return -1;
}

/* Return whether a method is one in C that takes no arguments. */
static int
takes_nothing(PyObject *method)
{
    return PyCFunction_CheckExact(method) && PyCFunction_GET_FLAGS(method) & METH_NOARGS;
}

int
socketpath_leave(PyObject *exit)
{
    PyObject *arguments[] = {Py_None, Py_None, Py_None};
    PyObject *result = takes_nothing(exit) ? PyObject_CallNoArgs(exit) : PyObject_Vectorcall(exit, arguments, 3, NULL);

    Py_DECREF(exit);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

void
socketpath_leave_raising(PyObject *exit)
{
    Raised raised = {0};

    socketpath_keep(&raised);
    if (socketpath_leave(exit) < 0) {
        PyErr_Clear();
    }
    (void)socketpath_raise(&raised);
}

unsigned long long
socketpath_thread(SocketPath *self)
{
    PyObject *number = self->ident == NULL ? PyLong_FromLong(0) : PyObject_CallNoArgs(self->ident);
    unsigned long long thread = 0;

    if (number != NULL) {
        thread = PyLong_AsUnsignedLongLong(number);
        Py_DECREF(number);
        if (thread == 0) {
            PyErr_SetString(PyExc_RuntimeError, "_ws_ident must return a number");
        }
    }
    return PyErr_Occurred() ? 0 : thread;
}

void
socketpath_break_off(SocketPath *self, unsigned long long thread)
{
    Raised raised = {0}, later = {0};
    PyObject *exit, *result;
    int locked;

    socketpath_keep(&raised);
    PyErr_NormalizeException(&raised.type, &raised.value, &raised.traceback);
    locked = socketpath_enter_surely(self, &exit, &later) == 0;
    self->broken = self->owing = 1;
    self->plain = 0;
    Py_CLEAR(self->decoder);
    if (self->reader == self->state->role_taken && self->reading_thread == thread) {
        socketpath_set(&self->reader, self->state->role_free);
        self->reading_thread = 0;
    }
    if (self->writer == self->state->role_taken && self->writing_thread == thread) {
        socketpath_set(&self->writer, self->state->role_free);
        self->writing_thread = 0;
    }
    if (self->receiver == thread) {
        self->receiver = 0;
    }
    if (locked && socketpath_leave(exit) < 0) {
        PyErr_Clear();
    }
    result = PyObject_CallMethodOneArg((PyObject *)self, self->state->name_interrupted, raised.value);
    if (result == NULL) {
        /* Whoever uses the connection next sees that it is broken. */
        PyErr_Clear();
    }
    Py_XDECREF(result);
    Py_XDECREF(later.type);
    Py_XDECREF(later.value);
    Py_XDECREF(later.traceback);
    (void)socketpath_raise(&raised);
}

PyObject *
socketpath_kernel_call(SocketPath *self, PyObject *name)
{
    PyObject *wire = Py_XNewRef(self->wire), *call;

    if (wire == NULL) {
        return NULL;
    }
    call = PyObject_GetAttr(wire, name);
    Py_DECREF(wire);
    if (call == Py_None) {
        Py_CLEAR(call);
    }
    return call;
}

static PyObject *
SocketPath_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    SocketPath *self = (SocketPath *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->state = native_state_of((PyObject *)self);
    if (self->state->role_free == NULL) {
        Py_DECREF(self);
        PyErr_SetString(PyExc_RuntimeError, "know_roles() wasn't called");
        return NULL;
    }
    self->reader = Py_NewRef(self->state->role_free);
    self->writer = Py_NewRef(self->state->role_free);
    return (PyObject *)self;
}

/* Where an object is referred to. */
#define PLACE(member) offsetof(SocketPath, member)
static const size_t references[] = {
    PLACE(lock), PLACE(enter), PLACE(exit), PLACE(ident), PLACE(wire), PLACE(reader), PLACE(writer), PLACE(stream),
    PLACE(channel), PLACE(life), PLACE(may_send), PLACE(queue), PLACE(decoder),
};
#define EACH_REFERENCE(place)                                                                                          \
    for (size_t i = 0; i < sizeof(references) / sizeof(*references); i++) {                                            \
        PyObject **place = (PyObject **)((char *)self + references[i]);

static int
SocketPath_traverse(SocketPath *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    EACH_REFERENCE(place)
        Py_VISIT(*place);
    }
    return 0;
}

static int
SocketPath_clear(SocketPath *self)
{
    EACH_REFERENCE(place)
        Py_CLEAR(*place);
    }
    return 0;
}

static void
SocketPath_dealloc(SocketPath *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    (void)SocketPath_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
get_lock(SocketPath *self, void *Py_UNUSED(closure))
{
    if (self->lock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_ws_lock");
        return NULL;
    }
    return Py_NewRef(self->lock);
}

/* Return what leaves a lock. Python's own locks have release(), which does the same as __exit__(), and is faster. */
static PyObject *
method_to_leave(State *state, PyObject *lock)
{
    PyObject *release = PyObject_GetAttr(lock, state->name_release);

    if (release != NULL && takes_nothing(release)) {
        return release;
    }
    Py_XDECREF(release);
    PyErr_Clear();
    return PyObject_GetAttr(lock, state->name_exit);
}

static int
set_lock(SocketPath *self, PyObject *lock, void *Py_UNUSED(closure))
{
    PyObject *enter = NULL, *exit = NULL;

    if (lock == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a connection has a lock");
        return -1;
    }
    enter = PyObject_GetAttr(lock, self->state->name_enter);
    exit = enter == NULL ? NULL : method_to_leave(self->state, lock);
    if (exit == NULL) {
        Py_XDECREF(enter);
        return -1;
    }
    /* All three change before anything else runs. */
    PyObject *before[] = {self->lock, self->enter, self->exit};
    self->lock = Py_NewRef(lock);
    self->enter = enter;
    self->exit = exit;
    for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++) {
        Py_XDECREF(before[i]);
    }
    return 0;
}

/* Attributes that must have a type of this module; anything else counts as None, which stands for NULL. */

static PyObject *
get_typed(SocketPath *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (Py_ssize_t)offset);

    return Py_NewRef(value == NULL ? Py_None : value);
}

static int
set_typed(SocketPath *self, PyObject *value, void *offset, PyTypeObject *type)
{
    PyObject **place = (PyObject **)((char *)self + (Py_ssize_t)offset);

    Py_XSETREF(*place, value != NULL && PyObject_TypeCheck(value, type) ? Py_NewRef(value) : NULL);
    return 0;
}

static int
set_queue(SocketPath *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->queue_type);
}

static int
set_decoder(SocketPath *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->decoder_type);
}

static PyObject *
get_next_message(SocketPath *self, void *Py_UNUSED(closure))
{
    return socketpath_next(self, Py_None);
}

static PyGetSetDef SocketPath_getset[] = {
    {"_ws_lock", (getter)get_lock, (setter)set_lock, NULL, NULL},
    {"_ws_queue", (getter)get_typed, (setter)set_queue, NULL, (void *)PLACE(queue)},
    {"_ws_decoder", (getter)get_typed, (setter)set_decoder, NULL, (void *)PLACE(decoder)},
    {"_ws_next_message", (getter)get_next_message, NULL, NULL, NULL},
    {NULL},
};

static PyMemberDef SocketPath_members[] = {
    {"_ws_ident", T_OBJECT_EX, PLACE(ident), 0, NULL},
    {"_ws_wire", T_OBJECT_EX, PLACE(wire), 0, NULL},
    {"_ws_reader", T_OBJECT_EX, PLACE(reader), 0, NULL},
    {"_ws_writer", T_OBJECT_EX, PLACE(writer), 0, NULL},
    {"_ws_stream", T_OBJECT, PLACE(stream), 0, NULL},
    {"_ws_channel", T_OBJECT, PLACE(channel), 0, NULL},
    {"_ws_life", T_OBJECT_EX, PLACE(life), 0, NULL},
    {"_ws_may_send", T_OBJECT_EX, PLACE(may_send), 0, NULL},
    {"_ws_epoch", T_ULONGLONG, PLACE(epoch), 0, NULL},
    {"_ws_receiver", T_ULONGLONG, PLACE(receiver), 0, NULL},
    {"_ws_reading_thread", T_ULONGLONG, PLACE(reading_thread), 0, NULL},
    {"_ws_writing_thread", T_ULONGLONG, PLACE(writing_thread), 0, NULL},
    {"_ws_bytes_received", T_ULONGLONG, PLACE(bytes_received), 0, NULL},
    {"_ws_bytes_sent", T_ULONGLONG, PLACE(bytes_sent), 0, NULL},
    {"_ws_messages_sent", T_ULONGLONG, PLACE(messages_sent), 0, NULL},
    {"_ws_payload_sent", T_ULONGLONG, PLACE(payload_sent), 0, NULL},
    {"_ws_bypassed", T_ULONGLONG, PLACE(bypassed), 0, NULL},
    {"_ws_bypassing", T_PYSSIZET, PLACE(bypassing), 0, NULL},
    {"_ws_waiting", T_INT, PLACE(waiting), 0, NULL},
    {"_ws_listed", T_BOOL, PLACE(listed), 0, NULL},
    {"_ws_lost", T_BOOL, PLACE(lost), 0, NULL},
    {"_ws_broken", T_BOOL, PLACE(broken), 0, NULL},
    {"_ws_owing", T_BOOL, PLACE(owing), 0, NULL},
    {"_ws_plain", T_BOOL, PLACE(plain), 0, NULL},
    {"_ws_sealing", T_BOOL, PLACE(sealing), 0, NULL},
    {"_ws_client", T_BOOL, PLACE(client), 0, NULL},
    {NULL},
};

static PyMethodDef SocketPath_methods[] = {
    {"_ws_next", (PyCFunction)socketpath_next, METH_O, "Receive the next message."},
    {"_ws_send_now", (PyCFunction)socketpath_send_now, METH_O,
     "Send a message in one frame, if nothing is in its way; return whether that was done."},
    {NULL},
};

PyDoc_STRVAR(socket_path_doc,
"SocketPath()\n--\n\n"
"The fast path of a message between a socket and a thread.");

static PyType_Slot SocketPath_slots[] = {
    {Py_tp_doc, (void *)socket_path_doc},
    {Py_tp_new, SocketPath_new},
    {Py_tp_dealloc, SocketPath_dealloc},
    {Py_tp_traverse, SocketPath_traverse},
    {Py_tp_clear, SocketPath_clear},
    {Py_tp_methods, SocketPath_methods},
    {Py_tp_members, SocketPath_members},
    {Py_tp_getset, SocketPath_getset},
    {0, NULL},
};

static PyType_Spec SocketPath_spec = {
    .name = "websockets._codec._native.SocketPath",
    .basicsize = sizeof(SocketPath),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = SocketPath_slots,
};

PyDoc_STRVAR(know_roles_doc,
"know_roles($module, free, taken, flag, /)\n--\n\n"
"Set the roles that nobody and a thread has, and the flag of a call of a socket that must not wait.");

static PyObject *
know_roles(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = native_state(module);

    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "know_roles expected 3 arguments, got %zd", count);
    }
    /* They are set before there is a connection, and never again. */
    if (state->role_free == NULL) {
        state->role_free = Py_NewRef(args[0]);
        state->role_taken = Py_NewRef(args[1]);
        state->dont_wait = Py_NewRef(args[2]);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"know_roles", (PyCFunction)(void (*)(void))know_roles, METH_FASTCALL, know_roles_doc},
    {NULL},
};

int
socketpath_add_type(PyObject *module, State *state)
{
    if (native_add_type(module, &SocketPath_spec, &state->socket_path_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
