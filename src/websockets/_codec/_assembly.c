/* A fragmented message that is being received: its fragments, until somebody takes the message or each of them.

   May know: Python objects of any type, the queue, the first byte of a frame.
   Must not know: whole frames, tasks.

   An assembly is guarded by its own lock where Python has no GIL. */

#include "_codec.h"

/* Fragments are joined when this many are stored, so that many tiny fragments need little more memory than their
   bytes. */
enum { MERGE_AFTER = 64 };

/* A new assembly has room for this number of fragments. */
enum { FIRST_PIECES = 8 };

static PyObject *
assembly_new(PyTypeObject *type, int text)
{
    Assembly *self = (Assembly *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->text = (char)text;
    }
    return (PyObject *)self;
}

static PyObject *
Assembly_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", NULL};
    int text;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "p:Assembly", names, &text)) {
        return NULL;
    }
    return assembly_new(type, text);
}

static void
drop_pieces(Assembly *self)
{
    while (self->count) {
        Py_DECREF(self->pieces[self->first + --self->count]);
    }
    self->first = 0;
}

static void
Assembly_dealloc(Assembly *self)
{
    PyTypeObject *type = Py_TYPE(self);

    drop_pieces(self);
    PyMem_Free(self->pieces);
    Py_XDECREF(self->merged);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t
merged_size(const Assembly *self)
{
    return self->merged == NULL ? 0 : PyByteArray_GET_SIZE(self->merged);
}

/* The number of bytes that are stored; -1 with an exception if no object can have so many. */
static Py_ssize_t
stored_size(const Assembly *self)
{
    Py_ssize_t size = merged_size(self);

    for (Py_ssize_t i = 0; i < self->count; i++) {
        Py_ssize_t piece = PyBytes_GET_SIZE(self->pieces[self->first + i]);
        if (piece > PY_SSIZE_T_MAX - size) {
            PyErr_NoMemory();
            return -1;
        }
        size += piece;
    }
    return size;
}

/* Copy the fragments to p. Return whether a byte has its high bit set. */
static int
lay_out_pieces(const Assembly *self, uint8_t *p)
{
    int beyond_ascii = 0;

    for (Py_ssize_t i = 0; i < self->count; i++) {
        PyObject *piece = self->pieces[self->first + i];
        Py_ssize_t size = PyBytes_GET_SIZE(piece);
        beyond_ascii |= codec_unmask(p, (uint8_t *)PyBytes_AS_STRING(piece), size, NULL, 0);
        p += size;
    }
    return beyond_ascii;
}

/* The same, with what was joined before. */
static int
lay_out(const Assembly *self, uint8_t *p)
{
    Py_ssize_t size = merged_size(self);
    int beyond_ascii = 0;

    if (size) {
        beyond_ascii = codec_unmask(p, (uint8_t *)PyByteArray_AS_STRING(self->merged), size, NULL, 0);
    }
    return beyond_ascii | lay_out_pieces(self, p + size);
}

/* Join the fragments that are stored, by themselves or after those that were joined before. */
static int
merge(Assembly *self)
{
    Py_ssize_t before = merged_size(self), size = stored_size(self);

    if (size < 0) {
        return -1;
    }
    if (self->merged == NULL) {
        self->merged = PyByteArray_FromStringAndSize(NULL, 0);
    }
    if (self->merged == NULL || PyByteArray_Resize(self->merged, size) < 0) {
        return -1;
    }
    (void)lay_out_pieces(self, (uint8_t *)PyByteArray_AS_STRING(self->merged) + before);
    drop_pieces(self);
    return 0;
}

/* Make room for another fragment. */
static int
make_room(Assembly *self)
{
    Py_ssize_t capacity = self->capacity ? self->capacity * 2 : FIRST_PIECES;
    PyObject **pieces;

    if (self->first + self->count < self->capacity) {
        return 0;
    }
    if (self->first) {
        memmove(self->pieces, self->pieces + self->first, (size_t)self->count * sizeof(PyObject *));
        self->first = 0;
        return 0;
    }
    pieces = PyMem_Realloc(self->pieces, (size_t)capacity * sizeof(PyObject *));
    if (pieces == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->pieces = pieces;
    self->capacity = capacity;
    return 0;
}

/* Store the next fragment, which is bytes. Take over the reference to it. */
static int
assembly_add(Assembly *self, PyObject *piece)
{
    if (make_room(self) < 0) {
        Py_DECREF(piece);
        return -1;
    }
    self->waiting++;
    self->pieces[self->first + self->count++] = piece;
    return self->count >= MERGE_AFTER ? merge(self) : 0;
}

/* Return the next fragment, or several joined. */
static PyObject *
assembly_take(Assembly *self)
{
    PyObject *piece;

    if (merged_size(self)) {
        piece = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self->merged), merged_size(self));
        if (piece != NULL) {
            Py_CLEAR(self->merged);
            self->waiting = self->count;
        }
        return piece;
    }
    if (self->count == 0) {
        self->waiting = 0;
        Py_RETURN_NONE;
    }
    self->waiting--;
    self->count--;
    return self->pieces[self->first++];
}

/* Return all fragments as a str. */
static PyObject *
join_text(const Assembly *self, Py_ssize_t size)
{
    PyObject *ascii, *text;
    uint8_t *data;

    if (size == 0) {
        return PyUnicode_FromStringAndSize(NULL, 0);
    }
    ascii = PyUnicode_New(size, 127);
    if (ascii == NULL) {
        return NULL;
    }
    data = PyUnicode_DATA(ascii);
    if (!lay_out(self, data)) {
        return ascii;
    }
    text = PyUnicode_DecodeUTF8((const char *)data, size, "strict");
    /* Its bytes aren't ASCII, so it isn't a valid str. A debug build of Python checks that when it frees it. */
    memset(data, 0, (size_t)size);
    Py_DECREF(ascii);
    return text;
}

/* Return all fragments that were not taken, as one message. */
static PyObject *
assembly_whole(const Assembly *self)
{
    Py_ssize_t size = stored_size(self);
    PyObject *payload;

    if (size < 0) {
        return NULL;
    }
    if (self->text) {
        return join_text(self, size);
    }
    payload = PyBytes_FromStringAndSize(NULL, size);
    if (payload != NULL) {
        (void)lay_out(self, (uint8_t *)PyBytes_AS_STRING(payload));
    }
    return payload;
}

/* -------------------------------------------------------------------------------------------------- from Python */

static PyObject *
Assembly_add(Assembly *self, PyObject *piece)
{
    int failed;

    if (!PyBytes_CheckExact(piece)) {
        return PyErr_Format(PyExc_TypeError, "a fragment must be bytes, not %s", Py_TYPE(piece)->tp_name);
    }
    Py_BEGIN_CRITICAL_SECTION(self);
    failed = assembly_add(self, Py_NewRef(piece)) < 0;
    Py_END_CRITICAL_SECTION();
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Assembly_take(Assembly *self, PyObject *Py_UNUSED(unused))
{
    PyObject *piece;

    Py_BEGIN_CRITICAL_SECTION(self);
    piece = assembly_take(self);
    Py_END_CRITICAL_SECTION();
    return piece;
}

static PyObject *
Assembly_whole(Assembly *self, PyObject *Py_UNUSED(unused))
{
    PyObject *message;

    Py_BEGIN_CRITICAL_SECTION(self);
    message = assembly_whole(self);
    Py_END_CRITICAL_SECTION();
    return message;
}

/* --------------------------------------------------------------------------------------------------- in a queue */

/* The number of fragments beyond the first, for which the entry in the queue stands. */
static Py_ssize_t
extra_of(const Assembly *self)
{
    return self->waiting > 1 ? self->waiting - 1 : 0;
}

/* Store a fragment in the current message of the queue, which the caller owns. Take over the reference to payload. */
static int
add_to_current(Queue *queue, Assembly *current, uint8_t head, PyObject *payload)
{
    Py_ssize_t before;
    int failed;

    Py_BEGIN_CRITICAL_SECTION(current);
    before = extra_of(current);
    failed = assembly_add(current, payload) < 0;
    queue->extra += extra_of(current) - before;
    current->complete |= (head & FIN) && !failed;
    Py_END_CRITICAL_SECTION();
    return failed ? -1 : 0;
}

int
codec_queue_add_fragment(State *state, Queue *queue, uint8_t head, PyObject *payload)
{
    Assembly *current;
    int failed;

    if ((head & OPCODE_MASK) != OPCODE_CONT) {
        current = (Assembly *)assembly_new(state->assembly_type, (head & OPCODE_MASK) == OPCODE_TEXT);
        if (current == NULL || codec_queue_push(queue, Py_NewRef(current)) < 0) {
            Py_XDECREF(current);
            Py_DECREF(payload);
            return -1;
        }
        codec_queue_set_current(queue, Py_NewRef(current));
    }
    else {
        current = (Assembly *)codec_queue_get_current(queue);
    }
    if (current == NULL) {
        /* The rest of a message that its reader left, or that was discarded. */
        Py_DECREF(payload);
        return 0;
    }
    failed = add_to_current(queue, current, head, payload);
    if (head & FIN) {
        codec_queue_set_current(queue, NULL);
    }
    Py_DECREF(current);
    return failed;
}

PyObject *
codec_queue_take(State *state, Queue *queue)
{
    PyObject *item, *message;
    int ready;

    Py_BEGIN_CRITICAL_SECTION(queue);
    ready = queue->count && !codec_is_incomplete(state, QUEUE_FIRST(queue));
    item = ready ? Py_NewRef(QUEUE_FIRST(queue)) : NULL;
    Py_END_CRITICAL_SECTION();
    if (item == NULL || !Py_IS_TYPE(item, state->assembly_type)) {
        Py_XDECREF(item);
        return ready ? codec_queue_shift(queue) : NULL;
    }
    /* Before the fragments leave the queue, as there may be no memory for it. */
    message = Assembly_whole((Assembly *)item, NULL);
    if (message != NULL) {
        queue->extra -= extra_of((Assembly *)item);
        Py_XDECREF(codec_queue_shift(queue));
    }
    Py_DECREF(item);
    return message;
}

static PyMethodDef Assembly_methods[] = {
    {"add", (PyCFunction)Assembly_add, METH_O, "Add the payload of the next fragment."},
    {"take", (PyCFunction)Assembly_take, METH_NOARGS, "Return the next fragment, or several joined; None for none."},
    {"whole", (PyCFunction)Assembly_whole, METH_NOARGS, "Return all fragments that were not taken, as one message."},
    {NULL},
};

static PyMemberDef Assembly_members[] = {
    {"complete", T_BOOL, offsetof(Assembly, complete), 0, "Whether the last fragment has arrived."},
    {"text", T_BOOL, offsetof(Assembly, text), READONLY, "Whether it is a text message."},
    {"waiting", T_PYSSIZET, offsetof(Assembly, waiting), READONLY, "Number of fragments that wait to be taken."},
    {NULL},
};

static PyType_Slot Assembly_slots[] = {
    {Py_tp_doc, "Assembly(text)\n--\n\nA fragmented message that is being received."},
    {Py_tp_new, Assembly_new},
    {Py_tp_dealloc, Assembly_dealloc},
    {Py_tp_methods, Assembly_methods},
    {Py_tp_members, Assembly_members},
    {0, NULL},
};

/* It refers to bytes alone, so it can't be in a cycle. */
static PyType_Spec Assembly_spec = {
    .name = "websockets._codec._native.Assembly",
    .basicsize = sizeof(Assembly),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Assembly_slots,
};

int
codec_add_assembly(PyObject *module, State *state)
{
    return native_add_type(module, &Assembly_spec, &state->assembly_type);
}
