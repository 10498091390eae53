//! An authority that speaks ACME (RFC 8555): its account, an order, the challenge, the certificate.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, OrderStatus, Problem, RetryPolicy,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{
    Options,
    authority::{Authority, Failure, Issued, Order, Suggestion},
    challenges::{Challenge, Challenges, Offer},
    client::{AcmeClient, InvalidClient},
    folder::{self, Folder, FolderError},
    schedule::Window,
};
use crate::chain::Chain;

/// The error of an authority that does not know the account (any more).
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The error about a certificate that another order has replaced already (RFC 9773 §5).
const REPLACED: &str = "urn:ietf:params:acme:error:alreadyReplaced";

/// How often the state of an order is looked at: after a quarter of a second, then less and less often, for two
/// minutes. Authorities need some seconds to look at a challenge from several places.
const POLLS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.4)
    .timeout(Duration::from_secs(120));

/// An authority that speaks ACME.
#[derive(Debug)]
pub(super) struct AcmeAuthority {
    options: Arc<Options>,
    folder: Folder,
    challenges: Challenges,
    client: AcmeClient,
}

impl AcmeAuthority {
    /// Reads the file of `caroot`; sends nothing yet. This call blocks.
    pub(super) fn new(
        options: Arc<Options>,
        folder: Folder,
        challenges: Challenges,
    ) -> Result<Self, InvalidClient> {
        let client = AcmeClient::new(&options.directoryurl, options.caroot.as_deref())?;
        Ok(Self { options, folder, challenges, client })
    }

    /// The account of the folder, or else a new one.
    async fn account(&self) -> Result<Account, Failed> {
        let folder = self.folder.clone();
        let directory = self.options.directoryurl.clone();
        let kept = blocking(move || folder.account(&directory)).await?;
        let Some(kept) = kept else { return self.new_account().await };
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let account = builder.from_credentials(kept.credentials).await?;
        if kept.email != self.options.email {
            let contact = self.contact();
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            match account.update_contacts(&contact).await {
                Err(error) if is(&error, NO_ACCOUNT) => return self.new_account().await,
                updated => updated?,
            }
            let folder = self.folder.clone();
            let directory = self.options.directoryurl.clone();
            let email = self.options.email.clone();
            blocking(move || {
                let Some(kept) = folder.account(&directory) else { return Ok(()) };
                folder.keep_account(&directory, Some(&folder::Account { email, ..kept }))
            })
            .await??;
        }
        Ok(account)
    }

    async fn new_account(&self) -> Result<Account, Failed> {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external = self.options.eab.as_ref();
        let external =
            external.map(|eab| ExternalAccountKey::new(eab.kid.clone(), eab.hmackey.bytes()));
        let directory = self.options.directoryurl.clone();
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let (account, credentials) =
            builder.create(&account, directory.clone(), external.as_ref()).await?;
        let kept = folder::Account { email: self.options.email.clone(), credentials };
        let folder = self.folder.clone();
        blocking(move || folder.keep_account(&directory, Some(&kept))).await??;
        tracing::info!(directory = self.options.directoryurl, "an ACME account was made");
        Ok(account)
    }

    fn contact(&self) -> Vec<String> {
        let email = &self.options.email;
        if email.is_empty() { Vec::new() } else { vec![format!("mailto:{email}")] }
    }

    async fn obtain(&self, wanted: &Order<'_>) -> Result<Issued, Failed> {
        // One of an earlier request.
        self.client.take_retry_after();
        let account = self.account().await?;
        let mut order = match self.place(&account, wanted).await {
            // The authority has lost the account, as a test server does at each start.
            Err(error) if is(&error, NO_ACCOUNT) => {
                let account = self.new_account().await?;
                self.place(&account, wanted).await?
            }
            placed => placed?,
        };
        // Until the authority has looked.
        let _offers = self.prove(&mut order, wanted).await?;
        if order.state().status == OrderStatus::Pending
            && order.poll_ready(&POLLS).await? == OrderStatus::Invalid
        {
            return Err(why_invalid(&mut order, wanted).await);
        }
        let key = KeyPair::generate().map_err(|error| Failed::Key(error.into()))?;
        let request = CertificateParams::new([wanted.host.to_owned()]).and_then(|mut params| {
            params.distinguished_name = DistinguishedName::new();
            params.serialize_request(&key)
        });
        let request = request.map_err(|error| Failed::Key(error.into()))?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&POLLS).await?;
        Ok(Issued { key: Zeroizing::new(key.serialize_pem()), chain })
    }

    async fn place(
        &self,
        account: &Account,
        wanted: &Order<'_>,
    ) -> Result<instant_acme::Order, Error> {
        let identifiers = [Identifier::Dns(wanted.host.to_owned())];
        let order = || {
            let order = NewOrder::new(&identifiers);
            match &*self.options.profile {
                "" => order,
                profile => order.profile(profile),
            }
        };
        let replaces = wanted.replaces.and_then(|old| CertificateIdentifier::try_from(old).ok());
        let Some(replaces) = replaces else { return account.new_order(&order()).await };
        match account.new_order(&order().replaces(replaces)).await {
            // Another server has replaced the certificate, or the authority ignores the field.
            Err(error) if is(&error, REPLACED) || matches!(error, Error::Other(_)) => {
                account.new_order(&order()).await
            }
            placed => placed,
        }
    }

    /// Answers the challenges of an order, and tells the authority that it can look. An authorization may be
    /// valid already.
    async fn prove(
        &self,
        order: &mut instant_acme::Order,
        wanted: &Order<'_>,
    ) -> Result<Vec<Offer>, Failed> {
        let mut offers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => return Err(Failed::Authorization(status)),
            }
            let kind = kind(wanted.challenge);
            let Some(mut challenge) = authorization.challenge(kind) else {
                return Err(Failed::NotOffered(wanted.challenge));
            };
            let answer = challenge.key_authorization();
            offers.push(match wanted.challenge {
                Challenge::Http01 => self.challenges.offer_http(&challenge.token, answer.as_str()),
                Challenge::TlsAlpn01 => {
                    let digest = answer.digest().as_ref().try_into().ok();
                    let digest = digest.unwrap_or_else(|| unreachable!("SHA-256 has 32 bytes"));
                    let offer = self.challenges.offer_tls(wanted.host, &digest);
                    offer.map_err(|error| Failed::Key(error.into()))?
                }
            });
            challenge.set_ready().await?;
        }
        Ok(offers)
    }
}

#[async_trait]
impl Authority for AcmeAuthority {
    async fn suggestion(
        &self,
        certificate: &CertificateDer<'static>,
    ) -> Result<Option<Suggestion>, Failure> {
        let Ok(identifier) = CertificateIdentifier::try_from(certificate) else { return Ok(None) };
        let asked = async {
            let account = self.account().await?;
            match account.renewal_info(&identifier).await {
                Err(Error::Unsupported(_)) => Ok(None),
                found => Ok(Some(found?)),
            }
        };
        let found = asked.await.map_err(|error| self.failure(&error))?;
        let Some((info, ask_again)) = found else { return Ok(None) };
        let moment = |at: time::OffsetDateTime| Timestamp::from_second(at.unix_timestamp()).ok();
        let window = &info.suggested_window;
        let (Some(start), Some(end)) = (moment(window.start), moment(window.end)) else {
            return Ok(None);
        };
        let ask_again = SignedDuration::try_from(ask_again).unwrap_or(SignedDuration::MAX);
        Ok(Some(Suggestion { window: Window { start, end }, ask_again }))
    }

    async fn order(&self, order: Order<'_>) -> Result<Issued, Failure> {
        self.obtain(&order).await.map_err(|error| self.failure(&error))
    }
}

impl AcmeAuthority {
    fn failure(&self, error: &Failed) -> Failure {
        let problem = match error {
            Failed::Acme(Error::Api(problem)) | Failed::Refused(problem) => Some(problem),
            _ => None,
        };
        let message = match problem {
            Some(problem) => said(problem),
            None => Chain(error).to_string(),
        };
        let kind = problem.and_then(|problem| problem.r#type.clone());
        Failure {
            cause: kind.unwrap_or_else(|| message.clone()),
            message,
            retry_after: self.client.take_retry_after(),
        }
    }
}

/// Why an order brings no certificate.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Acme(#[from] Error),
    /// The authority has looked and refuses the challenge.
    #[error("the authority refuses the challenge")]
    Refused(Problem),
    #[error("the authorization is {0:?}")]
    Authorization(AuthorizationStatus),
    #[error("the authority offers no challenge {0}; choose another http.tls.letsencrypt.challenge")]
    NotOffered(Challenge),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot make a key or a request")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a task has panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The error of the challenge with which an order has become invalid.
async fn why_invalid(order: &mut instant_acme::Order, wanted: &Order<'_>) -> Failed {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let kind = kind(wanted.challenge);
        let challenge = state.challenges.iter().find(|challenge| challenge.r#type == kind);
        if let Some(problem) = challenge.and_then(|challenge| challenge.error.clone()) {
            return Failed::Refused(problem);
        }
    }
    Failed::Authorization(AuthorizationStatus::Invalid)
}

/// The words of the authority, with the type of the problem, which its documentation explains.
fn said(problem: &Problem) -> String {
    let short = |kind: &str| kind.rsplit(':').next().unwrap_or_default().to_owned();
    let kind = problem.r#type.as_deref().map(short).unwrap_or_default();
    let details = problem
        .detail
        .iter()
        .chain(problem.subproblems.iter().filter_map(|subproblem| subproblem.detail.as_ref()));
    let details: Vec<&str> = details.map(String::as_str).collect();
    match (details.join("; "), &*kind) {
        (details, "") => details,
        (details, kind) => format!("{details} ({kind})"),
    }
}

fn is(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(kind))
}

const fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// Runs work on files on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    tokio::task::spawn_blocking(work).await
}

#[cfg(test)]
mod tests;
