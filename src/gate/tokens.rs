//! Tokens: what a caller presents in place of a password.

pub mod deploy;
pub mod key_file;
mod keys;
mod remembered;
mod scope;
mod session;

pub(super) use remembered::{Remembered, Valid};
pub(super) use scope::granted;
pub use scope::scopes;
pub(super) use session::{Bearer, Presented, SessionTokens};
pub use session::{Challenge, Issued, MIN_EXPIRY, SERVICE, SessionOptions};
