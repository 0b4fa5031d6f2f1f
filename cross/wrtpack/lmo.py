"""Writes .lmo, LuCI's compiled translations, from .po; byte for byte what its po2lmo writes.

A file is the texts, each padded to four bytes, then an index of (key, kind, offset, length) sorted by key, then the
index's offset; numbers are 32 bits, big endian. A key is the hash of the message: Paul Hsieh's SuperFastHash.
"""

import re
import struct


class PoError(Exception):
    """A .po that is not understood."""


def compile_po(text):
    """The .lmo of a .po's text."""
    data, index = bytearray(), []

    def add(key, kind, value):
        index.append((key, kind, len(data), len(value)))
        data.extend(value + bytes(-len(value) % 4))

    for message in messages(text):
        if not message["id"]:
            plural = re.search(r"Plural-Forms: (.*?)\\n", message["texts"].get(0, ""))
            if plural:
                add(0, 0, plural[1].encode())
            continue
        for number, translated in sorted(message["texts"].items()):
            if not translated:
                continue
            key = message["id"]
            if message["context"]:
                key = f"{message['context']}\1{key}"
            if message["plural"]:
                key = f"{key}\2{number}"
            key, value = key.encode(), translated.encode()
            # What is the same in both languages needs no entry.
            if sfh(key) != sfh(value):
                add(sfh(key), max(message["texts"]) + 1, value)
    table = b"".join(struct.pack(">4I", *entry) for entry in sorted(index))
    return bytes(data) + table + struct.pack(">I", len(data))


def messages(text):
    """The messages of a .po: context, id, plural, and the texts by their number."""
    message, field = None, None
    for number, line in enumerate([*text.splitlines(), ""], 1):
        line = line.strip()
        match = re.fullmatch(r'(?:(msgctxt|msgid|msgid_plural|msgstr)(?:\[(\d)\])? )?"(.*)"', line)
        if match is None:
            if line and not line.startswith("#"):
                raise PoError(f"line {number} is not understood: {line}")
            if not line and message:
                yield message
                message = None
            continue
        word, form, content = match.groups()
        # As po2lmo has it: \" and \\ are unescaped, other escapes stay as they are.
        content = re.sub(r'\\(["\\])', r"\1", content)
        if word:
            field = (word, int(form or 0))
        if message is None:
            message = {"context": "", "id": "", "plural": "", "texts": {}}
        if field[0] == "msgstr":
            message["texts"][field[1]] = message["texts"].get(field[1], "") + content
        else:
            name = {"msgctxt": "context", "msgid": "id", "msgid_plural": "plural"}[field[0]]
            message[name] += content


def sfh(data):
    """The hash of bytes, begun with their length."""

    def signed(byte):
        return byte - 256 if byte > 127 else byte

    value, whole = len(data), len(data) & ~3
    for at in range(0, whole, 4):
        low, high = struct.unpack_from("<HH", data, at)
        value = (value + low) & 0xFFFFFFFF
        value = ((value << 16) ^ (high << 11) ^ value) & 0xFFFFFFFF
        value = (value + (value >> 11)) & 0xFFFFFFFF
    rest = data[whole:]
    if len(rest) == 3:
        value = (value + struct.unpack("<H", rest[:2])[0]) & 0xFFFFFFFF
        value = (value ^ (value << 16) ^ (signed(rest[2]) << 18)) & 0xFFFFFFFF
        value = (value + (value >> 11)) & 0xFFFFFFFF
    elif len(rest) == 2:
        value = (value + struct.unpack("<H", rest)[0]) & 0xFFFFFFFF
        value = (value ^ (value << 11)) & 0xFFFFFFFF
        value = (value + (value >> 17)) & 0xFFFFFFFF
    elif len(rest) == 1:
        value = (value + signed(rest[0])) & 0xFFFFFFFF
        value = (value ^ (value << 10)) & 0xFFFFFFFF
        value = (value + (value >> 1)) & 0xFFFFFFFF
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value = (value ^ (value << left)) & 0xFFFFFFFF
        value = (value + (value >> right)) & 0xFFFFFFFF
    return value
