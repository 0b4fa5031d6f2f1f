//! Expectations follow OpenWrt's library: its reader's rules, and what its `export` prints.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// A compact picture of a document: `type.name{option=value list=[a|b]}`.
fn picture(text: &str) -> String {
    let document = parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?} in {text}"));
    let mut out = String::new();
    for section in &document.sections {
        let name = section.name.as_deref().unwrap_or("@");
        let _ = write!(out, "{}.{name}{{", section.kind);
        for (i, option) in section.options.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            let _ = match &option.value {
                Value::Single(word) => write!(out, "{gap}{}={}", option.name, word.text),
                Value::List(words) => {
                    let words: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
                    write!(out, "{gap}{}=[{}]", option.name, words.join("|"))
                }
            };
        }
        out.push('}');
    }
    out
}

fn faults(text: &str) -> Vec<String> {
    parse(text.as_bytes()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn an_exported_file() {
    let text = "package wanbond\n\nconfig wanbond 'globals'\n\toption enabled '1'\n\tlist lan 'lan'\n\
                \tlist lan 'guest'\n\nconfig wan 'fibre'\n\toption note 'it'\\''s fast'\n\nconfig wan\n\
                \toption device 'eth2'\n\n";
    assert_eq!(
        picture(text),
        "wanbond.globals{enabled=1 lan=[lan|guest]}wan.fibre{note=it's fast}wan.@{device=eth2}"
    );
    let document = parse(text.as_bytes()).unwrap();
    assert_eq!(document.sections[1].line, 8);
    assert_eq!(document.sections[1].get("note").unwrap().line(), 9);
    assert_eq!(document.notes, []);
}

#[test]
fn quotes_join_and_span_lines() {
    assert_eq!(picture("config a b\noption x a'b c'\"d e\"f\n"), "a.b{x=ab cd ef}");
    assert_eq!(picture("config a b\noption x 'one\ntwo \\\nthree'\n"), "a.b{x=one\ntwo \\\nthree}");
    assert_eq!(
        picture("config a b\noption x \"\\\"Hello\\, \\\nWorld.\\'\n\"\n"),
        "a.b{x=\"Hello, World.'\n}"
    );
    assert_eq!(picture("config a b\noption x \\''y z'\\'\n"), "a.b{x='y z'}");
    assert_eq!(picture("config a b\noption x \"don't\"\n"), "a.b{x=don't}");
}

#[test]
fn backslashes() {
    assert_eq!(picture("config a b\noption x a\\ b\n"), "a.b{x=a b}");
    assert_eq!(picture("config a b\noption x a\\nb\n"), "a.b{x=anb}");
    assert_eq!(picture("config a b\noption x a\\\nb\n"), "a.b{x=ab}");
    assert_eq!(picture("config a b\r\noption x a\\\r\nb\r\n"), "a.b{x=ab}");
    // The word ends where the joined line starts with a blank, even if it is still empty.
    assert_eq!(
        faults("config a b\noption x \\\n y\n"),
        ["line 3: 'y' is one word too many; put quotes around a value that contains spaces"]
    );
    assert_eq!(picture("config a b\noption x y\\"), "a.b{x=y}");
}

#[test]
fn comments_and_separators() {
    assert_eq!(
        picture("# c\n  # d\nconfig a b # e\noption x y#z\n\toption v '#'w\n"),
        "a.b{x=y v=#w}"
    );
    assert_eq!(picture("config a 'b'; option x 'y'; option v w\n"), "a.b{x=y v=w}");
    assert_eq!(picture("config a b ; option x y ; o v 'w'\n"), "a.b{x=y v=w}");
    assert_eq!(
        faults("config a 'b';\n"),
        ["line 1: '' is not a command; a line starts with config, option, list or #"]
    );

    // Directly after an unquoted word, ';' hides the rest.
    let document = parse(b"config a b; option x y\noption v w;\n").unwrap();
    assert_eq!(document.sections[0].options.len(), 1);
    assert_eq!(document.notes.len(), 1);
    assert_eq!(document.notes[0].line, 1);
}

#[test]
fn short_commands_and_package_lines() {
    assert_eq!(picture("p x-y\nc a b\no x y\nl z 1\nl z 2"), "a.b{x=y z=[1|2]}");
    assert_eq!(picture("\n \t\r\n"), "");
    assert_eq!(picture(""), "");
    assert_eq!(
        faults("package a.b\n"),
        ["line 1: 'a.b' is not a name; use letters, digits and _ only"]
    );
}

#[test]
fn sections_and_options_meet_again() {
    let text = "config a b\noption x 1\nconfig a c\nconfig a b\noption x 2\noption y 3\nlist y 4\n";
    assert_eq!(picture(text), "a.b{x=2 y=[3|4]}a.c{}");
    let document = parse(text.as_bytes()).unwrap();
    let notes: Vec<_> = document.notes.iter().map(|note| note.line).collect();
    assert_eq!(notes, [4, 5]);
    assert_eq!(picture("config a b\nlist x 1\noption x 2\n"), "a.b{x=2}");
    assert_eq!(picture("config a\nconfig a\n"), "a.@{}a.@{}");
    // An empty option is none, an empty entry is one.
    assert_eq!(picture("config a b\noption x ''\noption y\nlist z ''\n"), "a.b{z=[]}");
    assert_eq!(picture("config a b\noption x 1\noption x ''\n"), "a.b{x=1}");
}

#[test]
fn all_faults_are_told_with_their_lines() {
    assert_eq!(
        faults(
            "option x y\nconfig\nconfig wan fi-bre\noption device eth0\nconfig wan ok\n\
             optoin role bond\noption role\toff please\noption ro-le x\nconfig server ok\nlist \n\
             config wan 'open\nto the end"
        ),
        [
            "line 1: this option stands before the first 'config' line",
            "line 2: 'config' needs a section type after it",
            "line 3: 'fi-bre' is not a name; use letters, digits and _ only",
            "line 6: 'optoin' is not a command; a line starts with config, option, list or #",
            "line 7: 'please' is one word too many; put quotes around a value that contains spaces",
            "line 8: 'ro-le' is not a name; use letters, digits and _ only",
            "line 9: section 'ok' is already a 'wan' (line 5); give this one another name",
            "line 10: 'list' needs a name and a value after it",
            "line 11: the quote ' that opens here is never closed",
        ]
    );
    assert_eq!(
        faults("config a b\noption x a\0"),
        ["line 2: the file contains a NUL byte, so it is damaged or not a text"]
    );
    let latin1 = parse(b"# caf\xe9\nconfig a b\noption x 'caf\xe9'\n").unwrap_err();
    assert_eq!(latin1, [SyntaxError { line: 3, fault: Fault::Encoding }]);
    assert_eq!(parse("x\n".repeat(99).as_bytes()).unwrap_err().len(), MOST_ERRORS);
}

/// Type, name, and options with one value or several.
type Sections = [(String, Option<String>, Vec<(String, Vec<String>)>)];

/// What `uci export` prints.
fn export(sections: &Sections) -> String {
    let quote = |text: &str| text.replace('\'', "'\\''");
    let mut out = String::from("package wanbond\n");
    for (kind, name, options) in sections {
        let _ = write!(out, "\nconfig {kind}");
        if let Some(name) = name {
            let _ = write!(out, " '{name}'");
        }
        out.push('\n');
        for (name, values) in options {
            match &values[..] {
                [value] => {
                    let _ = writeln!(out, "\toption {name} '{}'", quote(value));
                }
                values => {
                    for value in values {
                        let _ = writeln!(out, "\tlist {name} '{}'", quote(value));
                    }
                }
            }
        }
    }
    out.push('\n');
    out
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_likely_text_panics(text in r#"((config|option|list|c|o)?[ \t]*['"\\;#\r\na-c_ ]{0,6}){0,12}"#) {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn what_export_prints_is_read_back(
        sections in prop::collection::vec(
            ("[a-z_]{1,6}", any::<bool>(), prop::collection::vec(
                prop::collection::vec("[^\0]{1,12}", 1..4), 0..4)),
            0..6),
    ) {
        // Names are numbered, since equal ones would be merged.
        let sections: Vec<_> = sections
            .into_iter()
            .enumerate()
            .map(|(i, (kind, named, options))| {
                let options = options.into_iter().enumerate();
                let options: Vec<_> = options.map(|(j, v)| (format!("o{j}"), v)).collect();
                (kind, named.then(|| format!("s{i}")), options)
            })
            .collect();
        let document = parse(export(&sections).as_bytes()).unwrap();
        prop_assert_eq!(document.notes, vec![]);
        let read: Vec<_> = document
            .sections
            .into_iter()
            .map(|section| {
                let options = section.options.into_iter().map(|option| {
                    let words = option.value.words().iter().map(|w| w.text.clone()).collect();
                    (option.name, words)
                });
                (section.kind, section.name, options.collect::<Vec<(String, Vec<String>)>>())
            })
            .collect();
        prop_assert_eq!(read, sections);
    }
}
