//! The errors of the local certificate authority.

use std::{io, path::PathBuf};

use super::{CA_CERTIFICATE, CA_KEY, Reason, SERVER_CERTIFICATE, SERVER_KEY};

/// The authority cannot issue a certificate. Each message names the file or the name, and the remedy
/// where it is not obvious; `source()` has the cause.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The directory cannot be created, opened or locked.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file exists and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Of the authority's certificate and key, only one exists.
    #[error(
        "there is {} but no {}: put the missing file back, or move the other away to have a new authority made",
        present.display(), missing.display()
    )]
    Incomplete {
        /// The file that exists.
        present: PathBuf,
        /// The file that is missing.
        missing: PathBuf,
    },
    /// The server certificate must be renewed, and the authority's key is kept elsewhere.
    #[error(
        "the certificate in {} cannot be used ({reason}), and {CA_KEY} is not there to make another: \
         run `portcullis certs` where it is kept, and put {SERVER_CERTIFICATE} and {SERVER_KEY} here",
        path.display()
    )]
    KeyElsewhere {
        /// The server certificate's file.
        path: PathBuf,
        /// Why the certificate must be renewed.
        reason: Reason,
    },
    /// The name constraints of the authority do not permit a name.
    #[error(
        "the name constraints of {} do not permit `{name}`: `portcullis certs --out {} --new-authority --host {name}` makes \
         another authority, whose {CA_CERTIFICATE} clients have to trust in place of the old one",
        directory.join(CA_CERTIFICATE).display(), directory.display()
    )]
    NotPermitted {
        /// The name.
        name: String,
        /// The directory of the authority.
        directory: PathBuf,
    },
    /// The authority's certificate is not PEM, or not the certificate of an authority.
    #[error("{} is not the certificate of a certificate authority", path.display())]
    NotAnAuthority {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A private key is malformed, or of a kind that cannot sign certificates.
    #[error("the private key in {} cannot be used", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// The parser's error.
        source: rcgen::Error,
    },
    /// The authority's key is not the key of its certificate.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The authority has expired, and clients refuse every certificate that it has issued.
    #[error(
        "the certificate authority has expired: `portcullis certs --new-authority` makes another, whose {CA_CERTIFICATE} clients have to trust in place of the old one"
    )]
    Expired,
    /// A name is neither a host name nor an IP address.
    #[error("`{name}` is neither a host name (in ASCII; others as `xn--…`) nor an IP address")]
    Name {
        /// The name as in the configuration or on the command line.
        name: String,
    },
    /// Another authority has issued the server certificate, so this one does not replace it.
    #[error("{} was not issued by the authority beside it: move it and its key away, or choose another directory", path.display())]
    Foreign {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A key or a certificate cannot be created.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// The system's random number generator fails.
    #[error("the random number generator of the system fails")]
    NoRandomNumbers,
}
