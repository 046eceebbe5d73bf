/* The base class of connections: its attributes and its methods. Two more base classes: of prepared messages, and of
   the state that decides whether a connection may send.

   May know: the attributes and their types. Must not know: how the other files use them. */

#include "fastpath.h"

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
    {Py_tp_doc, "A message, and the frame that contains it where nothing masks or compresses it."},
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

static PyObject *
FastPath_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    FastPath *self = (FastPath *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->state = native_state_of((PyObject *)self);
    self->write_waiters = Py_NewRef(Py_None);
    self->send_lock = Py_NewRef(Py_None);
    self->pack = Py_NewRef(Py_None);
    self->inflate = Py_NewRef(Py_None);
    self->high = PY_SSIZE_T_MAX;
    return (PyObject *)self;
}

static int
FastPath_traverse(FastPath *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->protocol);
    Py_VISIT(self->loop);
    Py_VISIT(self->transport);
    Py_VISIT(self->life);
    Py_VISIT(self->may_send);
    Py_VISIT(self->write_waiters);
    Py_VISIT(self->send_lock);
    Py_VISIT(self->buffer);
    Py_VISIT(self->pack);
    Py_VISIT(self->inflate);
    Py_VISIT(self->queue);
    Py_VISIT(self->decoder);
    Py_VISIT(self->metered);
    Py_VISIT(self->receiver);
    Py_VISIT(self->socket);
    return 0;
}

static int
FastPath_clear(FastPath *self)
{
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->life);
    Py_CLEAR(self->may_send);
    Py_CLEAR(self->write_waiters);
    Py_CLEAR(self->send_lock);
    Py_CLEAR(self->buffer);
    Py_CLEAR(self->pack);
    Py_CLEAR(self->inflate);
    Py_CLEAR(self->queue);
    Py_CLEAR(self->decoder);
    Py_CLEAR(self->metered);
    Py_CLEAR(self->receiver);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->cork);
    self->corked = 0;
    return 0;
}

static void
FastPath_dealloc(FastPath *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    FastPath_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(send_now_doc,
"_ws_send_now($self, message, text, /)\n--\n\n"
"Send a message at once, in one frame, if the fast path can.");

PyDoc_STRVAR(put_doc,
"_ws_put($self, frame, size, /)\n--\n\n"
"Send the frame of a message of size bytes; hold it back while the receive queue has messages.");

PyDoc_STRVAR(hold_doc,
"_ws_hold($self, frame, size, /)\n--\n\n"
"Hold back the frame of a message of size bytes, until a flush, or until too many bytes are held back.");

static PyMethodDef FastPath_methods[] = {
    {"get_buffer", (PyCFunction)fastpath_get_buffer_guarded, METH_O, "Return the buffer to read into."},
    {"buffer_updated", (PyCFunction)fastpath_buffer_updated_guarded, METH_O, "Process bytes that were read."},
    {"data_received", (PyCFunction)fastpath_data_received_guarded, METH_O,
     "Process data; event loops with a buffer of their own call this."},
    {"_ws_deliver", (PyCFunction)fastpath_deliver_guarded, METH_NOARGS,
     "Resume the task that waits for a message, or pause reading."},
    {"_ws_next", (PyCFunction)fastpath_next, METH_NOARGS, "Return an awaitable for the next message."},
    {"_ws_send_now", (PyCFunction)(void (*)(void))fastpath_send_now_guarded, METH_FASTCALL, send_now_doc},
    {"_ws_put", (PyCFunction)(void (*)(void))fastpath_put_message_guarded, METH_FASTCALL, put_doc},
    {"_ws_hold", (PyCFunction)(void (*)(void))fastpath_hold_message_guarded, METH_FASTCALL, hold_doc},
    {"_ws_write_out", (PyCFunction)fastpath_write_guarded, METH_O, "Write frames."},
    {"_ws_write_last", (PyCFunction)fastpath_write_last_guarded, METH_O, "Write frames before the end of the stream."},
    {"_ws_take_corked", (PyCFunction)fastpath_take_corked_guarded, METH_NOARGS, "Take out the frames held back."},
    {NULL},
};

/* Attributes that must have a certain type; None stands for NULL. */

static PyObject *
get_typed(FastPath *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (Py_ssize_t)offset);

    return Py_NewRef(value == NULL ? Py_None : value);
}

static GUARDED(get_typed, (FastPath * self, void *offset), (self, offset))

static int
set_typed(FastPath *self, PyObject *value, void *offset, PyTypeObject *type)
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
set_buffer(FastPath *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->span_type);
}

static int
set_queue(FastPath *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->queue_type);
}

/* Only a decoder of this module can be fed from C; any other counts as NULL. */
static int
set_decoder(FastPath *self, PyObject *value, void *offset)
{
    if (value != NULL && !PyObject_TypeCheck(value, self->state->decoder_type)) {
        value = NULL;
    }
    return set_typed(self, value, offset, self->state->decoder_type);
}

static int
set_receiver(FastPath *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, self->state->waiter_type);
}

static int
set_socket(FastPath *self, PyObject *value, void *offset)
{
    return set_typed(self, value, offset, &PyBaseObject_Type);
}

/* Forget the socket of the previous transport, because it may not belong to the new one. */
static int
set_transport(FastPath *self, PyObject *value, void *Py_UNUSED(offset))
{
    PyObject *transport, *socket;

    LOCK(self)
    transport = self->transport;
    socket = self->socket;
    self->transport = Py_XNewRef(value);
    self->socket = NULL;
    self->gathers = 0;
    Py_XDECREF(transport);
    Py_XDECREF(socket);
    UNLOCK(self)
    return 0;
}

static PyObject *
get_transport(FastPath *self, void *Py_UNUSED(offset))
{
    if (self->transport == NULL) {
        PyErr_SetString(PyExc_AttributeError, "transport");
        return NULL;
    }
    return Py_NewRef(self->transport);
}

static GUARDED(get_transport, (FastPath * self, void *offset), (self, offset))

static PyGetSetDef FastPath_getset[] = {
    {"transport", (getter)get_transport_guarded, (setter)set_transport, NULL, NULL},
    {"_ws_buffer", (getter)get_typed_guarded, (setter)set_buffer, NULL, (void *)offsetof(FastPath, buffer)},
    {"_ws_queue", (getter)get_typed_guarded, (setter)set_queue, NULL, (void *)offsetof(FastPath, queue)},
    {"_ws_decoder", (getter)get_typed_guarded, (setter)set_decoder, NULL, (void *)offsetof(FastPath, decoder)},
    {"_ws_metered", (getter)get_typed_guarded, (setter)set_decoder, NULL, (void *)offsetof(FastPath, metered)},
    {"_ws_receiver", (getter)get_typed_guarded, (setter)set_receiver, NULL, (void *)offsetof(FastPath, receiver)},
    {"_ws_socket", (getter)get_typed_guarded, (setter)set_socket, NULL, (void *)offsetof(FastPath, socket)},
    {NULL},
};

static PyMemberDef FastPath_members[] = {
    {"protocol", T_OBJECT_EX, offsetof(FastPath, protocol), 0, NULL},
    {"loop", T_OBJECT_EX, offsetof(FastPath, loop), 0, NULL},
    {"_ws_life", T_OBJECT_EX, offsetof(FastPath, life), 0, NULL},
    {"_ws_may_send", T_OBJECT_EX, offsetof(FastPath, may_send), 0, NULL},
    {"_ws_write_waiters", T_OBJECT_EX, offsetof(FastPath, write_waiters), 0, NULL},
    {"_ws_pack", T_OBJECT_EX, offsetof(FastPath, pack), 0, NULL},
    {"_ws_inflate", T_OBJECT_EX, offsetof(FastPath, inflate), 0, NULL},
    {"_ws_send_lock", T_OBJECT_EX, offsetof(FastPath, send_lock), 0, NULL},
    {"_ws_corked", T_PYSSIZET, offsetof(FastPath, corked), READONLY, NULL},
    {"_ws_high", T_PYSSIZET, offsetof(FastPath, high), 0, NULL},
    {"_ws_gathers", T_BOOL, offsetof(FastPath, gathers), 0, NULL},
    {"_ws_torn", T_BOOL, offsetof(FastPath, torn), 0, NULL},
    {"_ws_bytes_received", T_ULONGLONG, offsetof(FastPath, bytes_received), 0, NULL},
    {"_ws_bytes_sent", T_ULONGLONG, offsetof(FastPath, bytes_sent), 0, NULL},
    {"_ws_messages_sent", T_ULONGLONG, offsetof(FastPath, messages_sent), 0, NULL},
    {"_ws_payload_sent", T_ULONGLONG, offsetof(FastPath, payload_sent), 0, NULL},
    {"_ws_saved_sent", T_LONGLONG, offsetof(FastPath, saved_sent), 0, NULL},
    {"_ws_burst", T_INT, offsetof(FastPath, burst), 0, NULL},
    {"_ws_streaming", T_BOOL, offsetof(FastPath, streaming), 0, NULL},
    {"_ws_reading_paused", T_BOOL, offsetof(FastPath, reading_paused), 0, NULL},
    {"_ws_quick", T_BOOL, offsetof(FastPath, quick), 0, NULL},
    {"_ws_plain", T_BOOL, offsetof(FastPath, plain), 0, NULL},
    {"_ws_client", T_BOOL, offsetof(FastPath, client), 0, NULL},
    {"_ws_lost", T_BOOL, offsetof(FastPath, lost), 0, NULL},
    {"_ws_backstop", T_BOOL, offsetof(FastPath, backstop), 0, NULL},
    {NULL},
};

PyDoc_STRVAR(fast_path_doc,
"FastPath()\n--\n\n"
"The fast path of a message between a transport and a task.");

static PyType_Slot FastPath_slots[] = {
    {Py_tp_doc, (void *)fast_path_doc},
    {Py_tp_new, FastPath_new},
    {Py_tp_dealloc, FastPath_dealloc},
    {Py_tp_traverse, FastPath_traverse},
    {Py_tp_clear, FastPath_clear},
    {Py_tp_methods, FastPath_methods},
    {Py_tp_members, FastPath_members},
    {Py_tp_getset, FastPath_getset},
    {0, NULL},
};

static PyType_Spec FastPath_spec = {
    .name = "websockets._codec._native.FastPath",
    .basicsize = sizeof(FastPath),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = FastPath_slots,
};

int
fastpath_add_connection(PyObject *module, State *state)
{
    if (native_add_type(module, &Encoded_spec, &state->encoded_type) < 0 ||
        native_add_type(module, &SendingHalf_spec, &state->sending_half_type) < 0) {
        return -1;
    }
    return native_add_type(module, &FastPath_spec, &state->fast_path_type);
}
