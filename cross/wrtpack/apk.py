"""Writes .apk packages, as apk 3 of OpenWrt 25.12 reads them, and the index of a feed of them.

Slot numbers are those of apk-tools' src/apk_adb.h.
"""

import hashlib
import os

from . import adb, tree

SCRIPT_HEAD = """#!/bin/sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{name}"
"""
POST_INSTALL = """[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
add_group_and_user
default_postinst
"""
PRE_DEINSTALL = """[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm
"""


def filename(about, _arch):
    """What the package's file is called; its folder tells the architecture."""
    return f"{about.name}-{about.version}.apk"


def build(about, arch, files, epoch):
    """The bytes of a package of `files`; every time in it is `epoch`."""
    files = files + _lists(about, files)
    db = adb.Writer()
    # Filled in below with the digest of everything, itself being zeros.
    identity = db.blob(bytes(20))
    info = _info(db, about, arch, identity, tree.size(files), None)
    by_folder = {path: [] for path in ["", *tree.folders(files)]}
    for file in files:
        by_folder[os.path.dirname(file.path)].append(file)
    paths, blocks = [], []
    for folder in sorted(by_folder):
        inside = sorted(by_folder[folder], key=lambda f: f.path)
        acl = _acl(db, 0o755)
        entries = [_file(db, file, epoch) for file in inside]
        # Folders that only lead to others too: `apk extract` makes none by itself.
        paths.append(db.object({1: db.blob(folder), 2: acl, 3: db.array(entries)}))
        for number, file in enumerate(inside, 1):
            if file.content:
                place = len(paths).to_bytes(4, "little") + number.to_bytes(4, "little")
                blocks.append((adb.BLOCK_DATA, place + file.content))
    root = db.object({1: info, 2: db.array(paths), 3: _scripts(db, about)})
    content = db.finish(root)
    at = db.offset(identity)
    content[at : at + 20] = hashlib.sha256(content).digest()[:20]
    return adb.file(b"pckg", [(adb.BLOCK_ADB, bytes(content)), *blocks])


def index(packages):
    """The feed's `packages.adb` of (description, arch, files, epoch)s."""
    db = adb.Writer()
    entries = []
    for about, arch, files, epoch in sorted(packages, key=lambda p: p[0].name):
        package = build(about, arch, files, epoch)
        identity = db.blob(hashlib.sha256(_first_block(package)).digest())
        everything = files + _lists(about, files)
        entries.append(_info(db, about, arch, identity, tree.size(everything), len(package)))
    root = db.object({1: db.blob("wanbond"), 2: db.array(entries)})
    return adb.file(b"indx", [(adb.BLOCK_ADB, bytes(db.finish(root)))])


def _first_block(package):
    import zlib

    raw = zlib.decompress(package[4:], -15)
    length = int.from_bytes(raw[8:12], "little") & 0x3FFFFFFF
    return raw[12 : 8 + length]


def _info(db, about, arch, identity, installed, packed):
    depends = [db.object({1: db.blob(name)}) for name in sorted(set(about.depends))]
    return db.object(
        {
            1: db.blob(about.name),
            2: db.blob(about.version),
            3: identity,
            4: db.blob(about.long or about.title),
            5: db.blob(arch),
            6: db.blob(about.license),
            7: db.blob(f"feeds/wanbond/{about.name}"),
            8: db.blob(about.maintainer),
            12: db.number(installed),
            13: adb.NULL if packed is None else db.number(packed),
            15: db.array(depends),
        }
    )


def _file(db, file, epoch):
    acl = _acl(db, file.mode)
    name = db.blob(os.path.basename(file.path))
    digest = db.blob(hashlib.sha256(file.content).digest())
    return db.object(
        {1: name, 2: acl, 3: db.number(len(file.content)), 4: db.number(epoch), 5: digest}
    )


def _acl(db, mode):
    return db.object({1: db.number(mode), 2: db.blob("root"), 3: db.blob("root")})


def _scripts(db, about):
    head = SCRIPT_HEAD.format(name=about.name)
    upgrade = head.replace("export pkgname", "export PKG_UPGRADE=1\nexport pkgname")
    install = POST_INSTALL + about.postinst.removeprefix("#!/bin/sh\n")
    scripts = {3: head + install, 4: head + PRE_DEINSTALL, 7: upgrade + install}
    if about.postrm:
        scripts[5] = about.postrm
    return db.object({slot: db.blob(text) for slot, text in scripts.items()})


def _lists(about, files):
    """What OpenWrt's default_postinst and sysupgrade look up: the package's files and conffiles."""
    by_path = {f"/{file.path}": file for file in files}
    listed = "".join(f"{path}\n" for path in sorted(by_path))
    lists = [("list", listed)]
    if about.conffiles:
        lists.append(("conffiles", "".join(f"{path}\n" for path in about.conffiles)))
        digests = [
            f"{path} {hashlib.sha256(by_path[path].content).hexdigest()}\n"
            for path in about.conffiles
            if path in by_path
        ]
        lists.append(("conffiles_static", "".join(digests)))
    return [
        tree.File(f"lib/apk/packages/{about.name}.{kind}", 0o644, text.encode()) for kind, text in lists
    ]
