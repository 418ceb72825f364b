//! TLS to Postgres, always verified: the chain against trusted authorities, and the host's name.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Returns a connector that trusts exactly the certificates in the PEM file `path`.
///
/// # Errors
/// The file cannot be read or holds no usable certificate.
pub(super) fn trusting_file(path: &Path) -> io::Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    connector(roots)
}

/// Returns a connector that trusts the authorities that the system trusts.
///
/// # Errors
/// The system has none.
pub(super) fn trusting_system() -> io::Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    connector(roots)
}

fn connector(roots: RootCertStore) -> io::Result<MakeRustlsConnect> {
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no certificate found"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
