//! Runs [`portcullis_fuzz::hasher_state`] on inputs from libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::hasher_state(data));
