//! Servers and content for the tests.

pub mod content;
pub mod power;
pub mod server;
pub mod watched;

pub use self::{
    content::{Image, digest, digest512, image, image_with, noise},
    server::{Answer, Answered, TestServer, files},
};
