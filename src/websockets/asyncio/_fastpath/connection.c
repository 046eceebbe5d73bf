/* The base class of connections: its attributes and its methods. And two more base classes, of prepared messages and
   of what says whether a connection may send.

   May know: what attributes there are, and of which types. Must not know: what the other files do with them. */

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
Pump_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Pump *self = (Pump *)type->tp_alloc(type, 0);

    if (self == NULL) {
        return NULL;
    }
    self->state = native_state_of((PyObject *)self);
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

PyDoc_STRVAR(send_now_doc,
"_send_now($self, message, text, /)\n--\n\n"
"Send a message in one frame, if nothing stands in the way of sending it at once.");

PyDoc_STRVAR(put_doc,
"_put($self, frame, size, /)\n--\n\n"
"Send a frame with a message of size bytes: hold it back while more received messages wait, write it otherwise.");

PyDoc_STRVAR(hold_doc,
"_hold($self, frame, size, /)\n--\n\n"
"Hold back a frame with a message of size bytes, until somebody flushes or too many bytes are held back.");

static PyMethodDef Pump_methods[] = {
    {"get_buffer", (PyCFunction)fastpath_get_buffer_guarded, METH_O, "Called by the loop: where to read into."},
    {"buffer_updated", (PyCFunction)fastpath_buffer_updated_guarded, METH_O, "Called by the loop: how much was read."},
    {"data_received", (PyCFunction)fastpath_data_received_guarded, METH_O,
     "Called by the loop, or by a class that wants to see what is read."},
    {"_deliver", (PyCFunction)fastpath_deliver_guarded, METH_NOARGS,
     "Resume the task that waits for a message, or stop reading."},
    {"_next", (PyCFunction)fastpath_next, METH_NOARGS, "What gives the next message when it is awaited."},
    {"_send_now", (PyCFunction)(void (*)(void))fastpath_send_now_guarded, METH_FASTCALL, send_now_doc},
    {"_put", (PyCFunction)(void (*)(void))fastpath_put_message_guarded, METH_FASTCALL, put_doc},
    {"_hold", (PyCFunction)(void (*)(void))fastpath_hold_message_guarded, METH_FASTCALL, hold_doc},
    {"_write_out", (PyCFunction)fastpath_write_guarded, METH_O, "Write frames."},
    {"_take_corked", (PyCFunction)fastpath_take_corked_guarded, METH_NOARGS, "Take out the frames that are held back."},
    {NULL},
};

/* Attributes that must have a certain type; None stands for NULL. */

static PyObject *
get_typed(Pump *self, void *offset)
{
    PyObject *value = *(PyObject **)((char *)self + (Py_ssize_t)offset);

    return Py_NewRef(value == NULL ? Py_None : value);
}

static GUARDED(get_typed, (Pump * self, void *offset), (self, offset))

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

/* Only a decoder of this module can be fed from here; any other is as good as none. */
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

/* What is known of one transport needn't be true of another: forget it. */
static int
set_transport(Pump *self, PyObject *value, void *Py_UNUSED(offset))
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
get_transport(Pump *self, void *Py_UNUSED(offset))
{
    if (self->transport == NULL) {
        PyErr_SetString(PyExc_AttributeError, "transport");
        return NULL;
    }
    return Py_NewRef(self->transport);
}

static GUARDED(get_transport, (Pump * self, void *offset), (self, offset))

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
fastpath_add_connection(PyObject *module, State *state)
{
    if (native_add_type(module, &Encoded_spec, &state->encoded_type) < 0 ||
        native_add_type(module, &SendingHalf_spec, &state->sending_half_type) < 0) {
        return -1;
    }
    return native_add_type(module, &Pump_spec, &state->pump_type);
}
