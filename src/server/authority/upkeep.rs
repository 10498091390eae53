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
    Authority, AuthorityError, CA_CERTIFICATE, CA_KEY, DEFAULT_DAYS, Root, SERVER_CERTIFICATE,
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
    /// It is valid and should be another, for this reason, and the authority's key is kept elsewhere.
    Outdated(Reason),
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
/// made. Where `ca.key` is kept elsewhere, a certificate that is valid is left as it is. A new
/// authority is for the names that it is made for and what is near to them
/// ([`Authority::load_or_create`]). Two processes that do this at the same time follow one another. This call blocks.
///
/// # Errors
///
/// When a name cannot stand in a certificate or is outside of what the authority may vouch for, when
/// the authority is incomplete, unusable or expired, and when files cannot be read or written.
pub fn ensure(directory: &Path, hosts: &[String]) -> Result<Outcome, AuthorityError> {
    ensure_at(directory, hosts, OffsetDateTime::now_utc())
}

/// What [`renew`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renew {
    /// A server certificate, and an authority where one is missing.
    Certificate,
    /// Another authority, which clients have to be told to trust, and its server certificate. The
    /// files of the old ones stay beside the new ones, with the time in their names.
    Authority,
}

/// Makes a new server certificate with a new key, valid for so many days, and an authority if it
/// is missing, or another one if that is asked for. The names are those of [`ensure`].
///
/// # Errors
///
/// Those of [`ensure`], and [`AuthorityError::Foreign`] when the certificate that is there was not
/// issued by this authority.
pub fn renew(
    directory: &Path,
    hosts: &[String],
    days: u16,
    what: Renew,
) -> Result<Outcome, AuthorityError> {
    let required = names::required(hosts)?;
    let _lock = files::lock(directory)?;
    let place = Place::look(directory)?;
    let foreign = AuthorityError::Foreign { path: place.certificate.clone() };
    if place.holds_only_foreign() {
        return Err(foreign);
    }
    let now = OffsetDateTime::now_utc();
    let old = match (&place.certificate_pem, Root::load(directory)?) {
        (None, _) => None,
        (Some(_), None) => {
            let (present, missing) = (directory.join(CA_KEY), directory.join(CA_CERTIFICATE));
            return Err(AuthorityError::Incomplete { present, missing });
        }
        (Some(_), Some(root)) => match place.leaf(&root) {
            Leaf::None => None,
            Leaf::Foreign => return Err(foreign),
            Leaf::Ours(old) => Some(old),
        },
    };
    if what == Renew::Authority {
        files::set_aside(
            directory,
            &[CA_KEY, CA_CERTIFICATE, SERVER_KEY, SERVER_CERTIFICATE],
            &now.unix_timestamp().to_string(),
        )?;
    }
    let mut wanted = required.clone();
    add_old(&mut wanted, old.as_ref());
    let (authority, created_authority) = Authority::load_or_create_at(directory, &wanted, now)?;
    authority.root.must_permit(&required)?;
    let names = names_for(required, old.as_ref(), &authority.root);
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
    let required = names::required(hosts)?;
    let place = Place::look(directory)?;
    let now = OffsetDateTime::now_utc();
    if place.holds_only_foreign() {
        return Ok(());
    }
    if let Some(root) = place.root_alone(directory)? {
        return place.without_key(&root, &required, now).map(|_| ());
    }
    let Some(authority) = Authority::load(directory)? else { return Ok(()) };
    if authority.root.not_after <= now {
        return Err(AuthorityError::Expired);
    }
    authority.root.must_permit(&required)
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
    if let Some(root) = place.root_alone(directory)? {
        let certificate = place.without_key(&root, &required, now)?;
        return Ok(Outcome { created_authority: false, certificate });
    }
    let (authority, created_authority) = Authority::load_or_create_at(directory, &required, now)?;
    let done = |certificate| Outcome { created_authority, certificate };
    let root = &authority.root;
    let (reason, old) = match place.leaf(root) {
        Leaf::None => (Reason::Missing, None),
        Leaf::Foreign => return Ok(done(ServerCertificate::Foreign)),
        Leaf::Ours(old) => match place.fault(&old, &required, root, now)? {
            None => return Ok(done(ServerCertificate::Kept)),
            Some(reason) => (reason, Some(old)),
        },
    };
    root.must_permit(&required)?;
    let names = names_for(required, old.as_ref(), root);
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

    /// The authority's certificate, where that is here and the key is not, beside a certificate for
    /// the server: the key is kept elsewhere.
    fn root_alone(&self, directory: &Path) -> Result<Option<Root>, AuthorityError> {
        if self.certificate_pem.is_none() || directory.join(CA_KEY).exists() {
            return Ok(None);
        }
        Root::load(directory)
    }

    /// What becomes of the server certificate where nothing can be signed.
    fn without_key(
        &self,
        root: &Root,
        required: &[Name],
        now: OffsetDateTime,
    ) -> Result<ServerCertificate, AuthorityError> {
        let old = match self.leaf(root) {
            Leaf::None | Leaf::Foreign => return Ok(ServerCertificate::Foreign),
            Leaf::Ours(old) => old,
        };
        let over = old.not_after.as_second() <= now.unix_timestamp();
        match self.fault(&old, required, root, now)? {
            None => Ok(ServerCertificate::Kept),
            // That it ends is said in time by whoever looks at what is served.
            Some(Reason::Expires(_)) if !over => {
                let lacking = lacking(&old, required);
                Ok(lacking.map_or(ServerCertificate::Kept, |name| {
                    ServerCertificate::Outdated(Reason::LacksName(name))
                }))
            }
            Some(reason @ Reason::LacksName(_)) => Ok(ServerCertificate::Outdated(reason)),
            Some(reason) => {
                Err(AuthorityError::KeyElsewhere { path: self.certificate.clone(), reason })
            }
        }
    }

    fn leaf(&self, root: &Root) -> Leaf {
        use rustls_pki_types::pem::PemObject as _;

        let Some(pem) = &self.certificate_pem else {
            return Leaf::None;
        };
        let parsed = CertificateDer::from_pem_slice(pem).ok();
        match parsed.filter(|leaf| root.has_issued(leaf)) {
            Some(leaf) => certificates::describe(&leaf).map_or(Leaf::Foreign, Leaf::Ours),
            None => Leaf::Foreign,
        }
    }

    /// Why the certificate needs to be renewed, if it does.
    fn fault(
        &self,
        old: &Description,
        required: &[Name],
        root: &Root,
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
        let renewable = end < root.not_after.unix_timestamp() || end <= now.unix_timestamp();
        if renewable && end < (now + RENEW_BEFORE).unix_timestamp() {
            return Ok(Some(Reason::Expires(old.not_after)));
        }
        Ok(lacking(old, required).map(Reason::LacksName))
    }

    /// Writes both files, the key first: after a crash in between the key does not fit, which
    /// [`ensure`] repairs and the loading of the pair refuses.
    fn write(&self, key: &KeyPair, chain: &str) -> Result<(), AuthorityError> {
        let pem = Zeroizing::new(key.serialize_pem());
        files::write(&self.key, pem.as_bytes(), Access::Private)?;
        files::write(&self.certificate, chain.as_bytes(), Access::Public)
    }
}

/// The first of the names that a certificate is not for.
fn lacking(old: &Description, required: &[Name]) -> Option<String> {
    required.iter().map(Name::to_string).find(|name| !old.names.contains(name))
}

/// The names of a new certificate: beside those that it must have, the machine's own and those of the
/// one that it replaces, as far as the authority may vouch for them. That of a container changes with
/// every start, and is then outside.
fn names_for(mut names: Vec<Name>, old: Option<&Description>, root: &Root) -> Vec<Name> {
    let mut more = Vec::new();
    more.extend(names::of_this_machine());
    add_old(&mut more, old);
    for name in more {
        if root.constraints.permit(&name) {
            names::add(&mut names, name);
        }
    }
    names
}

fn add_old(names: &mut Vec<Name>, old: Option<&Description>) {
    for name in old.iter().flat_map(|old| &old.names) {
        // Names of other kinds were not written by this code.
        if let Ok(name) = Name::parse(name) {
            names::add(names, name);
        }
    }
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
