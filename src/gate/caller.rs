//! The sender of a request, as far as the gate's decisions depend on it.

use std::{net::IpAddr, sync::Arc};

use super::{Ceiling, Grant, Identity};

/// The sender of one request. Authentication makes it; [`Gate::authorise`](super::Gate::authorise)
/// takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name that the caller has proved.
    pub identity: Identity,
    /// The address of the client, as trusted proxies tell it; `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The rights in the line of a deploy token; `None` for other callers.
    pub grant: Option<Arc<Grant>>,
    /// What a session token covers; `None` without one.
    pub ceiling: Option<Arc<Ceiling>>,
}

impl Caller {
    /// A caller whose rights the policy alone decides.
    #[must_use]
    pub const fn new(identity: Identity, address: Option<IpAddr>) -> Self {
        Self { identity, address, grant: None, ceiling: None }
    }
}
