//! Runs [`portcullis_fuzz::upload_id`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::upload_id(data));
