//! Runs [`portcullis_fuzz::repository_name`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::repository_name(data));
