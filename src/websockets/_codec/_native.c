/* The compiled twin of the accelerator: the module, and what it looks up once. */

#include "_native.h"

static struct PyModuleDef definition;

State *
state_of_module(PyObject *module)
{
    return PyModule_GetState(module);
}

State *
state_of(PyObject *object)
{
    /* It never fails for an object whose class is derived from one of this module, which lives as long as they do. */
    return PyModule_GetState(PyType_GetModuleByDef(Py_TYPE(object), &definition));
}

static int
add_names(State *state)
{
    struct {
        PyObject **place;
        const char *name;
    } names[] = {
        {&state->name_write, "write"},
        {&state->name_is_closing, "is_closing"},
        {&state->name_call_soon, "call_soon"},
        {&state->name_context, "context"},
        {&state->name_close, "close"},
        {&state->name_throw, "throw"},
        {&state->name_uncork, "_uncork"},
        {&state->name_receive_rest, "_receive_rest"},
        {&state->name_data_received, "data_received"},
        {&state->name_pause_if_full, "_pause_if_full"},
        {&state->name_drained, "_drained"},
        {&state->name_receive_slowly, "_receive_slowly"},
        {&state->name_write_pieces, "_write_pieces"},
        {&state->name_receive_data, "_receive_data"},
        {&state->name_hold_rest, "_hold_rest"},
        {&state->name_write_error, "_write_error"},
        {&state->name_buffer, "_buffer"},
        {&state->name_closing, "_closing"},
        {&state->name_empty_waiter, "_empty_waiter"},
        {&state->name_eof, "_eof"},
        {&state->name_writelines, "writelines"},
        {&state->name_abort, "abort"},
        {&state->name_run_until_complete, "run_until_complete"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        *names[i].place = PyUnicode_InternFromString(names[i].name);
        if (*names[i].place == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
fill_module(PyObject *module)
{
    State *state = PyModule_GetState(module);

    state->os = PyImport_ImportModule("os");
    if (state->os == NULL || add_names(state) < 0 || add_frames(module, state) < 0) {
        return -1;
    }
    return add_pump(module, state);
}

/* The references in the state, in the order of its members. */
#define REFERENCES (sizeof(State) / sizeof(PyObject *))

static int
traverse_module(PyObject *module, visitproc visit, void *arg)
{
    PyObject **references = PyModule_GetState(module);

    for (size_t i = 0; references != NULL && i < REFERENCES; i++) {
        Py_VISIT(references[i]);
    }
    return 0;
}

static int
clear_module(PyObject *module)
{
    PyObject **references = PyModule_GetState(module);

    for (size_t i = 0; references != NULL && i < REFERENCES; i++) {
        Py_CLEAR(references[i]);
    }
    return 0;
}

static void
free_module(void *module)
{
    clear_module(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill_module},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "websockets._codec._native",
    .m_doc = "The compiled twin of the accelerator.",
    .m_size = sizeof(State),
    .m_methods = frame_functions,
    .m_slots = module_slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
    .m_free = free_module,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
