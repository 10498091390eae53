//! `http.limits`.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{ByteRate, Rate};
use crate::byte_size::ByteSize;

/// `http.limits`, which registry:2 does not have. `None` is no limit.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct LimitsOptions {
    /// The rate of requests of a caller.
    pub requests: Option<Rate>,
    /// How many requests pass at once after a pause; `None`: those of one second.
    #[serde(deserialize_with = "at_least_one")]
    pub burst: Option<NonZeroU32>,
    /// How long a request over the rate waits before it is refused.
    pub delay: Duration,
    /// The rate of bytes that a caller gets, over all its connections.
    pub download: Option<ByteRate>,
    /// The rate of bytes that a caller sends, over all its connections.
    pub upload: Option<ByteRate>,
    /// The most open connections of one address, with and without a login.
    pub connections: Option<NonZeroU32>,
    /// The largest blob that may be pushed.
    pub blob: Option<ByteSize>,
}

impl LimitsOptions {
    /// The burst at this rate.
    pub(super) fn burst_of(&self, rate: Rate) -> u32 {
        self.burst.map_or_else(|| rate.of_a_second(), NonZeroU32::get)
    }
}

impl Default for LimitsOptions {
    fn default() -> Self {
        Self {
            requests: None,
            burst: None,
            delay: Duration::from_secs(5),
            download: None,
            upload: None,
            connections: None,
            blob: None,
        }
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NonZeroU32>, D::Error> {
    let number = i64::deserialize(from)?;
    let burst = u32::try_from(number).ok().and_then(NonZeroU32::new);
    let message = || format!("expected 1 or more, not {number}: no request would pass");
    burst.map(Some).ok_or_else(|| D::Error::custom(message()))
}
