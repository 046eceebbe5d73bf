/* The header of a frame (RFC 6455 section 5.2): the names of its bits, the opcodes, the limits of its lengths.

   May know: the first two bytes of a frame.
   Must not know: Python.

   header.py beside this file has the same names for the same numbers. A test compares them. */

#ifndef WEBSOCKETS_HEADER_H
#define WEBSOCKETS_HEADER_H

/* The first byte. Of the opcode's four bits, CONTROL_BIT is the one that only control frames set. */
enum { FIN = 0x80, RSV1 = 0x40, RSV_MASK = 0x70, OPCODE_MASK = 0x0F, CONTROL_BIT = 0x08 };

enum { OPCODE_CONT = 0x00, OPCODE_TEXT = 0x01, OPCODE_BINARY = 0x02, OPCODE_CLOSE = 0x08, OPCODE_PONG = 0x0A };

/* The first byte of a message in one frame that no extension has changed. */
enum { WHOLE_TEXT = FIN | OPCODE_TEXT, WHOLE_BINARY = FIN | OPCODE_BINARY };

/* The second byte. Two values of its seven bits say that the length follows, in 16 or in 64 bits. */
enum { MASK_BIT = 0x80, LENGTH_MASK = 0x7F, LENGTH_16 = 126, LENGTH_64 = 127 };

/* The largest payloads, in bytes, whose lengths fit in seven and in 16 bits; and the largest of a control frame. */
enum { MAX_LENGTH_7 = 125, MAX_LENGTH_16 = 0xFFFF, MAX_CONTROL_PAYLOAD = MAX_LENGTH_7 };

#endif
