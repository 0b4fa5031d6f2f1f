//! A reader of apk's ADB files (apk-tools: src/adb.h, src/apk_adb.h), which checks what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use flate2::read::DeflateDecoder;

/// The fields of a package's information, by slot.
const INFO: &[(usize, &str)] = &[
    (1, "name"),
    (2, "version"),
    (3, "hashes"),
    (4, "description"),
    (5, "arch"),
    (6, "license"),
    (12, "installed-size"),
    (13, "file-size"),
];

/// A database and, in a package, its files' contents by (path, file), counted from 1.
pub(crate) struct Database {
    pub(crate) schema: String,
    block: Vec<u8>,
    contents: BTreeMap<(u32, u32), Vec<u8>>,
}

/// The first block's payload, which a package's identity is the digest of.
pub(crate) fn first_block(file: &[u8]) -> Vec<u8> {
    Database::read(file).block
}

impl Database {
    /// Reads a whole file.
    pub(crate) fn read(file: &[u8]) -> Self {
        let packed = file.strip_prefix(b"ADBd").expect("compressed by deflate");
        let mut raw = Vec::new();
        DeflateDecoder::new(packed).read_to_end(&mut raw).expect("it unpacks");
        let rest = raw.strip_prefix(b"ADB.").expect("a database");
        let schema = String::from_utf8(rest[..4].to_vec()).expect("four letters");
        let (mut at, mut blocks) = (8, Vec::new());
        while at < raw.len() {
            assert_eq!(at % 8, 0, "blocks are aligned");
            let head = number(&raw, at);
            let (kind, size) = (head >> 30, (head & 0x3fff_ffff) as usize);
            blocks.push((kind, raw[at + 4..at + size].to_vec()));
            at += size.next_multiple_of(8);
        }
        assert_eq!(at, raw.len(), "the last block is padded");
        let mut blocks = blocks.into_iter();
        let (kind, block) = blocks.next().expect("a first block");
        assert_eq!(kind, 0, "the database comes first");
        let contents = blocks
            .map(|(kind, block)| {
                assert_eq!(kind, 2, "then data");
                ((number(&block, 0), number(&block, 4)), block[8..].to_vec())
            })
            .collect();
        Self { schema, block, contents }
    }

    /// A package's files, with modes and verified contents.
    pub(crate) fn files(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        let (mut before, mut folders) = (None, BTreeSet::new());
        for (path, folder) in (1..).zip(self.elements(self.slots(self.root())[2])) {
            let folder = self.slots(folder);
            let name = self.text(folder[1]);
            assert!(before.as_ref() < Some(&name), "directories are sorted");
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            assert!(
                name.is_empty() || folders.contains(parent),
                "{name} has no parent: apk extract makes none"
            );
            folders.insert(name.clone());
            self.check_owner(folder[2], Some(0o755));
            for (number, file) in (1..).zip(self.elements(slot(&folder, 3))) {
                let file = self.slots(file);
                let mode = self.check_owner(file[2], None);
                let content = self.contents.get(&(path, number)).cloned().unwrap_or_default();
                assert_eq!(u64::from(self.integer(file[3])), content.len() as u64);
                assert_eq!(self.blob(file[5]), sha256(&content));
                files.insert(format!("{name}/{}", self.text(file[1])), (mode, content));
            }
            before = Some(name);
        }
        files
    }

    /// A package's own information.
    pub(crate) fn info(&self) -> BTreeMap<&'static str, String> {
        let info = self.slots(self.root())[1];
        let found = self.about(info);
        // Its identity is the digest of everything, taken while it was zeros itself.
        let mut zeroed = self.block.clone();
        let at = (self.slots(info)[3] & 0x0fff_ffff) as usize + 1;
        zeroed[at..at + 20].fill(0);
        assert_eq!(found["hashes"], hex(&sha256(&zeroed)[..20]));
        found
    }

    /// What a package needs.
    pub(crate) fn depends(&self) -> Vec<String> {
        let info = self.slots(self.slots(self.root())[1]);
        self.elements(info[15]).into_iter().map(|one| self.text(self.slots(one)[1])).collect()
    }

    /// A package's scripts by slot.
    pub(crate) fn scripts(&self) -> BTreeMap<usize, String> {
        let scripts = self.slots(self.slots(self.root())[3]);
        let there = scripts.iter().enumerate().skip(1).filter(|(_, value)| **value != 0);
        there.map(|(slot, value)| (slot, self.text(*value))).collect()
    }

    /// What an index lists.
    pub(crate) fn packages(&self) -> Vec<BTreeMap<&'static str, String>> {
        let listed = self.elements(self.slots(self.root())[2]);
        listed.into_iter().map(|one| self.about(one)).collect()
    }

    fn about(&self, info: u32) -> BTreeMap<&'static str, String> {
        let slots = self.slots(info);
        let text = |value: u32, name: &str| match (value >> 28, name) {
            (1..=3, _) => self.integer(value).to_string(),
            (_, "hashes") => hex(&self.blob(value)),
            _ => self.text(value),
        };
        let there = INFO.iter().filter(|(number, _)| slot(&slots, *number) != 0);
        there.map(|(number, name)| (*name, text(slots[*number], name))).collect()
    }

    fn check_owner(&self, acl: u32, mode: Option<u32>) -> u32 {
        let acl = self.slots(acl);
        assert_eq!((self.text(acl[2]), self.text(acl[3])), ("root".into(), "root".into()));
        let found = self.integer(acl[1]);
        assert_eq!(mode.unwrap_or(found), found);
        found
    }

    fn root(&self) -> u32 {
        number(&self.block, 4)
    }

    /// The slots of an object or array; the first is their number.
    fn slots(&self, value: u32) -> Vec<u32> {
        assert!(matches!(value >> 28, 13 | 14), "an object or array: {value:#x}");
        let at = (value & 0x0fff_ffff) as usize;
        assert_eq!(at % 4, 0, "objects are aligned");
        let count = number(&self.block, at) as usize;
        (0..count).map(|slot| number(&self.block, at + 4 * slot)).collect()
    }

    fn elements(&self, value: u32) -> Vec<u32> {
        if value == 0 { Vec::new() } else { self.slots(value).split_off(1) }
    }

    fn integer(&self, value: u32) -> u32 {
        let payload = value & 0x0fff_ffff;
        match value >> 28 {
            1 => payload,
            2 => number(&self.block, payload as usize),
            kind => panic!("no small number: type {kind}"),
        }
    }

    fn blob(&self, value: u32) -> Vec<u8> {
        let at = (value & 0x0fff_ffff) as usize;
        let (head, length) = match value >> 28 {
            8 => (1, usize::from(self.block[at])),
            9 => (2, usize::from(u16::from_le_bytes([self.block[at], self.block[at + 1]]))),
            kind => panic!("no blob: type {kind}"),
        };
        assert_eq!(at % head, 0, "lengths are aligned");
        self.block[at + head..at + head + length].to_vec()
    }

    fn text(&self, value: u32) -> String {
        if value == 0 { String::new() } else { String::from_utf8(self.blob(value)).expect("text") }
    }
}

/// A slot that may be beyond the end, and then is empty.
fn slot(slots: &[u32], number: usize) -> u32 {
    slots.get(number).copied().unwrap_or_default()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The digest of bytes.
pub(crate) fn sha256(content: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, content).as_ref().to_vec()
}

/// In hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
