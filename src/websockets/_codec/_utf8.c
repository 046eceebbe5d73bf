/* UTF-8 (RFC 3629), checked piece by piece as a text arrives.

   May know: bytes.
   Must not know: frames, Python objects. */

#include "_codec.h"

/* Return how many bytes a character has that begins with this byte; 0 if no character does. */
static int
utf8_length(uint8_t first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xC2) {
        return 0; /* a continuation, or an overlong form of ASCII */
    }
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

/* Return whether a byte may stand at this index of a character. After some first bytes, not every second byte is
   allowed: this excludes overlong forms, surrogates, and everything beyond U+10FFFF. */
static int
utf8_continues(uint8_t first, int index, uint8_t byte)
{
    uint8_t low = 0x80, high = 0xBF;

    if (index == 1) {
        switch (first) {
        case 0xE0: low = 0xA0; break;
        case 0xED: high = 0x9F; break;
        case 0xF0: low = 0x90; break;
        case 0xF4: high = 0x8F; break;
        }
    }
    return low <= byte && byte <= high;
}

/* Return the index, from i on, of the first byte that isn't ASCII, or n. */
static Py_ssize_t
skip_ascii(const uint8_t *p, Py_ssize_t i, Py_ssize_t n)
{
    uint64_t word;

    for (; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, 8);
        if (word & HIGH_BITS) {
            break;
        }
    }
    while (i < n && p[i] < 0x80) {
        i++;
    }
    return i;
}

const char *
codec_check_utf8(Utf8 *text, const uint8_t *p, Py_ssize_t n, int final, uint64_t *position)
{
    uint64_t base = text->seen;
    Py_ssize_t i = 0;

    for (;;) {
        if (text->count == 0) {
            i = skip_ascii(p, i, n);
            if (i == n) {
                break;
            }
            if (utf8_length(p[i]) == 0) {
                *position = base + i;
                return "invalid start byte";
            }
            text->pending[text->count++] = p[i++];
        }
        int length = utf8_length(text->pending[0]);
        while (text->count < length && i < n) {
            if (!utf8_continues(text->pending[0], text->count, p[i])) {
                *position = base + i - text->count;
                return "invalid continuation byte";
            }
            text->pending[text->count++] = p[i++];
        }
        if (text->count < length) {
            break;
        }
        text->count = 0;
    }
    text->seen = base + n;
    if (final && text->count) {
        *position = text->seen - text->count;
        return "unexpected end of data";
    }
    return NULL;
}
