//! Downloads an archive.

use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use crate::rag::embed::Error;

/// The largest archive that is downloaded, in bytes.
const ARCHIVE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may stay silent in the middle of a download.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Downloads `url` to the file `target`.
///
/// # Errors
/// [`Error::Source`] when it is not to be had, too large, or of plain `http` that no digest vouches for;
/// [`Error::Io`].
pub async fn download(url: &str, target: &Path, has_digest: bool) -> Result<(), Error> {
    let name = without_secrets(url);
    let refuse = |reason: String| Error::source(Path::new(&name), reason);
    if !has_digest && !url.starts_with("https://") {
        return Err(refuse("without https it needs an expected SHA-256".to_owned()));
    }
    let failed = |e: reqwest::Error| refuse(format!("the download failed: {}", chain(&e.without_url())));
    let mut response = client().map_err(failed)?.get(url).send().await.map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(refuse(format!("the server answered {status}")));
    }
    let mut file = File::create(target).await.map_err(|e| Error::io("write", target, e))?;
    let mut stored: u64 = 0;
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        stored += chunk.len() as u64;
        if stored > ARCHIVE_BYTES_MAX {
            return Err(refuse(format!("it is larger than {ARCHIVE_BYTES_MAX} bytes")));
        }
        file.write_all(&chunk).await.map_err(|e| Error::io("write", target, e))?;
    }
    file.flush().await.map_err(|e| Error::io("write", target, e))
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // The client panics without a process-wide provider; a second installation of the same one is refused, which is
    // as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(SILENCE_TIMEOUT).build()
}

/// The client's errors say the least in their first sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns `url` without what may be secret in it: user, password, query and fragment.
pub fn without_secrets(url: &str) -> String {
    let public = url.split(['?', '#']).next().unwrap_or_default();
    match public.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => public.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn a_url_is_named_without_its_secrets() {
        let named = without_secrets("https://user:pass@host:8443/a/model.whl?token=secret#part");
        assert_eq!(named, "https://host:8443/a/model.whl");
        assert_eq!(without_secrets("https://host"), "https://host/");
        assert_eq!(without_secrets("not a url"), "not a url");
    }
}
