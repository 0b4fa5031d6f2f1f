//! A lab's folder: logs, daemons' state, and the socket to talk to it.
//!
//! Namespaces and processes end with the lab's own process. Its folder is all that a killed lab
//! leaves behind; the next lab sweeps it away. A folder belongs to the process named in it, and
//! since numbers are used again, to the one that started at that moment.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "wanbond-lab-";
const OWNER: &str = "owner";

/// A lab's folder, removed when dropped.
#[derive(Debug)]
pub struct LabDir {
    id: String,
    path: PathBuf,
}

impl LabDir {
    /// Makes a folder of a new name, after sweeping away those of dead labs.
    ///
    /// # Errors
    /// When the temporary folder can't be written.
    pub fn create() -> io::Result<Self> {
        sweep()?;
        let pid = std::process::id();
        let id = format!("{pid}-{:08x}", RandomState::new().hash_one(pid) & 0xffff_ffff);
        let path = std::env::temp_dir().join(format!("{PREFIX}{id}"));
        // Complete before it can be found by its name: a sweeper never sees one without an owner.
        let draft = std::env::temp_dir().join(format!(".{PREFIX}{id}"));
        fs::create_dir(&draft)?;
        fs::write(draft.join(OWNER), owner_line(pid)?)?;
        fs::rename(&draft, &path)?;
        Ok(Self { id, path })
    }

    /// The lab's name: unique on this machine.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LabDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The labs that run: (id, folder, process).
///
/// # Errors
/// When the temporary folder can't be read.
pub fn running() -> io::Result<Vec<(String, PathBuf, u32)>> {
    Ok(all()?.into_iter().filter_map(|(id, path, pid)| Some((id, path, pid?))).collect())
}

/// Removes the folders of labs whose process is gone; gives their names.
///
/// # Errors
/// When the temporary folder can't be read.
pub fn sweep() -> io::Result<Vec<String>> {
    let mut swept = Vec::new();
    for (id, path, pid) in all()? {
        // Another user's folder stays: it can't be removed, and is not ours.
        if pid.is_none() && fs::remove_dir_all(&path).is_ok() {
            swept.push(id);
        }
    }
    Ok(swept)
}

/// Every lab's folder, with its process if that lives.
fn all() -> io::Result<Vec<(String, PathBuf, Option<u32>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(std::env::temp_dir())?.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let Ok(owner) = fs::read_to_string(entry.path().join(OWNER)) else { continue };
        let pid = owner.split(' ').next().and_then(|pid| pid.parse().ok());
        let alive = pid.filter(|&pid| owner_line(pid).is_ok_and(|line| line == owner));
        found.push((id.to_owned(), entry.path(), alive));
    }
    Ok(found)
}

/// A process as no other is: its number and the tick it started at.
fn owner_line(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in the second field may hold anything, even brackets; the start is field 22.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_whitespace();
    // A zombie that nobody has asked after holds nothing any more.
    if let None | Some("Z" | "X") = fields.next() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let start = fields.nth(18).unwrap_or("0");
    Ok(format!("{pid} {start}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_lab_is_swept_a_living_one_stays() {
        let living = LabDir::create().unwrap();
        let dead = std::env::temp_dir().join(format!("{PREFIX}test-{}", living.id()));
        fs::create_dir(&dead).unwrap();
        // Our own number, but not started when we were.
        fs::write(dead.join(OWNER), format!("{} 1", std::process::id())).unwrap();
        sweep().unwrap();
        assert!(!dead.exists());
        assert!(living.path().exists());
        assert!(running().unwrap().iter().any(|(id, ..)| id == living.id()));
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
