/* Memory that belongs to another object: the buffer for reads, and bytes that are written without a copy.

   May know: Python's buffers.
   Must not know: messages, connections. */

#include "fastpath.h"

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

PyObject *
fastpath_view_of(State *state, PyObject *owner, const void *data, Py_ssize_t size)
{
    Span *span = span_of(state, owner, (void *)data, size, 1);
    PyObject *view = span == NULL ? NULL : PyMemoryView_FromObject((PyObject *)span);

    Py_XDECREF(span);
    return view;
}

/* Kernels copy to such addresses up to twice as fast as to others. */
enum { ALIGNMENT = 64 };
#define BEFORE_ALIGNED(address) (-(uintptr_t)(address) & (ALIGNMENT - 1))

PyDoc_STRVAR(read_buffer_doc,
"read_buffer($module, size, /)\n--\n\n"
"Return memory for a loop to read into; size is in bytes.");

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
    /* In two steps: if memory runs out within one step, Python frees a bytearray with members that were never set. */
    owner = PyByteArray_FromStringAndSize(NULL, 0);
    if (owner == NULL || PyByteArray_Resize(owner, size + ALIGNMENT) < 0) {
        Py_XDECREF(owner);
        return NULL;
    }
    data = PyByteArray_AS_STRING(owner);
    span = span_of(native_state(module), owner, data + BEFORE_ALIGNED(data), size, 0);
    Py_DECREF(owner);
    return (PyObject *)span;
}

static PyMethodDef functions[] = {
    {"read_buffer", read_buffer, METH_O, read_buffer_doc},
    {NULL},
};

int
fastpath_add_buffer(PyObject *module, State *state)
{
    if (native_add_type(module, &Span_spec, &state->span_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
