/* What the parts of the compiled twin share.

   _frames.c: frames to bytes and back, masking, UTF-8. _pump.c: the path of a message between a transport and a task.
   _native.c: the module that has them.

   There is no global state, but for masks that each thread keeps for itself. Where there is no GIL, decoders, queues,
   pumps and waiters are guarded by their own locks; what is awaited of a pump is for one task. */

#ifndef WEBSOCKETS_NATIVE_H
#define WEBSOCKETS_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030D0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* Where there is no GIL, an object is locked while a call into it lasts, though not while its thread waits for something.
   Such a call may run a task, which calls the same object: a lock within its own lock takes Python 3.13 some forty rounds
   of giving way to other threads, so it is written down who holds it. Others may write there while the thread waits; then
   a call within takes the long way. And Python lets go of a lock in favour of another object's: a call that comes back
   from there, to an object that a second thread uses against the rules, goes unlocked. */
#ifdef Py_GIL_DISABLED
#define HOLDER uintptr_t holder;
#define LOCK(object)                                                                                                     \
    {                                                                                                                    \
        PyCriticalSection section_;                                                                                      \
        int locked_ = lock_object(&section_, (PyObject *)(object), &(object)->holder);
#define UNLOCK(object)                                                                                                   \
        unlock_object(&section_, &(object)->holder, locked_);                                                            \
    }

static inline int
lock_object(PyCriticalSection *section, PyObject *object, uintptr_t *holder)
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
unlock_object(PyCriticalSection *section, uintptr_t *holder, int locked)
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

enum { FIN = 0x80, RSV = 0x70, RSV1 = 0x40, CONTROL = 0x08, OPCODE = 0x0F };
enum { CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PONG = 10 };

/* Two bytes, an extended length and a mask: no header is longer. */
enum { MAX_HEADER = 14 };

/* ---------------------------------------------------------------------------------------------------------- module */

/* What is looked up once. */
typedef struct {
    PyTypeObject *decoder_type, *queue_type, *waiter_type, *pump_type, *receive_type, *messages_type, *span_type;
    PyTypeObject *encoded_type, *sending_half_type;
    PyObject *os;
    PyObject *plain_loops, *current_task, *running_tasks, *write, *writelines, *fileno; /* NULL until the front-end tells */
    PyObject *raise_it;
    PyObject *name_write, *name_is_closing, *name_call_soon, *name_context, *name_close;
    PyObject *name_throw, *name_uncork, *name_receive_rest, *name_data_received, *name_pause_if_full, *name_drained;
    PyObject *name_receive_slowly, *name_write_pieces, *name_receive_data, *name_hold_rest, *name_write_error;
    PyObject *name_buffer, *name_closing, *name_empty_waiter, *name_eof, *name_writelines, *name_abort;
    PyObject *name_run_until_complete;
} State;

State *state_of_module(PyObject *module);
/* Of an object whose class is, or is derived from, one of this module. */
State *state_of(PyObject *object);

/* Both add what they have to the module; they return -1 for an exception, else 0. */
int add_frames(PyObject *module, State *state);
int add_pump(PyObject *module, State *state);

extern PyMethodDef frame_functions[];

/* ---------------------------------------------------------------------------------------------------------- frames */

/* Messages in the order of their arrival: a ring. */
typedef struct {
    PyObject_HEAD
    PyObject **items;
    Py_ssize_t first, count, capacity;
} Queue;

/* Append to a queue, taking over the reference to item. Return -1 for an exception, else 0. */
int queue_push(Queue *queue, PyObject *item);
/* Remove and return the first item of a queue that isn't empty. */
PyObject *queue_shift(Queue *queue);

#define QUEUE_FIRST(queue) ((queue)->items[(queue)->first])

typedef struct {
    uint64_t seen;      /* bytes of the text so far */
    uint8_t pending[4]; /* a character whose bytes haven't all arrived */
    uint8_t count;
} Utf8;

typedef struct {
    PyObject_HEAD
    PyObject *failure; /* NULL until there is one */
    PyObject *payload; /* with room to grow: the payload of the frame under way, NULL between frames */
    Py_ssize_t filled; /* how much of it has arrived */
    uint64_t size;     /* how long it will be */
    uint64_t received; /* bytes of the message in the frames before */
    unsigned long long messages, payload_bytes; /* that arrived whole, in data frames that did; for statistics */
    int64_t max_fragment, max_message;
    Utf8 utf8;
    uint8_t tail[MAX_HEADER]; /* a header that is still incomplete */
    uint8_t tail_size;
    uint8_t mask[4];
    uint8_t head;   /* first byte of the frame under way */
    uint8_t opcode; /* first byte, without FIN, of the message under way; 0 between messages */
    uint8_t reserved;
    uint8_t masked, text;
    char ended, heard, feeding;
    uint8_t checking; /* whether utf8 holds the state of a text under way */
    uint8_t beyond_ascii; /* whether the payload under way has such bytes */
} Decoder;

/* Where frames go. Messages in one frame go to the queue if there is one, compressed ones if they can be inflated, but only until another frame
   comes: from then on all go to the list, in their order. */
typedef struct {
    Queue *queue;
    PyObject *frames;  /* NULL as long as it would be empty */
    PyObject *inflate; /* what makes a message of a compressed one in one frame, or None if that fails; may be NULL */
    int failed;        /* whether it failed: then nothing that follows counts */
    /* When so many frames are in the list, or messages were inflated to so many bytes, what follows has to wait. */
    Py_ssize_t frames_left, bytes_left;
    Py_ssize_t used; /* how much was taken in */
} Output;

/* Take in at most n bytes. Return -1 for an exception, else 0. It can't be called again before it has returned. */
int decoder_feed(Decoder *decoder, const uint8_t *p, Py_ssize_t n, Output *output);

/* Copy n bytes, unmasked if there is a mask, whose first byte to use is the one at shift. dst may be src. Return
   whether a byte has its high bit set: text without one needs no further check. */
int copy_unmasked(uint8_t *dst, const uint8_t *src, Py_ssize_t n, const uint8_t *mask, Py_ssize_t shift);

/* Write a header of at most MAX_HEADER bytes; return its length. */
Py_ssize_t write_header(uint8_t *p, uint8_t head, Py_ssize_t size, const uint8_t *mask);

/* Draw the four bytes of a mask. Return -1 for an exception, else 0. */
int draw_mask(State *state, uint8_t *mask);

#endif
