//! The types of the OCI and Docker specifications: names, tags, digests, media types, manifests.
//!
//! A value of one of these types has been parsed, so no caller has to validate it again. The module does
//! no I/O.

mod digest;
mod error_code;
mod glob;
mod manifest;
mod media_type;
mod name;
mod named;
mod reference;

pub use digest::{Algorithm, Digest, Hasher, InvalidDigest, InvalidHasherState};
pub use error_code::ErrorCode;
pub use glob::{Glob, InvalidGlob, InvalidPattern};
pub use manifest::{Descriptor, InvalidManifest, Manifest, ManifestKind, Platform, References};
pub use media_type::{MediaType, Schema1};
pub use name::{InvalidName, RepositoryName, is_component};
pub use named::{InvalidNamed, Named};
pub use reference::{InvalidTag, Reference, Tag};
