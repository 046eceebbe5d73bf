/* The header lines of a request or a response of HTTP/1.1 (RFC 9112 section 5): check and read them in one pass.

   May know: the characters of a name and of a value.
   Must not know: the meaning of a header, the limits of HTTP, which line is wrong and why.

   Lines that aren't all there and valid give None. Then the caller reads them one by one, and finds out what to say. */

#include "_native.h"

/* RFC 9110 section 5.6.2: the characters of a token. */
static int
is_token_character(uint8_t c)
{
    static const char OTHERS[] = "!#$%&'*+-.^_`|~";

    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr(OTHERS, c) != NULL);
}

/* RFC 9110 section 5.5: the characters of a value, with the white space around and in it. */
static int
is_value_character(uint8_t c)
{
    return (c >= ' ' && c != 0x7F) || c == '\t';
}

static int
is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static int
is_line_end(const uint8_t *at, const uint8_t *end)
{
    return end - at >= 2 && at[0] == '\r' && at[1] == '\n';
}

/* Return a new string: a name in lower case. */
static PyObject *
lower_name(const uint8_t *start, Py_ssize_t size)
{
    PyObject *name = PyUnicode_New(size, 127);
    if (name == NULL) {
        return NULL;
    }
    Py_UCS1 *to = PyUnicode_1BYTE_DATA(name);
    for (Py_ssize_t i = 0; i < size; i++) {
        to[i] = start[i] >= 'A' && start[i] <= 'Z' ? start[i] | 0x20 : start[i];
    }
    return name;
}

/* Add a value to the index. A name that occurs several times has a list of values. Return -1 for an exception, else
   0. */
static int
enter(PyObject *index, PyObject *name, PyObject *value)
{
    PyObject *before = PyDict_GetItemWithError(index, name), *both;
    int failed;

    if (before == NULL) {
        return PyErr_Occurred() ? -1 : PyDict_SetItem(index, name, value);
    }
    if (PyList_CheckExact(before)) {
        return PyList_Append(before, value);
    }
    both = PyList_New(2);
    if (both == NULL) {
        return -1;
    }
    PyList_SET_ITEM(both, 0, Py_NewRef(before));
    PyList_SET_ITEM(both, 1, Py_NewRef(value));
    failed = PyDict_SetItem(index, name, both);
    Py_DECREF(both);
    return failed;
}

/* Read the line that begins at *at, and move *at behind it. Return 1 if it is valid, 0 if it isn't, -1 for an
   exception. */
static int
read_line(PyObject *index, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at, *colon = start, *first, *last;
    PyObject *name, *value;
    int failed;

    while (colon < end && is_token_character(*colon)) {
        colon++;
    }
    if (colon == start || colon == end || *colon != ':') {
        return 0;
    }
    last = colon + 1;
    while (last < end && is_value_character(*last)) {
        last++;
    }
    if (!is_line_end(last, end)) {
        return 0;
    }
    *at = last + 2;
    first = colon + 1;
    while (first < last && is_blank(*first)) {
        first++;
    }
    while (last > first && is_blank(last[-1])) {
        last--;
    }
    name = lower_name(start, colon - start);
    /* Bytes outside ASCII are opaque, and ISO-8859-1 keeps them. */
    value = PyUnicode_DecodeLatin1((const char *)first, last - first, NULL);
    failed = name == NULL || value == NULL || enter(index, name, value) < 0;
    Py_XDECREF(name);
    Py_XDECREF(value);
    return failed ? -1 : 1;
}

PyDoc_STRVAR(read_fields_doc,
"read_fields($module, data, start, most, /)\n--\n\n"
"Read the header lines of HTTP from start up to the empty line, if they are all there, valid, and at most most.\n\n"
"Return the values by name in lower case, a list for a name that occurs several times; and where the empty line ends.\n"
"Return None in all other cases.");

static PyObject *
read_fields(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *data, *index;
    Py_ssize_t start, most;
    const uint8_t *begin, *at, *end;
    int valid = 1;

    if (!PyArg_ParseTuple(args, "Snn:read_fields", &data, &start, &most)) {
        return NULL;
    }
    if (start < 0 || start > PyBytes_GET_SIZE(data)) {
        return PyErr_Format(PyExc_ValueError, "there is no byte %zd", start);
    }
    index = PyDict_New();
    if (index == NULL) {
        return NULL;
    }
    begin = (const uint8_t *)PyBytes_AS_STRING(data);
    at = begin + start;
    end = begin + PyBytes_GET_SIZE(data);
    while (valid == 1 && !is_line_end(at, end)) {
        valid = most-- > 0 ? read_line(index, &at, end) : 0;
    }
    if (valid == 1) {
        return Py_BuildValue("(Nn)", index, (Py_ssize_t)(at + 2 - begin));
    }
    Py_DECREF(index);
    if (valid == 0) {
        Py_RETURN_NONE;
    }
    return NULL;
}

static PyMethodDef functions[] = {
    {"read_fields", read_fields, METH_VARARGS, read_fields_doc},
    {NULL},
};

int
codec_add_fields(PyObject *module, State *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
