//! Servers and content for the tests.

pub mod access;
pub mod authority;
pub mod content;
pub mod exposition;
pub mod h2;
pub mod power;
pub mod process;
pub mod promql;
pub mod raw;
pub mod receiver;
pub mod server;
pub mod timing;
pub mod watched;

pub use self::{
    content::{Image, digest, digest512, image, image_with, noise},
    server::{Answer, Answered, TestServer, files},
};
