//! When a server certificate is made, renewed or left alone.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::{
    Authority, AuthorityError, CA_CERTIFICATE, CA_KEY, DEFAULT_DAYS, SERVER_CERTIFICATE,
    SERVER_KEY,
    files::{self, Access},
    names::{self, Name},
    new_key, read_key,
};
use crate::server::certificates::{self, CertificateError, Description};

/// A certificate with less time than this is renewed.
const RENEW_BEFORE: Duration = Duration::days(30);

/// What [`ensure`] and [`renew`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the authority was made just now; clients have to be told of it.
    pub created_authority: bool,
    /// What became of the server's certificate.
    pub certificate: ServerCertificate,
}

/// What became of the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// It is as it should be.
    Kept,
    /// It was not issued by this authority and is left alone, whatever state it is in.
    Foreign,
    /// A new one was written.
    Issued(Reason),
}

/// Why a server certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was none.
    Missing,
    /// Its key was missing, or was another one: so a crash between the two writes looks.
    KeyDoesNotFit,
    /// It had less than thirty days left, or none.
    Expires(Timestamp),
    /// This name was not in it.
    LacksName(String),
    /// [`renew`] was called.
    Asked,
}

/// Makes what is missing in the directory, and renews the server certificate if this authority
/// issued it and it has less than 30 days left, lacks a name, or does not fit its key.
///
/// The names are the given hosts (`http.host` and the like: scheme, port and path are taken off),
/// `localhost`, `127.0.0.1` and `::1`. A new certificate also has the machine's own name and keeps
/// the names of the one it replaces; that the machine's name has changed is no reason for a new one,
/// since that of a container changes with every start.
///
/// A certificate of other origin is never touched, and if it is there without any authority, none is
/// made. Two processes that do this at the same time follow one another. This call blocks.
///
/// # Errors
///
/// When a name cannot stand in a certificate, when the authority is incomplete, unusable or expired,
/// and when files cannot be read or written.
pub fn ensure(directory: &Path, hosts: &[String]) -> Result<Outcome, AuthorityError> {
    ensure_at(directory, hosts, OffsetDateTime::now_utc())
}

/// Makes a new server certificate with a new key, valid for so many days, and the authority if there
/// is none. The names are those of [`ensure`].
///
/// # Errors
///
/// Those of [`ensure`], and [`AuthorityError::Foreign`] when the certificate that is there was not
/// issued by this authority.
pub fn renew(directory: &Path, hosts: &[String], days: u16) -> Result<Outcome, AuthorityError> {
    let required = names::required(hosts)?;
    let _lock = files::lock(directory)?;
    let place = Place::look(directory)?;
    let foreign = AuthorityError::Foreign { path: place.certificate.clone() };
    if place.holds_only_foreign() {
        return Err(foreign);
    }
    let now = OffsetDateTime::now_utc();
    let (authority, created_authority) = Authority::load_or_create_at(directory, now)?;
    let old = match place.leaf(&authority) {
        Leaf::None => None,
        Leaf::Foreign => return Err(foreign),
        Leaf::Ours(old) => Some(old),
    };
    let names = names_for(required, old.as_ref());
    let key = new_key()?;
    place.write(&key, &authority.certify(&key, &names, days, now)?)?;
    Ok(Outcome { created_authority, certificate: ServerCertificate::Issued(Reason::Asked) })
}

/// Whether [`ensure`] could do what it is for, as far as that can be seen without making anything.
///
/// # Errors
///
/// Those of [`ensure`], but for a directory that it could not make and files that it could not write.
pub fn examine(directory: &Path, hosts: &[String]) -> Result<(), AuthorityError> {
    names::required(hosts)?;
    let place = Place::look(directory)?;
    if place.holds_only_foreign() {
        return Ok(());
    }
    match Authority::load(directory)? {
        Some(authority) if authority.not_after <= OffsetDateTime::now_utc() => {
            Err(AuthorityError::Expired)
        }
        _ => Ok(()),
    }
}

fn ensure_at(
    directory: &Path,
    hosts: &[String],
    now: OffsetDateTime,
) -> Result<Outcome, AuthorityError> {
    let required = names::required(hosts)?;
    let _lock = files::lock(directory)?;
    let place = Place::look(directory)?;
    if place.holds_only_foreign() {
        return Ok(Outcome { created_authority: false, certificate: ServerCertificate::Foreign });
    }
    let (authority, created_authority) = Authority::load_or_create_at(directory, now)?;
    let done = |certificate| Outcome { created_authority, certificate };
    let (reason, old) = match place.leaf(&authority) {
        Leaf::None => (Reason::Missing, None),
        Leaf::Foreign => return Ok(done(ServerCertificate::Foreign)),
        Leaf::Ours(old) => match place.fault(&old, &required, &authority, now)? {
            None => return Ok(done(ServerCertificate::Kept)),
            Some(reason) => (reason, Some(old)),
        },
    };
    let names = names_for(required, old.as_ref());
    let key = match &place.key_pem {
        // A key without a certificate may be somebody's, waiting for one: it is certified, not
        // replaced.
        Some(pem) if reason == Reason::Missing => read_key(pem, &place.key)?,
        _ => new_key()?,
    };
    place.write(&key, &authority.certify(&key, &names, DEFAULT_DAYS, now)?)?;
    Ok(done(ServerCertificate::Issued(reason)))
}

/// The server's two files, and what was found there.
struct Place {
    certificate: PathBuf,
    key: PathBuf,
    certificate_pem: Option<Zeroizing<Vec<u8>>>,
    key_pem: Option<Zeroizing<Vec<u8>>>,
    has_authority: bool,
}

enum Leaf {
    None,
    Foreign,
    Ours(Description),
}

impl Place {
    fn look(directory: &Path) -> Result<Self, AuthorityError> {
        let certificate = directory.join(SERVER_CERTIFICATE);
        let key = directory.join(SERVER_KEY);
        Ok(Self {
            certificate_pem: files::read(&certificate)?,
            key_pem: files::read(&key)?,
            has_authority: [CA_CERTIFICATE, CA_KEY]
                .iter()
                .any(|name| directory.join(name).exists()),
            certificate,
            key,
        })
    }

    /// Whether somebody has put a certificate here and does without the authority.
    fn holds_only_foreign(&self) -> bool {
        self.certificate_pem.is_some() && !self.has_authority
    }

    fn leaf(&self, authority: &Authority) -> Leaf {
        use rustls_pki_types::pem::PemObject as _;

        let Some(pem) = &self.certificate_pem else {
            return Leaf::None;
        };
        let parsed = CertificateDer::from_pem_slice(pem).ok();
        match parsed.filter(|leaf| authority.has_issued(leaf)) {
            Some(leaf) => certificates::describe(&leaf).map_or(Leaf::Foreign, Leaf::Ours),
            None => Leaf::Foreign,
        }
    }

    /// Why the certificate needs to be renewed, if it does.
    fn fault(
        &self,
        old: &Description,
        required: &[Name],
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<Option<Reason>, AuthorityError> {
        match certificates::load(&self.certificate, &self.key) {
            Ok(_) => {}
            // A failure to read is no reason to write.
            Err(CertificateError::Read { path, source }) => {
                return Err(AuthorityError::Read { path, source });
            }
            Err(_) => return Ok(Some(Reason::KeyDoesNotFit)),
        }
        let end = old.not_after.as_second();
        // What the authority's own end has cut short cannot be made longer; one that is expired is
        // tried, for the sake of the message.
        let renewable = end < authority.not_after.unix_timestamp() || end <= now.unix_timestamp();
        if renewable && end < (now + RENEW_BEFORE).unix_timestamp() {
            return Ok(Some(Reason::Expires(old.not_after)));
        }
        let lacking = required.iter().map(Name::to_string).find(|name| !old.names.contains(name));
        Ok(lacking.map(Reason::LacksName))
    }

    /// Writes both files, the key first: after a crash in between the key does not fit, which
    /// [`ensure`] repairs and the loading of the pair refuses.
    fn write(&self, key: &KeyPair, chain: &str) -> Result<(), AuthorityError> {
        let pem = Zeroizing::new(key.serialize_pem());
        files::write(&self.key, pem.as_bytes(), Access::Private)?;
        files::write(&self.certificate, chain.as_bytes(), Access::Public)
    }
}

fn names_for(mut names: Vec<Name>, old: Option<&Description>) -> Vec<Name> {
    if let Some(own) = names::of_this_machine() {
        names::add(&mut names, own);
    }
    for name in old.iter().flat_map(|old| &old.names) {
        // Names of other kinds were not written by this code.
        if let Ok(name) = Name::parse(name) {
            names::add(&mut names, name);
        }
    }
    names
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there was none"),
            Self::KeyDoesNotFit => f.write_str("its key was missing or did not fit"),
            Self::Expires(at) => write!(f, "the old one ends at {at}"),
            Self::LacksName(name) => write!(f, "the old one was not for {name}"),
            Self::Asked => f.write_str("a new one was asked for"),
        }
    }
}

#[cfg(test)]
mod tests;
