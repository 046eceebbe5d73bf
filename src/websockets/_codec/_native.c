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

/* The names of attributes and methods that C looks up. */
static const struct {
    size_t place;
    const char *text;
} NAMES[] = {
    {offsetof(State, name_write), "write"},
    {offsetof(State, name_is_closing), "is_closing"},
    {offsetof(State, name_call_soon), "call_soon"},
    {offsetof(State, name_context), "context"},
    {offsetof(State, name_close), "close"},
    {offsetof(State, name_throw), "throw"},
    {offsetof(State, name_uncork), "_ws_uncork"},
    {offsetof(State, name_receive_rest), "_ws_receive_rest"},
    {offsetof(State, name_data_received), "data_received"},
    {offsetof(State, name_pause_if_full), "_ws_pause_if_full"},
    {offsetof(State, name_drained), "_ws_drained"},
    {offsetof(State, name_receive_slowly), "_ws_receive_slowly"},
    {offsetof(State, name_write_pieces), "_ws_write_pieces"},
    {offsetof(State, name_receive_data), "_ws_receive_data"},
    {offsetof(State, name_hold_rest), "_ws_hold_rest"},
    {offsetof(State, name_look), "_ws_look"},
    {offsetof(State, name_write_error), "_ws_write_error"},
    {offsetof(State, name_buffer), "_buffer"},
    {offsetof(State, name_closing), "_closing"},
    {offsetof(State, name_empty_waiter), "_empty_waiter"},
    {offsetof(State, name_eof), "_eof"},
    {offsetof(State, name_writelines), "writelines"},
    {offsetof(State, name_abort), "abort"},
    {offsetof(State, name_refuse_writing), "_ws_refuse_writing"},
    {offsetof(State, name_run_until_complete), "run_until_complete"},
    {offsetof(State, name_enter), "__enter__"},
    {offsetof(State, name_exit), "__exit__"},
    {offsetof(State, name_release), "release"},
    {offsetof(State, name_kernel_receive), "kernel_receive"},
    {offsetof(State, name_kernel_send), "kernel_send"},
    {offsetof(State, name_recv_bufsize), "recv_bufsize"},
    {offsetof(State, name_list), "_ws_list"},
    {offsetof(State, name_receive), "_ws_receive"},
    {offsetof(State, name_receive_others), "_ws_receive_others"},
    {offsetof(State, name_received), "_ws_received"},
    {offsetof(State, name_left_reading), "_ws_left_reading"},
    {offsetof(State, name_give_up_turn), "_ws_give_up_turn"},
    {offsetof(State, name_keep_message), "_ws_keep_message"},
    {offsetof(State, name_read_nothing), "_ws_read_nothing"},
    {offsetof(State, name_go_on), "_ws_go_on"},
    {offsetof(State, name_after_send), "_ws_after_send"},
    {offsetof(State, name_decrypt), "decrypt"},
    {offsetof(State, name_receive_channel), "_ws_receive_channel"},
    {offsetof(State, name_encrypt), "_ws_encrypt"},
    {offsetof(State, name_interrupted), "_ws_interrupted"},
};

static int
add_names(State *state)
{
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(*NAMES); i++) {
        PyObject *name = PyUnicode_InternFromString(NAMES[i].text);
        if (name == NULL) {
            return -1;
        }
        *(PyObject **)((char *)state + NAMES[i].place) = name;
    }
    return 0;
}

static int
fill_module(PyObject *module)
{
    int (*const parts[])(PyObject *, State *) = {
        codec_add_fields,    codec_add_masks,         codec_add_frames,        codec_add_queue,
        codec_add_assembly,  codec_add_decoder,       fastpath_add_buffer,     fastpath_add_waiter,
        fastpath_add_receive, fastpath_add_descriptor, fastpath_add_connection, socketpath_add_type,
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
