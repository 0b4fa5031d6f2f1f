"""Writes .ipk packages, as opkg of OpenWrt 24.10 reads them, and the index of a feed of them.

An .ipk is a gzipped tar of three members: debian-binary, data.tar.gz and control.tar.gz.
"""

import gzip
import hashlib
import io
import tarfile

from . import tree

POSTINST = """#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
"""
PRERM = """#!/bin/sh
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
"""


def filename(about, arch):
    """What the package's file is called."""
    return f"{about.name}_{about.version}_{_arch(arch)}.ipk"


def build(about, arch, files, epoch):
    """The bytes of a package of `files`; every time in it is `epoch`."""
    control = [tree.File("control", 0o644, _control(about, arch, files, epoch).encode())]
    if about.conffiles:
        lines = "".join(f"{path}\n" for path in about.conffiles)
        control.append(tree.File("conffiles", 0o644, lines.encode()))
    control += [tree.File("postinst", 0o755, POSTINST.encode()), tree.File("prerm", 0o755, PRERM.encode())]
    if about.postinst:
        # default_postinst runs it.
        control.append(tree.File("postinst-pkg", 0o755, about.postinst.encode()))
    if about.postrm:
        control.append(tree.File("postrm", 0o755, about.postrm.encode()))
    return _tar_gz(
        [
            tree.File("debian-binary", 0o644, b"2.0\n"),
            tree.File("data.tar.gz", 0o644, _tar_gz(files, epoch)),
            tree.File("control.tar.gz", 0o644, _tar_gz(control, epoch)),
        ],
        epoch,
        with_root=False,
    )


def index(packages):
    """The feed's `Packages`: of each (file name, bytes) its control text and where it is."""
    entries = []
    for name, content in sorted(packages):
        entry = control_text(content).rstrip("\n").split("\n")
        place = next(i for i, line in enumerate(entry) if line.startswith("Description:"))
        entry[place:place] = [
            f"Filename: {name}",
            f"Size: {len(content)}",
            f"SHA256sum: {hashlib.sha256(content).hexdigest()}",
        ]
        entries.append("\n".join(entry) + "\n\n")
    return "".join(entries).encode()


def compressed(index_text):
    """`Packages.gz`."""
    return gzip.compress(index_text, 9, mtime=0)


def control_text(package):
    """The control file in a package's bytes."""
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:
        inner = outer.extractfile("./control.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(inner)) as control:
        return control.extractfile("./control").read().decode()


def _control(about, arch, files, epoch):
    fields = [
        ("Package", about.name),
        ("Version", about.version),
        ("Depends", ", ".join(about.depends)),
        ("Source", f"feeds/wanbond/{about.name}"),
        ("SourceName", about.name),
        ("License", about.license),
        ("LicenseFiles", about.license_files),
        ("Section", about.section),
        ("SourceDateEpoch", str(epoch)),
        ("Maintainer", about.maintainer),
        ("Architecture", _arch(arch)),
        ("Installed-Size", str(tree.size(files))),
        ("Description", f" {about.long or about.title}"),
    ]
    return "".join(f"{name}: {value}\n" for name, value in fields if value)


def _arch(arch):
    return "all" if arch == "noarch" else arch


def _tar_gz(files, epoch, with_root=True):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in (["", *tree.folders(files)] if with_root else []):
            entry = _entry(f"./{path}".rstrip("/") if path else ".", 0o755, epoch)
            entry.type = tarfile.DIRTYPE
            entry.name += "/"
            tar.addfile(entry)
        for file in files if not with_root else sorted(files, key=lambda f: f.path):
            entry = _entry(f"./{file.path}", file.mode, epoch)
            entry.size = len(file.content)
            tar.addfile(entry, io.BytesIO(file.content))
    return gzip.compress(raw.getvalue(), 9, mtime=0)


def _entry(name, mode, epoch):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = mode, epoch
    entry.uname = entry.gname = "root"
    return entry
