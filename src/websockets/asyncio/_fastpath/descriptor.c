/* The descriptor of the socket: every system call of this extension, and the checks before it.

   May know: sockets, and attributes of the transports of asyncio.
   Must not know: messages, what frames mean.

   Rule: no other file calls the operating system. A test checks this. A descriptor is just a number. If the program
   closes the socket, another file may get the same number, and we would write into it. So, for every frame:
   - the transport must be of a kind that we know, with its own methods, and nothing may wait in it (is_unmodified,
     would_just_send);
   - the socket object is asked for its number right before the call (descriptor_of): a closed one has none;
   - nothing between the question and the call runs Python or lets another thread run, except while the kernel copies a
     large frame. Sockets of Python have that gap, too: see send_to(). */

#include "fastpath.h"

#include <limits.h>

#if defined(__unix__) || (defined(__APPLE__) && defined(__MACH__))
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#define HAS_DESCRIPTORS
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef MSG_MORE
#define MSG_MORE 0
#endif
#endif

#ifdef HAS_DESCRIPTORS

/* A frame of up to this number of bytes is copied: giving the kernel two pieces would cost more. */
enum { SMALL = 1 << 11 };
/* For up to this number of bytes, the kernel has finished before another thread could run. */
enum { QUICK = 1 << 14 };
/* A large payload is masked in pieces of this number of bytes: they fit into the second-level cache of a processor. */
#define PIECE ((Py_ssize_t)1 << 18)

/* Return whether an attribute is this object; -1 for an exception. The transports that we know have their attributes
   where objects usually have them. */
static int
attribute_is(PyObject *object, PyObject *name, PyObject *expected)
{
    PyObject *value = PyObject_GenericGetAttr(object, name);

    Py_XDECREF(value);
    return value == NULL ? -1 : value == expected;
}

/* Return whether a method of the transport is still this function of its class; -1 for an exception. */
static int
is_own_method(PyObject *transport, PyObject *name, PyObject *function)
{
    PyObject *method = PyObject_GenericGetAttr(transport, name);
    int own;

    if (method == NULL) {
        return -1;
    }
    own = PyMethod_Check(method) && PyMethod_GET_FUNCTION(method) == function && PyMethod_GET_SELF(method) == transport;
    Py_DECREF(method);
    return own;
}

/* Return whether the methods of the transport are the original ones, not replaced by a subclass or an attribute; -1
   for an exception. */
static int
is_unmodified(FastPath *self, PyObject *transport, int in_pieces)
{
    State *state = self->state;
    int own = is_own_method(transport, state->name_write, state->write);

    return own == 1 && in_pieces ? is_own_method(transport, state->name_writelines, state->writelines) : own;
}

/* Return whether the transport would do nothing but give a frame to the kernel: it isn't closing, no bytes wait in
   it, no file is being sent. Return -1 for an exception. This makes no object that the garbage collector tracks, so
   no finaliser runs between these checks and the system call. */
static int
would_just_send(FastPath *self, PyObject *transport)
{
    State *state = self->state;
    PyObject *waiting = PyObject_GenericGetAttr(transport, state->name_buffer);
    Py_ssize_t size = waiting == NULL ? -1 : PyObject_Size(waiting);
    int answer;

    Py_XDECREF(waiting);
    if (size != 0) {
        return size < 0 ? -1 : 0;
    }
    answer = attribute_is(transport, state->name_closing, Py_False);
    return answer == 1 ? attribute_is(transport, state->name_empty_waiter, Py_None) : answer;
}

/* Return the descriptor that the socket has now; -1 if it has none, because it was closed, or for an exception. */
static int
descriptor_of(FastPath *self, PyObject *sock)
{
    PyObject *fileno = Py_NewRef(self->state->fileno), *number = PyObject_CallOneArg(fileno, sock);
    long descriptor = number == NULL ? -1 : PyLong_AsLong(number);

    Py_XDECREF(number);
    Py_DECREF(fileno);
    return 0 <= descriptor && descriptor <= INT_MAX ? (int)descriptor : -1;
}

/* End the connection because the kernel refused to take more, as the transport does after a failed write. The
   transport must not try again: it wouldn't learn the reason, and a signal might end the program. Return -1 for an
   exception, else 0. */
static int
fail(FastPath *self, PyObject *transport, int number)
{
    PyObject *type, *exc, *traceback;
    int failed;

    self->torn = 1;
    errno = number;
    PyErr_SetFromErrno(PyExc_OSError);
    PyErr_Fetch(&type, &exc, &traceback);
    PyErr_NormalizeException(&type, &exc, &traceback);
    failed = PyObject_SetAttr((PyObject *)self, self->state->name_write_error, exc) < 0;
    Py_XDECREF(type);
    Py_XDECREF(exc);
    Py_XDECREF(traceback);
    return failed ? -1 : fastpath_call(transport, self->state->name_abort);
}

/* Decide how to continue after the kernel took only a part of a frame, and returned this error number for the rest.
   If it may take the rest later, return how many it took. Otherwise end the connection, and return the size of the
   frame, as nothing is left to do with it; -1 for an exception. */
static Py_ssize_t
after_refusal(FastPath *self, PyObject *transport, const Frame *frame, Py_ssize_t sent, int number)
{
    if (number == EAGAIN || number == EWOULDBLOCK || number == EINTR) {
        return sent;
    }
    if (number == EPIPE) {
        int ended = attribute_is(transport, self->state->name_eof, Py_True);
        if (ended == 1) {
            return sent; /* the program ended the stream; the transport refuses the rest without trying */
        }
        if (ended < 0) {
            PyErr_Clear();
        }
    }
    return fail(self, transport, number) < 0 ? -1 : frame->length + frame->size;
}

/* Lay out a frame in `copy` and send it. A large frame is sent piece by piece, as long as the kernel takes whole
   pieces: so a piece stays in the processor's cache until it is sent. Return how many bytes the kernel took, and set
   *number to its error, or 0. This may run without the interpreter's lock. */
static Py_ssize_t
send_copy(int descriptor, const Frame *frame, uint8_t *copy, int *number)
{
    Py_ssize_t size = frame->length + frame->size, done = 0, piece, sent;

    do {
        piece = size - done < PIECE ? size - done : PIECE;
        fastpath_lay_out(copy, frame, done, piece);
        sent = send(descriptor, copy, (size_t)piece, MSG_DONTWAIT | MSG_NOSIGNAL);
        *number = sent < 0 ? errno : 0;
        done += sent < 0 ? 0 : sent;
    } while (sent == piece && done < size);
    return done;
}

/* Give a frame to the kernel. Return how many bytes it took; -1 for an exception, after which the connection must
   end. */
static Py_ssize_t
send_to(FastPath *self, PyObject *transport, int descriptor, const Frame *frame)
{
    uint8_t small[SMALL], *copy = small;
    const int ready = frame->length == 0 && frame->mask == NULL;
    /* The last bytes travel together with the end of the stream. If that doesn't follow, they wait for 0.2 seconds. */
    const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (frame->last ? MSG_MORE : 0);
    struct iovec pieces[2] = {{(void *)frame->header, (size_t)frame->length},
                              {(void *)frame->payload, (size_t)frame->size}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    Py_ssize_t size = frame->length + frame->size, sent;
    int number = 0;

    if (size > SMALL && frame->mask != NULL) {
        copy = PyMem_Malloc(size < PIECE ? size : PIECE);
        if (copy == NULL) {
            return 0; /* the transport may need less memory */
        }
    }
    /* As long as this thread has the interpreter's lock, no other thread can close the socket. While the kernel copies
       a
       large frame, other threads may run, and might close it: sock.send() is no safer. */
    PyThreadState *thread = size > QUICK ? PyEval_SaveThread() : NULL;
    if (ready) {
        sent = send(descriptor, frame->payload, (size_t)size, flags);
        number = sent < 0 ? errno : 0;
    }
    else if (size > SMALL && frame->mask == NULL) {
        sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        number = sent < 0 ? errno : 0;
    }
    else {
        sent = send_copy(descriptor, frame, copy, &number);
    }
    sent = sent < 0 ? 0 : sent;
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
    if (copy != small) {
        PyMem_Free(copy);
    }
    return number == 0 ? sent : after_refusal(self, transport, frame, sent, number);
}

Py_ssize_t
fastpath_send_straight(FastPath *self, PyObject *transport, const Frame *frame, int in_pieces)
{
    PyObject *sock = self->state->fileno == NULL ? NULL : Py_XNewRef(self->socket);
    Py_ssize_t sent = 0;
    int descriptor = -1;

    if (sock == NULL) {
        return 0;
    }
    if (is_unmodified(self, transport, in_pieces) == 1 && would_just_send(self, transport) == 1) {
        descriptor = descriptor_of(self, sock);
    }
    if (descriptor >= 0) {
        sent = send_to(self, transport, descriptor, frame);
    }
    else if (PyErr_Occurred()) {
        PyErr_Clear(); /* a check failed: leave the frame to the transport */
    }
    Py_DECREF(sock);
    return sent;
}

#else

Py_ssize_t
fastpath_send_straight(FastPath *Py_UNUSED(self), PyObject *Py_UNUSED(transport), const Frame *Py_UNUSED(frame),
                       int Py_UNUSED(in_pieces))
{
    return 0;
}

#endif

PyDoc_STRVAR(know_transport_doc,
"know_transport($module, write, writelines, fileno, /)\n--\n\n"
"Allow writing to the socket of a transport that has these two functions as its methods. fileno is the function that\n"
"returns a socket's descriptor.");

static PyObject *
know_transport(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    State *state = native_state(module);

    if (count != 3) {
        return PyErr_Format(PyExc_TypeError, "know_transport expected 3 arguments, got %zd", count);
    }
    fastpath_know(&state->write, args[0]);
    fastpath_know(&state->writelines, args[1]);
    fastpath_know(&state->fileno, args[2]);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"know_transport", (PyCFunction)(void (*)(void))know_transport, METH_FASTCALL, know_transport_doc},
    {NULL},
};

int
fastpath_add_descriptor(PyObject *module, State *Py_UNUSED(state))
{
    return PyModule_AddFunctions(module, functions);
}
