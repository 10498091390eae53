//! The parts of a server: built of a configuration, top to bottom, then started.

use std::sync::Arc;

use super::{
    App, FirstPassword, Provisioned, StartError,
    access::{Rules, RulesOfGate},
    background,
    events::ToEndpoints,
    interface,
    listeners::{Listeners, serve_debug, serve_redirect},
    maintenance::Maintenance,
    metrics::Counted,
    notifications,
    provision::{self, FirstStart},
    quotas::QuotasOf,
    reload::{Reload, Reloads},
    storage,
    tls::{self, LetsEncrypt, Secured},
    tokens::Tokens,
    users::Users,
};
use crate::{
    chain::Chain,
    config::Config,
    gate::Certificate,
    health::{self, Check, Health},
    http::{self, Api, ApiParts, Limits, Proxy, Redirect},
    jobs::Jobs,
    notify::Notifier,
    registry::{Events, Registry},
    server::{self, Https, Listener, Server, Workers, acme::Renewals, authority::Outcome},
    storage::Storage,
};

/// The arguments of a start beside the configuration.
pub(super) struct Given {
    pub(super) storage: Arc<dyn Storage>,
    /// `None`: `http.net` and `http.addr` say where to listen.
    pub(super) listener: Option<Listener>,
    /// Where the password of a first user goes.
    pub(super) password: FirstPassword,
}

/// The parts of a server that does not serve yet. Its addresses are bound.
pub(super) struct Parts {
    storage: Arc<dyn Storage>,
    notifier: Notifier,
    registry: Registry,
    users: Arc<Users>,
    rules: Arc<RulesOfGate>,
    tokens: Arc<Tokens>,
    /// `None` without TLS.
    secured: Option<Secured>,
    health: Arc<Health>,
    checks: Vec<Check>,
    api: Arc<Api>,
    redirect: Redirect,
    listeners: Listeners,
    /// `None` where no certificate is obtained.
    renewals: Option<Arc<Renewals>>,
}

impl Parts {
    /// Builds every part that `config` describes, each from its own section and the parts above it.
    /// Creates the users and the certificates that are missing.
    ///
    /// # Errors
    ///
    /// When a part cannot be built. No task is left running then, and a user whose password is not
    /// shown is removed again.
    pub(super) fn build(config: &Config, given: Given) -> Result<(Self, Provisioned), StartError> {
        let first_start =
            FirstStart { is_named: provision::is_named(config), password: given.password };
        let (rules, policy) = Rules::open(config)?;
        let (users, user) = Users::open(&config.auth, first_start, policy)?;
        match Self::build_with(users, rules, config, given) {
            Ok((parts, certificates)) => Ok((parts, Provisioned { user, certificates })),
            Err(error) => {
                user.iter().for_each(provision::withdraw);
                Err(error)
            }
        }
    }

    fn build_with(
        users: Users,
        rules: Rules,
        config: &Config,
        given: Given,
    ) -> Result<(Self, Option<Outcome>), StartError> {
        let Given { storage, listener, .. } = given;
        let tokens = Tokens::open(&config.auth, users.gate())?;
        let notifier = notifications::notifier(config);
        let events = Events::to(Arc::new(ToEndpoints(notifier.clone())));
        let registry = storage::registry(Arc::clone(&storage), config, events);

        let hosts = provision::hosts(config, listener.as_ref());
        let certificates = tls::provision(&config.http.server, &hosts)?;
        let secured = tls::secure(config)?;

        let health = Arc::<Health>::default();
        let probed = registry.clone();
        let checks = health::checks(&config.health, move || {
            let registry = probed.clone();
            async move { registry.probe().await.map_err(|error| Chain(&error).to_string()) }
        })?;

        let parts = ApiParts {
            registry: registry.clone(),
            gate: Arc::clone(users.gate()),
            health: Arc::clone(&health),
        };
        let api = Api::new(parts, &config.http.api, limits(config), secured.is_some())?;
        let listeners = Listeners::open(listener, &config.http)?;
        notifier.set(&config.notifications)?;
        let secure = listeners.registry.addr().tcp();
        let sites = secured.as_ref().map(|secured| secured.sites.clone()).unwrap_or_default();
        let is_other_site = Box::new(move |host: &str| sites.has(host));
        let access_log_disabled = config.log.accesslog.disabled;
        let challenges =
            secured.as_ref().map(|secured| secured.challenges.clone()).unwrap_or_default();
        let challenge = Box::new(move |path: &str| challenges.http(path));
        let redirect =
            Redirect::new(&config.http.api, secure, is_other_site, challenge, access_log_disabled)?;
        let renewals = match &secured {
            Some(secured) => secured.renewals(config, secure)?,
            None => None,
        };
        Ok((
            Self {
                storage,
                notifier,
                registry,
                rules: Arc::new(rules.of(Arc::clone(users.gate()))),
                users: Arc::new(users),
                tokens: Arc::new(tokens),
                secured,
                health,
                checks,
                api: Arc::new(api),
                redirect,
                listeners,
                renewals,
            },
            certificates,
        ))
    }

    /// Starts the servers and the jobs.
    pub(super) fn start(self, config: &Config, workers: Workers) -> App {
        let reloads = self.reloads(config);
        let Self {
            storage, notifier, registry, users, tokens, secured, health, checks, api, ..
        } = self;
        let gate = Arc::clone(users.gate());

        let serving = Arc::clone(&api);
        let service = move |peer: server::Peer| {
            let certificate = peer.certificate().map(|certificate| Certificate {
                name: Arc::clone(&certificate.name),
                fingerprint: certificate.fingerprint,
            });
            let connection = http::Connection::new(peer.addr(), move || peer.authenticated());
            serving.service(connection.with_certificate(certificate))
        };
        let options = socket_options(&config.http, &api);
        let https = secured.as_ref().map(|Secured { tls, sites, challenges, .. }| Https {
            tls: tls.clone(),
            refusal: http::refuse_plain_http,
            sites: sites.clone(),
            challenges: challenges.clone(),
        });
        let server = Server::start(self.listeners.registry, &options, https, &workers, service);
        let redirect = self.listeners.redirect.map(|listener| {
            serve_redirect(listener, self.redirect, &workers, &options, server.connections())
        });
        let debug = self.listeners.debug.map(|listener| {
            let counted = Counted {
                server: &server,
                gate: &gate,
                registry: &registry,
                notifier: &notifier,
                storage: &*storage,
                api: &api,
                certificates: secured.map(|secured| Arc::clone(secured.certificates.resolver())),
            };
            serve_debug(listener, &config.http, &workers, Arc::clone(&health), counted.metrics())
        });

        let jobs = Jobs::default();
        reloads.watch(&jobs);
        background::sync_events(&jobs, &notifier);
        background::confirm_pulls(&jobs, &registry);
        background::sum_up_refusals(&jobs, &gate);
        background::keep_tokens(&jobs, &tokens);
        background::renew_certificates(&jobs, self.renewals.as_ref());
        Maintenance { registry: registry.clone(), api }.schedule(&jobs, &config.storage);
        background::run_checks(&jobs, checks, &health);
        let drain = config.http.server.draintimeout;
        App {
            server,
            redirect,
            debug,
            registry,
            gate,
            tokens,
            notifier,
            jobs,
            reloads,
            workers,
            drain,
        }
    }

    /// The parts that take another configuration, in the order in which they do.
    fn reloads(&self, config: &Config) -> Reloads {
        let mut reloads: Vec<Arc<dyn Reload>> = vec![
            Arc::clone(&self.users) as Arc<_>,
            Arc::clone(&self.tokens) as Arc<_>,
            // Before the rules, whose keys are those of the whole section.
            Arc::new(QuotasOf(self.registry.clone())),
            Arc::clone(&self.rules) as Arc<_>,
        ];
        if let Some(issuer) = self.users.issuer() {
            reloads.push(Arc::clone(issuer) as Arc<_>);
        }
        if let Some(Secured { certificates, authorities, .. }) = &self.secured {
            reloads.push(Arc::clone(authorities) as Arc<_>);
            reloads.push(Arc::clone(certificates) as Arc<_>);
        }
        if let Some(renewals) = &self.renewals {
            reloads.push(Arc::new(LetsEncrypt::new(Arc::clone(renewals), config)));
        }
        let backend = config.storage.backend.clone();
        reloads.push(Arc::new(interface::ReadOnly { api: Arc::clone(&self.api), backend }));
        reloads.push(Arc::new(interface::ResponseHeaders(Arc::clone(&self.api))));
        reloads.push(Arc::new(interface::LargestBlob(Arc::clone(&self.api))));
        reloads.push(Arc::new(interface::AddressesOfClients(Arc::clone(&self.api))));
        reloads.push(Arc::new(interface::Rates(Arc::clone(&self.api))));
        reloads.push(Arc::new(notifications::Endpoints(self.notifier.clone())));
        Reloads::new(reloads)
    }
}

/// The options of the server's sockets, with the networks of trusted proxies, the addresses that may connect
/// and how many connections each may have.
fn socket_options(http: &crate::config::Http, api: &Api) -> server::Options {
    let proxies = http.api.trustedproxies.iter().filter_map(Proxy::network).collect();
    server::Options {
        proxies,
        connectionsperaddress: http.api.limits.connections,
        clients: api.clients(),
        ..http.server.clone()
    }
}

/// The parts of the interface that the operator permits.
fn limits(config: &Config) -> Limits {
    Limits {
        delete: config.storage.delete.clone(),
        catalog: config.catalog.clone(),
        tags: config.tags.clone(),
        readonly: config.storage.maintenance.readonly.clone(),
        access_log_disabled: config.log.accesslog.disabled,
    }
}
