//! Clients that do not trust the server's certificate: the most frequent fault of a first push from another
//! machine.

use std::io;

use rustls::AlertDescription;

/// The alert of a client that refuses the server's certificate, if the handshake failed with one.
pub(super) fn alert(error: &io::Error) -> Option<&'static str> {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = cause else { return None };
    match alert {
        AlertDescription::UnknownCA => Some("unknown authority"),
        AlertDescription::BadCertificate => Some("bad certificate"),
        AlertDescription::CertificateUnknown => Some("certificate unknown"),
        AlertDescription::CertificateExpired => Some("certificate expired"),
        AlertDescription::UnsupportedCertificate => Some("unsupported certificate"),
        _ => None,
    }
}
