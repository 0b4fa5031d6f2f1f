"""Writes ADB, the database format of apk 3 (apk-tools: doc/apk-v3.5.scd, src/adb.h).

A value is 32 bits: 4 of type, 28 of number or of offset into the block. Objects and arrays are a count
of slots (itself included) and a value for each; small numbers are their own values.
"""

import struct
import zlib

INT, INT_32, INT_64 = 1, 2, 3
BLOB_8, BLOB_16, BLOB_32 = 8, 9, 10
ARRAY, OBJECT = 13, 14
NULL = 0

BLOCK_ADB, BLOCK_DATA = 0, 2
# A block's length, its head included, has 30 bits.
LONGEST_BLOCK = 0x3FFFFFFF - 4


class Writer:
    """Collects values; children come before what holds them."""

    def __init__(self):
        # Versions 0 and 0, and the root's place.
        self._bytes = bytearray(8)

    def number(self, value):
        """A number from 0 to 2**64 - 1."""
        if value < 1 << 28:
            return _value(INT, value)
        kind, form = (INT_32, "<I") if value < 1 << 32 else (INT_64, "<Q")
        return _value(kind, self._put(struct.pack(form, value), 4))

    def blob(self, content):
        """Bytes or text; none of them is no value."""
        content = content.encode() if isinstance(content, str) else content
        if not content:
            return NULL
        for kind, form, most in ((BLOB_8, "<B", 0xFF), (BLOB_16, "<H", 0xFFFF), (BLOB_32, "<I", 0xFFFFFFFF)):
            if len(content) <= most:
                head = struct.pack(form, len(content))
                return _value(kind, self._put(head + content, len(head)))
        raise ValueError("too long for a blob")

    def object(self, slots):
        """An object of `slots`, from slot number to value."""
        values = [slots.get(i, NULL) for i in range(1, max(slots, default=0) + 1)]
        return self._list(OBJECT, values)

    def array(self, values):
        """An array, in the order that the schema asks for."""
        return self._list(ARRAY, list(values))

    def offset(self, value):
        """Where the bytes of a blob lie in the finished block."""
        head = {BLOB_8: 1, BLOB_16: 2, BLOB_32: 4}[value >> 28]
        return (value & 0x0FFFFFFF) + head

    def finish(self, root):
        """The block's bytes, with `root` as its outermost value."""
        struct.pack_into("<I", self._bytes, 4, root)
        return self._bytes

    def _list(self, kind, values):
        while values and values[-1] == NULL:
            values.pop()
        if not values:
            return NULL
        return _value(kind, self._put(struct.pack(f"<{len(values) + 1}I", len(values) + 1, *values), 4))

    def _put(self, content, align):
        self._bytes += bytes(-len(self._bytes) % align)
        offset = len(self._bytes)
        self._bytes += content
        return offset


def file(schema, blocks):
    """The file of (block type, content)s, compressed; `schema` is its four letters."""
    out = bytearray(b"ADB." + schema)
    for kind, content in blocks:
        if len(content) > LONGEST_BLOCK:
            raise ValueError("too long for a block")
        out += struct.pack("<I", kind << 30 | (len(content) + 4)) + content
        out += bytes(-len(out) % 8)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"ADBd" + deflate.compress(bytes(out)) + deflate.flush()


def _value(kind, number):
    if number >= 1 << 28:
        raise ValueError("too much for one database")
    return kind << 28 | number
