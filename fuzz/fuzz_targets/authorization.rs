//! Runs [`portcullis_fuzz::authorization`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::authorization(data));
