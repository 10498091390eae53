//! Runs [`portcullis_fuzz::reference`] on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::reference(data));
