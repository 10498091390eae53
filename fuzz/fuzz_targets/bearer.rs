//! Runs [`portcullis_fuzz::bearer`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::bearer(data));
