//! Runs [`portcullis_fuzz::htpasswd`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::htpasswd(data));
