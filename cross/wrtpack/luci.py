"""The packages of a LuCI application, as luci.mk would make them: itself, and one for each of its translations."""

import dataclasses
import os

from . import lmo, tree

# Where luci.mk puts the folders of an application.
FOLDERS = {"htdocs": "www", "root": ""}

# What LuCI calls the languages, in its list of them.
LANGUAGES = {"de": "Deutsch (German)", "fr": "Français (French)"}


def layout(about, folder):
    """Each package's description with its files."""
    files = []
    for source, target in FOLDERS.items():
        if os.path.isdir(os.path.join(folder, source)):
            files += tree.gather(os.path.join(folder, source), target)
    return [(about, files), *_translations(about, folder)]


def _translations(about, folder):
    base = about.name.removeprefix("luci-app-")
    words = os.path.join(folder, "po")
    for language in sorted(os.listdir(words)) if os.path.isdir(words) else []:
        if language == "templates":
            continue
        name = f"luci-i18n-{base}-{language}"
        part = dataclasses.replace(
            about,
            name=name,
            title=f"{about.name} - {language} translation",
            long=f"Translation for {about.name} - {LANGUAGES[language]}",
            depends=["libc", about.name],
        )
        known = f"uci set luci.languages.{language}='{LANGUAGES[language]}'; uci commit luci\n"
        files = [tree.File(f"etc/uci-defaults/{name}", 0o755, known.encode())]
        for source in sorted(os.listdir(os.path.join(words, language))):
            with open(os.path.join(words, language, source), encoding="utf-8") as file:
                compiled = lmo.compile_po(file.read())
            stem = source.removesuffix(".po")
            files.append(tree.File(f"usr/lib/lua/luci/i18n/{stem}.{language}.lmo", 0o644, compiled))
        yield part, files
