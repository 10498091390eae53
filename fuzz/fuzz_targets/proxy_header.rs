//! Runs [`portcullis_fuzz::proxy_header`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::proxy_header(data));
