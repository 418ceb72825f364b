//! The pool: what it does when the database is slow, gone, silent, read-only or somebody else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::store::{Error, Options, OptionsError, Store, blob_removals, migrate};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::support::fault_proxy::FaultProxy;
use crate::support::postgres::TestDatabase;

fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        ca_file: None,
        pool_max: 2,
        connect_timeout: Duration::from_secs(2),
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(400),
        connection_age_max: Duration::from_secs(600),
        tcp_user_timeout: Duration::from_secs(5),
    }
}

fn store(url: &str) -> Store {
    Store::new(options(url)).unwrap()
}

async fn backend(store: &Store) -> i32 {
    store.primary().await.unwrap().query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn eight_nodes_on_an_empty_database_apply_each_migration_once() {
    let database = TestDatabase::new().await;
    let runs = (0..8).map(|_| async { migrate::migrate(&store(database.url())).await.unwrap() });
    let runs = futures_util::future::join_all(runs).await;
    let applied: Vec<_> = runs.iter().flat_map(|run| run.applied.iter().copied()).collect();
    let all: Vec<_> = migrate::MIGRATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(applied, all);
    assert_eq!(migrate::pending(&store(database.url())).await.unwrap(), 0);
}

#[tokio::test]
async fn a_database_without_a_schema_lacks_every_migration() {
    let database = TestDatabase::new().await;
    assert_eq!(migrate::pending(&store(database.url())).await.unwrap(), migrate::MIGRATIONS.len());
}

#[tokio::test]
async fn a_cut_wire_is_unavailable_and_mends_without_a_restart() {
    let database = TestDatabase::new().await;
    let wire = FaultProxy::new(database.url()).await;
    let store = store(&wire.url());
    let client = store.primary().await.unwrap();
    wire.cut();
    assert!(matches!(client.query("select 1", &[]).await, Err(Error::Unavailable(_))));
    drop(client);
    assert!(matches!(store.primary().await, Err(Error::Unavailable(_))));
    wire.restore();
    assert_eq!(store.primary().await.unwrap().query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test]
async fn a_silent_database_is_given_up_and_its_connection_with_it() {
    let database = TestDatabase::new().await;
    let wire = FaultProxy::new(database.url()).await;
    let store = store(&wire.url());
    let client = store.primary().await.unwrap();
    client.query("select 1", &[]).await.unwrap();
    wire.silence();
    assert!(matches!(client.query("select 1", &[]).await, Err(Error::Unavailable(_))));
    drop(client);
    wire.restore();
    assert_eq!(store.primary().await.unwrap().query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test]
async fn a_server_that_became_read_only_loses_its_connections() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    migrate::migrate(&store).await.unwrap();
    let before = backend(&store).await;
    {
        let client = store.primary().await.unwrap();
        client.batch("set default_transaction_read_only = on").await.unwrap();
        let write = client.execute("insert into blob_removals (blob) values ('x')", &[]).await;
        let error = write.unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)) && error.is_transient(), "{error:?}");
    }
    assert_ne!(backend(&store).await, before);
}

#[tokio::test]
async fn a_slow_statement_is_busy_and_its_connection_stays() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    let before = backend(&store).await;
    let slow = store.primary().await.unwrap().query("select pg_sleep(30)", &[]).await;
    assert!(matches!(slow, Err(Error::Busy(_))));
    assert_eq!(backend(&store).await, before);
}

#[tokio::test]
async fn an_exhausted_pool_is_unavailable_until_a_client_comes_back() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    let held = (store.primary().await.unwrap(), store.primary().await.unwrap());
    assert!(matches!(store.primary().await, Err(Error::Unavailable(_))));
    assert_eq!(store.pool_usage(), (2, 2));
    drop(held);
    store.primary().await.unwrap();
}

#[tokio::test]
async fn a_violated_constraint_is_named() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    migrate::migrate(&store).await.unwrap();
    let client = store.primary().await.unwrap();
    let twice = "insert into blob_removals (blob) values ('x'), ('x')";
    assert!(client.execute(twice, &[]).await.unwrap_err().is_conflict_on("blob_removals_pkey"));
}

#[tokio::test]
async fn an_error_does_not_quote_the_row_that_was_refused() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    migrate::migrate(&store).await.unwrap();
    let client = store.primary().await.unwrap();
    let sql =
        "insert into users (id, username, email, password) values (gen_random_uuid(), 'ann', null, 'secret')";
    let error = client.execute(sql, &[]).await.unwrap_err();
    let said = format!("{:#} {error:?}", anyhow::Error::from(client.execute(sql, &[]).await.unwrap_err()));
    assert!(matches!(error, Error::Unexpected(_)), "{error:?}");
    assert!(said.contains("23502") && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn an_uncommitted_transaction_leaves_nothing_behind() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    migrate::migrate(&store).await.unwrap();
    let mut client = store.primary().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("insert into blob_removals (blob) values ('x')", &[]).await.unwrap();
    drop(transaction);
    let count = client.query_one("select count(*) from blob_removals", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 0);
}

/// An authority, and a server certificate of it for `localhost`.
struct Certificates {
    authority_pem: String,
    server: TlsAcceptor,
}

fn certificates() -> Certificates {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Certificates { authority_pem: authority.pem(), server: TlsAcceptor::from(Arc::new(config)) }
}

fn trusting(url: &str, ca_file: &Path) -> Store {
    Store::new(Options { ca_file: Some(ca_file.to_owned()), ..options(url) }).unwrap()
}

#[tokio::test]
async fn tls_verifies_the_authority_and_the_name_of_the_server() {
    let database = TestDatabase::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (certificates(), certificates());
    let (our_file, their_file) = (folder.path().join("ours.pem"), folder.path().join("theirs.pem"));
    std::fs::write(&our_file, ours.authority_pem).unwrap();
    std::fs::write(&their_file, theirs.authority_pem).unwrap();
    let wire = FaultProxy::with_tls(database.url(), ours.server).await;

    let right = trusting(&wire.url_of("localhost"), &our_file);
    assert_eq!(right.primary().await.unwrap().query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
    let wrong_authority = trusting(&wire.url_of("localhost"), &their_file);
    assert!(matches!(wrong_authority.primary().await, Err(Error::Unavailable(_))));
    let wrong_name = trusting(&wire.url_of("127.0.0.1"), &our_file);
    assert!(matches!(wrong_name.primary().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn verify_full_in_the_url_means_tls_and_the_systems_authorities_do_not_know_ours() {
    let database = TestDatabase::new().await;
    let wire = FaultProxy::with_tls(database.url(), certificates().server).await;
    let store = store(&format!("{} sslmode=verify-full", wire.url_of("localhost")));
    assert!(matches!(store.primary().await, Err(Error::Unavailable(_))));
}

#[test]
fn options_that_cannot_work_say_which_setting_to_mend() {
    let unparseable = Store::new(options("postgres://user:secret@host:notaport/db")).unwrap_err();
    assert!(matches!(unparseable, OptionsError::Url));
    assert!(!unparseable.to_string().contains("secret"));
    let absent =
        Options { ca_file: Some("/does/not/exist.pem".into()), ..options("postgres://user@host/db") };
    assert!(matches!(Store::new(absent).unwrap_err(), OptionsError::CaFile { .. }));
}

#[tokio::test]
async fn originals_that_cannot_be_removed_do_not_keep_others_from_it() {
    let database = TestDatabase::new().await;
    let store = store(database.url());
    migrate::migrate(&store).await.unwrap();
    let client = store.primary().await.unwrap();
    for blob in ["first", "second", "third"] {
        assert_eq!(blob_removals::add_orphans(&client, &[blob.to_owned()]).await.unwrap(), 1);
    }
    assert_eq!(blob_removals::due(&client, 2).await.unwrap(), ["first", "second"]);
    blob_removals::postpone(&client, &["first".to_owned()]).await.unwrap();
    blob_removals::done(&client, &["second".to_owned()]).await.unwrap();
    assert_eq!(blob_removals::due(&client, 2).await.unwrap(), ["third", "first"]);
}
