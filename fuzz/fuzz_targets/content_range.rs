//! Runs [`portcullis_fuzz::content_range`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::content_range(data));
