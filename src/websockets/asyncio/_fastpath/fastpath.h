/* The fast path of a message between a transport and a task: read, queue, wait, send, write.

   May know: tasks, transports, and attributes of connections, by their names.
   Must not know: extensions, handshakes, how a connection closes.

   _readable.py beside this file specifies the fast path. If the two differ, that one is right. The C code handles only
   the usual case. The event loop and the kernel need about thirty microseconds for a small message, and each of these
   steps in Python would add a third of a microsecond. In every other case, a method in Python is called:
   `_ws_receive_data`, `_ws_receive_rest`, `_ws_hold_rest`, `_ws_look`, `_ws_receive_slowly`, `_ws_pause_if_full`,
   `_ws_drained`, `_ws_write_pieces`.

   descriptor.c   every system call, and the checks before it
   writing.c      frames to a transport
   cork.c         frames that are held back, so that they share a write
   sending.c      messages to frames
   buffer.c       memory that belongs to another object
   reading.c      from a read to the queue
   waiter.c       the future that a task awaits, and how the task resumes
   receive.c      the awaitable of recv()
   connection.c   the base class of connections: its attributes and its methods */

#ifndef WEBSOCKETS_FASTPATH_H
#define WEBSOCKETS_FASTPATH_H

/* The only place in this folder that names the folder of the codec. */
#include "../../_codec/_codec.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* From this number of bytes on, a payload is written in two pieces, header and payload: copying it would cost more. */
#define GATHER_FROM ((Py_ssize_t)1 << 15)

/* After this number of messages without a wait, the other tasks of the event loop get their turn. */
enum { BURST = 256 };

/* --------------------------------------------------------------------------------------------------------- objects */

/* A future without a result, for one task. */
typedef struct {
    PyObject_HEAD
    HOLDER
    PyObject *loop, *callback, *context; /* callback(waiter) resumes the task, in this context */
    PyObject *message;                   /* of the cancellation */
    char blocking;                       /* the value of _asyncio_future_blocking */
    char state;                          /* PENDING, DONE or CANCELLED */
} Waiter;

enum { PENDING, DONE, CANCELLED };

/* Bytes inside another object. They are those of a str in ASCII, to be written without a copy; or the buffer into which
   all connections of a loop are read. The latter looks like a memoryview, but can't be released. */
typedef struct {
    PyObject_HEAD
    PyObject *owner;
    void *data;
    Py_ssize_t size;
    char readonly;
} Span;

/* A message, and the frame that contains it where nothing masks or compresses it. */
typedef struct {
    PyObject_HEAD
    PyObject *plain; /* the frame; NULL until it is needed */
    Py_ssize_t size; /* of the message, in bytes */
} Encoded;


/* The base class of connections. Python sets most of this; any of the objects may be NULL or None. */
typedef struct {
    PyObject_HEAD
    HOLDER
    State *state;
    PyObject *protocol, *loop, *transport;
    PyObject *life;      /* a SendingHalf, or the Python object in its place */
    PyObject *may_send;  /* the state of a sending half in which messages may be sent */
    PyObject *write_waiters;  /* futures of tasks that wait, because the write buffer is full */
    PyObject *send_lock; /* held while a fragmented message is sent */
    PyObject *pack;      /* pack(head, payload): compresses a message; returns both */
    PyObject *inflate;   /* see Output */
    PyObject *socket;    /* a socket to which frames may be written without the transport; or NULL */
    Queue *queue;
    Decoder *decoder;
    Decoder *metered;  /* the decoder, where rates are limited; then `decoder` is NULL */
    Waiter *receiver;  /* the waiter of the task that receives; NULL if none waits */
    Span *buffer;      /* the buffer for reads */
    PyObject *cork;    /* bytes with room to grow: frames that are held back */
    Py_ssize_t corked; /* how many bytes of it are filled */
    Py_ssize_t high;   /* with more frames than this in the queue, reading stops */
    /* For statistics: bytes read, bytes given to the transport, messages sent, bytes in the payloads of their
       frames, bytes that compression saved. */
    unsigned long long bytes_received, bytes_sent, messages_sent, payload_sent;
    long long saved_sent;
    int burst;      /* messages received since a task last waited */
    char streaming; /* whether a task receives a message in fragments */
    char reading_paused;     /* whether reading has stopped, as too many messages wait */
    char quick;     /* whether a task may wait without a coroutine */
    char plain;     /* whether messages may be sent without asking extensions or logs */
    char client;    /* whether frames are masked */
    char lost;      /* whether the connection is lost */
    char backstop;  /* whether the next turn of the loop writes the frames held back */
    char gathers;   /* whether the transport may be given a frame in pieces */
    char torn;      /* whether a frame may have been written in part, and can't be completed: nothing may follow it */
} FastPath;

/* A frame to be written. Or several frames in bytes that are complete already: then they are the payload, and the
   header is empty. */
typedef struct {
    uint8_t header[MAX_HEADER];
    Py_ssize_t length; /* of the header */
    const uint8_t *payload;
    Py_ssize_t size; /* of the payload */
    const uint8_t *mask;
    PyObject *owner; /* of the payload, if the payload can't change as long as the owner lives; else NULL */
    char last;       /* whether the end of the stream follows at once */
} Frame;

/* ------------------------------------------------------------------------------------------------- small and shared */

/* Call a method without arguments. Return -1 for an exception, else 0. */
static inline int
fastpath_call(PyObject *object, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs(object, name);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Call a method with an argument. Return -1 for an exception, else 0. */
static inline int
fastpath_call_with(PyObject *object, PyObject *name, PyObject *argument)
{
    PyObject *result = PyObject_CallMethodOneArg(object, name, argument);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Store a value from Python for the whole module. The previous value is never freed: another thread may be using
   it. */
static inline void
fastpath_know(PyObject **place, PyObject *value)
{
    if (*place != value) {
        *place = Py_NewRef(value);
    }
}

/* Copy `size` bytes of a frame to p, from the byte at index `from` on. */
static inline void
fastpath_lay_out(uint8_t *p, const Frame *frame, Py_ssize_t from, Py_ssize_t size)
{
    if (from < frame->length) {
        Py_ssize_t part = frame->length - from < size ? frame->length - from : size;
        memcpy(p, frame->header + from, part);
        p += part;
        size -= part;
        from = frame->length;
    }
    from -= frame->length;
    codec_unmask(p, frame->payload + from, size, frame->mask, from);
}

/* ---------------------------------------------------------------------------------------------------- descriptor.c */

/* Give a frame to the kernel, if the transport would do nothing else. in_pieces tells whether it would use
   writelines(). Return how many bytes were taken; -1 for an exception, after which the connection must end. */
Py_ssize_t fastpath_send_straight(FastPath *self, PyObject *transport, const Frame *frame, int in_pieces);

/* ------------------------------------------------------------------------------------------------------- writing.c */

/* Write a frame, unless the transport takes no more. Return -1 for an exception, else 0. */
int fastpath_write_out(FastPath *self, const Frame *frame);

/* Write frames that are complete already; `last` tells whether the end of the stream follows at once. Return -1 for an
   exception, else 0. */
int fastpath_write_bytes(FastPath *self, PyObject *data, char last);

/* Return whether the bytes of a frame can be written from where they are. */
static inline int
fastpath_lies_ready(const Frame *frame)
{
    return frame->mask == NULL && frame->owner != NULL;
}

/* End the connection, unless that was done: what should be written was lost, and the exception is set. Return -1. */
int fastpath_tear_off(FastPath *self);

/* ---------------------------------------------------------------------------------------------------------- cork.c */

/* Send a frame. Hold it back while more received messages wait, as their answers can share a write; write it otherwise.
   The call that receives the last of those messages writes, or else the next turn of the loop. Return -1 for an
   exception, else 0. */
int fastpath_put(FastPath *self, const Frame *frame);

/* Hold back bytes of frames, and write only if there are too many. Return -1 for an exception, else 0; *lost tells
   whether the bytes weren't even kept. */
int fastpath_hold_back(FastPath *self, const uint8_t *data, Py_ssize_t size, int *lost);

/* Write what was held back. Return -1 for an exception, else 0. */
int fastpath_flush_cork(FastPath *self);

/* -------------------------------------------------------------------------------------------------------- buffer.c */

/* Make a memoryview of bytes that live as long as their owner, and never change. Return NULL for an exception. */
PyObject *fastpath_view_of(State *state, PyObject *owner, const void *data, Py_ssize_t size);

/* ------------------------------------------------------------------------------------------------------- reading.c */

/* Take the next message from the queue, if it is whole and a task may take it without a wait. Return NULL if not, and
   NULL with an exception if something failed. */
PyObject *fastpath_take(FastPath *self);

/* -------------------------------------------------------------------------------------------------------- waiter.c */

/* Make a waiter. Return NULL for an exception. */
Waiter *fastpath_waiter_new(State *state, PyObject *loop);

/* End the wait. The task resumes before this returns, unless another task is running. The caller must have finished its
   own work, as the task may call anything, and owns the waiter. Return -1 for an exception, else 0. */
int fastpath_waiter_resume(Waiter *self);

/* Call loop.call_soon(callback, argument), or loop.call_soon(callback) if argument is NULL, with a context if there is
   one. The caller owns all of them. Return -1 for an exception, else 0. */
int fastpath_call_soon(State *state, PyObject *loop, PyObject *callback, PyObject *argument, PyObject *context);

/* ------------------------------------------------------------------------------- methods that connection.c
   publishes */

PyObject *fastpath_get_buffer_guarded(FastPath *self, PyObject *sizehint);     /* reading.c */
PyObject *fastpath_buffer_updated_guarded(FastPath *self, PyObject *argument); /* reading.c */
PyObject *fastpath_data_received_guarded(FastPath *self, PyObject *data);      /* reading.c */
PyObject *fastpath_deliver_guarded(FastPath *self, PyObject *unused);          /* reading.c */
PyObject *fastpath_next(FastPath *self, PyObject *unused);                     /* receive.c */
PyObject *fastpath_send_now_guarded(FastPath *self, PyObject *const *args, Py_ssize_t count); /* sending.c */
PyObject *fastpath_put_message_guarded(FastPath *self, PyObject *const *args, Py_ssize_t count);  /* sending.c */
PyObject *fastpath_hold_message_guarded(FastPath *self, PyObject *const *args, Py_ssize_t count); /* sending.c */
PyObject *fastpath_write_guarded(FastPath *self, PyObject *data);              /* writing.c */
PyObject *fastpath_write_last_guarded(FastPath *self, PyObject *data);         /* writing.c */
PyObject *fastpath_take_corked_guarded(FastPath *self, PyObject *unused);      /* cork.c */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
