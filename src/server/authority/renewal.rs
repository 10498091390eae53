//! Decides when a server certificate is issued, renewed or kept, and writes it.

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

/// The most names of a certificate. Beyond them it loses the oldest addresses: a machine whose address
/// changes has many of them in time.
const MAX_NAMES: usize = 64;

/// How long before its end a certificate is renewed.
const RENEW_BEFORE: Duration = Duration::days(30);

/// The names of a server certificate: host names and IP addresses, also with a port or within URLs.
/// Each certificate has those of loopback and the host name of this machine too.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// The names by which the operator has clients reach the server, such as `http.host`.
    pub required: Vec<String>,
    /// Names by which clients may reach the server as well, such as the addresses of this machine. The
    /// certificate has those that are well-formed and that the name constraints permit.
    pub optional: Vec<String>,
}

impl Hosts {
    /// Checks the syntax of the required names.
    ///
    /// # Errors
    ///
    /// When a name is neither a host name nor an IP address.
    pub fn check(&self) -> Result<(), AuthorityError> {
        names::required(&self.required).map(|_| ())
    }

    fn optional(&self) -> Vec<Name> {
        self.optional.iter().filter_map(|host| Name::parse(host).ok()).collect()
    }
}

/// The result of [`ensure`] or [`renew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the call has created an authority, which clients do not trust yet.
    pub created_authority: bool,
    /// The result for the server certificate.
    pub certificate: ServerCertificate,
}

/// The result of [`ensure`] or [`renew`] for the server certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerCertificate {
    /// The certificate is valid, and its names are complete.
    Kept,
    /// This authority has not issued the certificate, so it stays as it is, even when it is malformed or
    /// has expired.
    Foreign,
    /// The certificate is valid and must be renewed for this reason, but the authority's key is kept
    /// elsewhere.
    Outdated(Reason),
    /// A new certificate was issued for this reason.
    Issued(Reason),
}

/// Why a server certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no certificate.
    Missing,
    /// The key is missing, or is the key of another certificate: the state after a crash between the
    /// two writes.
    KeyMismatch,
    /// The certificate has expired, or expires within thirty days.
    Expires(Timestamp),
    /// The certificate lacks this name.
    LacksName(String),
    /// The caller of [`renew`] has requested it.
    Requested,
}

/// Creates the missing files of the directory. Renews the server certificate if this authority has
/// issued it and it expires within 30 days, lacks a name, or has another key than the key's file.
///
/// The required names are those of `hosts`, `localhost`, `127.0.0.1` and `::1`. A new certificate also
/// has the optional names, the host name of this machine and the names of the certificate that it
/// replaces. A missing optional name is a reason to renew where the authority's key is here, and no error
/// if the files cannot be written. A change of the host name alone is no reason, since that of a container
/// changes at every start.
///
/// A certificate of another issuer stays as it is; where it exists without an authority, no authority
/// is created. Where `ca.key` is kept elsewhere, a valid certificate stays as it is. The name
/// constraints of a new authority permit the names of `hosts` and their parent domains
/// ([`Authority::load_or_create`]). A lock of the directory serialises concurrent processes. This call
/// blocks.
///
/// # Errors
///
/// When a name is malformed or the name constraints of the authority do not permit it, when the
/// authority is incomplete, unusable or expired, and when files cannot be read or written.
pub fn ensure(directory: &Path, hosts: &Hosts) -> Result<Outcome, AuthorityError> {
    ensure_at(directory, hosts, OffsetDateTime::now_utc())
}

/// What [`renew`] creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renew {
    /// A server certificate, and an authority if it is missing.
    Certificate,
    /// Another authority, which clients do not trust yet, and its server certificate. The old files stay
    /// beside the new ones, with the time in their names.
    Authority,
}

/// Issues a new server certificate with a new key, valid for `days`. Creates an authority if it is
/// missing, or if `what` requests another one. The names are those of [`ensure`].
///
/// # Errors
///
/// Those of [`ensure`], and [`AuthorityError::Foreign`] when another authority has issued the existing
/// certificate.
pub fn renew(
    directory: &Path,
    hosts: &Hosts,
    days: u16,
    what: Renew,
) -> Result<Outcome, AuthorityError> {
    let required = names::required(&hosts.required)?;
    let optional = hosts.optional();
    let _lock = files::lock(directory)?;
    let server = ServerFiles::read(directory)?;
    let foreign = AuthorityError::Foreign { path: server.certificate.clone() };
    if server.holds_only_foreign() {
        return Err(foreign);
    }
    let now = OffsetDateTime::now_utc();
    let old = match (&server.certificate_pem, Root::load(directory)?) {
        (None, _) => None,
        (Some(_), None) => {
            let present = directory.join(CA_KEY);
            let missing = directory.join(CA_CERTIFICATE);
            return Err(AuthorityError::Incomplete { present, missing });
        }
        (Some(_), Some(root)) => match server.leaf(&root) {
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
    let mut wanted = joined(&required, &optional);
    add_names_of(&mut wanted, old.as_ref());
    let (authority, created_authority) = Authority::load_or_create_at(directory, &wanted, now)?;
    authority.root.must_permit(&required)?;
    let names = names_for(required, optional, old.as_ref(), &authority.root);
    let key = new_key()?;
    server.write(&key, &authority.certify(&key, &names, days, now)?)?;
    Ok(Outcome { created_authority, certificate: ServerCertificate::Issued(Reason::Requested) })
}

/// Checks whether [`ensure`] can succeed, without writing anything.
///
/// # Errors
///
/// Those of [`ensure`], except for a directory that cannot be created and files that cannot be written.
pub fn examine(directory: &Path, hosts: &[String]) -> Result<(), AuthorityError> {
    let required = names::required(hosts)?;
    let server = ServerFiles::read(directory)?;
    let now = OffsetDateTime::now_utc();
    if server.holds_only_foreign() {
        return Ok(());
    }
    if let Some(root) = server.root_without_key(directory)? {
        return server.check_without_key(&root, &required, now).map(|_| ());
    }
    let Some(authority) = Authority::load(directory)? else { return Ok(()) };
    if authority.root.not_after <= now {
        return Err(AuthorityError::Expired);
    }
    authority.root.must_permit(&required)
}

fn ensure_at(
    directory: &Path,
    hosts: &Hosts,
    now: OffsetDateTime,
) -> Result<Outcome, AuthorityError> {
    let required = names::required(&hosts.required)?;
    let optional = hosts.optional();
    let _lock = files::lock(directory)?;
    let server = ServerFiles::read(directory)?;
    if server.holds_only_foreign() {
        return Ok(Outcome { created_authority: false, certificate: ServerCertificate::Foreign });
    }
    if let Some(root) = server.root_without_key(directory)? {
        let certificate = server.check_without_key(&root, &required, now)?;
        return Ok(Outcome { created_authority: false, certificate });
    }
    let wanted = joined(&required, &optional);
    let (authority, created_authority) = Authority::load_or_create_at(directory, &wanted, now)?;
    let done = |certificate| Outcome { created_authority, certificate };
    let root = &authority.root;
    let mut is_usable = false;
    let (reason, old) = match server.leaf(root) {
        Leaf::None => (Reason::Missing, None),
        Leaf::Foreign => return Ok(done(ServerCertificate::Foreign)),
        Leaf::Ours(old) => match server.renewal_reason(&old, &required, root, now)? {
            Some(reason) => (reason, Some(old)),
            None => {
                let permitted: Vec<_> =
                    optional.iter().filter(|name| root.constraints.permit(name)).cloned().collect();
                let Some(name) = missing_name(&old, &permitted) else {
                    return Ok(done(ServerCertificate::Kept));
                };
                is_usable = true;
                (Reason::LacksName(name), Some(old))
            }
        },
    };
    root.must_permit(&required)?;
    let names = names_for(required, optional, old.as_ref(), root);
    let key = match &server.key_pem {
        // A user may have put a key here to have it certified, so a key without a certificate stays.
        Some(pem) if reason == Reason::Missing => read_key(pem, &server.key)?,
        _ => new_key()?,
    };
    match server.write(&key, &authority.certify(&key, &names, DEFAULT_DAYS, now)?) {
        // The directory may be mounted read-only.
        Err(error) if is_usable => {
            tracing::info!(%error, "the server certificate could be better, but stays: {reason}");
            Ok(done(ServerCertificate::Kept))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(done(ServerCertificate::Issued(reason))),
    }
}

/// The files of the server certificate and its key, and their bytes.
struct ServerFiles {
    certificate: PathBuf,
    key: PathBuf,
    certificate_pem: Option<Zeroizing<Vec<u8>>>,
    key_pem: Option<Zeroizing<Vec<u8>>>,
    has_authority: bool,
}

/// The server certificate in the directory.
enum Leaf {
    None,
    /// Another authority has issued it.
    Foreign,
    /// This authority has issued it.
    Ours(Description),
}

impl ServerFiles {
    fn read(directory: &Path) -> Result<Self, AuthorityError> {
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

    /// Whether the directory has a server certificate and no authority.
    fn holds_only_foreign(&self) -> bool {
        self.certificate_pem.is_some() && !self.has_authority
    }

    /// The authority's certificate, where the authority's key is kept elsewhere: the directory has a
    /// server certificate and no `ca.key`.
    fn root_without_key(&self, directory: &Path) -> Result<Option<Root>, AuthorityError> {
        if self.certificate_pem.is_none() || directory.join(CA_KEY).exists() {
            return Ok(None);
        }
        Root::load(directory)
    }

    /// The result for the server certificate where the authority's key is kept elsewhere.
    fn check_without_key(
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
        match self.renewal_reason(&old, required, root, now)? {
            None => Ok(ServerCertificate::Kept),
            // The watch on the served certificate warns of its end.
            Some(Reason::Expires(_)) if !over => {
                let missing = missing_name(&old, required);
                Ok(missing.map_or(ServerCertificate::Kept, |name| {
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
    fn renewal_reason(
        &self,
        old: &Description,
        required: &[Name],
        root: &Root,
        now: OffsetDateTime,
    ) -> Result<Option<Reason>, AuthorityError> {
        match certificates::load(&self.certificate, &self.key) {
            Ok(_) => {}
            // A file that cannot be read now may be valid.
            Err(CertificateError::Read { path, source }) => {
                return Err(AuthorityError::Read { path, source });
            }
            Err(_) => return Ok(Some(Reason::KeyMismatch)),
        }
        let end = old.not_after.as_second();
        // A renewal cannot outlive the authority. An expired certificate is renewed in any case, since
        // the attempt returns the error of the expired authority.
        let renewable = end < root.not_after.unix_timestamp() || end <= now.unix_timestamp();
        if renewable && end < (now + RENEW_BEFORE).unix_timestamp() {
            return Ok(Some(Reason::Expires(old.not_after)));
        }
        Ok(missing_name(old, required).map(Reason::LacksName))
    }

    /// Writes both files, the key first. After a crash between the writes the key is not the key of the
    /// certificate: [`certificates::load`] refuses the pair, and [`ensure`] repairs it.
    fn write(&self, key: &KeyPair, chain: &str) -> Result<(), AuthorityError> {
        let pem = Zeroizing::new(key.serialize_pem());
        files::write(&self.key, pem.as_bytes(), Access::Private)?;
        files::write(&self.certificate, chain.as_bytes(), Access::Public)
    }
}

/// The first required name that a certificate lacks.
fn missing_name(old: &Description, required: &[Name]) -> Option<String> {
    required.iter().map(Name::to_string).find(|name| !old.names.contains(name))
}

/// The names of a new certificate: the required ones, the optional ones, the host name of this machine,
/// and the names of the old certificate. The name constraints may exclude the latter three: the host name
/// of a container changes at every start.
fn names_for(
    mut names: Vec<Name>,
    mut optional: Vec<Name>,
    old: Option<&Description>,
    root: &Root,
) -> Vec<Name> {
    optional.extend(names::of_this_machine());
    add_names_of(&mut optional, old);
    for name in optional {
        let is_in_excess = names.len() >= MAX_NAMES && matches!(name, Name::Address(_));
        if !is_in_excess && root.constraints.permit(&name) {
            names::add(&mut names, name);
        }
    }
    names
}

fn joined(first: &[Name], second: &[Name]) -> Vec<Name> {
    [first, second].concat()
}

fn add_names_of(names: &mut Vec<Name>, old: Option<&Description>) {
    for name in old.iter().flat_map(|old| &old.names) {
        // The authority issues host names and IP addresses only.
        if let Ok(name) = Name::parse(name) {
            names::add(names, name);
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::KeyMismatch => {
                f.write_str("its key is missing, or belongs to another certificate")
            }
            Self::Expires(at) => write!(f, "it expires at {at}"),
            Self::LacksName(name) => write!(f, "it lacks the name {name}"),
            Self::Requested => f.write_str("a new one was requested"),
        }
    }
}

#[cfg(test)]
mod tests;
