//! What can go wrong with the authority, in sentences.

use std::{io, path::PathBuf};

use super::{CA_CERTIFICATE, CA_KEY, Reason, SERVER_CERTIFICATE, SERVER_KEY};

/// Why the authority could not do what it was asked for. Each variant is a sentence that says what
/// to do where that is not plain; causes from below are in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The directory cannot be made, opened or locked.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Half of the authority is there.
    #[error(
        "there is {} but no {}: put the missing one back, or move the other away so that a new authority is made",
        present.display(), missing.display()
    )]
    Incomplete {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The authority's key is kept elsewhere, and the server certificate cannot do any more without it.
    #[error(
        "the certificate in {} cannot be used ({reason}), and {CA_KEY} is not there to make another: \
         run `portcullis certs` where it is kept, and put {SERVER_CERTIFICATE} and {SERVER_KEY} here",
        path.display()
    )]
    KeyElsewhere {
        /// The server certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Reason,
    },
    /// A name is outside of what the authority may vouch for.
    #[error(
        "{} may not vouch for `{name}`: `portcullis certs --out {} --new-authority --host {name}` makes \
         another authority, whose {CA_CERTIFICATE} clients have to trust in place of the old one",
        directory.join(CA_CERTIFICATE).display(), directory.display()
    )]
    Outside {
        /// The name.
        name: String,
        /// The directory of the authority.
        directory: PathBuf,
    },
    /// The authority's certificate is not PEM, or not that of an authority.
    #[error("{} is not the certificate of a certificate authority", path.display())]
    NotAnAuthority {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A private key is not one that can sign certificates.
    #[error("the private key in {} cannot be used", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// The authority's key is not that of its certificate.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The authority's time is over, and with it that of everything it could issue.
    #[error(
        "the certificate authority has expired: `portcullis certs --new-authority` makes another, whose {CA_CERTIFICATE} clients have to trust in place of the old one"
    )]
    Expired,
    /// A name cannot stand in a certificate.
    #[error("`{name}` is neither a host name (in ASCII; others as `xn--…`) nor an IP address")]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// The server certificate is somebody else's, and is not replaced.
    #[error("{} was not issued by the authority beside it: move it and its key away, or choose another directory", path.display())]
    Foreign {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}
