/* The queue of received messages: a ring that grows.

   May know: Python objects of any type.
   Must not know: frames, tasks.

   A queue is guarded by its own lock where Python has no GIL. */

#include "_codec.h"

/* An empty queue keeps the memory for this number of items: most connections never need more. */
enum { QUEUE_KEEPS = 64 };

static int
queue_grow(Queue *self)
{
    Py_ssize_t capacity = self->capacity ? self->capacity * 2 : 4;
    PyObject **items = PyMem_New(PyObject *, capacity);

    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < self->count; i++) {
        items[i] = self->items[(self->first + i) & (self->capacity - 1)];
    }
    PyMem_Free(self->items);
    self->items = items;
    self->first = 0;
    self->capacity = capacity;
    return 0;
}

int
codec_queue_push(Queue *self, PyObject *item)
{
    int failed = 0;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count == self->capacity) {
        failed = queue_grow(self) < 0;
    }
    if (!failed) {
        self->items[(self->first + self->count++) & (self->capacity - 1)] = item;
    }
    Py_END_CRITICAL_SECTION();
    if (failed) {
        Py_DECREF(item);
        return -1;
    }
    return 0;
}

/* Add an item at the front, which was taken from there. */
static int
queue_unshift(Queue *self, PyObject *item)
{
    int failed = 0;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count == self->capacity) {
        failed = queue_grow(self) < 0;
    }
    if (!failed) {
        self->first = (self->first - 1) & (self->capacity - 1);
        self->items[self->first] = Py_NewRef(item);
        self->count++;
    }
    Py_END_CRITICAL_SECTION();
    return failed ? -1 : 0;
}

PyObject *
codec_queue_shift(Queue *self)
{
    PyObject *item = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count) {
        item = QUEUE_FIRST(self);
        self->first = (self->first + 1) & (self->capacity - 1);
        self->count--;
        if (self->count == 0 && self->capacity > QUEUE_KEEPS) {
            PyMem_Free(self->items);
            self->items = NULL;
            self->first = self->capacity = 0;
        }
    }
    Py_END_CRITICAL_SECTION();
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    }
    return item;
}

PyObject *
codec_queue_get_current(Queue *self)
{
    PyObject *current;

    Py_BEGIN_CRITICAL_SECTION(self);
    current = Py_XNewRef(self->current);
    Py_END_CRITICAL_SECTION();
    return current;
}

void
codec_queue_set_current(Queue *self, PyObject *current)
{
    PyObject *before;

    Py_BEGIN_CRITICAL_SECTION(self);
    before = self->current;
    self->current = current;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(before);
}

static PyObject *
Queue_append(Queue *self, PyObject *item)
{
    if (codec_queue_push(self, Py_NewRef(item)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Queue_appendleft(Queue *self, PyObject *item)
{
    if (queue_unshift(self, item) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Queue_popleft(Queue *self, PyObject *Py_UNUSED(unused))
{
    return codec_queue_shift(self);
}

static PyObject *
Queue_pop(Queue *self, PyObject *Py_UNUSED(unused))
{
    PyObject *item = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (self->count) {
        item = self->items[(self->first + --self->count) & (self->capacity - 1)];
    }
    Py_END_CRITICAL_SECTION();
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "pop from an empty queue");
    }
    return item;
}

static Py_ssize_t
Queue_length(Queue *self)
{
    return self->count;
}

static PyObject *
Queue_item(Queue *self, Py_ssize_t index)
{
    PyObject *item = NULL;

    Py_BEGIN_CRITICAL_SECTION(self);
    if (0 <= index && index < self->count) {
        item = Py_NewRef(self->items[(self->first + index) & (self->capacity - 1)]);
    }
    Py_END_CRITICAL_SECTION();
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "queue index out of range");
    }
    return item;
}

static int
Queue_traverse(Queue *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->current);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_VISIT(self->items[(self->first + i) & (self->capacity - 1)]);
    }
    return 0;
}

static int
Queue_clear(Queue *self)
{
    Py_CLEAR(self->current);
    while (self->count) {
        Py_DECREF(codec_queue_shift(self));
    }
    PyMem_Free(self->items);
    self->items = NULL;
    self->first = self->capacity = 0;
    return 0;
}

static void
Queue_dealloc(Queue *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Queue_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
Queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Queue *self = (Queue *)PyType_GenericNew(type, args, kwargs);

    if (self != NULL) {
        self->assembles = 1;
    }
    return (PyObject *)self;
}

static PyObject *
Queue_add_fragment(Queue *self, PyObject *const *args, Py_ssize_t count)
{
    long head = count == 2 ? PyLong_AsLong(args[0]) : -1;

    if (head == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (head < 0 || head > 255 || !PyBytes_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "add_fragment expected the first byte of a frame, and bytes");
        return NULL;
    }
    if (codec_queue_add_fragment(native_state_of((PyObject *)self), self, (uint8_t)head, Py_NewRef(args[1])) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Queue_take(Queue *self, PyObject *Py_UNUSED(unused))
{
    PyObject *message = codec_queue_take(native_state_of((PyObject *)self), self);

    if (message == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return message;
}

static PyMethodDef Queue_methods[] = {
    {"add_fragment", (PyCFunction)(void (*)(void))Queue_add_fragment, METH_FASTCALL,
     "add_fragment($self, head, payload, /)\n--\n\nStore a fragment in the message that is arriving."},
    {"take", (PyCFunction)Queue_take, METH_NOARGS,
     "Remove and return the next message, with its fragments joined; None if it isn't complete."},
    {"append", (PyCFunction)Queue_append, METH_O, "Add an item at the end."},
    {"appendleft", (PyCFunction)Queue_appendleft, METH_O, "Add an item at the front."},
    {"popleft", (PyCFunction)Queue_popleft, METH_NOARGS, "Remove and return the first item."},
    {"pop", (PyCFunction)Queue_pop, METH_NOARGS, "Remove and return the last item."},
    {NULL},
};

static PyMemberDef Queue_members[] = {
    {"assembles", T_BOOL, offsetof(Queue, assembles), 0, "Whether decoders may add fragments to it themselves."},
    {"extra", T_PYSSIZET, offsetof(Queue, extra), 0, "Fragments in assemblies, apart from the entry that each has."},
    {NULL},
};

static PyObject *
Queue_get_current(Queue *self, void *Py_UNUSED(closure))
{
    PyObject *current = codec_queue_get_current(self);

    return current == NULL ? Py_NewRef(Py_None) : current;
}

static int
Queue_set_current(Queue *self, PyObject *value, void *Py_UNUSED(closure))
{
    if (value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "current can only be set to None");
        return -1;
    }
    codec_queue_set_current(self, NULL);
    return 0;
}

static PyGetSetDef Queue_getset[] = {
    {"current", (getter)Queue_get_current, (setter)Queue_set_current,
     "The assembly of the message that is arriving in fragments; None if there is none.", NULL},
    {NULL},
};

PyDoc_STRVAR(queue_doc,
"Queue()\n--\n\n"
"Items in order of arrival. An empty queue takes hardly any memory.");

static PyType_Slot Queue_slots[] = {
    {Py_tp_doc, (void *)queue_doc},
    {Py_tp_new, Queue_new},
    {Py_tp_dealloc, Queue_dealloc},
    {Py_tp_traverse, Queue_traverse},
    {Py_tp_clear, Queue_clear},
    {Py_tp_methods, Queue_methods},
    {Py_tp_getset, Queue_getset},
    {Py_tp_members, Queue_members},
    {Py_sq_length, Queue_length},
    {Py_sq_item, Queue_item},
    {0, NULL},
};

static PyType_Spec Queue_spec = {
    .name = "websockets._codec._native.Queue",
    .basicsize = sizeof(Queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = Queue_slots,
};

int
codec_add_queue(PyObject *module, State *state)
{
    return native_add_type(module, &Queue_spec, &state->queue_type);
}
