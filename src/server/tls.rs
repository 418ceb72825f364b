//! Certificates for a listener.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Where a listener's certificate is.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM: the certificate, then those that lead from it to an authority.
    pub certificates: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the right kind.
    #[error("cannot read {} as PEM", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// The key is not the certificate's, or of an unknown kind.
    #[error("cannot use the key in {} with the certificate in {}", files.key.display(), files.certificates.display())]
    Pair {
        /// The files.
        files: TlsFiles,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

/// Prepares handshakes with the certificate in `files`.
pub(super) fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(&files.certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file(&files.certificates))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(file(&files.key))?;
    let pair = |source| TlsError::Pair { files: files.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
