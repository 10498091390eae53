//! Runs [`portcullis_fuzz::token_file`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::token_file(data));
