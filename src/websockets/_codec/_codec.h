/* The codec: frames to bytes and back (RFC 6455 section 5), masks, UTF-8, and the queue of received messages.

   May know: bytes, integers, plain lists.
   Must not know: our classes in Python, tasks, transports, sockets.

   _python.py beside this file specifies the codec. If the two differ, that one is right. */

#ifndef WEBSOCKETS_CODEC_H
#define WEBSOCKETS_CODEC_H

#include "_header.h"
#include "_native.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* Two bytes, an extended length and a mask: no header is longer. */
enum { MAX_HEADER = 14 };

/* Eight bytes of which none is ASCII. */
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* ----------------------------------------------------------------------------------------------------------- masks */

/* Copy n bytes. If there is a mask, apply it; the first of its bytes to use is the one at index shift. dst may be src.
   Return whether a byte has its high bit set: text without one needs no further check. */
int codec_unmask(uint8_t *dst, const uint8_t *src, Py_ssize_t n, const uint8_t *mask, Py_ssize_t shift);

/* Draw the four bytes of a mask. Return -1 for an exception, else 0. */
int codec_draw_mask(State *state, uint8_t *mask);

/* Return -1 with an exception if a mask from Python hasn't four bytes, else 0. */
int codec_check_mask(const Py_buffer *mask);

/* ------------------------------------------------------------------------------------------------------ frames out */

/* Write a header of at most MAX_HEADER bytes; return its length. mask may be NULL. */
Py_ssize_t codec_write_header(uint8_t *p, uint8_t head, Py_ssize_t size, const uint8_t *mask);

/* ----------------------------------------------------------------------------------------------------------- UTF-8 */

/* The state of a check that goes over several pieces of a text. All zero at its beginning. */
typedef struct {
    uint64_t seen;      /* bytes of the text so far */
    uint8_t pending[4]; /* a character whose bytes haven't all arrived */
    uint8_t count;      /* how many of them have */
} Utf8;

/* Check the next n bytes of a text. Return NULL if they are right. Otherwise return the reason in the words of Python's
   codec, and set *position to the index in the text. */
const char *codec_check_utf8(Utf8 *text, const uint8_t *p, Py_ssize_t n, int final, uint64_t *position);

/* ----------------------------------------------------------------------------------------------------------- queue */

/* Messages in the order of their arrival: a ring. */
typedef struct {
    PyObject_HEAD
    PyObject **items;
    Py_ssize_t first, count, capacity; /* the capacity is 0 or a power of two */
    PyObject *current; /* the assembly of the message that is arriving in fragments; NULL if there is none */
    Py_ssize_t extra;  /* fragments in assemblies, apart from the entry that each has */
    char assembles;    /* whether fragments may be added without asking Python */
} Queue;

/* Append to a queue, taking over the reference to item. Return -1 for an exception, else 0. */
int codec_queue_push(Queue *queue, PyObject *item);

/* Remove and return the first item of a queue; NULL with an exception if it is empty. */
PyObject *codec_queue_shift(Queue *queue);

/* Return a new reference to the assembly of the message that is arriving in fragments; NULL if there is none. */
PyObject *codec_queue_get_current(Queue *queue);

/* Replace it, taking over the reference to current, which may be NULL. */
void codec_queue_set_current(Queue *queue, PyObject *current);

/* The first item of a queue that isn't empty: a borrowed reference. */
#define QUEUE_FIRST(queue) ((queue)->items[(queue)->first])

/* -------------------------------------------------------------------------------------------------------- assembly */

/* A fragmented message that is being received. */
typedef struct {
    PyObject_HEAD
    PyObject **pieces;                 /* fragments: exact bytes */
    Py_ssize_t first, count, capacity; /* in pieces */
    Py_ssize_t waiting;                /* number of fragments that have arrived and have not been taken */
    PyObject *merged;                  /* the fragments before pieces, in a bytearray; NULL if there are none */
    char text;                         /* whether it is a text message; its bytes have been checked to be UTF-8 */
    char complete;                     /* whether the last fragment has arrived */
} Assembly;

/* Return whether an item of a queue is a message whose last fragment hasn't arrived. */
static inline int
codec_is_incomplete(State *state, PyObject *item)
{
    return Py_IS_TYPE(item, state->assembly_type) && !((Assembly *)item)->complete;
}

/* Store a fragment, which is bytes, in the message that is arriving. Take over the reference to payload. The caller
   owns the queue. Return -1 for an exception, else 0. */
int codec_queue_add_fragment(State *state, Queue *queue, uint8_t head, PyObject *payload);

/* Remove and return the next message, with its fragments joined. Return NULL without an exception if it isn't complete.
   The caller owns the queue. */
PyObject *codec_queue_take(State *state, Queue *queue);

/* --------------------------------------------------------------------------------------------------------- sending */

/* Whether messages may be sent; checked before each of them. */
typedef struct {
    PyObject_HEAD
    PyObject *sending; /* the state of the sending half of the connection */
    char continuing;   /* whether a fragmented message has begun and not ended */
} SendingHalf;

/* --------------------------------------------------------------------------------------------------------- decoder */

typedef struct {
    PyObject_HEAD
    PyObject *failure; /* NULL until there is one */
    PyObject *payload; /* of the current frame, with room to grow; NULL between frames */
    Py_ssize_t filled; /* how many bytes of it have arrived */
    uint64_t size;     /* how long it will be */
    uint64_t received; /* bytes of the current message in earlier frames */
    unsigned long long messages, payload_bytes; /* whole messages, and bytes in whole data frames; for statistics */
    int64_t max_fragment, max_message;          /* in bytes; negative if there is no limit */
    unsigned long long messages_granted; /* where rates are limited: how many messages there may be before a look */
    long long bytes_granted;             /* and how many more bytes; negative if there were more than that */
    Utf8 utf8;
    uint8_t tail[MAX_HEADER]; /* a header that is still incomplete */
    uint8_t tail_size;
    uint8_t mask[4];
    uint8_t head;     /* first byte of the current frame */
    uint8_t opcode;   /* first byte, without FIN, of the current message; 0 between messages */
    uint8_t reserved; /* the reserved bits that are allowed: 0, RSV1 or RSV_MASK */
    uint8_t masked;   /* whether frames must be masked */
    uint8_t text;     /* whether a text message in one frame becomes a str */
    char ended;       /* whether a Close frame was seen */
    char heard;       /* whether anything arrived since this was last cleared */
    char feeding;     /* whether a call feeds it now */
    uint8_t checking; /* whether utf8 holds the state of the current text */
    uint8_t beyond_ascii; /* whether the payload so far has bytes that aren't ASCII */
} Decoder;

/* Where frames go.

   A message in one frame goes to the queue, if there is a queue. A compressed message does, too, if there is
   something to decompress it with; and a fragment that isn't compressed, if the queue assembles. Any other frame goes
   to the list; from then on all frames do, to keep their order. */
typedef struct {
    State *state;      /* may be NULL if there is no queue */
    Queue *queue;      /* may be NULL */
    PyObject *frames;  /* the list, [head, payload, head, payload, ...]; NULL while it would be empty */
    PyObject *inflate; /* called with head and payload: returns the message, or None if that failed; may be NULL */
    int failed;        /* whether it failed: the rest of the input is ignored */
    /* When one of these is used up, the rest of the input has to wait: frames in the list, decompressed bytes. */
    Py_ssize_t frames_left, bytes_left;
    Py_ssize_t used; /* how many bytes of the input were taken in */
} Output;

/* Process at most n bytes. The caller owns the decoder, the bytes, and the members of output. Return -1 for an
   exception, else 0. A call of it from within, by `inflate`, raises RuntimeError. */
int codec_feed(Decoder *decoder, const uint8_t *p, Py_ssize_t n, Output *output);

/* The same where rates are limited: by slices, and no further when more was taken in than granted. *looks tells whether
   that is so. */
int codec_feed_metered(Decoder *decoder, const uint8_t *p, Py_ssize_t n, Output *output, int *looks);

/* The header of a received frame. */
typedef struct {
    uint8_t head;
    uint64_t size;       /* of the payload */
    const uint8_t *mask; /* inside the bytes that were read; NULL if the frame isn't masked */
    Py_ssize_t length;   /* of the header; 0 if it is incomplete or refused */
} Header;

/* Read a header from n bytes, and check it. Return -1 for an exception, else 0; self->failure is set if the header is
   refused. */
int codec_read_header(Decoder *self, const uint8_t *p, Py_ssize_t n, Header *header);

/* Set self->failure because of an invalid text. Return -1 for an exception in making it, else 0. */
int codec_refuse_text(Decoder *self, const char *reason, uint64_t position);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
