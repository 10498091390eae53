//! Servers and content for the tests.

pub mod content;
pub mod server;

pub use self::{
    content::{Image, digest, image},
    server::{Answer, TestServer},
};
