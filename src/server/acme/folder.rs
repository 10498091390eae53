//! The folder of certificates (`http.tls.letsencrypt.cachefile`), in the form of Go's autocert, which registry:3
//! uses: a file for each host, named as the host, with its key and then its chain. Either program goes on with
//! the other's certificates. The other files are ours.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::schedule;
use crate::server::{
    authority::files::{self, Access},
    certificates::{CertificateError, Pair, load},
};

/// The accounts, by the directories of their authorities.
const ACCOUNT: &str = "portcullis-account.json";

/// When certificates were ordered, and from which directory they are.
const ORDERS: &str = "portcullis-orders.json";

/// The file that a process locks while it orders.
const LOCK: &str = "portcullis.lock";

/// The folder. Its functions block.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is the file in which registry:2 kept its account and certificates.
    #[error(
        "{} is a file, as registry:2 kept its certificates, whose protocol has ended: name a folder, such as \
         {0}.d, which is made if it is missing; the first certificates take a few seconds",
        path.display()
    )]
    IsFile {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made, or written to.
    #[error("cannot use the folder {} for certificates", path.display())]
    Unusable {
        /// The folder or a file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Folder {
    /// Makes the folder if it is missing, for its owner alone.
    ///
    /// # Errors
    ///
    /// When the path is a file, and when the folder cannot be made or written to.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        Self::examine(path)?;
        let folder = Self(path.to_owned());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.and_then(|()| folder.lock_file().map(drop))
            .map_err(|source| folder.unusable(source))?;
        Ok(folder)
    }

    /// Looks whether the folder can be made or used, and makes nothing.
    ///
    /// # Errors
    ///
    /// When the path is a file, or this process may not write there.
    pub fn examine(path: &Path) -> Result<(), FolderError> {
        use rustix::fs::{Access, access};
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
        if path.is_file() {
            return Err(FolderError::IsFile { path: path.to_owned() });
        }
        access(there, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| FolderError::Unusable { path: path.to_owned(), source: error.into() })
    }

    /// The file with the key and the certificate of a host.
    #[must_use]
    pub fn certificate(&self, host: &str) -> PathBuf {
        self.0.join(host)
    }

    /// The certificate of a host; `None` if there is no file.
    pub(super) fn read(&self, host: &str) -> Result<Option<Pair>, CertificateError> {
        let path = self.certificate(host);
        match load(&path, &path) {
            Err(CertificateError::Missing { .. }) => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    /// Replaces the certificate of a host: PEM of the key, then of the chain. The file is durable when this
    /// returns.
    pub(super) fn write(&self, host: &str, key: &str, chain: &str) -> Result<(), FolderError> {
        let mut text = Zeroizing::new(String::with_capacity(key.len() + chain.len() + 1));
        for part in [key, chain] {
            text.push_str(part);
            if !part.ends_with('\n') {
                text.push('\n');
            }
        }
        self.replace(host, text.as_bytes())
    }

    /// The account at a directory; `None` without a file, or with a malformed one.
    pub(super) fn account(&self, directory: &str) -> Option<Account> {
        let account = self.accounts().remove(directory)?;
        serde_json::from_value(account).ok()
    }

    /// Keeps the account at a directory, or forgets it.
    pub(super) fn keep_account(
        &self,
        directory: &str,
        account: Option<&Account>,
    ) -> Result<(), FolderError> {
        let mut accounts = self.accounts();
        accounts.remove(directory);
        if let Some(account) = account {
            let account =
                serde_json::to_value(account).map_err(|error| self.unusable(error.into()))?;
            accounts.insert(directory.to_owned(), account);
        }
        self.replace_json(ACCOUNT, &accounts)
    }

    fn accounts(&self) -> BTreeMap<String, serde_json::Value> {
        self.read_json(ACCOUNT)
    }

    /// What is known of the orders for a host.
    pub(super) fn orders(&self, host: &str) -> Orders {
        self.all_orders().remove(host).unwrap_or_default()
    }

    /// Notes that a certificate is ordered now.
    pub(super) fn note_order(&self, host: &str, now: Timestamp) -> Result<(), FolderError> {
        self.change_orders(host, |orders| {
            let at = schedule::with_order(&orders.times(), now);
            orders.at = at.into_iter().map(Timestamp::as_second).collect();
        })
    }

    /// Notes the directory that the certificate of a host is from.
    pub(super) fn note_directory(&self, host: &str, directory: &str) -> Result<(), FolderError> {
        self.change_orders(host, |orders| orders.directory = Some(directory.to_owned()))
    }

    fn change_orders(
        &self,
        host: &str,
        change: impl FnOnce(&mut Orders),
    ) -> Result<(), FolderError> {
        let mut all = self.all_orders();
        change(all.entry(host.to_owned()).or_default());
        self.replace_json(ORDERS, &all)
    }

    fn all_orders(&self) -> BTreeMap<String, Orders> {
        self.read_json(ORDERS)
    }

    /// Locks the folder; `None` while another process holds the lock. The lock ends when the file is dropped,
    /// and with its process.
    pub(super) fn try_lock(&self) -> Result<Option<File>, FolderError> {
        let file = self.lock_file().map_err(|source| self.unusable(source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            // Some file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(file))
            }
            Err(TryLockError::Error(source)) => Err(self.unusable(source)),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(self.0.join(LOCK))
    }

    /// The content of a file of ours. A missing or malformed one is as good as an empty one: another account
    /// costs a request.
    fn read_json<T: Default + for<'de> Deserialize<'de>>(&self, name: &str) -> T {
        let bytes = fs::read(self.0.join(name)).map(Zeroizing::new);
        bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn replace_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), FolderError> {
        let bytes =
            serde_json::to_vec_pretty(value).map_err(|error| self.unusable(error.into()))?;
        self.replace(name, &Zeroizing::new(bytes))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.0.join(name);
        files::write(&path, bytes, Access::Private)
            .map_err(|error| FolderError::Unusable { path, source: io::Error::other(error) })
    }

    fn unusable(&self, source: io::Error) -> FolderError {
        FolderError::Unusable { path: self.0.clone(), source }
    }
}

/// An account at an authority.
#[derive(Deserialize, Serialize)]
pub(super) struct Account {
    /// The address that the authority has.
    pub(super) email: String,
    /// The account's name and key, in instant-acme's form.
    pub(super) credentials: instant_acme::AccountCredentials,
}

/// What is known of the orders for a host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Orders {
    /// The last orders, the oldest first, in seconds since 1970.
    at: Vec<i64>,
    /// The directory that the certificate is from; `None` where another program has obtained it.
    pub(super) directory: Option<String>,
}

impl Orders {
    /// When the last certificates were ordered, the oldest first.
    pub(super) fn times(&self) -> Vec<Timestamp> {
        self.at.iter().filter_map(|second| Timestamp::from_second(*second).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const HOST: &str = "registry.example.com";

    struct Made {
        key: String,
        chain: String,
    }

    fn certificate() -> Made {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        Made { key: key.serialize_pem(), chain }
    }

    #[test]
    fn certificate_is_kept_in_autocerts_form_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("a/acme")).unwrap();
        assert!(folder.read(HOST).unwrap().is_none());
        let Made { key, chain } = certificate();
        folder.write(HOST, &key, &chain).unwrap();
        let path = dir.path().join("a/acme").join(HOST);
        assert_eq!(fs::read_to_string(&path).unwrap(), key + &chain);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mode = fs::metadata(dir.path().join("a/acme")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(folder.read(HOST).unwrap().unwrap().certified.cert.len(), 1);
    }

    /// autocert writes keys in the form of SEC 1, and its own files beside the certificates.
    #[test]
    fn certificate_of_autocert_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::write(dir.path().join("acme_account+key"), "-----BEGIN EC PRIVATE KEY-----\n").unwrap();
        fs::write(dir.path().join(HOST), include_str!("../../../tests/it/golden/autocert.txt"))
            .unwrap();
        let pair = folder.read(HOST).unwrap().unwrap();
        assert_eq!(pair.certified.cert.len(), 2);
        assert!(!pair.is_reordered);
    }

    #[test]
    fn file_of_registry_2_is_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acme.json");
        fs::write(&path, "{}").unwrap();
        let message = Folder::open(&path).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{} is a file, as registry:2", path.display())));
        assert!(message.contains("acme.json.d"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
    }

    #[test]
    fn one_process_at_a_time_has_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let lock = folder.try_lock().unwrap();
        assert!(lock.is_some());
        assert!(folder.try_lock().unwrap().is_none());
        drop(lock);
        assert!(folder.try_lock().unwrap().is_some());
    }

    #[test]
    fn orders_and_directory_of_each_host_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.orders(HOST), Orders::default());
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        folder.note_order(HOST, now).unwrap();
        folder.note_directory(HOST, "https://ca.example/dir").unwrap();
        let kept = Folder::open(dir.path()).unwrap().orders(HOST);
        assert_eq!(kept.times(), [now]);
        assert_eq!(kept.directory.as_deref(), Some("https://ca.example/dir"));
        assert_eq!(folder.orders("b.example"), Orders::default());
        fs::write(dir.path().join(ORDERS), "{").unwrap();
        assert_eq!(folder.orders(HOST), Orders::default());
    }
}
