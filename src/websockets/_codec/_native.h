/* Shared by every C file of this extension: Python itself, locks, and the objects that the module looks up once.

   May know: Python's C API.
   Must not know: frames, connections, sockets.

   The extension has three parts. The codec, beside this file, turns frames into bytes and back, and reads header lines.
   The fast path, in asyncio/_fastpath/, passes messages between a transport and a task; the other one, in
   sync/_fastpath/, between a socket and a thread. _native.c makes one module of them.

   Rules for every file:
   - An object that is used after a call that may run Python must be owned: the caller or the function itself has a
     reference to it. Or it is read again after the call. Such a call may run any code: a signal handler, a finaliser,
     code of the program. These calls may: calling or looking up an object, getting a buffer, dropping a reference.
   - Every allocation may fail, and every failure has its way out.
   - A function is static unless another file needs it. Then its name begins with native_, codec_, fastpath_ or
     socketpath_, which tells where it lives. Only PyInit__native() can be seen from outside of the extension.
   - There is no global state except for random bytes that each thread keeps for its masks. */

#ifndef WEBSOCKETS_NATIVE_H
#define WEBSOCKETS_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* What tests/docs/test_c_sources.py computes from all C sources except for this line. Python checks it before it uses
   this module, because code in Python and a module that was built from older sources may crash together. */
#define FINGERPRINT "b196eb8dff236cf9"

/* Whether an attribute is there, and isn't None. */
#define IS_SET(object) ((object) != NULL && (object) != Py_None)

/* ----------------------------------------------------------------------------------------------------------- locks */

#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* Where Python runs without its global lock (GIL), decoders, queues, connections and waiters are guarded by their
   own locks. A lock is held while a call into its object lasts, except while the thread waits for something.

   Such a call may resume a task that calls the same object again. Python 3.13 needs about forty rounds of giving way
   to other threads until it has taken a lock that its own thread holds, so we note which thread holds it. Other
   threads may write this note while the thread waits; then the inner call just takes the slow way. Python also drops
   a lock when its thread needs that of another object. So an object that two threads use at once, against the rules,
   may be used without its lock for a moment. */
#ifdef Py_GIL_DISABLED
#define HOLDER uintptr_t holder;
#define LOCK(object)                                                                                                   \
    {                                                                                                                  \
        PyCriticalSection section_;                                                                                    \
        int locked_ = native_lock(&section_, (PyObject *)(object), &(object)->holder);
#define UNLOCK(object)                                                                                                 \
        native_unlock(&section_, &(object)->holder, locked_);                                                          \
    }

static inline int
native_lock(PyCriticalSection *section, PyObject *object, uintptr_t *holder)
{
    uintptr_t thread = (uintptr_t)PyThread_get_thread_ident();

    if (_Py_atomic_load_uintptr_relaxed(holder) == thread) {
        return 0;
    }
    PyCriticalSection_Begin(section, object);
    _Py_atomic_store_uintptr_relaxed(holder, thread);
    return 1;
}

static inline void
native_unlock(PyCriticalSection *section, uintptr_t *holder, int locked)
{
    if (locked) {
        _Py_atomic_store_uintptr_relaxed(holder, 0);
        PyCriticalSection_End(section);
    }
}
#else
#define HOLDER
#define LOCK(object) {
#define UNLOCK(object) }
#endif

/* Define a method for Python, `name_guarded`, that holds the lock of its object while the static function `name` runs.
   A connection belongs to one thread. A program that uses it from another thread may get wrong results, but no crash.
   Write `static` before it if no other file needs the method. */
#define GUARDED(name, parameters, arguments)                                                                           \
    PyObject *name##_guarded parameters                                                                                \
    {                                                                                                                  \
        PyObject *result;                                                                                              \
                                                                                                                       \
        LOCK(self)                                                                                                     \
        result = name arguments;                                                                                       \
        UNLOCK(self)                                                                                                   \
        return result;                                                                                                 \
    }
#define GUARDED_ONE(Type, name) GUARDED(name, (Type * self, PyObject *argument), (self, argument))
#define GUARDED_FAST(Type, name)                                                                                       \
    GUARDED(name, (Type * self, PyObject *const *args, Py_ssize_t count), (self, args, count))

/* ---------------------------------------------------------------------------------------------------------- module */

/* The objects that are looked up once. All members are references, which _native.c relies on. */
typedef struct {
    PyTypeObject *decoder_type, *queue_type, *waiter_type, *fast_path_type, *receive_type, *messages_type, *span_type;
    PyTypeObject *encoded_type, *sending_half_type, *assembly_type, *socket_path_type;
    PyObject *os;
    PyObject *plain_loops, *current_task, *running_tasks, *write, *writelines, *fileno; /* NULL until Python sets them
    */
    PyObject *raise_it;
    PyObject *role_free, *role_taken, *dont_wait; /* NULL until Python sets them */
    PyObject *name_write, *name_is_closing, *name_call_soon, *name_context, *name_close;
    PyObject *name_throw, *name_uncork, *name_receive_rest, *name_data_received, *name_pause_if_full, *name_drained;
    PyObject *name_receive_slowly, *name_write_pieces, *name_receive_data, *name_hold_rest, *name_write_error;
    PyObject *name_buffer, *name_closing, *name_empty_waiter, *name_eof, *name_writelines, *name_abort;
    PyObject *name_run_until_complete, *name_refuse_writing, *name_look;
    PyObject *name_enter, *name_exit, *name_release, *name_kernel_receive, *name_kernel_send, *name_recv_bufsize;
    PyObject *name_list, *name_receive_channel;
    PyObject *name_receive, *name_receive_others, *name_received, *name_left_reading, *name_give_up_turn;
    PyObject *name_keep_message;
    PyObject *name_read_nothing, *name_go_on, *name_after_send, *name_decrypt, *name_encrypt, *name_interrupted;
} State;

/* Return the state of the module. */
State *native_state(PyObject *module);

/* Return the state of the module that has the class of this object, or a base of it. */
State *native_state_of(PyObject *object);

/* Make a type and add it to the module; *place gets a reference. Return -1 for an exception, else 0. */
int native_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **place);

/* Each adds what one file has to the module. They return -1 for an exception, else 0. */
int codec_add_masks(PyObject *module, State *state);
int codec_add_fields(PyObject *module, State *state);
int codec_add_frames(PyObject *module, State *state);
int codec_add_queue(PyObject *module, State *state);
int codec_add_assembly(PyObject *module, State *state);
int codec_add_decoder(PyObject *module, State *state);
int fastpath_add_buffer(PyObject *module, State *state);
int fastpath_add_waiter(PyObject *module, State *state);
int fastpath_add_receive(PyObject *module, State *state);
int fastpath_add_descriptor(PyObject *module, State *state);
int fastpath_add_connection(PyObject *module, State *state);
int socketpath_add_type(PyObject *module, State *state);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
