/* The path of a message between a socket and a thread: the base class of connections for threads, and their lock.

   May know: the codec, the lock of a connection, who reads and who writes.
   Must not know: how a thread waits for anything but a lock or a socket, the steward.

   _readable.py beside this file specifies the path. If the two differ, that one is right.

   The lock of a connection guards its attributes, with the GIL and without it. No function here holds it while it calls
   the socket. Sockets are called by their methods alone: only they know whether the descriptor is still theirs. */

#ifndef WEBSOCKETS_SOCKET_PATH_H
#define WEBSOCKETS_SOCKET_PATH_H

#include "../../_codec/_codec.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

typedef struct {
    PyObject_HEAD
    State *state;
    PyObject *lock, *enter, *exit; /* the lock, and its methods */
    PyObject *ident;               /* ident(): a number for the running thread */
    PyObject *wire;                /* has the calls of the socket */
    PyObject *reader, *writer;     /* their roles */
    PyObject *stream;              /* a message that is read in fragments, or None */
    PyObject *channel;             /* TLS, or None */
    PyObject *life;                /* a SendingHalf, or the Python object in its place */
    PyObject *may_send;            /* the state of a sending half in which messages may be sent */
    Queue *queue;
    Decoder *decoder;              /* NULL if reads can't take this path */
    unsigned long long epoch;      /* calls of recv() */
    unsigned long long receiver;   /* the thread that receives; 0 if none does */
    unsigned long long reading_thread, writing_thread;
    /* For statistics, as for asyncio. */
    unsigned long long bytes_received, bytes_sent, messages_sent, payload_sent;
    unsigned long long bypassed;   /* bytes that were sent past the outbox */
    Py_ssize_t bypassing;          /* bytes of the frame that is being sent past it */
    int waiting;                   /* threads that wait for a change */
    char listed; /* whether the steward looks whether anybody reads */
    char lost;   /* whether the connection is lost */
    char broken; /* whether it must end, because something may be missing of what was read or written */
    char owing;  /* whether the outbox has anything to write */
    char plain;  /* whether messages may be sent without asking extensions or logs */
    char sealing; /* whether a frame is being encrypted; what a signal handler sends then comes later */
    char client; /* whether frames are masked */
} SocketPath;

/* What is done with a message. */
enum { FAILED = -1, UNUSUAL, DONE, CALL_SOCKET };

/* An exception that is kept, to be raised later. All are NULL if there is none. */
typedef struct {
    PyObject *type, *value, *traceback;
} Raised;

/* Keep the current exception, unless an earlier one is kept. */
static inline void
socketpath_keep(Raised *raised)
{
    if (raised->type == NULL) {
        PyErr_Fetch(&raised->type, &raised->value, &raised->traceback);
    }
    else {
        PyErr_Clear();
    }
}

/* Raise what was kept. Return NULL. */
static inline PyObject *
socketpath_raise(Raised *raised)
{
    PyErr_Restore(raised->type, raised->value, raised->traceback);
    return NULL;
}

/* Give a role to somebody. */
static inline void
socketpath_set(PyObject **role, PyObject *value)
{
    Py_XSETREF(*role, Py_NewRef(value));
}

/* Call a method without arguments. Return -1 for an exception, else 0. */
static inline int
socketpath_call(SocketPath *self, PyObject *name)
{
    PyObject *result = PyObject_CallMethodNoArgs((PyObject *)self, name);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* -------------------------------------------------------------------------------------------------- socket_path.c */

/* Take the lock. *exit gets what leaves it again. Return -1 for an exception, else 0. */
int socketpath_enter(SocketPath *self, PyObject **exit);

/* The same, when something has to be done whatever happens: exceptions of signal handlers are kept. */
int socketpath_enter_surely(SocketPath *self, PyObject **exit, Raised *raised);

/* Release the lock. Return -1 for an exception, else 0; it is released in any case. */
int socketpath_leave(PyObject *exit);

/* Release the lock while there is an exception, which stays. */
void socketpath_leave_raising(PyObject *exit);

/* Return the number of the running thread; 0 for an exception. */
unsigned long long socketpath_thread(SocketPath *self);

/* End the connection, because an exception, which stays, came in the middle of reading or writing: bytes may be
   missing. The roles of this thread are left in any case, even if there is no memory, or no room for a call. */
void socketpath_break_off(SocketPath *self, unsigned long long thread);

/* Return a call of the socket; NULL without an exception if the socket has to be waited for first. */
PyObject *socketpath_kernel_call(SocketPath *self, PyObject *name);

/* ----------------------------------------------------------------------------- methods that socket_path.c publishes */

PyObject *socketpath_next(SocketPath *self, PyObject *timeout);     /* socket_receive.c */
PyObject *socketpath_send_now(SocketPath *self, PyObject *message); /* socket_send.c */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
