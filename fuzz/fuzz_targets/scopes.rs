//! Runs [`portcullis_fuzz::scopes`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::scopes(data));
