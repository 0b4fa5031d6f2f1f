"""The files of a package: paths, modes and contents, all of root's."""

import os
import stat
from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A file of the package, `path` relative to the root."""

    path: str
    mode: int
    content: bytes


def gather(folder, below=""):
    """All files of `folder`, as if it were the directory `below` of the root."""
    files = []
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            source = os.path.join(at, name)
            if os.path.islink(source) or not os.path.isfile(source):
                raise ValueError(f"{source}: only files can be packed")
            path = os.path.normpath(os.path.join(below, os.path.relpath(source, folder)))
            # Whatever the umask of who checked it out: executable or not is what git knows.
            runs = os.stat(source).st_mode & stat.S_IXUSR
            with open(source, "rb") as file:
                files.append(File(path, 0o755 if runs else 0o644, file.read()))
    return files


def folders(files):
    """Every directory that the files need, parents first, without the root."""
    found = set()
    for file in files:
        path = os.path.dirname(file.path)
        while path:
            found.add(path)
            path = os.path.dirname(path)
    return sorted(found)


def size(files):
    """Bytes of all files."""
    return sum(len(file.content) for file in files)
