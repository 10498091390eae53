//! What a person types.

pub mod certs;
pub mod failure;
pub mod htpasswd;
