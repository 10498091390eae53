//! Runs [`portcullis_fuzz::reference`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::reference(data));
