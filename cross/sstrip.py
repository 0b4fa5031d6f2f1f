#!/usr/bin/env python3
"""sstrip.py IN OUT: an ELF executable without what no kernel loads.

`strip` keeps the section headers and, on MIPS, 200 kB of procedure descriptors (.pdr). A static
executable needs neither: everything behind the last segment goes, as OpenWrt does to its own.
"""

import os
import struct
import sys


def stripped(elf):
    """The bytes of the executable `elf` up to the end of its last segment."""
    if elf[:4] != b"\x7fELF":
        raise ValueError("not an ELF file")
    order = {1: "<", 2: ">"}[elf[5]]
    wide = elf[4] == 2
    # Offsets of the fields in the file header and in a program header: the ELF specification.
    word, at = ("Q", {"phoff": 32, "shoff": 40, "phentsize": 54, "offset": 8, "filesz": 32}) if wide \
        else ("I", {"phoff": 28, "shoff": 32, "phentsize": 42, "offset": 4, "filesz": 16})

    def read(kind, offset):
        return struct.unpack_from(order + kind, elf, offset)[0]

    table, size, count = read(word, at["phoff"]), read("H", at["phentsize"]), read("H", at["phentsize"] + 2)
    end = table + size * count
    for entry in range(table, end, size):
        end = max(end, read(word, entry + at["offset"]) + read(word, entry + at["filesz"]))
    cut = bytearray(elf[:end])
    struct.pack_into(order + word, cut, at["shoff"], 0)
    # e_shnum and e_shstrndx; e_shentsize between phnum and them may stay.
    struct.pack_into(order + "HH", cut, at["phentsize"] + 6, 0, 0)
    return bytes(cut)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: sstrip.py IN OUT")
    with open(sys.argv[1], "rb") as file:
        elf = file.read()
    with open(sys.argv[2], "wb") as file:
        file.write(stripped(elf))
    os.chmod(sys.argv[2], 0o755)


if __name__ == "__main__":
    main()
