//! The files of a certificate and its key, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::sign::CertifiedKey;

use super::{CertificateError, InForce, Pair, load};
use crate::stamp::Stamp;

/// The files of a certificate and its key, and their stamps when they were last read.
///
/// Reading blocks; a running server calls this off its async workers.
#[derive(Debug)]
pub struct Source {
    certificate: PathBuf,
    key: PathBuf,
    // The stamps of both files. `None` makes the next check read the files.
    seen: Option<[Stamp; 2]>,
    /// Whether the file read last has its certificates in another order than the server sends them.
    is_reordered: bool,
}

impl Source {
    /// Names the files: the chain, leaf first, and the leaf's private key. Nothing is read yet.
    #[must_use]
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, seen: None, is_reordered: false }
    }

    /// The file of the chain.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The file of the private key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Whether the other names the same files.
    #[must_use]
    pub fn has_files_of(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }

    /// Reads the files, for the start of the server.
    ///
    /// # Errors
    ///
    /// Those of [`load`].
    pub fn load(&mut self) -> Result<Arc<CertifiedKey>, CertificateError> {
        // The stamps precede the read, so that the next check notices a change in between.
        let stamps = [&self.certificate, &self.key].map(|path| Stamp::of(path));
        let now = SystemTime::now();
        let loaded = load(&self.certificate, &self.key);
        // A broken pair stays broken until a file changes, so its error is reported once. A failed read
        // may succeed next time.
        let lasting = !matches!(loaded, Err(CertificateError::Read { .. }));
        let settled = stamps.iter().all(|stamp| stamp.is_settled(now));
        self.seen = (lasting && settled).then_some(stamps);
        let Pair { certified, is_reordered } = loaded?;
        self.is_reordered = is_reordered;
        Ok(certified)
    }

    /// A remark for the operator about the file read last, which the server uses all the same.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.is_reordered.then(|| {
            format!(
                "the certificates in {} are not in the order in which clients expect them; the server \
                 sends them in that order: the certificate of the key first, then its issuers",
                self.certificate.display()
            )
        })
    }

    /// Reads the files again, for SIGHUP, and replaces the certificate.
    ///
    /// # Errors
    ///
    /// Those of [`load`]; the current certificate then stays.
    pub fn reload(&mut self, in_force: &InForce) -> Result<(), CertificateError> {
        in_force.replace(self.load()?);
        Ok(())
    }

    /// Reads the files again if one has changed since they were last read. Returns true if it has
    /// replaced the certificate.
    ///
    /// Costs two calls of `stat` where nothing has changed. A change is another inode, size or time;
    /// symbolic links are followed. Files younger than two seconds are read at each call.
    ///
    /// # Errors
    ///
    /// Those of [`load`], once for each state of the files; the current certificate then stays. The
    /// moment between the writes of the two files is such a state, and passes.
    pub fn reload_if_changed(&mut self, in_force: &InForce) -> Result<bool, CertificateError> {
        let stamps = [&self.certificate, &self.key].map(|path| Stamp::of(path));
        if self.seen == Some(stamps) {
            return Ok(false);
        }
        let pair = self.load()?;
        // The key belongs to the certificate: the same certificate has the same key.
        if pair.cert == in_force.current().cert {
            return Ok(false);
        }
        in_force.replace(pair);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, time::Duration};

    use super::*;

    struct Files {
        _dir: tempfile::TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    impl Files {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let certificate = dir.path().join("a.crt");
            let key = dir.path().join("a.key");
            Self { _dir: dir, certificate, key }
        }

        /// Writes a new pair of this age, and returns the PEM of the certificate and of the key.
        fn write(&self, age: Duration) -> (String, String) {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap().pem();
            fs::write(&self.certificate, &certificate).unwrap();
            fs::write(&self.key, key.serialize_pem()).unwrap();
            self.grow_old(age);
            (certificate, key.serialize_pem())
        }

        fn grow_old(&self, age: Duration) {
            for path in [&self.certificate, &self.key] {
                let file = File::options().write(true).open(path).unwrap();
                file.set_modified(SystemTime::now() - age).unwrap();
            }
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn new_pair_in_the_files_is_put_in_force() {
        let files = Files::new();
        files.write(HOUR);
        let mut source = Source::new(files.certificate.clone(), files.key.clone());
        let in_force = InForce::new(source.load().unwrap());
        let first = in_force.current();
        assert!(!source.reload_if_changed(&in_force).unwrap());

        files.write(Duration::ZERO);
        assert!(source.reload_if_changed(&in_force).unwrap());
        assert_ne!(in_force.current().cert, first.cert);
        assert!(!source.reload_if_changed(&in_force).unwrap());
    }

    #[test]
    fn young_files_are_read_at_each_check_and_old_ones_once() {
        let files = Files::new();
        files.write(Duration::ZERO);
        let mut source = Source::new(files.certificate.clone(), files.key.clone());
        source.load().unwrap();
        assert_eq!(source.seen, None);
        files.grow_old(Duration::from_secs(4));
        source.load().unwrap();
        assert!(source.seen.is_some());
    }

    #[test]
    fn broken_pair_is_reported_once_and_the_old_one_stays_in_force() {
        let files = Files::new();
        let (certificate, _) = files.write(HOUR);
        let mut source = Source::new(files.certificate.clone(), files.key.clone());
        let in_force = InForce::new(source.load().unwrap());
        let first = in_force.current();

        // A renewal is half done: the key is new, the certificate old.
        let (renewed, _) = files.write(HOUR);
        fs::write(&files.certificate, certificate).unwrap();
        files.grow_old(HOUR);
        let error = source.reload_if_changed(&in_force).unwrap_err();
        assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
        assert!(!source.reload_if_changed(&in_force).unwrap());
        assert!(source.reload(&in_force).is_err());
        assert_eq!(in_force.current().cert, first.cert);

        fs::write(&files.certificate, renewed).unwrap();
        assert!(source.reload_if_changed(&in_force).unwrap());
        assert_ne!(in_force.current().cert, first.cert);

        fs::remove_file(&files.key).unwrap();
        let error = source.reload_if_changed(&in_force).unwrap_err();
        assert!(matches!(error, CertificateError::Missing { .. }), "{error}");
    }
}
