"""Reads a package's description from its OpenWrt Makefile."""

import re
from dataclasses import dataclass, field

# As luci.mk has it: LuCI forgets its menu, and rpcd learns the new rights.
LUCI_POSTINST = """#!/bin/sh
[ -n "${IPKG_INSTROOT}" ] || {
	rm -f /tmp/luci-indexcache.*
	rm -rf /tmp/luci-modulecache/
	/etc/init.d/rpcd reload 2>/dev/null
}
exit 0
"""


@dataclass
class Description:
    """What a Makefile says of its one package."""

    name: str
    version: str
    title: str
    license: str
    license_files: str
    maintainer: str
    section: str
    depends: list = field(default_factory=list)
    conffiles: list = field(default_factory=list)
    long: str = ""
    postinst: str = ""
    postrm: str = ""
    luci: bool = False


class MakefileError(Exception):
    """The Makefile lacks something, or says it in a way that is not understood here."""


def read(path):
    """The description in the Makefile at `path`."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    variables = dict(re.findall(r"^([A-Z_]+)[ \t]*:?=[ \t]*(.*?)[ \t]*$", text, re.M))
    blocks = dict(re.findall(r"^define (\S+)\n(.*?)^endef$", text, re.M | re.S))
    luci = "LUCI_TITLE" in variables
    name = variables.get("PKG_NAME", "")
    if not name:
        raise MakefileError(f"{path}: no PKG_NAME")
    about = dict(re.findall(r"^\s+([A-Z]+):=(.*?)\s*$", blocks.get(f"Package/{name}", ""), re.M))

    def need(value, what):
        if not value:
            raise MakefileError(f"{path}: no {what}")
        return value

    def script(kind):
        # As make would write it: $$ is $.
        return blocks.get(f"Package/{name}/{kind}", "").replace("$$", "$")

    version = need(variables.get("PKG_VERSION"), "PKG_VERSION")
    return Description(
        name=name,
        version=f"{version}-r{need(variables.get('PKG_RELEASE'), 'PKG_RELEASE')}",
        title=need(variables.get("LUCI_TITLE") if luci else about.get("TITLE"), "title"),
        license=need(variables.get("PKG_LICENSE"), "PKG_LICENSE"),
        license_files=variables.get("PKG_LICENSE_FILES", ""),
        maintainer=variables.get("PKG_MAINTAINER", ""),
        section="luci" if luci else need(about.get("SECTION"), "SECTION"),
        depends=_depends(variables.get("LUCI_DEPENDS", "") if luci else about.get("DEPENDS", "")),
        conffiles=blocks.get(f"Package/{name}/conffiles", "").split(),
        long=variables.get("LUCI_DESCRIPTION", "")
        if luci
        else " ".join(blocks.get(f"Package/{name}/description", "").split()),
        postinst=LUCI_POSTINST if luci else script("postinst"),
        postrm=script("postrm"),
        luci=luci,
    )


def _depends(words):
    """`+name` is a package that is needed; `@…` and `$(…)` speak to the build only."""
    needed = []
    for word in words.split():
        if word.startswith(("@", "$(")):
            continue
        if not re.fullmatch(r"\+[a-z0-9][a-z0-9.+-]*", word):
            raise MakefileError(f"a dependency that is not understood: {word}")
        needed.append(word[1:])
    return ["libc", *needed]
