/* Masks (RFC 6455 section 5.3): draw them, apply them.

   May know: bytes, and where random bytes come from.
   Must not know: frames. */

#include "_codec.h"

int
codec_unmask(uint8_t *dst, const uint8_t *src, Py_ssize_t n, const uint8_t *mask, Py_ssize_t shift)
{
    uint8_t key[8] = {0};
    uint64_t wide, word, seen = 0;
    Py_ssize_t i = 0;

    if (mask != NULL) {
        for (int k = 0; k < 8; k++) {
            key[k] = mask[(k + shift) & 3];
        }
    }
    memcpy(&wide, key, 8);
#if defined(__GNUC__)
    /* GCC and Clang need no flags to make this fast; other compilers have the loop below. */
    typedef uint64_t Vector __attribute__((vector_size(16)));
    Vector twice = {wide, wide}, high = {0, 0}, one, two;
    for (; i + 32 <= n; i += 32) {
        memcpy(&one, src + i, 16);
        memcpy(&two, src + i + 16, 16);
        one ^= twice;
        two ^= twice;
        memcpy(dst + i, &one, 16);
        memcpy(dst + i + 16, &two, 16);
        high |= one | two;
    }
    seen = high[0] | high[1];
#endif
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, src + i, 8);
        word ^= wide;
        memcpy(dst + i, &word, 8);
        seen |= word;
    }
    for (; i < n; i++) {
        dst[i] = src[i] ^ key[i & 7];
        seen |= dst[i];
    }
    return (seen & HIGH_BITS) != 0;
}

#if defined(_MSC_VER)
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL _Thread_local
#endif

/* Masks come from a buffer of random bytes that each thread has: asking the operating system for every mask costs more
   than the rest of a frame. */
enum { MASK_BYTES = 4096 };

static THREAD_LOCAL uint8_t mask_bytes[MASK_BYTES];
static THREAD_LOCAL int masks_left;

int
codec_draw_mask(State *state, uint8_t *mask)
{
    if (masks_left == 0) {
        PyObject *random = PyObject_CallMethod(state->os, "urandom", "i", MASK_BYTES);
        if (random == NULL) {
            return -1;
        }
        if (!PyBytes_Check(random) || PyBytes_GET_SIZE(random) != MASK_BYTES) {
            Py_DECREF(random);
            PyErr_SetString(PyExc_RuntimeError, "os.urandom() didn't return what it was asked for");
            return -1;
        }
        memcpy(mask_bytes, PyBytes_AS_STRING(random), MASK_BYTES);
        masks_left = MASK_BYTES / 4;
        Py_DECREF(random);
    }
    masks_left--;
    memcpy(mask, mask_bytes + MASK_BYTES - 4 * (masks_left + 1), 4);
    return 0;
}

PyDoc_STRVAR(new_mask_doc,
"new_mask($module, /)\n--\n\n"
"Return four unpredictable bytes to mask a frame.");

static PyObject *
new_mask(PyObject *module, PyObject *Py_UNUSED(unused))
{
    uint8_t mask[4];

    if (codec_draw_mask(native_state(module), mask) < 0) {
        return NULL;
    }
    return PyBytes_FromStringAndSize((char *)mask, 4);
}

PyDoc_STRVAR(forget_masks_doc,
"forget_masks($module, /)\n--\n\n"
"Discard the random bytes for masks, because a forked child must not use those of its parent.");

static PyObject *
forget_masks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    masks_left = 0;
    Py_RETURN_NONE;
}

int
codec_check_mask(const Py_buffer *mask)
{
    if (mask->len == 4) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "a mask has 4 bytes, not %zd", mask->len);
    return -1;
}

PyDoc_STRVAR(apply_mask_doc,
"apply_mask($module, data, mask, /)\n--\n\n"
"Mask or unmask data with the four bytes of mask (RFC 6455 section 5.3).");

static PyObject *
apply_mask(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *result = NULL;
    Py_buffer data, mask;

    if (!PyArg_ParseTuple(args, "y*y*:apply_mask", &data, &mask)) {
        return NULL;
    }
    if (codec_check_mask(&mask) == 0) {
        result = PyBytes_FromStringAndSize(NULL, data.len);
        if (result != NULL) {
            codec_unmask((uint8_t *)PyBytes_AS_STRING(result), data.buf, data.len, mask.buf, 0);
        }
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&mask);
    return result;
}

static PyMethodDef functions[] = {
    {"apply_mask", apply_mask, METH_VARARGS, apply_mask_doc},
    {"new_mask", new_mask, METH_NOARGS, new_mask_doc},
    {"forget_masks", forget_masks, METH_NOARGS, forget_masks_doc},
    {NULL},
};

int
codec_add_masks(PyObject *module, State *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
