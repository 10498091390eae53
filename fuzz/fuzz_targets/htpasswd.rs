//! Runs [`portcullis_fuzz::htpasswd`] on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::htpasswd(data));
