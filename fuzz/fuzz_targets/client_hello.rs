//! Runs [`portcullis_fuzz::client_hello`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::client_hello(data));
