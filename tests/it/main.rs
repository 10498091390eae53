//! Tests of the whole program, through what its users see.

mod cli_certs;
mod cli_htpasswd;
