//! The file of last uses, `tokens.used` beside the token file: a name and a time in each line.
//!
//! The file can be deleted: only the answer to "when was this token last used?" is lost.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use crate::gate::text_file::{self, Missing, TextLines};

/// When each token was last used, by name.
pub type LastUses = BTreeMap<String, Timestamp>;

/// The file of last uses beside a token file. Reading and writing block.
#[derive(Clone, Debug)]
pub struct UseFile {
    path: PathBuf,
    tokens: PathBuf,
}

impl UseFile {
    /// The file beside this token file.
    #[must_use]
    pub fn beside(tokens: &Path) -> Self {
        let mut name = tokens.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".used");
        Self { path: tokens.with_file_name(name), tokens: tokens.to_owned() }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last uses in the file; none where there is no file. Lines that cannot be read are skipped.
    ///
    /// # Errors
    ///
    /// When there is a file, and it cannot be read.
    pub fn read(&self) -> io::Result<LastUses> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(parse(&TextLines::from_bytes(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LastUses::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes the later of each use and that in the file, since other servers may write to it. A token
    /// for which `exists` is false is left out.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, such as in a folder that is read-only.
    pub fn write(&self, uses: &LastUses, exists: impl Fn(&str) -> bool) -> io::Result<()> {
        text_file::edit(&self.path, Missing::Created { like: &self.tokens }, |text| {
            let mut merged = parse(text);
            for (name, time) in uses {
                let last = merged.entry(name.clone()).or_insert(*time);
                *last = (*last).max(*time);
            }
            merged.retain(|name, _| exists(name));
            *text = TextLines::default();
            for (name, time) in merged {
                text.push(&format!("{name} {time}"));
            }
            Ok(())
        })
    }
}

fn parse(text: &TextLines) -> LastUses {
    let lines = text.iter().filter_map(|line| str::from_utf8(line).ok());
    let uses = lines.filter_map(|line| {
        let (name, time) = line.trim_ascii().split_once(' ')?;
        Some((name.to_owned(), time.parse().ok()?))
    });
    uses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_uses_are_kept_and_tokens_that_have_gone_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = UseFile::beside(&folder.path().join("tokens"));
        assert_eq!(file.path(), folder.path().join("tokens.used"));
        assert_eq!(file.read().unwrap(), LastUses::new());
        let uses = |list: &[(&str, &str)]| -> LastUses {
            list.iter().map(|(name, time)| ((*name).to_owned(), time.parse().unwrap())).collect()
        };
        let (early, late) = ("2026-11-26T10:00:00Z", "2026-11-27T10:00:00Z");
        file.write(&uses(&[("a", early), ("b", late), ("c", early)]), |_| true).unwrap();
        file.write(&uses(&[("a", late), ("b", early)]), |name| name != "c").unwrap();
        assert_eq!(file.read().unwrap(), uses(&[("a", late), ("b", late)]));
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, format!("a {late}\nb {late}\n"));

        fs::write(file.path(), format!("broken\n\u{0}\na {late}\nb never\n")).unwrap();
        assert_eq!(file.read().unwrap(), uses(&[("a", late)]));
    }
}
