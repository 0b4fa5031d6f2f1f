//! Reads UCI text, OpenWrt's configuration language, into sections and options with their lines.
//!
//! What OpenWrt's own library accepts is accepted here with the same meaning, and what it refuses
//! is refused, so that `uci show wanbond` and the daemon never disagree. The less known rules:
//!
//! - Words are quoted with `'` or `"` or not at all, and quoted pieces that touch are one word.
//!   Quotes may span lines. A backslash takes the next character literally (not inside `'`), and
//!   at the end of a line joins the next one.
//! - `#` outside quotes starts a comment, even in the middle of a word.
//! - `;` separates commands on one line, but directly after an unquoted word it hides the rest of
//!   the line. That surprises, so it leaves a [`Note`].
//! - Commands may be cut to their first letter.
//! - A named section that is opened again is continued; the last of several `option`s wins; a
//!   `list` after an `option` of that name makes both a list; an `option` set to nothing is none.
//!
//! Two differences, for files that no tool writes: NUL bytes and words that are not UTF-8 are
//! errors, and reading goes on after an error, to report all of them at once.

use thiserror::Error;

/// A read file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// In the order in which they were first opened.
    pub sections: Vec<Section>,
    /// What is allowed but probably not meant.
    pub notes: Vec<Note>,
}

/// `config TYPE ['NAME']` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The line of its `config`, from 1.
    pub line: usize,
    /// Its type.
    pub kind: String,
    /// Its name; none for an anonymous section.
    pub name: Option<String>,
    /// Its options, each name once.
    pub options: Vec<Opt>,
}

/// An option or list of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    /// Its name.
    pub name: String,
    /// What it is set to.
    pub value: Value,
}

/// What an option is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// By `option`.
    Single(Word),
    /// By one or more `list`.
    List(Vec<Word>),
}

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The line on which it starts, from 1.
    pub line: usize,
    /// Without its quotes.
    pub text: String,
}

impl Section {
    /// The option or list of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Opt> {
        self.options.iter().find(|option| option.name == name)
    }
}

impl Value {
    /// All values, one for an `option`.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        match self {
            Self::Single(word) => std::slice::from_ref(word),
            Self::List(words) => words,
        }
    }
}

impl Opt {
    /// The line on which it is set (first).
    #[must_use]
    pub fn line(&self) -> usize {
        self.value.words().first().map_or(0, |word| word.line)
    }
}

/// Something allowed but probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// What happens there.
    pub message: String,
}

/// A place where the text is not UCI.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The line starts with none of the four commands.
    #[error("'{0}' is not a command; a line starts with config, option, list or #")]
    Command(String),
    /// A command without what must follow it.
    #[error("'{0}' needs {1} after it")]
    Missing(&'static str, &'static str),
    /// More words than the command takes.
    #[error("'{0}' is one word too many; put quotes around a value that contains spaces")]
    TooMany(String),
    /// A name with other characters than letters, digits and `_`.
    #[error("'{0}' is not a name; use letters, digits and _ only")]
    Name(String),
    /// A section type with characters that no type may have.
    #[error("'{0}' is not a section type; use letters, digits and _ only")]
    Kind(String),
    /// An option that belongs to no section.
    #[error("this option stands before the first 'config' line")]
    NoSection,
    /// A name used by sections of two types.
    #[error("section '{name}' is already a '{kind}' (line {line}); give this one another name")]
    OtherKind {
        /// The name.
        name: String,
        /// The type of the earlier section.
        kind: String,
        /// Its line.
        line: usize,
    },
    /// A quote that is opened and never closed.
    #[error("the quote {0} that opens here is never closed")]
    Unterminated(char),
    /// Text in another encoding.
    #[error("this is not UTF-8 text; save the file as UTF-8")]
    Encoding,
    /// A NUL byte.
    #[error("the file contains a NUL byte, so it is damaged or not a text")]
    Nul,
}

/// Errors after which nobody reads on.
const MOST_ERRORS: usize = 20;

/// Reads a whole file.
///
/// # Errors
/// Every line that is not UCI, up to 20 of them.
pub fn parse(text: &[u8]) -> Result<Document, Vec<SyntaxError>> {
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        let line = 1 + text[..at].iter().filter(|byte| **byte == b'\n').count();
        return Err(vec![SyntaxError { line, fault: Fault::Nul }]);
    }
    let mut reader = Reader { text, pos: 0, end: 0, next: 0, line: 0, notes: Vec::new() };
    let mut builder = Builder::default();
    let mut errors = Vec::new();
    while errors.len() < MOST_ERRORS && reader.next < text.len() {
        reader.pos = reader.next;
        reader.more();
        if let Err(error) = read_line(&mut reader, &mut builder) {
            errors.push(error);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut notes = reader.notes;
    notes.append(&mut builder.notes);
    notes.sort_by_key(|note| note.line);
    Ok(Document { sections: builder.sections, notes })
}

/// Reads the commands of one line (and of those that quotes and backslashes join to it).
fn read_line(reader: &mut Reader<'_>, builder: &mut Builder) -> Result<(), SyntaxError> {
    reader.skip_space();
    loop {
        let line = reader.line;
        let wrong = |fault| Err(SyntaxError { line, fault });
        let Some(command) = reader.command() else { return Ok(()) };
        match command {
            b"package" | b"p" => {
                // A file holds one package, and its name is the file's: the line has no effect.
                let name = reader.word()?;
                if name.text.is_empty() {
                    return wrong(Fault::Missing("package", "a name"));
                }
                // Package names are file names, which may also have a dash.
                if !is_name(&name.text.replace('-', "_")) {
                    return wrong(Fault::Name(name.text));
                }
                reader.no_more_words()?;
            }
            b"config" | b"c" => {
                // Whatever is wrong with this line, the options below don't belong to the
                // section above.
                builder.current = Current::Unknown;
                let kind = reader.word()?;
                if kind.text.is_empty() {
                    return wrong(Fault::Missing("config", "a section type, such as wan"));
                }
                if !kind.text.bytes().all(|b| b.is_ascii_graphic()) {
                    return wrong(Fault::Kind(kind.text));
                }
                let name = reader.word()?;
                if !is_name(&name.text) && !name.text.is_empty() {
                    return wrong(Fault::Name(name.text));
                }
                reader.no_more_words()?;
                builder.open(line, kind.text, name.text)?;
            }
            b"option" | b"o" | b"list" | b"l" => {
                let is_list = command[0] == b'l';
                if matches!(builder.current, Current::None) {
                    return wrong(Fault::NoSection);
                }
                let name = reader.word()?;
                if name.text.is_empty() {
                    let command = if is_list { "list" } else { "option" };
                    return wrong(Fault::Missing(command, "a name and a value"));
                }
                if !is_name(&name.text) {
                    return wrong(Fault::Name(name.text));
                }
                let value = reader.word()?;
                reader.no_more_words()?;
                builder.set(name, value, is_list);
            }
            b"" => return Ok(()),
            [b'#', ..] => return Ok(()),
            other => {
                // A command's word ends at a blank: one that ends its line has nothing after it.
                match other.trim_ascii_end() {
                    b"config" => return wrong(Fault::Missing("config", "a section type")),
                    b"option" => return wrong(Fault::Missing("option", "a name and a value")),
                    b"list" => return wrong(Fault::Missing("list", "a name and a value")),
                    _ => {}
                }
                let word = String::from_utf8_lossy(other).trim_end().chars().take(40).collect();
                return wrong(Fault::Command(word));
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// C's `isspace`, which, unlike Rust's, counts the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// A cursor over the text that sees one line, and the next one only when asked for more.
struct Reader<'a> {
    text: &'a [u8],
    pos: usize,
    /// The end of what can be seen: of the line, its newline included, or where a comment starts.
    end: usize,
    /// Where the next unread line starts.
    next: usize,
    /// The number of the line last read, from 1.
    line: usize,
    notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text[..self.end].get(self.pos).copied()
    }

    /// Makes the next line visible; false at the end of the file.
    fn more(&mut self) -> bool {
        let rest = &self.text[self.next..];
        if rest.is_empty() {
            return false;
        }
        let length = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
        self.next += length;
        self.end = self.next;
        self.line += 1;
        true
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
    }

    /// The word up to the next blank or the end of the line, quotes and all; none at the end.
    fn command(&mut self) -> Option<&'a [u8]> {
        let blank = |b: &u8| matches!(b, b' ' | b'\t');
        let visible = &self.text[self.pos..self.end];
        let start = self.pos + visible.iter().position(|b| !blank(b))?;
        let rest = &self.text[start..self.end];
        let length = rest.iter().position(blank).unwrap_or(rest.len());
        self.pos = (start + length + 1).min(self.end);
        Some(&rest[..length])
    }

    /// The next word, unquoted; empty at the end of the line and at a `;`.
    fn word(&mut self) -> Result<Word, SyntaxError> {
        self.skip_space();
        let line = self.line;
        let mut bytes = Vec::new();
        if self.peek() == Some(b';') {
            self.pos += 1;
            return Ok(Word { line, text: String::new() });
        }
        let mut plain = true;
        loop {
            match self.peek() {
                None => break,
                Some(b'#') => {
                    self.end = self.pos;
                    break;
                }
                Some(b';') => {
                    if plain {
                        self.hide_rest();
                    }
                    return text(line, bytes);
                }
                Some(quote @ (b'\'' | b'"')) => {
                    plain = false;
                    self.quoted(quote, &mut bytes)?;
                }
                Some(b'\\') => {
                    plain = false;
                    if self.backslash() {
                        bytes.extend(self.take());
                    }
                }
                Some(_) => bytes.extend(self.take()),
            }
            if self.peek().is_some_and(is_space) {
                self.pos += 1;
                break;
            }
        }
        text(line, bytes)
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.pos += 1;
        Some(byte)
    }

    fn hide_rest(&mut self) {
        let hidden = self.text[self.pos + 1..self.end].trim_ascii();
        if !hidden.is_empty() && !hidden.starts_with(b"#") {
            let message =
                "UCI ignores what follows the ';' here; use a line for each option".into();
            self.notes.push(Note { line: self.line, message });
        }
        self.end = self.pos;
    }

    /// Reads on to the closing quote.
    fn quoted(&mut self, quote: u8, bytes: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let opened = self.line;
        self.pos += 1;
        loop {
            match self.peek() {
                Some(byte) if byte == quote => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') if quote == b'"' => {
                    if self.backslash() {
                        bytes.extend(self.take());
                    }
                }
                Some(_) => bytes.extend(self.take()),
                None => {
                    if !self.more() {
                        let fault = Fault::Unterminated(char::from(quote));
                        return Err(SyntaxError { line: opened, fault });
                    }
                }
            }
        }
    }

    /// Goes past a backslash; true if the next character is to be taken literally, false if the
    /// next line was joined instead.
    fn backslash(&mut self) -> bool {
        self.pos += 1;
        match &self.text[self.pos..self.end] {
            b"" | b"\n" | b"\r\n" => {
                self.pos = self.end;
                self.more();
                false
            }
            _ => true,
        }
    }

    fn no_more_words(&mut self) -> Result<(), SyntaxError> {
        let word = self.word()?;
        if word.text.is_empty() {
            return Ok(());
        }
        Err(SyntaxError { line: word.line, fault: Fault::TooMany(word.text) })
    }
}

fn text(line: usize, bytes: Vec<u8>) -> Result<Word, SyntaxError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Word { line, text }),
        Err(_) => Err(SyntaxError { line, fault: Fault::Encoding }),
    }
}

/// Puts commands together to sections.
#[derive(Default)]
struct Builder {
    sections: Vec<Section>,
    current: Current,
    notes: Vec<Note>,
}

/// The section that options go to.
#[derive(Default)]
enum Current {
    /// There was none yet.
    #[default]
    None,
    /// Its `config` line was wrong.
    Unknown,
    Index(usize),
}

impl Builder {
    fn open(&mut self, line: usize, kind: String, name: String) -> Result<(), SyntaxError> {
        let name = Some(name).filter(|name| !name.is_empty());
        let earlier = match &name {
            Some(_) => self.sections.iter().position(|section| section.name == name),
            None => None,
        };
        let Some(index) = earlier else {
            self.current = Current::Index(self.sections.len());
            self.sections.push(Section { line, kind, name, options: Vec::new() });
            return Ok(());
        };
        let earlier = &self.sections[index];
        let name = name.unwrap_or_default();
        if earlier.kind != kind {
            let fault = Fault::OtherKind { name, kind: earlier.kind.clone(), line: earlier.line };
            return Err(SyntaxError { line, fault });
        }
        let message = format!(
            "there is a {kind} '{name}' already (line {}), and UCI takes both for one; give this \
             one another name if it is another {kind}",
            earlier.line
        );
        self.notes.push(Note { line, message });
        self.current = Current::Index(index);
        Ok(())
    }

    fn set(&mut self, name: Word, value: Word, is_list: bool) {
        let Current::Index(index) = self.current else { return };
        let options = &mut self.sections[index].options;
        // An empty option is how tools unset one; in a list it is an entry.
        if value.text.is_empty() && !is_list {
            return;
        }
        let Some(known) = options.iter_mut().find(|option| option.name == name.text) else {
            let value = if is_list { Value::List(vec![value]) } else { Value::Single(value) };
            options.push(Opt { name: name.text, value });
            return;
        };
        if is_list {
            let mut words = match &mut known.value {
                Value::Single(word) => vec![word.clone()],
                Value::List(words) => std::mem::take(words),
            };
            words.push(value);
            known.value = Value::List(words);
        } else {
            let message = format!("this replaces option '{}' of line {}", name.text, known.line());
            self.notes.push(Note { line: name.line, message });
            known.value = Value::Single(value);
        }
    }
}

#[cfg(test)]
#[path = "uci_tests.rs"]
mod tests;
