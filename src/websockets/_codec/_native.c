/* The module: puts the parts together, and looks up the objects that they need.

   May know: the names of the parts.
   Must not know: what they do. */

#include "_native.h"

static struct PyModuleDef definition;

State *
native_state(PyObject *module)
{
    return PyModule_GetState(module);
}

State *
native_state_of(PyObject *object)
{
    /* This can't fail: the class, or a base of it, is one of this module, and keeps the module alive. */
    return PyModule_GetState(PyType_GetModuleByDef(Py_TYPE(object), &definition));
}

int
native_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **place)
{
    *place = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *place == NULL ? -1 : PyModule_AddType(module, *place);
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
        {&state->name_uncork, "_ws_uncork"},
        {&state->name_receive_rest, "_ws_receive_rest"},
        {&state->name_data_received, "data_received"},
        {&state->name_pause_if_full, "_ws_pause_if_full"},
        {&state->name_drained, "_ws_drained"},
        {&state->name_receive_slowly, "_ws_receive_slowly"},
        {&state->name_write_pieces, "_ws_write_pieces"},
        {&state->name_receive_data, "_ws_receive_data"},
        {&state->name_hold_rest, "_ws_hold_rest"},
        {&state->name_write_error, "_ws_write_error"},
        {&state->name_buffer, "_buffer"},
        {&state->name_closing, "_closing"},
        {&state->name_empty_waiter, "_empty_waiter"},
        {&state->name_eof, "_eof"},
        {&state->name_writelines, "writelines"},
        {&state->name_abort, "abort"},
        {&state->name_refuse_writing, "_ws_refuse_writing"},
        {&state->name_run_until_complete, "run_until_complete"},
        {&state->name_enter, "__enter__"}, {&state->name_exit, "__exit__"}, {&state->name_release, "release"},
        {&state->name_kernel_receive, "kernel_receive"}, {&state->name_kernel_send, "kernel_send"},
        {&state->name_recv_bufsize, "recv_bufsize"}, {&state->name_list, "_ws_list"},
        {&state->name_receive, "_ws_receive"}, {&state->name_receive_others, "_ws_receive_others"},
        {&state->name_received, "_ws_received"}, {&state->name_left_reading, "_ws_left_reading"},
        {&state->name_give_up_turn, "_ws_give_up_turn"}, {&state->name_read_nothing, "_ws_read_nothing"},
        {&state->name_go_on, "_ws_go_on"}, {&state->name_after_send, "_ws_after_send"},
        {&state->name_decrypt, "decrypt"},
        {&state->name_receive_channel, "_ws_receive_channel"}, {&state->name_encrypt, "_ws_encrypt"},
        {&state->name_interrupted, "_ws_interrupted"},
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
    int (*const parts[])(PyObject *, State *) = {
        codec_add_masks,     codec_add_frames,        codec_add_queue,         codec_add_assembly,
        codec_add_decoder,   fastpath_add_buffer,     fastpath_add_waiter,     fastpath_add_receive,
        fastpath_add_descriptor, fastpath_add_connection, socketpath_add_type,
    };
    State *state = native_state(module);

    state->os = PyImport_ImportModule("os");
    if (state->os == NULL || add_names(state) < 0 ||
        PyModule_AddStringConstant(module, "FINGERPRINT", FINGERPRINT) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        if (parts[i](module, state) < 0) {
            return -1;
        }
    }
    return 0;
}

/* All members of the state are references, so it can be walked like an array of them. */
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
