"""Makes packages and a feed; called by cross/package.sh, which says how."""

import argparse
import hashlib
import os
import sys

from . import apk, ipk, luci, makefile, tree


def main():
    options = argparse.ArgumentParser(prog="wrtpack")
    options.add_argument("--format", choices=["ipk", "apk"], required=True)
    options.add_argument("--arch", required=True, help="OpenWrt's name, or noarch")
    options.add_argument("--package", action="append", required=True, metavar="FOLDER[=BINARY]")
    options.add_argument("--epoch", type=int, required=True, help="seconds: the time of every file")
    options.add_argument("--most", type=int, help="bytes a package may have")
    options.add_argument("--out", required=True, help="the feed's folder")
    given = options.parse_args()
    writer = {"ipk": ipk, "apk": apk}[given.format]
    os.makedirs(given.out, exist_ok=True)
    made, described = [], []
    for word in given.package:
        folder, _, binary = word.partition("=")
        about = makefile.read(os.path.join(folder, "Makefile"))
        arch = "noarch" if about.luci else given.arch
        parts = luci.layout(about, folder) if about.luci else [(about, layout(about, folder, binary))]
        for part, files in parts:
            content = writer.build(part, arch, files, given.epoch)
            name = writer.filename(part, arch)
            if given.most and len(content) > given.most:
                sys.exit(f"{name} has {len(content)} bytes, its budget is {given.most}")
            made.append((name, content))
            described.append((part, arch, files, given.epoch))
    if given.format == "ipk":
        index = ipk.index(made)
        made += [("Packages", index), ("Packages.gz", ipk.compressed(index))]
    else:
        made.append(("packages.adb", apk.index(described)))
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(made))
    for name, content in [*made, ("sha256sums", sums.encode())]:
        with open(os.path.join(given.out, name), "wb") as file:
            file.write(content)
        print(f"{os.path.join(given.out, name)}: {len(content)} bytes")


def layout(about, folder, binary):
    """The package's files, as its Makefile would install them."""
    files = tree.gather(os.path.join(folder, "files"))
    with open(binary, "rb") as file:
        files.append(tree.File(f"usr/bin/{about.name}", 0o755, file.read()))
    return files


main()
