/* Frames to bytes (RFC 6455 section 5.2).

   May know: headers, masks.
   Must not know: messages, connections. */

#include "_codec.h"

Py_ssize_t
codec_write_header(uint8_t *p, uint8_t head, Py_ssize_t size, const uint8_t *mask)
{
    uint8_t masked = mask == NULL ? 0 : MASK_BIT;
    Py_ssize_t length = size <= MAX_LENGTH_7 ? 2 : size <= MAX_LENGTH_16 ? 4 : 10;

    p[0] = head;
    p[1] = masked | (uint8_t)(length == 2 ? size : length == 4 ? LENGTH_16 : LENGTH_64);
    for (Py_ssize_t i = length - 1; i >= 2; i--) {
        p[i] = (uint8_t)size;
        size >>= 8;
    }
    if (mask != NULL) {
        memcpy(p + length, mask, 4);
        length += 4;
    }
    return length;
}

static int
check_head(long head)
{
    if (0 <= head && head <= 255) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "the first byte of a frame must be in 0..255, not %ld", head);
    return -1;
}

static PyObject *
make_frame(long head, const Py_buffer *payload, const uint8_t *mask)
{
    uint8_t header[MAX_HEADER];
    Py_ssize_t length;
    PyObject *frame;

    if (check_head(head) < 0) {
        return NULL;
    }
    length = codec_write_header(header, (uint8_t)head, payload->len, mask);
    if (payload->len > PY_SSIZE_T_MAX - length) {
        return PyErr_NoMemory();
    }
    frame = PyBytes_FromStringAndSize(NULL, length + payload->len);
    if (frame != NULL) {
        uint8_t *p = (uint8_t *)PyBytes_AS_STRING(frame);
        memcpy(p, header, length);
        codec_unmask(p + length, payload->buf, payload->len, mask, 0);
    }
    return frame;
}

PyDoc_STRVAR(build_frame_doc,
"build_frame($module, head, payload, mask, /)\n--\n\n"
"Return a frame: head is its first byte; mask is four bytes, or None for a frame that isn't masked.");

static PyObject *
build_frame(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *frame = NULL;
    Py_buffer payload, mask;
    long head;

    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "build_frame expected 3 arguments, got %zd", count);
    }
    head = PyLong_AsLong(args[0]);
    if ((head == -1 && PyErr_Occurred()) || PyObject_GetBuffer(args[1], &payload, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (args[2] == Py_None) {
        frame = make_frame(head, &payload, NULL);
    }
    else if (PyObject_GetBuffer(args[2], &mask, PyBUF_SIMPLE) == 0) {
        frame = codec_check_mask(&mask) < 0 ? NULL : make_frame(head, &payload, mask.buf);
        PyBuffer_Release(&mask);
    }
    PyBuffer_Release(&payload);
    return frame;
}

PyDoc_STRVAR(build_header_doc,
"build_header($module, head, size, /)\n--\n\n"
"Return the header of an unmasked frame: head is its first byte, size the number of bytes in its payload.");

static PyObject *
build_header(PyObject *Py_UNUSED(module), PyObject *args)
{
    uint8_t header[MAX_HEADER];
    Py_ssize_t size;
    long head;

    if (!PyArg_ParseTuple(args, "ln:build_header", &head, &size) || check_head(head) < 0) {
        return NULL;
    }
    if (size < 0) {
        return PyErr_Format(PyExc_ValueError, "a payload can't have %zd bytes", size);
    }
    return PyBytes_FromStringAndSize((char *)header, codec_write_header(header, (uint8_t)head, size, NULL));
}

static PyMethodDef functions[] = {
    {"build_frame", (PyCFunction)(void (*)(void))build_frame, METH_FASTCALL, build_frame_doc},
    {"build_header", build_header, METH_VARARGS, build_header_doc},
    {NULL},
};

int
codec_add_frames(PyObject *module, State *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
