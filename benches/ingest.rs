//! How long a 1 MB Markdown document takes from upload to `ready`, beside the time that embedding its passages takes.
//!
//! `ingest MODEL [ROUNDS]`: needs PostgreSQL's binaries. The document goes through the whole API on a database of its
//! own; its embedding time is that of the same passages, handed to the same model at once, in the same round.
#![expect(clippy::print_stdout, reason = "prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench may fail with its parts")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::rag::chunk::{self, passage_text};
use agent::rag::embed::Embedder;
use agent::rag::extract;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use support::api::TestApi;
use support::documents::{accepted, settled};

const DOCUMENT_BYTES: usize = 1_000_000;

/// What ingestion may add to the embedding time.
const RATIO_MAX: f64 = 1.3;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let model = arguments.first().expect("usage: ingest MODEL [ROUNDS]");
    let rounds: usize = arguments.get(1).map_or(2, |rounds| rounds.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let embedder = Embedder::load(Path::new(model), threads).unwrap();
    let api = TestApi::new().await;
    api.start_ingestion(Some(embedder.clone()));
    let mut user = api.user("bench").await;
    println!("                   embedding         upload to ready   ratio (at most {RATIO_MAX})");
    println!("round  passages  wall s   CPU s     wall s   CPU s     wall    CPU");
    for round in 1..=rounds {
        let text = document(round);
        let texts = passages(&text, &embedder);
        let began = Stopwatch::start();
        embedder.embed_blocking(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let embedding = began.read();
        let began = Stopwatch::start();
        let id = accepted(&mut user, "handbook.md", text.as_bytes()).await;
        let settled = settled(&api, &mut user, &id).await;
        let ready = began.read();
        assert_eq!(settled["status"], "ready", "{settled}");
        assert_eq!(settled["chunk_count"], texts.len());
        let (wall, cpu) = (ready.0 / embedding.0, ready.1 / embedding.1);
        println!(
            "{round:>5}  {:>8}  {:>6.2}  {:>6.2}     {:>6.2}  {:>6.2}     {wall:>4.2}   {cpu:>4.2}",
            texts.len(),
            embedding.0,
            embedding.1,
            ready.0,
            ready.1
        );
    }
    api.app.tasks.stop(Duration::from_secs(5)).await;
}

/// Wall and CPU time of this process; Postgres's own CPU time is apart. On a busy machine only the latter compares.
struct Stopwatch {
    began: Instant,
    cpu: f64,
}

impl Stopwatch {
    fn start() -> Self {
        Self { began: Instant::now(), cpu: Self::cpu() }
    }

    /// Returns both times since the start, in seconds.
    fn read(&self) -> (f64, f64) {
        (self.began.elapsed().as_secs_f64(), Self::cpu() - self.cpu)
    }

    fn cpu() -> f64 {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
    }
}

/// The sample documents over and over, under new headings, up to a megabyte.
fn document(round: usize) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents");
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "md"));
    names.sort();
    let mut text = format!("# Handbook, edition {round}\n\n");
    for (number, name) in names.iter().cycle().enumerate() {
        let sample = fs::read_to_string(name).unwrap();
        for line in sample.lines() {
            // One level deeper, under a part of its own.
            let line = if line.starts_with('#') { format!("#{line} ({number})") } else { line.to_owned() };
            writeln!(text, "{line}").unwrap();
        }
        if text.len() >= DOCUMENT_BYTES {
            break;
        }
    }
    text.truncate(text.floor_char_boundary(DOCUMENT_BYTES));
    text
}

fn passages(text: &str, embedder: &Embedder) -> Vec<String> {
    let limits = extract::Limits { text_bytes_max: 2 * DOCUMENT_BYTES, time_max: Duration::from_secs(30) };
    let extracted = extract::extract(text.as_bytes(), "handbook.md", limits).unwrap();
    let title = extracted.title.clone().unwrap_or_default();
    let count_tokens = |text: &str| embedder.count_tokens(text);
    let chunks = chunk::chunk(&extracted, &title, &count_tokens, chunk::Limits::default()).unwrap();
    chunks.iter().map(|chunk| passage_text(&title, &chunk.heading, &chunk.text)).collect()
}
