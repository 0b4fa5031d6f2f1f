#!/usr/bin/env python3
"""Keeps the translations beside the pages: `translate.py` writes the template and adds what is new to each
language, `translate.py --check` fails where something is out of date or not translated.
"""

import json
import re
import sys
from pathlib import Path

APP = Path(__file__).parent / "luci-app-wanbond"
TEMPLATE = APP / "po/templates/wanbond.pot"
LANGUAGES = {"de": "nplurals=2; plural=(n != 1);", "fr": "nplurals=2; plural=(n > 1);"}

TEXT = r"'((?:[^'\\\n]|\\.)*)'"
# `key(…)` marks what is translated later.
SINGLE = re.compile(r"\b(?:_|key)\(\s*" + TEXT)
PLURAL = re.compile(r"\bN_\([^,]+,\s*" + TEXT + r",\s*" + TEXT)
# What a sentence is given: %s and the like must come out the same.
PLACES = re.compile(r"%(?:\.\d+)?[sdf%]")


def main():
    messages = collect()
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    files = {TEMPLATE: render(messages, {}, None)}
    problems = []
    for language in LANGUAGES:
        path = APP / f"po/{language}/wanbond.po"
        known = read(path.read_text(encoding="utf-8")) if path.exists() else {}
        files[path] = render(messages, known, language)
        problems += [f"{path}: {problem}" for problem in judge(messages, known)]
    for path, text in files.items():
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            problems.append(f"{path} is out of date: run {sys.argv[0]}")
        elif not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    print(f"{len(messages)} messages, {len(problems)} problems", *problems, sep="\n")
    sys.exit(1 if check and problems else 0)


def collect():
    """(message, plural or None) with the places it stands in, in the order of the files."""
    found = {}
    for path in sorted(APP.glob("htdocs/**/*.js")):
        source = path.read_text(encoding="utf-8")
        hits = [(m.start(), (unquote(m[1]), None)) for m in SINGLE.finditer(source)]
        hits += [(m.start(), (unquote(m[1]), unquote(m[2]))) for m in PLURAL.finditer(source)]
        for at, message in sorted(hits, key=lambda hit: hit[0]):
            found.setdefault(message, []).append(f"{path.relative_to(APP)}:{source.count(chr(10), 0, at) + 1}")
    for path in sorted(APP.glob("root/usr/share/luci/menu.d/*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8")).values():
            # A name is the same everywhere.
            if entry["title"] != "wanbond":
                found.setdefault((entry["title"], None), []).append(f"{path.relative_to(APP)}:1")
    for path in sorted(APP.glob("root/usr/share/rpcd/acl.d/*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8")).values():
            found.setdefault((entry["description"], None), []).append(f"{path.relative_to(APP)}:1")
    return found


def unquote(text):
    return re.sub(r"\\u([0-9a-fA-F]{4})|\\(.)", lambda m: chr(int(m[1], 16)) if m[1] else m[2], text)


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def read(text):
    """(message, plural) with its translations."""
    known = {}
    for block in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r'^(msg\w+(?:\[\d\])?) "(.*)"$', block, re.M))
        plain = {name: re.sub(r"\\(.)", r"\1", value) for name, value in fields.items()}
        if plain.get("msgid"):
            forms = [plain[name] for name in sorted(plain) if name.startswith("msgstr")]
            known[plain["msgid"], plain.get("msgid_plural")] = forms
    return known


def render(messages, known, language):
    lines = ['msgid ""', 'msgstr ""', '"Content-Type: text/plain; charset=UTF-8\\n"']
    if language:
        lines += [f'"Language: {language}\\n"', f'"Plural-Forms: {LANGUAGES[language]}\\n"']
    for (message, plural), places in messages.items():
        forms = known.get((message, plural), [])
        # Line numbers would change with every edit of a page.
        files = dict.fromkeys(place.rsplit(":", 1)[0] for place in places)
        lines += ["", *(f"#: {file}" for file in files), f"msgid {quote(message)}"]
        if plural is None:
            lines.append(f"msgstr {quote(forms[0] if forms else '')}")
        else:
            lines.append(f"msgid_plural {quote(plural)}")
            lines += [f"msgstr[{n}] {quote(forms[n] if n < len(forms) else '')}" for n in (0, 1)]
    return "\n".join(lines) + "\n"


def judge(messages, known):
    """What is wrong with a language."""
    for message, plural in messages:
        forms = known.get((message, plural), [])
        if len(forms) != (1 if plural is None else 2) or not all(forms):
            yield f"not translated: {message}"
        for original, form in zip([message, plural or message], forms):
            if form and PLACES.findall(form) != PLACES.findall(original):
                yield f"other places for values than in: {original}"


main()
