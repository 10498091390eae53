//! Runs [`portcullis_fuzz::hasher_state`] on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::hasher_state(data));
